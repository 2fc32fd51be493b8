//! The price that a plan names is the price that its objects have: a listener is replaced exactly where `spec` changes.

use std::sync::Arc;

use jiff::Timestamp;
use weir_model::{CommitId, Declaration, SourceCommit, SourceFile, SourceName, parse};
use weir_planner::diff::ItemChange;
use weir_planner::{DRAIN, Generation, Inputs, Plan, Planned, plan};
use weir_render::{Form, Options, render};

const BEFORE: &str = "\
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
metadata: {name: ams}
spec: {platform: vm}
---
apiVersion: weir.dev/v1alpha1
kind: Zone
metadata: {name: par}
spec: {platform: vm}
---
apiVersion: weir.dev/v1alpha1
kind: Split
metadata: {name: checkout}
spec:
  service: checkout
  port: 8080
  protocol: http
  backends:
    eks: {zone: ams}
    vm: {zone: fra}
  routes:
    - name: beta
      match: {headers: [{name: x-beta, exact: \"true\"}]}
      weights: {eks: 100}
    - name: default
      weights: {eks: 10, vm: 90}
";

/// What is replaced by what, and whether that closes connections.
const EDITS: [(&str, &str, bool); 12] = [
    ("eks: 10, vm: 90", "eks: 11, vm: 89", true),
    ("eks: 10, vm: 90", "vm: 100", true),
    ("weights: {eks: 100}", "weights: {eks: 100, vm: 0}", true),
    ("weights: {eks: 100}", "weights: {vm: 0, eks: 100.00}", true),
    ("exact: \"true\"", "exact: \"yes\"", true),
    ("port: 8080", "port: 8081", true),
    ("protocol: http\n", "protocol: grpc\n", false),
    ("name: beta", "name: preview", false),
    ("metadata: {name: par}", "metadata: {name: paris}", false),
    (
        "metadata: {name: par}\nspec: {platform: vm}",
        "metadata: {name: par}\nspec: {platform: vm, kumaZone: paris}",
        false,
    ),
    (
        "metadata: {name: fra}\nspec: {platform: vm}",
        "metadata: {name: fra}\nspec: {platform: vm, kumaZone: frankfurt}",
        true,
    ),
    ("{name: checkout}\n", "{name: checkout} # said otherwise\n", false),
];

fn declared(text: &str) -> Declaration {
    let file = SourceFile {
        source: SourceName("local".to_owned()),
        path: "all.yaml".to_owned(),
        bytes: Arc::from(text.as_bytes()),
    };
    let parsed = parse(&[file]);
    assert!(!parsed.refused(), "{:?}\n{text}", parsed.diagnostics);
    parsed.declaration
}

fn planned(declaration: &Declaration, parent: Option<&Plan>, now: Timestamp) -> Plan {
    let commit = SourceCommit {
        source: SourceName("local".to_owned()),
        commit: CommitId("1".repeat(40)),
    };
    let inputs = Inputs {
        declaration,
        commits: &[commit],
        highest: Generation(0),
        parent,
        now,
    };
    match plan(inputs) {
        Planned::New(plan) => {
            assert_eq!(weir_planner::lint(&plan, parent), []);
            plan
        }
        Planned::Nothing => parent.unwrap().clone(),
        Planned::Refused(reasons) => panic!("{reasons:?}"),
    }
}

#[test]
fn a_listener_is_replaced_where_spec_changes() {
    let before = planned(&declared(BEFORE), None, Timestamp::UNIX_EPOCH);
    for (what, by, replaced) in EDITS {
        assert!(BEFORE.contains(what), "{what}");
        let after = planned(
            &declared(&BEFORE.replace(what, by)),
            Some(&before),
            Timestamp::UNIX_EPOCH + DRAIN,
        );
        for (split, items) in &before.splits {
            for (zone, was) in &items.items {
                let Some(is) = after.splits[split].items.get(zone) else {
                    continue; // the zone has another name
                };
                let spec = |item| -> Vec<_> {
                    let objects = render(
                        item,
                        &before.federation,
                        &Form::Universal,
                        Options { anchored: true },
                    );
                    objects
                        .into_iter()
                        .map(|object| (object.name, object.kind, object.spec))
                        .collect()
                };
                let named =
                    ItemChange::between(Some(was), Some(is)).is_some_and(|change| change.replaces_listener);
                let real = spec(was) != spec(is);
                assert_eq!(
                    (named, real),
                    (replaced, replaced),
                    "`{what}` -> `{by}` in {zone}"
                );
            }
        }
    }
}
