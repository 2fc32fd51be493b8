//! How weights move, read to values: what is given, what is not, and what the Federation gives.

use std::sync::Arc;

use jiff::SignedDuration;
use weir_model::{
    BasisPoints, Day, Fallback, Freeze, Insufficient, Parsed, SourceFile, SourceName, Split, Style,
    TimeOfDay, Transition, Verify, Window, WindowZone, parse, render_diagnostics,
};

/// A federation, two zones and a split with these lines in their specs.
fn files(federation: &str, zone: &str, backend: &str, split: &str) -> Vec<SourceFile> {
    let text = format!(
        "apiVersion: weir.dev/v1alpha1
kind: Federation
metadata: {{name: shop}}
spec:
  mesh: default
{federation}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {{name: fra}}
spec:
  platform: vm
{zone}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {{name: use1}}
spec: {{platform: eks}}
---
apiVersion: weir.dev/v1alpha1
kind: Split
metadata: {{name: checkout}}
spec:
  service: checkout
  port: 8080
  protocol: http
  backends:
    vm: {{zone: fra{backend}}}
    eks: {{zone: use1, namespace: shop}}
    lab: {{zone: use1, namespace: lab}}
  routes:
    - {{name: default, weights: {{vm: 90, eks: 10, lab: 0}}}}
{split}
"
    );
    vec![SourceFile {
        source: SourceName("main".to_owned()),
        path: "shop.yaml".to_owned(),
        bytes: Arc::from(text.as_bytes()),
    }]
}

fn read(federation: &str, zone: &str, backend: &str, split: &str) -> Parsed {
    let files = files(federation, zone, backend, split);
    let parsed = parse(&files);
    let told = render_diagnostics(&parsed.diagnostics, &files, Style::default());
    assert_eq!(told, "");
    parsed
}

