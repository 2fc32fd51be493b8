//! Whether Kong itself takes a backend for dead that is to get more: only it knows, and only where an upstream has health
//! checks, which in a database are the site's to set on Weir's upstreams. Asked before weights are raised; afterwards the proof tells.
//! Kong checks no target without weight, so that of the first share of a backend it says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value;
use weir_model::BackendName;

use crate::kong::changes::Write;
use crate::kong::database::{Kind, OfSplit};
use crate::kong::held::Held;

/// What is to be asked of one upstream: `GET /upstreams/{id}/health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The upstream's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Backends that get more than they have, with all the targets that have weight then.
    raised: BTreeMap<BackendName, BTreeSet<SocketAddr>>,
}

/// What has to be asked before these writes: of upstreams that ask their targets how they are, and in which a backend gets more than
/// its targets have together. One target of many that gets more because another went is no raise.
pub fn questions(held: &Held, of: &OfSplit, writes: &[Write]) -> Vec<Question> {
    let touched = writes.iter().filter_map(|write| match write {
        Write::Change {
            of: (Kind::Target, ..),
            under,
            ..
        } => under.as_deref(),
        _ => None,
    });
    let touched: BTreeSet<&str> = touched.collect();
    touched
        .into_iter()
        .filter_map(|id| question(held, of, id))
        .collect()
}

fn question(held: &Held, of: &OfSplit, id: &str) -> Option<Question> {
    let row = held.of(Kind::Upstream).find(|row| row.id == id)?;
    if !heals(row.fields.get("healthchecks")?) {
        return None;
    }
    let upstream = of.expected.upstreams.values().find(|of| of.name == row.name)?;
    let mut had: BTreeMap<&BackendName, u64> = BTreeMap::new();
    // Of an address that is nobody's any more it is not known whose it was: it may have been anybody's.
    let mut nobodys = 0;
    for row in held.under(row) {
        match row.address().and_then(|address| upstream.targets.get(&address)) {
            Some(target) => *had.entry(&target.backend).or_default() += row.weight(),
            None => nobodys += row.weight(),
        }
    }
    let mut gets: BTreeMap<&BackendName, (u64, BTreeSet<SocketAddr>)> = BTreeMap::new();
    for (address, target) in upstream.targets.iter().filter(|(_, target)| target.weight > 0) {
        let (sum, targets) = gets.entry(&target.backend).or_default();
        *sum += u64::from(target.weight);
        targets.insert(*address);
    }
    gets.retain(|backend, (sum, _)| *sum > had.get(backend).copied().unwrap_or_default() + nobodys);
    let raised = gets
        .into_iter()
        .map(|(backend, (_, targets))| (backend.clone(), targets));
    Some(Question {
        id: id.to_owned(),
        name: row.name.clone(),
        raised: raised.collect(),
    })
}

/// Whether an upstream asks its targets how they are, those that are dead to it too, and counts that they answered: so that one that
/// is well again is known to be. What is found out by failures alone stays as it was found until somebody says otherwise, and a
/// revert does not wait for that.
fn heals(checks: &Value) -> bool {
    let on = |path: &str| {
        checks
            .pointer(path)
            .and_then(Value::as_f64)
            .is_some_and(|of| of > 0.0)
    };
    on("/active/healthy/interval") && on("/active/unhealthy/interval") && on("/active/healthy/successes")
}

/// The backends that are to get more and all of whose targets are dead to the node that answers.
pub fn dead(question: &Question, answer: &[Value]) -> BTreeSet<BackendName> {
    let unhealthy = answer
        .iter()
        .filter(|of| of.get("health").and_then(Value::as_str) == Some("UNHEALTHY"));
    let address = |of: &Value| -> Option<SocketAddr> {
        let address: SocketAddr = of.get("target")?.as_str()?.parse().ok()?;
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    };
    let unhealthy: BTreeSet<SocketAddr> = unhealthy.filter_map(address).collect();
    let raised = question.raised.iter();
    let raised = raised.filter(|(_, targets)| targets.is_subset(&unhealthy));
    raised.map(|(backend, _)| backend.clone()).collect()
}

/// Why more weight for this backend would reach nobody.
pub fn in_words(question: &Question, backend: &BackendName) -> String {
    let targets = question.raised.get(backend).into_iter().flatten();
    let targets: Vec<String> = targets.map(ToString::to_string).collect();
    format!(
        "the health checks of upstream {} take every target of backend {backend} for dead ({}), so that more weight for it would reach \
         nobody; it goes on by itself when one of them answers",
        question.name,
        targets.join(", ")
    )
}
