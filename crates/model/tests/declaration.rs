//! A whole declaration, read to values.

use std::sync::Arc;

use weir_model::{BasisPoints, SourceFile, SourceName, parse};

/// One file of the source `main`.
fn file(path: &str, text: &str) -> SourceFile {
    SourceFile {
        source: SourceName("main".to_owned()),
        path: path.to_owned(),
        bytes: Arc::from(text.as_bytes()),
    }
}

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
            file(&format!("{name}.yaml"), &format!("{zone}{fields}"))
        })
        .chain([file("a.yaml", WHOLE)])
        .collect();
    let parsed = parse(&files);
    assert!(parsed.refused());
    assert_eq!(parsed.diagnostics.len(), 5_001);
    assert_eq!(parsed.diagnostics[5_000].code.to_string(), "WEIR0009");
}
