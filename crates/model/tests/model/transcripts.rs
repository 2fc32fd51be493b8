//! Longer transcripts: many problems at once, several sources, other formats, and what is sound although it looks odd.

use weir_model::{Parsed, SourceFile, Style, parse, precedence, render_diagnostics, report};

use crate::file_of as file;

fn rendered(files: &[SourceFile]) -> String {
    render_diagnostics(&parse(files).diagnostics, files, Style::default())
}

const BASE: &str = "
apiVersion: weir.dev/v1alpha1
kind: Federation
metadata: {name: shop}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {name: fra}
spec: {platform: vm}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {name: use1}
spec: {platform: eks-d}
";

/// A split with these routes over the backends `vm` and `eks`.
fn split(protocol: &str, routes: &str) -> SourceFile {
    let head = "apiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {name: checkout}\nspec:\n  service: checkout\n  \
                port: 8080\n";
    let text = format!(
        "{head}  protocol: {protocol}\n  backends: {{vm: {{zone: fra}}, eks: {{zone: use1, namespace: shop}}}}\n  \
         routes:\n{routes}  - {{name: default, weights: {{vm: 50, eks: 50}}}}\n"
    );
    file("main", "checkout.yaml", text)
}

fn checked(protocol: &str, routes: &str) -> (Vec<SourceFile>, Parsed) {
    let files = vec![file("main", "base.yaml", BASE), split(protocol, routes)];
    let parsed = parse(&files);
    (files, parsed)
}

/// A binary file, a broken document, a file of another program and a split with many mistakes, in two sources:
/// each is told of, and none hides another.
#[test]
fn all_problems_of_all_files_at_once() {
    let split = "\
apiVersion: weir.dev/v1alpha1
kind: Split
metadata: {name: Checkout, labels: {a: b}}
spec:
  sevice: checkout
  port: 0
  protocol: https
  backends:
    vm: {zone: fra, namespace: shop}
    eks: {zone: eks-use2, namespace: shop}
    old_one: {zone: fra}
  routes:
    - name: beta
      match:
        path: {exact: shop}
        headers: [{name: x-weir-anchor, exact: 1}]
      weights: {eks: 99.999, vn: 0.001}
    - weights: [50, 50]
";
    let broken = "\
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {name: eks-use2
spec: {platform: eks}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {name: par}
spec: {platform: vm, waves: 2}
";
    insta::assert_snapshot!(rendered(&[
        file("main", "base.yaml", BASE),
        file("main", "checkout.yaml", split),
        file("clusters", "logo.yaml", b"\x89PNG\r\n".as_slice()),
        file("clusters", "zones.yaml", broken),
        file(
            "clusters",
            "base.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
        ),
        file("clusters", "list.yaml", "- a\n- b\n"),
    ]));
}

/// Columns count characters, and neither tabs, wide characters nor escape sequences in a file disturb the picture.
#[test]
fn odd_characters_keep_their_places() {
    insta::assert_snapshot!(rendered(&[
        file("main", "base.yaml", format!("\u{feff}# grüße\r\n{BASE}")),
        file(
            "main",
            "wide.yaml",
            "apiVersion: \"日本語\" # 日本語\nkind: \"Zone\u{7}\"\n"
        ),
        file("main", "tab.yaml", "kind: Zone\n\tmetadata: {}\n"),
        file(
            "main",
            "escape.yaml",
            "apiVersion: weir.dev/v1alpha1\nkind: \"\\e[31mZone\\n\"\n"
        ),
    ]));
}

#[test]
fn formats_for_programs() {
    let files = vec![
        file("main", "base.yaml", BASE),
        file(
            "main",
            "traffic, eu/ü.yaml",
            split(
                "http",
                "  - {name: default, match: {method: GET}, weights: {vm: 100}}\n",
            )
            .bytes,
        ),
    ];
    let mut diagnostics = parse(&files).diagnostics;
    diagnostics.extend(parse(&[]).diagnostics);
    insta::assert_snapshot!(
        "json",
        serde_json::to_string_pretty(&report::json(&diagnostics, &files)).unwrap()
    );
    insta::assert_snapshot!("github", report::github(&diagnostics, &files));
    insta::assert_snapshot!(
        "sarif",
        serde_json::to_string_pretty(&report::sarif(&diagnostics, &files)).unwrap()
    );
}

