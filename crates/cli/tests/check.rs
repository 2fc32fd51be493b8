//! `weir check` and `weir explain` as they are typed: what is read, what is printed, how it ends.
#![expect(clippy::unwrap_used, reason = "a test may stop here")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const BASE: &str = "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\n";
const ZONE: &str = "apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: fra}\nspec: {platform: vm}\n";
const WRONG: &str =
    "apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: ams}\nspec: {platform: vms}\n";

/// Exit code, standard output and standard error of `weir` in a directory.
fn weir(dir: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(args)
        .current_dir(dir)
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A directory with a declaration: `traffic/` is sound, `wrong.yaml` is not.
fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("traffic/base.yaml", BASE);
    write("traffic/zones/fra.yml", ZONE);
    write("traffic/README.md", "not: [a declaration");
    write("traffic/.git/broken.yaml", "not: [a declaration");
    write("traffic/.hidden.yaml", "not: [a declaration");
    write("wrong.yaml", WRONG);
    dir
}

#[test]
fn a_directory_is_read_as_one_declaration() {
    let dir = repository();
    let twice = [
        "./traffic",
        "traffic/base.yaml",
        "traffic/../traffic/zones",
        "traffic",
    ];
    for paths in [&["traffic"] as &[&str], &twice] {
        let (code, out, err) = weir(dir.path(), &[&["check"], paths].concat(), "");
        assert_eq!(
            (code, out.as_str(), err.as_str()),
            (0, "2 files: nothing wrong\n", "")
        );
    }
}

#[test]
fn errors_are_shown_without_colour_on_a_pipe_and_end_in_1() {
    let dir = repository();
    let (code, out, err) = weir(dir.path(), &["check", "./traffic", "wrong.yaml"], "");
    assert_eq!((code, err.as_str()), (1, ""));
    insta::assert_snapshot!(out, @r"
    error[WEIR0208]: there is no platform `vms`
     --> wrong.yaml:4:18
      |
    4 | spec: {platform: vms}
      |                  ^^^ not one of them
      |
      = help: did you mean `vm`? It is one of: eks, eks-d, kubernetes, vm

    3 files: 1 error; more about a code: weir explain WEIR0208
    ");
    let (_, coloured, _) = weir(dir.path(), &["check", "--color", "always", "wrong.yaml"], "");
    assert!(coloured.contains("\u{1b}["));
}

/// What the base of a gateway and the splits' doors want of one Kong, before anybody merges it: the examples of the pages.
#[test]
fn a_base_in_a_splits_way_is_found_before_the_merge() {
    let dir = repository();
    let write = |path: &str, text: &str| {
        let path = dir.path().join("traffic").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let gateways = "{platform: vm, gateways: [{name: edge, channel: admin-dbless, base: ../kong/edge.yaml}]}";
    write("zones/fra.yml", &ZONE.replace("{platform: vm}", gateways));
    write("zones/use1.yml", &ZONE.replace("fra", "use1"));
    let [at_odds, dashed] = [
        include_str!("../../../docs/errors/WEIR0713.md"),
        include_str!("../../../docs/errors/WEIR0716.md"),
    ];
    for (page, heading, code, said) in [
        (
            at_odds,
            "Wrong",
            1,
            "error[WEIR0713]: gateway edge of zone fra could not run split shop",
        ),
        (at_odds, "Right", 0, "nothing wrong"),
        (
            dashed,
            "Wrong",
            1,
            "error[WEIR0716]: gateway edge of zone fra: split shop takes over",
        ),
        (dashed, "Right", 0, "nothing wrong"),
    ] {
        let (_, rest) = page.split_once(&format!("## {heading}\n\n```text\n")).unwrap();
        let (base, doors) = rest.split_once("```").unwrap().0.split_once("\n\n").unwrap();
        let doors: String = doors.lines().map(|line| format!("  {line}\n")).collect();
        write("kong/edge.yaml", base);
        write(
            "shop.yaml",
            &format!(
                "apiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: shop}}\nspec:\n  service: shop\n  port: 80\n  protocol: \
                 http\n  backends: {{vm: {{zone: fra}}, eks: {{zone: use1}}}}\n  routes: [{{name: default, weights: {{vm: 90, eks: \
                 10}}}}]\n{doors}"
            ),
        );
        let (found, out, _) = weir(dir.path(), &["check", "traffic"], "");
        assert_eq!(found, code, "{out}");
        assert!(out.contains(said), "{out}");
        if code == 1 {
            assert!(out.contains("traffic/shop.yaml:12"), "{out}");
        }
    }
}

#[test]
fn standard_input_and_every_format() {
    let dir = repository();
    let both = format!("{BASE}---\n{WRONG}");
    let (code, json, _) = weir(dir.path(), &["check", "--format", "json", "-"], &both);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (
            code,
            &json["errors"],
            &json["diagnostics"][0]["labels"][0]["line"]
        ),
        (1, &1.into(), &8.into())
    );
    let (_, same, _) = weir(dir.path(), &["check", "--json", "-"], &both);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&same).unwrap(), json);
    let (code, sarif, _) = weir(
        dir.path(),
        &["check", "--format", "sarif", "traffic", "wrong.yaml"],
        "",
    );
    let sarif: serde_json::Value = serde_json::from_str(&sarif).unwrap();
    assert_eq!(
        (code, &sarif["runs"][0]["results"][0]["ruleId"]),
        (1, &"WEIR0208".into())
    );
    let (code, github, _) = weir(
        dir.path(),
        &["check", "--format", "github", "traffic", "wrong.yaml"],
        "",
    );
    assert_eq!(code, 1);
    assert!(
        github.starts_with("::error file=wrong.yaml,line=4,col=18,endColumn=21,title=WEIR0208::"),
        "{github}"
    );
}

#[test]
fn what_cannot_be_read_ends_in_2() {
    let dir = repository();
    for (path, problem) in [
        (
            "absent.yaml",
            "error: absent.yaml cannot be read: No such file or directory (os error 2)\n",
        ),
        ("traffic/.git/..", "2 files: nothing wrong\n"),
        ("empty", "error: empty holds no *.yaml or *.yml file\n"),
    ] {
        std::fs::create_dir_all(dir.path().join("empty")).unwrap();
        let (code, out, err) = weir(dir.path(), &["check", path], "");
        let expected = if problem.starts_with("error") { 2 } else { 0 };
        assert_eq!(
            (code, format!("{out}{err}").as_str()),
            (expected, problem),
            "{path}"
        );
    }
    assert_eq!(weir(dir.path(), &["check"], "").0, 2);
}

#[test]
fn codes_are_explained() {
    let dir = repository();
    let (code, out, _) = weir(dir.path(), &["explain", "weir0102"], "");
    assert_eq!(
        (code, out.lines().next()),
        (0, Some("# WEIR0102: the weights of a route do not add up to 100"))
    );
    assert_eq!(weir(dir.path(), &["explain", "102"], "").1, out);
    let (code, out, err) = weir(dir.path(), &["explain", "WEIR9999"], "");
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (
            2,
            "",
            "error: there is no code `WEIR9999`; `weir explain` alone lists them all\n"
        )
    );
    let (code, all, _) = weir(dir.path(), &["explain"], "");
    assert!(code == 0 && all.lines().all(|line| line.len() <= 80) && all.starts_with("WEIR0001  "));
}
