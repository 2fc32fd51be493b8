//! Whether Kong itself takes a backend for dead that is to get more: only it knows, and only where an upstream has health
//! checks, which in a database are the site's to set on Weir's upstreams. Asked before weights are raised; afterwards the proof tells.

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
    /// Backends of which some target gets more than it has, with all the targets that have weight then.
    raised: BTreeMap<BackendName, BTreeSet<SocketAddr>>,
}

/// What has to be asked before these writes: of upstreams that check their targets, and in which one of those gets more.
pub fn questions(held: &Held, of: &OfSplit, writes: &[Write]) -> Vec<Question> {
    let mut raised: BTreeMap<&str, BTreeSet<SocketAddr>> = BTreeMap::new();
    for write in writes {
        let Write::Change {
            of: (Kind::Target, id, name),
            under: Some(upstream),
            fields,
        } = write
        else {
            continue;
        };
        let targets = held.targets.get(upstream).into_iter().flatten();
        let had = targets
            .filter(|row| row.id == *id)
            .map(super::held::Row::weight)
            .next();
        let gets = fields.get("weight").and_then(Value::as_u64);
        if let (Ok(address), true) = (name.parse::<SocketAddr>(), gets > had) {
            raised.entry(upstream).or_default().insert(address);
        }
    }
    let question = |(id, raised): (&str, BTreeSet<SocketAddr>)| {
        let row = held.of(Kind::Upstream).find(|row| row.id == id)?;
        if !is_checked(row.fields.get("healthchecks")?) {
            return None;
        }
        let upstream = of.expected.upstreams.values().find(|of| of.name == row.name)?;
        let gains = raised.iter().filter_map(|address| upstream.targets.get(address));
        let gains: BTreeSet<&BackendName> = gains.map(|target| &target.backend).collect();
        let mut raised: BTreeMap<BackendName, BTreeSet<SocketAddr>> = BTreeMap::new();
        for (address, target) in &upstream.targets {
            if gains.contains(&target.backend) && target.weight > 0 {
                raised.entry(target.backend.clone()).or_default().insert(*address);
            }
        }
        Some(Question {
            id: id.to_owned(),
            name: row.name.clone(),
            raised,
        })
    };
    raised.into_iter().filter_map(question).collect()
}

/// Whether an upstream finds out how its targets are: by asking them, or by what it gets of them.
fn is_checked(checks: &Value) -> bool {
    const ON: [&str; 6] = [
        "/active/healthy/interval",
        "/active/unhealthy/interval",
        "/passive/healthy/successes",
        "/passive/unhealthy/tcp_failures",
        "/passive/unhealthy/timeouts",
        "/passive/unhealthy/http_failures",
    ];
    let on = |path: &&str| {
        checks
            .pointer(path)
            .and_then(Value::as_f64)
            .is_some_and(|of| of > 0.0)
    };
    ON.iter().any(on)
}

/// Why a raise would send requests to nobody, by what one node answers: all targets of a backend are dead to it.
pub fn dead(question: &Question, answer: &Value) -> Option<String> {
    let all = answer.get("data").and_then(Value::as_array).into_iter().flatten();
    let unhealthy = all.filter(|of| of.get("health").and_then(Value::as_str) == Some("UNHEALTHY"));
    let address = |of: &Value| -> Option<SocketAddr> {
        let address: SocketAddr = of.get("target")?.as_str()?.parse().ok()?;
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    };
    let unhealthy: BTreeSet<SocketAddr> = unhealthy.filter_map(address).collect();
    let mut raised = question.raised.iter();
    let (backend, targets) = raised.find(|(_, targets)| targets.is_subset(&unhealthy))?;
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    Some(format!(
        "the health checks of upstream {} take every target of backend {backend} for dead ({}), so that more weight for it would reach \
         nobody",
        question.name,
        targets.join(", ")
    ))
}