fn only_split(parsed: &Parsed) -> &Split {
    parsed.declaration.splits.values().next().unwrap()
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

#[test]
fn what_is_not_given_has_its_default() {
    let parsed = read("", "", "", "");
    let split = only_split(&parsed);
    let expected = Transition {
        max_step: None,
        bake: SignedDuration::ZERO,
        verify: Verify {
            requests: 100,
            within: seconds(30),
            insufficient: Insufficient::Proceed,
            latency: None,
        },
    };
    assert_eq!(split.transition, expected);
    assert_eq!(split.transition, Transition::default());
    assert!(!split.streaming && split.fallback.is_empty());
    assert_eq!(split.freeze, Freeze::Never);
    let zone = parsed.declaration.zones.values().next().unwrap();
    assert!(!zone.detached && zone.wave == 1);
    assert_eq!(zone.freeze, Freeze::Never);
    assert_eq!(parsed.declaration.federation.unwrap().freeze, Freeze::Never);
}

/// Each field of the split's transition wins over that of the Federation, alone.
#[test]
fn the_splits_fields_win_one_by_one() {
    let federation =
        "  transition: {maxStep: 20, bake: 2m, verify: {requests: 500, within: 5m, latency: 250ms}}";
    let parsed = read(federation, "", "", "");
    let shared = Transition {
        max_step: Some(BasisPoints::new(2000).unwrap()),
        bake: seconds(120),
        verify: Verify {
            requests: 500,
            within: seconds(300),
            insufficient: Insufficient::Proceed,
            latency: Some(SignedDuration::from_millis(250)),
        },
    };
    assert_eq!(only_split(&parsed).transition, shared);
    let own = |yaml: &str| only_split(&read(federation, "", "", &format!("  transition: {yaml}"))).transition;
    assert_eq!(
        own("{bake: 0s}"),
        Transition {
            bake: SignedDuration::ZERO,
            ..shared
        }
    );
    assert_eq!(
        own("{maxStep: 100}"),
        Transition {
            max_step: None,
            ..shared
        }
    );
    assert_eq!(
        own("{maxStep: 12.5, verify: {insufficient: hold}}"),
        Transition {
            max_step: Some(BasisPoints::new(1250).unwrap()),
            verify: Verify {
                insufficient: Insufficient::Hold,
                ..shared.verify
            },
            ..shared
        }
    );
    assert_eq!(own("{verify: {latency: 1s}}").verify.latency, Some(seconds(1)));
    assert_eq!(
        own("{verify: {requests: 1, within: 1h30m}}").verify,
        Verify {
            requests: 1,
            within: seconds(5400),
            ..shared.verify
        }
    );
}

#[test]
fn freezes_states_streams_and_capacities_are_read() {
    let parsed = read(
        "  freeze: true",
        "  wave: 2\n  freeze: {windows: [{from: \"00:00\", to: \"24:00\", days: [sun, sat]}]}",
        ", capacity: 90.25",
        "  streaming: true
  freeze:
    windows:
      - {from: 22:00, to: 06:00, timeZone: Europe/Berlin}",
    );
    let split = only_split(&parsed);
    assert!(split.streaming);
    let time = |minutes| TimeOfDay::from_minutes(minutes).unwrap();
    let expected = Window {
        days: Day::ALL.into(),
        from: time(22 * 60),
        to: time(6 * 60),
        time_zone: WindowZone::named("Europe/Berlin").unwrap(),
    };
    assert_eq!(split.freeze, Freeze::Windows(vec![expected]));
    let capacities: Vec<_> = split.backends.values().map(|b| b.capacity).collect();
    assert_eq!(capacities, [None, None, Some(BasisPoints::new(9025).unwrap())]);
    let fra = parsed.declaration.zones.values().next().unwrap();
    assert_eq!(fra.wave, 2);
    let expected = Window {
        days: [Day::Sat, Day::Sun].into(),
        from: time(0),
        to: TimeOfDay::END,
        time_zone: WindowZone::UTC,
    };
    assert_eq!(fra.freeze, Freeze::Windows(vec![expected]));
    assert_eq!(parsed.declaration.federation.unwrap().freeze, Freeze::Always);
}

#[test]
fn fallbacks_are_a_name_a_list_or_a_mapping() {
    let read = |yaml: &str| {
        let parsed = read("", "", "", &format!("  fallback: {yaml}"));
        let entries = only_split(&parsed).fallback.clone().into_iter();
        entries
            .map(|(from, fallback)| {
                let Fallback { to, after, recover } = fallback;
                let to: Vec<String> = to.iter().map(ToString::to_string).collect();
                (from.to_string(), to.join(","), after.as_secs(), recover.as_secs())
            })
            .collect::<Vec<_>>()
    };
    let entry = |from: &str, to: &str, after, recover| (from.to_owned(), to.to_owned(), after, recover);
    assert_eq!(read("{eks: vm}"), [entry("eks", "vm", 1, 60)]);
    assert_eq!(read("{eks: [vm, lab]}"), [entry("eks", "vm,lab", 1, 60)]);
    assert_eq!(
        read("{eks: {to: [lab, vm], after: 3s, recover: 5m}, vm: {to: eks}}"),
        [entry("eks", "lab,vm", 3, 300), entry("vm", "eks", 1, 60)]
    );
}

/// A detached zone's backends take nothing, also not as a fallback, and detaching it is one line and a weight.
#[test]
fn fallbacks_pass_over_detached_zones() {
    let fallback = "  fallback: {eks: [vm, lab], lab: {to: vm}, vm: eks}";
    let mut files = files("", "  state: detached", "", fallback);
    let text = String::from_utf8(files[0].bytes.to_vec()).unwrap();
    files[0].bytes = Arc::from(
        text.replace("{vm: 90, eks: 10, lab: 0}", "{vm: 0, eks: 90, lab: 10}")
            .as_bytes(),
    );
    let parsed = parse(&files);
    let told = parsed.diagnostics.iter().map(|d| d.code);
    let told: Vec<String> = told.map(|code| code.to_string()).collect();
    assert_eq!(told, ["WEIR0610", "WEIR0610"]);
    assert!(!parsed.refused());
    assert!(parsed.declaration.zones.values().next().unwrap().detached);
    let left: Vec<(&str, Vec<&str>)> = only_split(&parsed)
        .fallback
        .iter()
        .map(|(from, fallback)| (from.as_str(), fallback.to.iter().map(|to| to.as_str()).collect()))
        .collect();
    assert_eq!(left, [("eks", vec!["lab"]), ("vm", vec!["eks"])]);
}

/// What a fallback would have to take is what both have in the default route.
#[test]
fn capacity_counts_both_shares() {
    let told = |capacity: &str, fallback: &str| -> Vec<String> {
        let files = files(
            "",
            "",
            &format!(", capacity: {capacity}"),
            &format!("  fallback: {fallback}"),
        );
        let all = parse(&files).diagnostics;
        let told = all.iter().map(|d| d.code);
        told.map(|code| code.to_string()).collect()
    };
    assert_eq!(told("99.99", "{eks: vm}"), ["WEIR0609"]);
    assert_eq!(told("100", "{eks: vm}"), [] as [&str; 0]);
    // Nothing falls back on it, or from what has nothing.
    assert_eq!(told("90", "{vm: eks, lab: vm}"), [] as [&str; 0]);
    assert_eq!(told("89.99", "{vm: eks}"), ["WEIR0607"]);
}