/// The order of precedence is that of Gateway API, whatever the order of writing among routes that never meet.
#[test]
fn the_most_specific_match_is_tried_first() {
    let (files, parsed) = checked(
        "http",
        "  - {name: exact, match: {path: {exact: /a/b}}, weights: {vm: 100}}
  - {name: prefix, match: {path: {prefix: /a/b}}, weights: {vm: 100}}
  - {name: short-put-two, match: {path: {prefix: /a}, method: PUT, headers: [{name: x, exact: a}, {name: y, exact: a}]}, weights: {vm: 100}}
  - {name: short-put, match: {path: {prefix: /a}, method: PUT}, weights: {vm: 100}}
  - {name: short-two, match: {path: {prefix: /a}, headers: [{name: x, exact: b}, {name: y, exact: b}]}, weights: {vm: 100}}
  - {name: short-one-query, match: {path: {prefix: /a}, headers: [{name: x, exact: b}], query: [{name: q, exact: '1'}]}, weights: {vm: 100}}
  - {name: short-one, match: {path: {prefix: /a}, headers: [{name: x, exact: b}]}, weights: {vm: 100}}
  - {name: short-query, match: {path: {prefix: /a}, query: [{name: q, exact: '1'}]}, weights: {vm: 100}}
  - {name: first-written, match: {headers: [{name: x, exact: b}]}, weights: {vm: 100}}
  - {name: then, match: {headers: [{name: y, exact: b}]}, weights: {vm: 100}}
",
    );
    assert_eq!(
        render_diagnostics(&parsed.diagnostics, &files, Style::default()),
        ""
    );
    let split = parsed.declaration.splits.values().next().unwrap();
    let mut shuffled = split.routes.clone();
    // The two equals keep their order; all others find their place.
    shuffled.reverse();
    shuffled.swap(1, 2);
    let order: Vec<&str> = precedence(&shuffled)
        .into_iter()
        .map(|at| shuffled[at].name.as_str())
        .collect();
    let written: Vec<&str> = split.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(order, written);
}

/// Shadowing beyond plain copies: by a regular expression that takes the value, and not by one that does not.
#[test]
fn shadowing_looks_into_values() {
    let route = |name: &str, value: &str| {
        format!("  - {{name: {name}, match: {{headers: [{{name: user, {value}}}]}}, weights: {{vm: 100}}}}\n")
    };
    let five = route("five", "exact: '5'");
    let digits = route("digits", "regex: '[0-9]+'");
    let letters = route("letters", "regex: '[a-z]+'");
    let codes = |routes: String| -> Vec<String> {
        let (_, parsed) = checked("http2", &routes);
        parsed.diagnostics.iter().map(|d| d.code.to_string()).collect()
    };
    assert_eq!(codes(format!("{digits}{five}")), ["WEIR0506"]);
    assert_eq!(codes(format!("{five}{digits}{letters}")), [] as [&str; 0]);
}

/// What each protocol forbids is told once, where it stands.
#[test]
fn protocols_have_their_own_rules() {
    let method = "  - {name: get, match: {method: GET}, weights: {vm: 100}}\n";
    insta::assert_snapshot!(
        ["grpc", "tcp"]
            .map(|protocol| {
                let (files, parsed) = checked(protocol, method);
                render_diagnostics(&parsed.diagnostics, &files, Style::default())
            })
            .join("\n")
    );
}

/// All that can be wrong with how weights move, each told once where it stands; one mistake is one diagnostic.
#[test]
fn transitions_are_checked_whole() {
    let base = format!(
        "{BASE}---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {{name: old}}
spec: {{platform: vm, state: detached, freeze: on}}
"
    )
    .replace(
        "metadata: {name: shop}\n",
        "metadata: {name: shop}\nspec:\n  transition: {maxStep: 25, bake: 8d, verify: {requests: 0, insufficient: wait, latency: 200ms}}\n",
    );
    let split = "\
apiVersion: weir.dev/v1alpha1
kind: Split
metadata: {name: checkout}
spec:
  service: checkout
  port: 8080
  protocol: http
  backends:
    vm: {zone: fra, capacity: 50.5}
    eks: {zone: use1, namespace: shop, capacity: 101}
    lab: {zone: use1, namespace: lab, capacity: 60}
    old: {zone: old}
  routes:
    - name: beta
      match: {path: {prefix: /beta}}
      weights: {old: 5, vm: 95}
    - name: default
      weights: {vm: 50.51, eks: 30, lab: 19.49}
  transition: {maxStep: 0, bake: 90, verify: {within: 1.5h}}
  streaming: \"true\"
  freeze:
    windows:
      - {days: [Friday, sat, sat], from: 9:00, to: \"25:00\"}
      - {from: \"24:00\", to: \"06:00\", timeZone: Berlin}
      - {from: \"06:00\", to: \"06:00\"}
      - {days: [], from: \"06:00\"}
  fallback:
    eks: [lab, old, lab, ek]
    lab: {to: [], after: 2h, recover: 1s}
    vm: {after: 1s}
    old: 7
    gone: vm
";
    insta::assert_snapshot!(rendered(&[
        file("main", "base.yaml", base),
        file("main", "checkout.yaml", split),
    ]));
}

/// The Federation's steps are every split's, and their price is told where connections are long-lived.
#[test]
fn steps_have_a_price_for_long_connections() {
    let base = BASE.replace(
        "metadata: {name: shop}\n",
        "metadata: {name: shop}\nspec: {transition: {maxStep: 30}}\n",
    );
    let with = |protocol: &str, more: &str| {
        let plain = split(protocol, "");
        let text = String::from_utf8(plain.bytes.to_vec()).unwrap();
        let files = [
            file("main", "base.yaml", base.clone()),
            file("main", "checkout.yaml", format!("{text}{more}")),
        ];
        rendered(&files)
    };
    assert_eq!(with("http", ""), "");
    assert_eq!(with("tcp", "  transition: {maxStep: 100}\n"), "");
    assert_eq!(with("grpc", "  streaming: false\n"), "");
    insta::assert_snapshot!(
        [
            with("tcp", "  streaming: true\n"),
            with("grpc", "  streaming: true\n")
        ]
        .join("\n")
    );
}
