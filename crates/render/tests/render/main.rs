//! The render room from outside: a declaration as people write it, planned, rendered, and read back from what a control
//! plane and an Envoy would make of it. `kuma` is the test's own, independent idea of what Kuma does with a policy.

mod difference;
mod golden;
mod kuma;
mod port_names;
mod proof;
mod readiness;
mod rivals;
mod steps;

use std::sync::Arc;

use weir_model::{CommitId, FederationName, SourceCommit, SourceFile, SourceName, ZoneName};
use weir_planner::{Generation, Inputs, Item, Planned};

/// A declaration of two VM zones, a cluster and one split whose body is given.
pub(crate) fn declaration(split: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {{name: shop}}\nspec: {{mesh: default}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: fra-vm}}\nspec: {{platform: vm, kumaZone: fra}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: ams-vm}}\nspec: {{platform: vm, kumaZone: ams}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: eks-use1}}\nspec: {{platform: eks, kumaZone: use1}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: checkout}}\nspec:\n{split}"
    )
}

/// The item of zone `fra-vm`.
pub(crate) fn item(split: &str) -> Arc<Item> {
    let source: SourceName = SourceName("main".to_owned());
    let commit: CommitId = CommitId("0123456789abcdef0123456789abcdef01234567".to_owned());
    let parsed = weir_model::parse(&[SourceFile {
        source: source.clone(),
        path: "traffic.yaml".to_owned(),
        bytes: declaration(split).into_bytes().into(),
    }]);
    assert!(parsed.diagnostics.is_empty(), "{:#?}", parsed.diagnostics);
    let planned = weir_planner::plan(Inputs {
        declaration: &parsed.declaration,
        commits: &[SourceCommit { source, commit }],
        highest: Generation(6),
        parent: None,
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
    });
    let Planned::New(plan) = planned else {
        panic!("{planned:?}")
    };
    assert_eq!(weir_planner::lint(&plan, None), []);
    let zone: ZoneName = "fra-vm".parse().expect("a name");
    let split = plan.splits.values().next().expect("one split");
    Arc::clone(&split.items[&zone])
}

pub(crate) fn federation() -> FederationName {
    "shop".parse().expect("a name")
}

/// The split that most tests use.
pub(crate) const PLAIN: &str = "  service: checkout
  port: 8080
  protocol: http
  backends:
    vm: {zone: fra-vm}
    cloud: {zone: eks-use1, namespace: shop}
  routes:
    - name: default
      weights: {vm: 90, cloud: 10}
";

/// One with every kind of match.
pub(crate) const RICH: &str = "  service: checkout
  port: 8080
  protocol: http
  backends:
    vm: {zone: fra-vm}
    other: {zone: ams-vm}
    cloud: {zone: eks-use1, namespace: shop}
  routes:
    - name: admin
      match: {path: {prefix: /admin}, method: POST}
      weights: {vm: 100}
    - name: exact
      match: {path: {exact: /health}}
      weights: {vm: 50, cloud: 50}
    - name: digits
      match: {path: {prefix: /v2}, query: [{name: v, exact: '2'}]}
      weights: {cloud: 100}
    - name: beta
      match: {headers: [{name: x-beta, exact: 'true'}, {name: x-user, regex: '^[0-4].*'}]}
      weights: {cloud: 100}
    - name: default
      weights: {vm: 33.33, other: 0, cloud: 66.67}
";
