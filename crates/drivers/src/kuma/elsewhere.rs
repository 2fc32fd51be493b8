//! Proxies that are not on this host, as the control plane tells of them: who calls a service, who took something newer,
//! what the control plane would send. Pure, but for nothing: documents come in as values. None of it is a proof.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// One dataplane of this zone that is connected to its control plane.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dataplane {
    pub(crate) name: String,
    /// Where its pod or host is, as far as its definition tells.
    pub(crate) address: Option<String>,
    reach: Reach,
    insight: Insight,
}

/// Whom a dataplane may call, as far as its definition tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reach {
    outbounds: Vec<Outbound>,
    /// Everything in the mesh can be called.
    transparent: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Outbound {
    service: String,
    port: Option<u64>,
}

/// What it said last about listeners.
#[derive(Debug, Clone, PartialEq, Default)]
struct Insight {
    stream: String,
    updated: Option<Timestamp>,
    sent: u64,
    acknowledged: u64,
    rejected: u64,
}

/// What one proxy had rejected at a moment: how often, on which connection to its control plane. Numbers begin again with
/// each connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rejections {
    stream: String,
    times: u64,
}

impl Dataplane {
    /// From an item of `_overview`; none if it is not connected, or no sidecar.
    pub(crate) fn read(overview: &Value) -> Option<Self> {
        let networking = overview.pointer("/dataplane/networking")?;
        let subscriptions = overview.pointer("/dataplaneInsight/subscriptions")?.as_array()?;
        let last = subscriptions
            .iter()
            .rfind(|s| s.get("disconnectTime").is_none_or(Value::is_null))?;
        Some(Self {
            name: overview.get("name")?.as_str()?.to_owned(),
            address: networking
                .get("address")
                .and_then(Value::as_str)
                .map(str::to_owned),
            reach: Reach::of(networking),
            insight: Insight {
                stream: ["id", "connectTime"]
                    .iter()
                    .find_map(|key| last.get(*key)?.as_str())
                    .unwrap_or_default()
                    .to_owned(),
                updated: last
                    .pointer("/status/lastUpdateTime")
                    .and_then(Value::as_str)
                    .and_then(|text| text.parse().ok()),
                sent: counter(last, "responsesSent"),
                acknowledged: counter(last, "responsesAcknowledged"),
                rejected: counter(last, "responsesRejected"),
            },
        })
    }

    /// Whether it may call a service, as far as its definition tells.
    pub(crate) fn calls(&self, service: &str, port: u16) -> bool {
        self.reach.covers(service, port)
    }

    /// What it has rejected so far.
    pub(crate) fn rejections(&self) -> Rejections {
        Rejections {
            stream: self.insight.stream.clone(),
            times: self.insight.rejected,
        }
    }

    /// That it rejected something since then, in words; none if it did not. Without a then, all that it ever rejected on
    /// its connection counts.
    pub(crate) fn rejected_since(&self, then: Option<&Rejections>) -> Option<String> {
        let known = then.filter(|then| then.stream == self.insight.stream);
        let times = self
            .insight
            .rejected
            .saturating_sub(known.map_or(0, |then| then.times));
        (times > 0).then(|| {
            format!(
                "{} rejected what the control plane sent ({times} times) and keeps what it had; its log and the control \
                 plane's say why",
                self.name
            )
        })
    }

    /// Whether it took something newer than what was written then, and nothing is under way.
    pub(crate) fn took_since(&self, written: Timestamp) -> Result<(), String> {
        let Insight {
            updated,
            sent,
            acknowledged,
            rejected,
            ..
        } = self.insight;
        if sent != acknowledged.saturating_add(rejected) {
            Err(format!("{} has not answered what was sent last", self.name))
        } else if updated.is_none_or(|updated| updated <= written) {
            Err(format!("{} has taken nothing newer (told every 10 s)", self.name))
        } else {
            Ok(())
        }
    }
}

impl Reach {
    /// From an item of `_overview`, whether it is connected or not; none if it is no sidecar.
    pub(crate) fn read(overview: &Value) -> Option<Self> {
        overview.pointer("/dataplane/networking").map(Self::of)
    }

    fn of(networking: &Value) -> Self {
        let outbounds = networking
            .get("outbound")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|outbound| {
                let to = outbound.get("backendRef")?;
                let labelled = to.pointer("/labels/kuma.io~1display-name");
                Some(Outbound {
                    service: labelled.or_else(|| to.get("name"))?.as_str()?.to_owned(),
                    port: to.get("port").and_then(Value::as_u64),
                })
            })
            .collect();
        Self {
            outbounds,
            transparent: networking
                .get("transparentProxying")
                .is_some_and(|t| !t.is_null()),
        }
    }

    /// Whether a service is among them.
    pub(crate) fn covers(&self, service: &str, port: u16) -> bool {
        let named = self.outbounds.iter().any(|outbound| {
            outbound.service == service && outbound.port.is_none_or(|of| of == u64::from(port))
        });
        named || self.transparent
    }
}

