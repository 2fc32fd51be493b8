//! What must hold for every input: no panic, no dependence on the order of files, exact weights.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;
use weir_model::duration::written;
use weir_model::{
    BackendName, BasisPoints, Day, Fallback, Freeze, Insufficient, LATENCIES, Parsed, SourceFile, Style,
    TimeOfDay, Transition, Verify, Window, WindowZone, parse, render_diagnostics, report,
};

use crate::file_of as file;

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
  transition: {maxStep: 12.5, bake: 1h30m, verify: {requests: 500, within: 5m, insufficient: hold, latency: 2500ms}}
  streaming: false
  freeze: {windows: [{days: [fri, sat], from: "22:00", to: 06:00, timeZone: Europe/Berlin}]}
  fallback: {eks: {to: [vm], after: 3s, recover: 5m}, vm: eks}
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
        Just("99999999999999999999d".to_owned()),
        Just("24:00".to_owned()),
        Just("\0\u{1b}[31m".to_owned()),
        Just(".nan".to_owned()),
        ".{0,12}",
    ]
}

/// How a split's weights move.
#[derive(Debug, Clone, PartialEq)]
struct Moving {
    transition: Transition,
    freeze: Freeze,
    fallback: BTreeMap<BackendName, Fallback>,
}

impl Moving {
    /// As a person would write it, lines of a split's `spec`.
    fn yaml(&self) -> String {
        let Transition {
            max_step,
            bake,
            verify,
        } = &self.transition;
        let insufficient = match verify.insufficient {
            Insufficient::Proceed => "proceed",
            Insufficient::Hold => "hold",
        };
        let latency = LATENCIES
            .iter()
            .find(|(_, latency)| Some(*latency) == verify.latency);
        let latency = latency
            .map(|(word, _)| format!(", latency: {word}"))
            .unwrap_or_default();
        let freeze = match &self.freeze {
            Freeze::Never => "false".to_owned(),
            Freeze::Always => "true".to_owned(),
            Freeze::Windows(windows) => {
                let windows: Vec<String> = windows
                    .iter()
                    .map(|w| {
                        let days: Vec<&str> = w.days.iter().map(|day| day.as_str()).collect();
                        let days = days.join(", ");
                        format!(
                            "{{days: [{days}], from: {}, to: {}, timeZone: {}}}",
                            w.from, w.to, w.time_zone
                        )
                    })
                    .collect();
                format!("{{windows: [{}]}}", windows.join(", "))
            }
        };
        let fallback: Vec<String> = self
            .fallback
            .iter()
            .map(|(from, fallback)| {
                let to: Vec<&str> = fallback.to.iter().map(BackendName::as_str).collect();
                let (after, recover) = (written(fallback.after), written(fallback.recover));
                format!(
                    "{from}: {{to: [{}], after: {after}, recover: {recover}}}",
                    to.join(", ")
                )
            })
            .collect();
        format!(
            "  transition: {{maxStep: {}, bake: {}, verify: {{requests: {}, within: {}, insufficient: {insufficient}{latency}}}}}\n  \
             freeze: {freeze}\n  fallback: {{{}}}\n",
            max_step.unwrap_or(BasisPoints::WHOLE),
            written(*bake),
            verify.requests,
            written(verify.within),
            fallback.join(", "),
        )
    }
}

/// A duration between two others, in milliseconds.
fn duration(least: i64, most: i64) -> impl Strategy<Value = SignedDuration> {
    let rough = (least / 1000..=most / 1000).prop_map(|seconds| seconds * 1000);
    prop_oneof![least..=most, rough, Just(least), Just(most)].prop_map(SignedDuration::from_millis)
}

