//! How requests get to other zones, as far as a zone's own control plane knows: through an ingress of that zone with an
//! advertised address, or by an address of a mesh-scoped zone proxy. Of these Kuma makes the endpoints of every MeshService of
//! another zone; with none of them there are none, and the MeshService stays Available (`kuma.md` 1.1, R10).
//!
//! What is known of other zones' ingresses is that they are there. Whether they live is not: of another zone's ingress no
//! control plane of a zone has an insight (overviews show it without one). One that is killed on a VM is gone from all
//! zones after some 12 s, for its own control plane removes what has no session any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join;
use serde_json::Value;
use tokio::time::Instant;
use weir_model::{DnsLabel, MeshName};
use weir_planner::{ServiceFact, Way};

use super::policy;
use super::rest::Rest;

/// For so long the lists are waited for: they hold nothing up that could do without.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// For so long where an earlier answer is there to go by.
const BRIEF: Duration = Duration::from_millis(250);
/// For so long an answer is gone by while none comes: a control plane that is slow for a moment must not open what was closed.
const KEPT: Duration = Duration::from_secs(30);

/// The last whole answer of a zone's control plane.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Option<(Instant, MeshName, Ways)>>);

impl Known {
    /// Asks the control plane; what it does not answer, or not in time, is as it was said lately, or not known.
    pub(crate) async fn ask(&self, rest: &Rest, mesh: &MeshName) -> Ways {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last = last.filter(|(at, of, _)| of == mesh && at.elapsed() < KEPT);
        let patience = if last.is_some() { BRIEF } else { PATIENCE };
        let last = last.map(|(.., ways)| ways);
        match tokio::time::timeout(patience, Ways::ask(rest, mesh)).await {
            Ok(ways) if ways.ingresses.is_some() && ways.addresses.is_some() => {
                let known = (Instant::now(), mesh.clone(), ways.clone());
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
                ways
            }
            Ok(ways) => last.unwrap_or(ways),
            Err(_) => {
                tracing::debug!("which ingresses there are was not answered in time");
                last.unwrap_or_default()
            }
        }
    }
}

/// What is known of the ways to other zones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ways {
    /// Zones with an ingress, and whether one of those advertises an address; none if that cannot be known.
    pub(crate) ingresses: Option<BTreeMap<String, bool>>,
    /// Zones with the address of a zone proxy of the mesh; none if that cannot be known.
    pub(crate) addresses: Option<BTreeSet<String>>,
}

impl Ways {
    /// What a list of ingresses says.
    pub(crate) fn ingresses(all: impl Iterator<Item = Ingress>) -> BTreeMap<String, bool> {
        let mut zones = BTreeMap::new();
        for ingress in all {
            if let Some(zone) = ingress.zone {
                *zones.entry(zone).or_default() |= ingress.advertised;
            }
        }
        zones
    }

    fn to(&self, zone: &DnsLabel) -> Way {
        let zone = zone.as_str();
        let ingress = self.ingresses.as_ref().map(|zones| zones.get(zone).copied());
        let address = self.addresses.as_ref().map(|zones| zones.contains(zone));
        match (ingress, address) {
            (Some(Some(true)), _) | (_, Some(true)) => Way::Open,
            (None, _) | (_, None) => Way::Unknown,
            (Some(Some(false)), Some(false)) => Way::NotAdvertised,
            (Some(None), Some(false)) => Way::NoIngress,
        }
    }

    /// Says of each service how it is reached from this zone.
    pub(crate) fn mark(&self, services: &mut [ServiceFact], own: &DnsLabel) {
        for fact in services {
            fact.way = if fact.kuma_zone == *own {
                Way::Open
            } else {
                self.to(&fact.kuma_zone)
            };
        }
    }