/// Protobuf's 64-bit numbers are strings in JSON.
fn counter(subscription: &Value, name: &str) -> u64 {
    let value = subscription.pointer("/status/lds").and_then(|lds| lds.get(name));
    match value {
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(0),
        None => 0,
    }
}

/// What the control plane would send (`_config`), in the shape of an Envoy's own dump: camelCase names become
/// snake_case, listeners become active listeners.
pub(crate) fn as_dump(config: &Value) -> Option<Value> {
    const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    let listeners = config.get("xds")?.get(LISTENER)?.as_object()?;
    let dynamic: Vec<Value> = listeners
        .iter()
        .map(|(name, listener)| {
            serde_json::json!({"name": name, "active_state": {"listener": snake(listener)}})
        })
        .collect();
    Some(serde_json::json!({"configs": [{
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
        "dynamic_listeners": dynamic,
    }]}))
}

fn snake(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| (snake_key(key), snake(value)))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(list) => list.iter().map(snake).collect(),
        other => other.clone(),
    }
}

/// Names of fields only: what has a dot, a slash or an `@` is data (a label, a type).
fn snake_key(key: &str) -> String {
    if !key.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return key.to_owned();
    }
    let mut out = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_computed_configuration_reads_like_a_dump() {
        let config = json!({"xds": {"type.googleapis.com/envoy.config.listener.v3.Listener": {
            "outbound:127.0.0.1:1": {"name": "outbound:127.0.0.1:1", "filterChains": [{"filters": [{
                "typedConfig": {"@type": "t", "routeConfig": {"virtualHosts": []}},
            }]}], "metadata": {"filterMetadata": {"io.kuma.tags": {"a.B": 1}}}},
        }}});
        assert_eq!(
            as_dump(&config).unwrap()["configs"][0]["dynamic_listeners"],
            json!([{"name": "outbound:127.0.0.1:1", "active_state": {"listener": {
                "name": "outbound:127.0.0.1:1", "filter_chains": [{"filters": [{
                    "typed_config": {"@type": "t", "route_config": {"virtual_hosts": []}},
                }]}], "metadata": {"filter_metadata": {"io.kuma.tags": {"a.B": 1}}},
            }}}])
        );
        assert_eq!(as_dump(&json!({"xds": {}})), None);
    }

    #[test]
    fn a_dataplane_took_something_newer_or_not() {
        let overview = |status: Value| {
            json!({
                "name": "web",
                "dataplane": {"networking": {"outbound": [
                    {"backendRef": {"kind": "MeshService", "labels": {"kuma.io/display-name": "checkout"}, "port": 8080}},
                ]}},
                "dataplaneInsight": {"subscriptions": [
                    {"disconnectTime": "2026-01-01T00:00:00Z"},
                    {"status": status},
                ]},
            })
        };
        let took = |status: Value| {
            let written = "2026-11-23T15:58:46Z".parse().unwrap();
            Dataplane::read(&overview(status)).unwrap().took_since(written)
        };
        let lds = |sent: &str, acknowledged: &str| json!({"responsesSent": sent, "responsesAcknowledged": acknowledged});
        assert_eq!(
            took(json!({"lastUpdateTime": "2026-11-23T15:58:47Z", "lds": lds("76", "76")})),
            Ok(())
        );
        assert!(took(json!({"lastUpdateTime": "2026-11-23T15:58:47Z", "lds": lds("76", "75")})).is_err());
        assert!(took(json!({"lastUpdateTime": "2026-11-23T15:58:46Z", "lds": lds("76", "76")})).is_err());
        assert!(took(json!({})).is_err());
        // A refusal of long ago is answered for; whether it counts is for whoever knows when it was.
        let refused = |stream: &str, rejected: u64| {
            let mut lds = lds("76", "74");
            lds["responsesRejected"] = json!(rejected.to_string());
            let mut overview = overview(json!({"lastUpdateTime": "2026-11-23T15:58:47Z", "lds": lds}));
            overview["dataplaneInsight"]["subscriptions"][1]["id"] = json!(stream);
            Dataplane::read(&overview).unwrap()
        };
        let before = refused("a", 2);
        assert_eq!(before.took_since("2026-11-23T15:58:46Z".parse().unwrap()), Ok(()));
        assert!(before.rejected_since(None).is_some(), "nobody knows since when");
        let then = before.rejections();
        assert_eq!(refused("a", 2).rejected_since(Some(&then)), None);
        assert!(
            refused("a", 3)
                .rejected_since(Some(&then))
                .is_some_and(|why| why.contains("1 times"))
        );
        assert!(
            refused("b", 1).rejected_since(Some(&then)).is_some(),
            "it counts anew"
        );
        let gone = json!({"name": "web", "dataplane": {"networking": {}}, "dataplaneInsight": {"subscriptions": [
            {"disconnectTime": "2026-01-01T00:00:00Z"}]}});
        assert_eq!(Dataplane::read(&gone), None);
    }
}
