//! `weir plan` as people and programs meet it: a repository in, text or JSON and an exit code out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod price;
mod repository;

use std::io::{Read as _, Write as _};

use repository::{Repository, run};

const FEDERATION: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Federation
metadata: {name: shop}
spec: {mesh: default}
";

fn zone(name: &str, platform: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: {name}}}\nspec: {{platform: {platform}}}\n"
    )
}

fn zones() -> String {
    [
        FEDERATION.to_owned(),
        zone("fra", "vm"),
        zone("ams", "eks"),
        zone("par", "vm"),
    ]
    .join("---\n")
}

fn checkout(vm: &str, eks: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1
kind: Split
metadata: {{name: checkout}}
spec:
  service: checkout
  port: 8080
  protocol: http
  backends:
    vm: {{zone: fra}}
    eks: {{zone: ams, namespace: shop}}
  routes:
    - name: beta
      match: {{headers: [{{name: x-beta, exact: \"true\"}}]}}
      weights: {{eks: 100}}
    - name: default
      weights: {{vm: {vm}, eks: {eks}}}
"
    )
}

/// Commit by commit: 90/10, 50/50, no change of meaning, a broken sum, no split, the same without leave.
fn history() -> Repository {
    let repository = Repository::new();
    repository.commit(
        "zones and the first split",
        &[("zones.yaml", &zones()), ("checkout.yaml", &checkout("90", "10"))],
    );
    repository.commit("half", &[("checkout.yaml", &checkout("50", "50"))]);
    let moved = format!("# said in other words\n{}", checkout("50.00", "50"));
    repository.commit(
        "words",
        &[("README.md", "# Traffic\n"), ("checkout.yaml", &moved)],
    );
    repository.commit("broken", &[("checkout.yaml", &checkout("50", "49"))]);
    let allowed = zones().replace("mesh: default", "prune: allow");
    repository.commit("none", &[("zones.yaml", &allowed), ("checkout.yaml", "")]);
    repository.commit("none by accident", &[("zones.yaml", &zones())]);
    repository
}

#[test]
fn a_weight_moves() {
    let ran = history().weir(&["plan", "main~5", "main~4"]);
    insta::assert_snapshot!(ran.transcript());
}

#[test]
fn the_same_for_programs() {
    let ran = history().weir(&["plan", "main~5", "main~4", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    insta::assert_snapshot!(format!("{told:#}"));
    assert_eq!((ran.exit, ran.stderr.as_str()), (0, ""));
}

/// Asked for, the coordinator tells what the change would close now; without its answer nothing is said of the plan.
#[test]
fn the_price_is_asked_for() {
    let repository = history();
    let asked = |answer: &'static str| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let coordinator = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /v1/splits HTTP/1.1\r\n"));
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            write!(stream, "{head}content-length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        });
        repository.write("token", "weir-v-0123abcd-abcdefghijklmnopqrstuvwxyz012345\n");
        let ran = repository.weir(&[
            "plan",
            "main~5",
            "main~4",
            "--live",
            "--coordinator",
            &url,
            "--token-file",
            "token",
        ]);
        coordinator.join().unwrap();
        ran
    };
    let zone = |name: &str, open: &str| {
        format!(
            r#"{{"zone":"{name}","standing":"converged","reason":null,"generation":7,"evidence":"live","provenAt":null,
                "seen":2,"of":2,"weights":null,"counted":{{}},"failed":{{}},"countedSince":null,"open":{open},
                "secondWriters":[],"heardAt":null}}"#
        )
    };
    let list = format!(
        r#"{{"generation":7,"commits":{{}},"notice":null,"splits":[{{"name":"checkout","service":"checkout","port":8080,
            "protocol":"http","declared":{{}},"commit":"0","generation":7,"standing":"converged",
            "since":"2026-11-24T11:56:00Z","zones":[{},{}]}}]}}"#,
        zone("ams", "1240"),
        zone("fra", "null")
    );
    let ran = asked(list.leak());
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(
        ran.stdout
            .contains("checkout port 8080 in ams (1240 open now), fra, par\n"),
        "{}",
        ran.stdout
    );
    let ran = asked("{}");
    assert_eq!((ran.exit, ran.stdout.as_str()), (1, ""));
    assert_eq!(repository.weir(&["plan", "main~5", "main~4", "--live"]).exit, 2);
}

