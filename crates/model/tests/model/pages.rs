//! The pages in `docs/errors`: every code has one, its wrong example shows exactly that code, and the corrected
//! one nothing. The rendered wrong examples are the transcripts in `snapshots/`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use weir_model::{Code, SourceFile, Style, codes, parse, render_diagnostics};

use crate::file;

/// What the pages' examples are part of.
const FEDERATION: &str =
    "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\nspec: {}\n";
const ZONES: &str = "apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: fra}\nspec: {platform: vm}\n---\n\
                     apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {name: use1}\nspec: {platform: eks}\n";

/// The example under a heading, with the word after "yaml" on its fence; `None` if it is not YAML.
fn example<'p>(page: &'p str, heading: &str) -> Option<(&'p str, bool)> {
    let (_, rest) = page
        .split_once(&format!("## {heading}\n\n```"))
        .expect("the heading with a fence below");
    let (fence, rest) = rest.split_once('\n')?;
    let (text, _) = rest.split_once("```").expect("the fence is closed");
    match fence {
        "yaml" => Some((text, false)),
        "yaml whole" => Some((text, true)),
        "text" => None,
        other => panic!("unknown fence {other}"),
    }
}

fn files(page: &str, heading: &str) -> Option<Vec<SourceFile>> {
    let (text, whole) = example(page, heading)?;
    let mut files = vec![file("traffic/checkout.yaml", text)];
    if !whole && !text.contains("kind: Federation") {
        files.push(file("federation.yaml", FEDERATION));
    }
    if !whole && !text.contains("kind: Zone") {
        files.push(file("zones.yaml", ZONES));
    }
    Some(files)
}

/// An example of two files: the base, and after an empty line what the split says of it.
fn with_base(page: &str, heading: &str) -> Vec<SourceFile> {
    let (_, rest) = page.split_once(&format!("## {heading}\n\n```text\n")).unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let (base, doors) = text.split_once("\n\n").unwrap_or((text, ""));
    let zones = ZONES.replace(
        "{platform: vm}",
        "{platform: vm, gateways: [{name: edge, channel: admin-dbless, base: kong/edge.yaml}]}",
    );
    let mut files = vec![
        file("federation.yaml", FEDERATION),
        file("zones.yaml", zones),
        file("kong/edge.yaml", base),
    ];
    if !doors.is_empty() {
        let doors: String = doors.lines().map(|line| format!("  {line}\n")).collect();
        files.push(file(
            "split.yaml",
            format!(
                "apiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: checkout}}\nspec:\n  service: checkout\n  \
                 port: 8080\n  protocol: http\n  backends: {{vm: {{zone: fra}}, eks: {{zone: use1, namespace: shop}}}}\n  \
                 routes: [{{name: default, weights: {{vm: 90, eks: 10}}}}]\n{doors}"
            ),
        ));
    }
    files
}

/// What cannot be printed on a page: wrong and right.
fn made(code: Code) -> (Vec<SourceFile>, Vec<SourceFile>) {
    let base = || file("federation.yaml", FEDERATION);
    match code {
        codes::NOT_UTF8 => (
            vec![base(), file("zones.yaml", b"# caf\xff\n".as_slice())],
            vec![base(), file("zones.yaml", "# café\n")],
        ),
        codes::FILE_TOO_LARGE => {
            let comment = |bytes: usize| vec![base(), file("zones.yaml", "#".repeat(bytes))];
            (comment(1_048_577), comment(1_048_576))
        }
        codes::TOO_MANY_DOCUMENTS => {
            let zones = |number: usize| {
                let mut text = String::new();
                for n in 0..number {
                    writeln!(
                        text,
                        "---\napiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: z{n}}}\nspec: {{platform: vm}}"
                    )
                    .unwrap();
                }
                vec![base(), file("zones.yaml", text)]
            };
            (zones(1_001), zones(1_000))
        }
        codes::TOO_MANY_FILES => {
            let many = |number: usize| {
                let empty = (1..number).map(|n| file(&format!("z{n:05}.yaml"), ""));
                empty.chain([base()]).collect()
            };
            (many(10_001), many(10_000))
        }
        codes::TOO_MANY_PROBLEMS => {
            let wrong = |number: usize| vec![base(), file("zones.yaml", "- !t x\n".repeat(number))];
            (wrong(501), vec![base()])
        }
        codes::TOO_MANY_ENTRIES => {
            let split = |number: usize| {
                let mut text = "apiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {name: a}\nspec:\n  \
                                service: a\n  port: 80\n  protocol: http\n  backends: {vm: {zone: fra}}\n  routes:\n"
                    .to_owned();
                for n in 1..number {
                    writeln!(
                        text,
                        "  - {{name: r{n}, match: {{path: {{exact: /{n}}}}}, weights: {{vm: 100}}}}"
                    )
                    .unwrap();
                }
                text.push_str("  - {name: default, weights: {vm: 100}}\n");
                vec![base(), file("zones.yaml", ZONES), file("split.yaml", text)]
            };
            (split(65), split(64))
        }
        codes::BAD_BASE | codes::BASE_SERVICE => {
            let page = weir_model::page(code).unwrap();
            (with_base(page, "Wrong"), with_base(page, "Right"))
        }
        other => panic!("{other}: its page has no YAML example and none is made here"),
    }
}

#[test]
fn each_page_shows_its_code_and_the_way_out() {
    for entry in codes::ALL {
        let page = entry.page;
        assert!(page.starts_with(&format!("# {}: ", entry.code)), "{}", entry.code);
        if entry.code > codes::OF_FILES || [codes::AT_ODDS, codes::DASHED_HEADER].contains(&entry.code) {
            continue; // the tests of the coordinator hold those, and of `weir check` what is seen of a whole gateway
        }
        let (wrong, right) = match (files(page, "Wrong"), files(page, "Right")) {
            (Some(wrong), Some(right)) => (wrong, right),
            _ => made(entry.code),
        };
        let mut parsed = parse(&wrong);
        if entry.code == codes::TOO_MANY_PROBLEMS {
            // What it stands after is of another code, and long.
            let told = parsed.diagnostics.split_off(500);
            assert_eq!(parsed.diagnostics.len(), 500);
            parsed.diagnostics = told;
        }
        let found: BTreeSet<Code> = parsed.diagnostics.iter().map(|d| d.code).collect();
        let transcript = render_diagnostics(&parsed.diagnostics, &wrong, Style::default());
        assert_eq!(
            found,
            BTreeSet::from([entry.code]),
            "{}\n{transcript}",
            entry.code
        );
        insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(entry.code.to_string(), transcript);
        });
        let parsed = parse(&right);
        let transcript = render_diagnostics(&parsed.diagnostics, &right, Style::default());
        assert_eq!(transcript, "", "the corrected example of {}", entry.code);
    }
}

#[test]
fn codes_ascend_and_the_index_names_them_all() {
    let index = include_str!("../../../../docs/errors/README.md");
    assert!(codes::ALL.is_sorted_by(|a, b| a.code < b.code));
    for entry in codes::ALL {
        let line = format!("| [{0}]({0}.md) | {1} |", entry.code, entry.title());
        assert!(index.contains(&line), "docs/errors/README.md lacks: {line}");
    }
    assert_eq!(index.matches("](WEIR").count(), codes::ALL.len());
}