fn moving() -> impl Strategy<Value = Moving> {
    const HOUR: i64 = 3_600_000;
    let verify = (
        1..=1_000_000_000_u64,
        duration(1000, 24 * HOUR),
        (any::<bool>(), 0..=LATENCIES.len()),
    )
        .prop_map(|(requests, within, (hold, latency))| Verify {
            requests,
            within,
            insufficient: if hold {
                Insufficient::Hold
            } else {
                Insufficient::Proceed
            },
            latency: LATENCIES.get(latency).map(|(_, latency)| *latency),
        });
    let step = prop::option::of(1..10_000_u32).prop_map(|step| step.map(|bp| BasisPoints::new(bp).unwrap()));
    let transition =
        (step, duration(0, 7 * 24 * HOUR), verify).prop_map(|(max_step, bake, verify)| Transition {
            max_step,
            bake,
            verify,
        });
    let days = prop::collection::btree_set(prop::sample::select(&Day::ALL[..]), 1..=7);
    let zone = prop::sample::select(&["UTC", "Europe/Berlin", "America/Argentina/Ushuaia", "Etc/GMT+5"][..]);
    let window = (days, 0..1440_u16, 0..=1440_u16, zone)
        .prop_filter("a length", |(_, from, to, _)| from != to)
        .prop_map(|(days, from, to, zone)| Window {
            days,
            from: TimeOfDay::from_minutes(from).unwrap(),
            to: TimeOfDay::from_minutes(to).unwrap(),
            time_zone: WindowZone::named(zone).unwrap(),
        });
    let freeze = prop_oneof![
        Just(Freeze::Never),
        Just(Freeze::Always),
        prop::collection::vec(window, 1..=16).prop_map(Freeze::Windows),
    ];
    let one = |from: &'static str, to: &'static str| {
        let times = (duration(1000, HOUR), duration(10_000, 24 * HOUR));
        prop::option::of(times).prop_map(move |times| {
            let name = |name: &str| BackendName::new(name).unwrap();
            times.map(|(after, recover)| {
                let to = vec![name(to)];
                (name(from), Fallback { to, after, recover })
            })
        })
    };
    let fallback = (one("eks", "vm"), one("vm", "eks"))
        .prop_map(|(eks, vm)| [eks, vm].into_iter().flatten().collect::<BTreeMap<_, _>>());
    (transition, freeze, fallback).prop_map(|(transition, freeze, fallback)| Moving {
        transition,
        freeze,
        fallback,
    })
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
        files.push(file("other", "0.yaml", if broken { &b"\xff"[..] } else { b"" }));
        files.push(file("other", "1.yaml", files[0].bytes.to_vec().as_slice()));
        let shuffled: Vec<SourceFile> = order.iter().map(|at| files[*at].clone()).collect();
        prop_assert_eq!(digest(&files), digest(&shuffled));
    }

    /// Whatever can be declared of how weights move reads back as it was written.
    #[test]
    fn what_is_written_is_read(moving in moving()) {
        let text = SPLIT.split_once("  transition:").unwrap();
        let rest = text.1.split_once("---\n").unwrap().1;
        let files = [
            file("main", "a.yaml", format!("{}{}---\n{rest}", text.0, moving.yaml()).as_bytes()),
            file("main", "b.yaml", b"{apiVersion: weir.dev/v1alpha1, kind: Zone, metadata: {name: use1}, spec: {platform: eks}}"),
        ];
        let parsed = digest(&files);
        let told = render_diagnostics(&parsed.diagnostics, &files, Style::default());
        prop_assert_eq!(told, "");
        let split = parsed.declaration.splits.values().next().unwrap();
        let read = Moving {
            transition: split.transition,
            freeze: split.freeze.clone(),
            fallback: split.fallback.clone(),
        };
        prop_assert_eq!(read, moving);
    }

    /// Exactly what the schema calls a duration is one.
    #[test]
    fn the_schema_knows_durations(text in "([0-9]{1,3}(d|h|m|s|ms|y)?){0,3}|[0-9dhms. -]{0,6}") {
        let schema = weir_model::json_schema();
        let bake = schema.pointer("/allOf/2/then/properties/spec/properties/transition/properties/bake").unwrap();
        let pattern = regex::Regex::new(bake["pattern"].as_str().unwrap()).unwrap();
        let known = pattern.is_match(&text) && text.len() as u64 >= bake["minLength"].as_u64().unwrap();
        let split = SPLIT.replace("1h30m", &format!("{text:?}"));
        let found = digest(&[file("main", "a.yaml", split.as_bytes())]).diagnostics;
        let refused = found.iter().any(|diagnostic| diagnostic.code == weir_model::codes::BAD_DURATION);
        prop_assert_eq!(known, !refused);
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