#[test]
fn changes_have_an_exit_code_of_their_own_where_asked_for() {
    let repository = history();
    let exit = |flags: &[&str]| repository.weir(&[&["plan"], flags].concat()).exit;
    assert_eq!(exit(&["main~5", "main~4"]), 0);
    assert_eq!(exit(&["main~5", "main~4", "--detailed-exitcode"]), 3);
    assert_eq!(exit(&["main~4", "main~3", "--detailed-exitcode"]), 0);
    assert_eq!(exit(&["main~4", "main~2", "--detailed-exitcode"]), 1);
}

#[test]
fn other_words_change_nothing() {
    let ran = history().weir(&["plan", "main~4", "main~3"]);
    insta::assert_snapshot!(ran.transcript());
}

#[test]
fn a_broken_declaration_is_refused_with_its_place() {
    let ran = history().weir(&["plan", "main~4", "main~2"]);
    insta::assert_snapshot!(ran.transcript());
    let ran = history().weir(&["plan", "main~4", "main~2", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&told["refused"], &told["revision"]),
        (&true.into(), &"main~2".into())
    );
    assert_eq!(told["diagnostics"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_in_force_must_be_sound_too() {
    let ran = history().weir(&["plan", "main~2", "main~3"]);
    insta::assert_snapshot!(ran.transcript());
}

#[test]
fn the_last_split_does_not_go_by_accident() {
    let ran = history().weir(&["plan", "main~3", "main"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (1, ""));
    let told = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.starts_with("error: this takes away the only split in force: `checkout`.")
            && told.ends_with("[WEIR0904] main cannot be planned: nothing would change"),
        "{told}"
    );
}

#[test]
fn the_last_split_goes() {
    let ran = history().weir(&["plan", "main~3", "main~1"]);
    insta::assert_snapshot!(ran.transcript());
}

#[test]
fn the_first_declaration_begins_from_nothing() {
    let repository = Repository::new();
    repository.commit("nothing yet", &[("README.md", "# Traffic\n")]);
    repository.commit(
        "a split",
        &[
            ("traffic/a.yaml", &zones()),
            ("traffic/b.yml", &checkout("100", "0")),
        ],
    );
    repository.commit("elsewhere", &[("other/broken.yaml", "kind: [")]);
    let ran = repository.weir(&["plan", "main~2", "main", "--path", "traffic"]);
    insta::assert_snapshot!(ran.transcript());
}

#[test]
fn the_work_tree_as_it_is_on_disk() {
    let repository = history();
    repository.reset("main~4");
    repository.write("checkout.yaml", &checkout("0", "100"));
    repository.write("ignored/broken.yaml", "kind: [");
    repository.write(".hidden/broken.yaml", "kind: [");
    repository.write(".gitignore", "ignored/\n");
    let ran = repository.weir(&["plan", "main~5", "--worktree"]);
    insta::assert_snapshot!(ran.transcript());
}

#[test]
fn wrong_questions_are_answered() {
    let repository = history();
    let mut told = Vec::new();
    for asked in [
        &["plan", "main~1", "nowhere"][..],
        &["plan", "main~1", "main~1", "--path", "../other"],
        &["plan", "main~1", "main~1", "--path", "zones.yaml"],
        &["plan", "main~1"],
        &["plan", "main~1", "main~1", "--worktree"],
    ] {
        told.push(repository.weir(asked).transcript());
    }
    let nowhere = tempfile::tempdir().unwrap();
    told.push(run(nowhere.path(), &["plan", "main~1", "main~1"]).transcript());
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn no_colour_on_a_pipe_and_80_columns() {
    let repository = history();
    let plain = repository.weir(&["plan", "main~5", "main~4"]);
    assert!(!plain.stdout.contains('\x1b'));
    let wide = plain.stdout.lines().filter(|line| line.chars().count() > 80);
    assert_eq!(wide.collect::<Vec<_>>(), [""; 0]);
    let colored = repository.weir(&["plan", "main~5", "main~4", "--color", "always"]);
    let lines = |color: &str| {
        colored
            .stdout
            .lines()
            .filter(|line| line.starts_with(color))
            .count()
    };
    assert!(
        lines("\x1b[31m-") > 0 && lines("\x1b[32m+") > 0,
        "{}",
        colored.stdout
    );
}
