//! A whole declaration, read to values.

use weir_model::{BasisPoints, SourceFile, parse};

use crate::file;

const WHOLE: &str = r#"# The shop.
apiVersion: weir.dev/v1alpha1
kind: Federation
metadata: {name: shop}
spec: {mesh: default}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {name: fra}
spec: {platform: vm}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {name: use1}
spec: {platform: eks, kumaZone: eks-use1}
---
apiVersion: weir.dev/v1alpha1
kind: Split
metadata: {name: checkout}
spec:
  service: checkout
  port: 8080
  protocol: http
  backends:
    vm: {zone: fra}
    eks: {zone: use1, namespace: shop}
  routes:
    - name: beta
      match: {headers: [{name: X-Beta, exact: "true"}]}
      weights: {eks: 100}
    - name: default
      weights: {vm: 90, eks: 10}
"#;

#[test]
fn a_sound_declaration_is_read_whole() {
    let parsed = parse(&[file("shop.yaml", WHOLE)]);
    assert_eq!(parsed.diagnostics, []);
    assert!(!parsed.refused());
    let split = parsed.declaration.splits.values().next().unwrap();
    let weights: Vec<(&str, BasisPoints)> = split.routes[1]
        .weights
        .iter()
        .map(|(name, weight)| (name.as_str(), *weight))
        .collect();
    assert_eq!(
        weights,
        [
            ("eks", BasisPoints::new(1000).unwrap()),
            ("vm", BasisPoints::new(9000).unwrap())
        ]
    );
    assert_eq!(split.routes[0].matches.headers[0].name, "x-beta");
    assert_eq!(parsed.declaration.zones.len(), 2);
    assert_eq!(parsed.declaration.federation.unwrap().name.as_str(), "shop");
}

/// YAML takes a lone carriage return for the end of a line, and so for one before `---`: what stood above must not be lost
/// without a word, or a split would be.
/// A port's name is wider than other names, and one port's alone.
#[test]
fn names_of_a_port_are_read_once_each() {
    let with = |names: &str, more: &str| {
        let text = WHOLE.replace("  port: 8080\n", &format!("  port: 8080\n  portNames: {names}\n"));
        parse(&[file("shop.yaml", format!("{text}{more}"))])
    };
    let other = |names: &str| {
        let split = WHOLE.rsplit("---\n").next().unwrap();
        let split = split.replace("name: checkout}", "name: admin}");
        format!(
            "---\n{}",
            split.replace("  port: 8080\n", &format!("  port: 9090\n  portNames: {names}\n"))
        )
    };
    let sound = with("[web, http, 8080-tcp]", &other("[admin]"));
    assert_eq!(sound.diagnostics, []);
    let mut splits = sound.declaration.splits.values();
    let names = |split: &weir_model::Split| -> Vec<String> {
        split.port_names.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names(splits.next().unwrap()), ["admin"]);
    assert_eq!(names(splits.next().unwrap()), ["8080-tcp", "http", "web"]);
    for (names, more, code, told) in [
        ("[Http]", String::new(), "WEIR0301", "is not a port's name"),
        ("['-a']", String::new(), "WEIR0301", "is not a port's name"),
        ("[http, http]", String::new(), "WEIR0302", "stands twice"),
        (
            "[a, b, c, d, e, f, g, h, i]",
            String::new(),
            "WEIR0210",
            "may have 8",
        ),
        ("http", String::new(), "WEIR0202", "portNames"),
        (
            "[http]",
            other("[http]"),
            "WEIR0305",
            "two splits for the port `http`",
        ),
        (
            "['9090']",
            other("[admin]"),
            "WEIR0305",
            "two splits for the port `9090`",
        ),
    ] {
        let parsed = with(names, &more);
        assert!(parsed.refused(), "{names}");
        let [one] = parsed.diagnostics.as_slice() else {
            panic!("{names}: {:?}", parsed.diagnostics);
        };
        assert_eq!(one.code.to_string(), code, "{one:?}");
        assert!(format!("{one:?}").contains(told), "{one:?}");
    }
}

#[test]
fn no_document_is_lost_between_carriage_returns() {
    let (rest, split) = WHOLE.split_at(WHOLE.rfind("---").unwrap());
    let cart = split.replace("checkout", "cart");
    let lone = format!("{split}{cart}").replace('\n', "\r");
    let parsed = parse(&[file("rest.yaml", rest), file("splits.yaml", &lone)]);
    assert!(parsed.refused());
    let [diagnostic] = parsed.diagnostics.as_slice() else {
        panic!("{:#?}", parsed.diagnostics)
    };
    assert_eq!(diagnostic.labels[0].span.column, 4, "{diagnostic:?}");
    let both = format!("{split}{cart}").replace('\n', "\r\n");
    let parsed = parse(&[file("rest.yaml", rest), file("splits.yaml", &both)]);
    assert_eq!(parsed.diagnostics, []);
    assert_eq!(parsed.declaration.splits.len(), 2);
}

/// Nobody reads a hundred thousand problems, and whoever keeps them pays for each.
#[test]
fn problems_are_bounded_over_all_files() {
    let files: Vec<SourceFile> = (0..40)
        .map(|number| {
            let name = format!("z{number}");
            let zone = WHOLE
                .split("---")
                .nth(1)
                .unwrap()
                .replace("name: fra", &format!("name: {name}"));
            let fields: String = (0..300).map(|field| format!("f{field}: 1\n")).collect();
            file(&format!("{name}.yaml"), format!("{zone}{fields}"))
        })
        .chain([file("a.yaml", WHOLE)])
        .collect();
    let parsed = parse(&files);
    assert!(parsed.refused());
    assert_eq!(parsed.diagnostics.len(), 5_001);
    assert_eq!(parsed.diagnostics[5_000].code.to_string(), "WEIR0009");
}
