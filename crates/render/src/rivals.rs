//! Second writers: policies of somebody else that touch a split's service, and whether they take traffic from it.
//!
//! Kuma merges policies by their matches. Of two with the same matches the one of higher rank wins; other matches stand
//! beside ours and are ordered by how specific they are, so a policy with matches of its own takes those requests from
//! the split whatever its rank.

use serde_json::Value;
use weir_model::Protocol;
use weir_planner::{Item, SecondWriter};

use crate::object::Kind;

/// Rank of a policy, as far as Kuma's order of policies can differ from ours; a greater one wins.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    target: u8,
    origin: u8,
    role: u8,
    /// The alphabetically first name wins.
    name: std::cmp::Reverse<String>,
}

/// Whether a policy touches the item's service and port, and how. The document is of either form. Whether it is ours is
/// for the caller to know.
pub fn touches(item: &Item, document: &Value) -> Option<SecondWriter> {
    let text = |at: &str| document.pointer(at).and_then(Value::as_str);
    let kind = match text("/type").or_else(|| text("/kind"))? {
        "MeshHTTPRoute" => Kind::MeshHttpRoute,
        "MeshTCPRoute" => Kind::MeshTcpRoute,
        _ => return None,
    };
    let spec = document.get("spec")?;
    let to = spec.get("to").and_then(Value::as_array).into_iter().flatten();
    let touching: Vec<_> = to
        .filter(|to| names(item, to.get("targetRef").unwrap_or(&Value::Null)))
        .collect();
    if touching.is_empty() {
        return None;
    }
    let labels = document
        .get("labels")
        .or_else(|| document.pointer("/metadata/labels"));
    let label = |key: &str| labels.and_then(|all| all.get(key)).and_then(Value::as_str);
    let name = text("/name")
        .or_else(|| text("/metadata/name"))
        .unwrap_or_default();
    let object = match text("/metadata/namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    let origin = label("kuma.io/origin").unwrap_or("unknown");
    let theirs = Rank {
        target: match spec.pointer("/targetRef/kind").and_then(Value::as_str) {
            None | Some("Mesh") => 0,
            Some("Dataplane") => 1,
            Some(_) => 2,
        },
        origin: match origin {
            "global" => 0,
            "zone" => 2,
            _ => 1,
        },
        role: match label("kuma.io/policy-role") {
            Some("producer") => 1,
            Some("consumer") => 2,
            Some("workload-owner") => 3,
            _ => 0,
        },
        name: std::cmp::Reverse(label("kuma.io/display-name").unwrap_or(name).to_owned()),
    };
    let ours = Rank {
        target: 0,
        origin: 2,
        role: 0,
        name: std::cmp::Reverse(format!("weir-{}", item.split)),
    };
    let overrides = match (item.protocol, kind) {
        (Protocol::Tcp, Kind::MeshTcpRoute) => theirs > ours,
        // A MeshTCPRoute beside a MeshHTTPRoute of an HTTP service has no effect, and the other way round.
        (_, Kind::MeshTcpRoute) | (Protocol::Tcp, Kind::MeshHttpRoute) => false,
        (_, Kind::MeshHttpRoute) => {
            theirs > ours || touching.iter().any(|to| has_matches_of_its_own(item, to))
        }
    };
    Some(SecondWriter {
        kind: kind.name().to_owned(),
        object,
        origin: origin.to_owned(),
        overrides,
    })
}

/// Whether a target is, or may be, the item's service and port. What cannot be told is taken as yes: a rival that is
/// named and harmless costs a line, one that is not named costs a night.
fn names(item: &Item, target: &Value) -> bool {
    let kind = target.get("kind").and_then(Value::as_str);
    if !matches!(
        kind,
        Some("MeshService" | "MeshMultiZoneService" | "MeshServiceSubset")
    ) {
        return false;
    }
    let service = item.service.as_str();
    let by_label = match target
        .pointer("/labels/kuma.io~1display-name")
        .and_then(Value::as_str)
    {
        Some(name) => name == service,
        None => target.get("labels").is_some(),
    };
    // Names of synced services and of legacy ones have parts behind the service's own name.
    let by_name = target.get("name").and_then(Value::as_str).is_some_and(|name| {
        let rest = name.strip_prefix(service);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_', '.']))
    });
    let port = match target
        .get("sectionName")
        .and_then(Value::as_str)
        .map(str::parse::<u16>)
    {
        Some(Ok(port)) => port == item.port,
        Some(Err(_)) | None => true, // a name may be this port's, declared or not
    };
    (by_label || by_name) && port
}

/// Whether any rule of theirs has matches that none of the split's routes has. Kuma takes a rule's matches together: one
/// with ours and another beside it is a rule of its own.
fn has_matches_of_its_own(item: &Item, to: &Value) -> bool {
    let rules = to.get("rules").and_then(Value::as_array).into_iter().flatten();
    let mut matches = rules.map(|rule| {
        let matches = rule.get("matches").and_then(Value::as_array);
        matches.map_or(&[][..], Vec::as_slice)
    });
    matches.any(|theirs| {
        let [one] = theirs else { return !theirs.is_empty() };
        !item
            .routes
            .iter()
            .any(|route| crate::policy::same_match(&route.matches, one))
    })
}
