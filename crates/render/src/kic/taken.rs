//! An HTTPRoute of somebody else that a split takes over: the `backendRefs` of its one rule, and a mark that says who has it.
//! Pure: the live object comes in.
//!
//! Rules are one field to server-side apply (a list that is written whole), so that whoever owns the route in Git owns them too;
//! Weir changes what it is allowed to by a patch of the very state that it read, and leaves the rest as it is there. When the
//! split goes the mark goes and nothing else: what the backends were once is in their owner's Git, and to go back to it at once
//! would be a change of shares that nobody declared.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_model::{FederationName, GatewayName, SplitName};
use weir_planner::Generation;

use super::route::HttpRoute;
use super::standing::{attached_elsewhere, is_attached};

/// The annotation that is the mark.
pub const ANNOTATION: &str = "weir.dev/taken-over";

/// Which item has a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taker {
    /// Whose.
    pub federation: FederationName,
    /// At which gateway.
    pub gateway: GatewayName,
    /// Which split.
    pub split: SplitName,
    /// The generation of its item.
    pub generation: Generation,
    /// The generation in which the gateway itself last changed.
    pub gateway_generation: Generation,
    /// Which pin its weights are of, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
}

/// What a route that was taken over carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Who has it.
    #[serde(flatten)]
    pub taker: Taker,
    /// Of which object: a copy of it has another.
    uid: String,
    /// The `backendRefs` that were written last.
    wrote: Value,
}

fn text<'v>(of: &'v Value, at: &str) -> &'v str {
    of.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

/// The rules of a route.
fn rules(live: &Value) -> &[Value] {
    let rules = live.pointer("/spec/rules").and_then(Value::as_array);
    rules.map(Vec::as_slice).unwrap_or_default()
}

/// Where a route's first rule sends requests; null if it says nothing of that.
fn backend_refs(live: &Value) -> &Value {
    let first = rules(live).first().and_then(|rule| rule.get("backendRefs"));
    first.unwrap_or(&Value::Null)
}

impl Mark {
    /// The mark of a live route; none if it has none that can be read.
    pub fn of(live: &Value) -> Option<Self> {
        let annotations = live.pointer("/metadata/annotations")?;
        serde_json::from_str(annotations.get(ANNOTATION)?.as_str()?).ok()
    }

    /// Whether it was written on this very object.
    pub fn is_of(&self, live: &Value) -> bool {
        self.uid == text(live, "/metadata/uid")
    }

    /// Whether the route still says what was written last.
    pub fn stands(&self, live: &Value) -> bool {
        *backend_refs(live) == self.wrote
    }
}

/// The merge patch that takes off the mark.
pub fn let_go() -> Value {
    json!({"metadata": {"annotations": {ANNOTATION: null}}})
}

/// A rule with other backends.
fn with(rule: &Value, backends: &Value) -> Value {
    let mut rule = rule.clone();
    if let Some(fields) = rule.as_object_mut() {
        fields.insert("backendRefs".to_owned(), backends.clone());
    }
    rule
}

/// What there is to do with a live route.
#[derive(Debug, Clone, PartialEq)]
pub enum Over {
    /// Nothing: it is taken over, as it should be.
    There,
    /// This merge patch is to be written over exactly what was read.
    Write(Value),
    /// The same; but somebody changed what Weir had written.
    Contested(Value),
}

/// What makes a live route one that is taken over as this one says.
///
/// # Errors
/// Why it cannot be, in words.
pub fn over(route: &HttpRoute, taker: &Taker, live: &Value) -> Result<Over, String> {
    let called = format!("the HTTPRoute {}/{}", route.namespace, route.name);
    let [rule] = rules(live) else {
        return Err(format!(
            "{called} has {} rules, and a split takes over one that has one: put the rule into an HTTPRoute of its own",
            rules(live).len()
        ));
    };
    if !is_attached(&route.parent, live) {
        return Err(format!(
            "{called} is not attached to the Gateway {}: let its parentRefs name that, or the split another route",
            route.parent
        ));
    }
    let ours = Mark::of(live).filter(|mark| mark.is_of(live));
    // What it has already it has there too, and a revert takes it away at both.
    if let (None, Some(other)) = (&ours, attached_elsewhere(&route.parent, live)) {
        return Err(format!(
            "{called} is attached to {other} as well, where these weights would be too: give that an HTTPRoute of its own"
        ));
    }
    if let Some(mark) = &ours {
        let by = &mark.taker;
        if (&by.federation, &by.gateway) != (&taker.federation, &taker.gateway) {
            return Err(format!(
                "{called} is taken over by split {} at the gateway {} of federation {}: one route has one split at one gateway; if that \
                 is declared no more (it got another name), take off the annotation {ANNOTATION}",
                by.split, by.gateway, by.federation
            ));
        }
        if by.generation > route.known || by.gateway_generation > taker.gateway_generation {
            return Err(format!(
                "{called} carries generation {}, of generation {} of the gateway, and this agent knows {} and {}: another agent of \
                 this zone has a newer plan",
                by.generation, by.gateway_generation, route.known, taker.gateway_generation
            ));
        }
    }
    let (wanted, is) = (backend_refs(&route.document), backend_refs(live));
    let mark = Mark {
        taker: taker.clone(),
        uid: text(live, "/metadata/uid").to_owned(),
        wrote: wanted.clone(),
    };
    if is == wanted && ours.as_ref() == Some(&mark) {
        return Ok(Over::There);
    }
    let said = serde_json::to_string(&mark).map_err(|error| format!("{called}: its mark: {error}"))?;
    let patch = json!({
        "metadata": {"annotations": {ANNOTATION: said}},
        "spec": {"rules": [with(rule, wanted)]},
    });
    match ours {
        Some(mark) if !mark.stands(live) && is != wanted => Ok(Over::Contested(patch)),
        _ => Ok(Over::Write(patch)),
    }
}