    /// Asks the control plane. What it does not answer is not known.
    async fn ask(rest: &Rest, mesh: &MeshName) -> Self {
        let addresses = format!("meshes/{mesh}/meshzoneaddresses");
        let asked = join(rest.list("zoneingresses", ""), rest.list(&addresses, ""));
        let (ingresses, addresses) = asked.await;
        let unknown = |error: &crate::DriverError| {
            tracing::debug!(%error, "which ways there are to other zones is not known");
        };
        // A kind that this Kuma does not have: then nothing of it is there, but every Kuma has ingresses.
        let addresses = addresses.inspect_err(unknown).ok().map(Option::unwrap_or_default);
        let ingresses = ingresses.inspect_err(unknown).ok().flatten();
        Self {
            ingresses: ingresses.map(|all| Self::ingresses(all.iter().map(Ingress::of))),
            addresses: addresses.map(|all| all.iter().filter_map(zone).collect()),
        }
    }
}

/// The zone of an object that came from another one; none of one of this zone's own.
pub(crate) fn zone(document: &Value) -> Option<String> {
    let said = ["/zone", "/spec/zone"]
        .into_iter()
        .find_map(|at| document.pointer(at)?.as_str());
    let said = said.filter(|zone| !zone.is_empty());
    said.or_else(|| policy::label(document, "kuma.io/zone"))
        .map(str::to_owned)
}

/// What matters of a ZoneIngress of either form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ingress {
    /// None where its own control plane has not said it: it is this zone's.
    pub(crate) zone: Option<String>,
    /// Whether others are told where it is. Kuma's other zones know no other address of it.
    pub(crate) advertised: bool,
}

impl Ingress {
    pub(crate) fn of(document: &Value) -> Self {
        let networking = document
            .get("networking")
            .or_else(|| document.pointer("/spec/networking"));
        let said = |key: &str| networking.and_then(|networking| networking.get(key));
        let address = said("advertisedAddress")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let port = said("advertisedPort").and_then(Value::as_u64).unwrap_or_default();
        Self {
            zone: zone(document),
            advertised: !address.is_empty() && port > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn label(name: &str) -> DnsLabel {
        DnsLabel::new(name).expect("a label")
    }

    #[test]
    fn what_is_not_known_is_never_closed() {
        let open =
            json!({"zone": "ams", "networking": {"advertisedAddress": "10.0.0.1", "advertisedPort": 10001}});
        let mute = json!({"zone": "par", "networking": {"address": "10.0.0.2", "port": 10001}});
        // As a cluster has it: by label, and fields below `spec`.
        let labelled = json!({
            "metadata": {"labels": {"kuma.io/zone": "eks"}},
            "spec": {"networking": {"advertisedAddress": "lb.example.com", "advertisedPort": 10001}},
        });
        let own = json!({"networking": {"advertisedAddress": "10.0.0.3", "advertisedPort": 10001}});
        let listed = || Ways::ingresses([&open, &mute, &labelled, &own].into_iter().map(Ingress::of));
        let ways = |ingresses, addresses| Ways { ingresses, addresses };
        let none = || Some(BTreeSet::new());
        let table: Vec<(&str, Ways, [Way; 4])> = vec![
            (
                "all known",
                ways(Some(listed()), none()),
                [Way::Open, Way::NotAdvertised, Way::Open, Way::NoIngress],
            ),
            ("no ingress is listed", ways(None, none()), [Way::Unknown; 4]),
            (
                "no address is listed",
                ways(Some(listed()), None),
                [Way::Open, Way::Unknown, Way::Open, Way::Unknown],
            ),
            ("nothing is known", Ways::default(), [Way::Unknown; 4]),
            (
                "by the mesh's own proxies",
                ways(Some(BTreeMap::new()), Some(["par".to_owned()].into())),
                [Way::NoIngress, Way::Open, Way::NoIngress, Way::NoIngress],
            ),
        ];
        for (what, ways, expected) in table {
            assert_eq!(
                ["ams", "par", "eks", "fra"].map(|zone| ways.to(&label(zone))),
                expected,
                "{what}"
            );
        }
    }
}
