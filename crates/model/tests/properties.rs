//! What must hold for every input: no panic, no dependence on the order of files, exact weights.

#![expect(clippy::unwrap_used, reason = "a test may stop here")]

use std::sync::Arc;

use proptest::prelude::*;
use weir_model::{BasisPoints, Parsed, SourceFile, SourceName, Style, parse, render_diagnostics, report};

fn file(source: &str, path: &str, bytes: &[u8]) -> SourceFile {
    SourceFile {
        source: SourceName(source.to_owned()),
        path: path.to_owned(),
        bytes: Arc::from(bytes),
    }
}

/// Reads and renders in every format: nothing of it may panic, and spans must lie within their files.
fn digest(files: &[SourceFile]) -> Parsed {
    let parsed = parse(files);
    for label in parsed
        .diagnostics
        .iter()
        .flat_map(|diagnostic| &diagnostic.labels)
    {
        let file = files
            .iter()
            .find(|f| f.path == label.file && f.source == label.source)
            .unwrap();
        assert!(
            label.span.start <= label.span.end && label.span.end <= file.bytes.len(),
            "{label:?}"
        );
        assert!(label.span.line >= 1 && label.span.column >= 1, "{label:?}");
    }
    for color in [false, true] {
        render_diagnostics(&parsed.diagnostics, files, Style { color, width: 80 });
    }
    report::json(&parsed.diagnostics, files);
    report::github(&parsed.diagnostics, files);
    report::sarif(&parsed.diagnostics, files);
    parsed
}

const SPLIT: &str = r#"---
apiVersion: weir.dev/v1alpha1
kind: Split
metadata: {name: checkout}
spec:
  service: checkout # ü
  port: 8080
  protocol: http
  backends: &b
    vm: {zone: fra}
    eks: {zone: use1, namespace: shop}
  routes:
    - name: beta
      match: {path: {prefix: /api}, headers: [{name: x-beta, regex: "t.*"}]}
      weights: {eks: 100}
    - name: default
      weights: {vm: 90.5, eks: 9.5}
---
apiVersion: weir.dev/v1alpha1
kind: Federation
metadata: {name: shop}
spec: {}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {name: fra}
spec: {platform: vm}
"#;

/// Snippets that YAML and the declaration language have special eyes for.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("---\n".to_owned()),
        Just("...\n".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("\r\n".to_owned()),
        Just("\t".to_owned()),
        Just("<<: *a\n".to_owned()),
        Just("&a ".to_owned()),
        Just("*a".to_owned()),
        Just("!!str ".to_owned()),
        Just("%YAML 1.2\n".to_owned()),
        Just("? ".to_owned()),
        Just("|\n  x\n".to_owned()),
        Just("{".to_owned()),
        Just("]".to_owned()),
        Just("ä€𝄞".to_owned()),
        Just("\0\u{1b}[31m".to_owned()),
        Just(".nan".to_owned()),
        ".{0,12}",
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        digest(&[file("main", "a.yaml", &bytes)]);
    }

    #[test]
    fn no_yaml_makes_it_panic(parts in proptest::collection::vec(fragment(), 0..40)) {
        digest(&[file("main", "a.yaml", parts.concat().as_bytes())]);
    }

    /// A declaration with something put in, or cut out, anywhere.
    #[test]
    fn no_edit_makes_it_panic(
        at in 0..SPLIT.len(), cut in 0..12_usize, put in fragment(), source in "[ab]",
    ) {
        let mut bytes = SPLIT.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put.bytes());
        digest(&[file(&source, "a.yaml", &bytes), file("a", "b.yaml", SPLIT.as_bytes())]);
    }

    /// Documents dealt out to files in any order declare the same thing, and have the same things wrong.
    #[test]
    fn the_order_of_files_makes_no_difference(
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        broken in any::<bool>(),
    ) {
        let mut files: Vec<SourceFile> = SPLIT
            .split("---\n")
            .skip(1)
            .enumerate()
            .map(|(n, text)| file("main", &format!("{n}.yaml"), text.as_bytes()))
            .collect();
        files.push(file("main", "4.yaml", b"{kind: Zone, metadata: {name: use1}"));
        files.push(file("other", "0.yaml", if broken { b"\xff" } else { b"" }));
        files.push(file("other", "1.yaml", files[0].bytes.to_vec().as_slice()));
        let shuffled: Vec<SourceFile> = order.iter().map(|at| files[*at].clone()).collect();
        prop_assert_eq!(digest(&files), digest(&shuffled));
    }

    #[test]
    fn weights_survive_being_written_and_read(points in 0..=10_000_u32, zeros in 0..3_usize) {
        let weight = BasisPoints::new(points).unwrap();
        let text = weight.to_string();
        prop_assert_eq!(BasisPoints::from_percent_text(&text).unwrap(), weight);
        let padded = if text.contains('.') { text + &"0".repeat(zeros) } else { text };
        prop_assert_eq!(BasisPoints::from_percent_text(&padded).unwrap(), weight);
    }

    /// Exactly the texts of 0 to 100 with at most two decimals are weights.
    #[test]
    fn nothing_else_is_a_weight(text in "[-+]?[0-9]{0,4}(\\.[0-9]{0,4})?(e[0-9])?") {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = !text.contains('e') && digits.bytes().any(|b| b.is_ascii_digit());
        let fraction = fraction.trim_end_matches('0');
        let points = (plain && fraction.len() <= 2).then(|| {
            let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().unwrap() };
            whole * 100 + format!("{fraction:0<2}").parse::<u32>().unwrap()
        });
        let points = points.filter(|p| *p <= 10_000 && (*p == 0 || !text.starts_with('-')));
        prop_assert_eq!(BasisPoints::from_percent_text(&text).ok().map(BasisPoints::get), points);
    }
}
