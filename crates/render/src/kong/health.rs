//! Shares read back: `GET /upstreams/{upstream}/health?balancer_health=1`, the only exact account that Kong gives of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use weir_model::{BackendName, BasisPoints};

use crate::kong::document::Upstream;

/// What a worker gives one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Given {
    total: u64,
    available: u64,
}

/// Whether the worker that answered gives each target exactly its weight, and all of it is available.
///
/// # Errors
/// What is different, in words.
pub fn shares(answer: &Value, expected: &Upstream) -> Result<(), String> {
    let given = given(answer)?;
    for (address, given) in &given {
        let Some(target) = expected.targets.get(address) else {
            return Err(format!(
                "{} has a target {address} that is nobody's",
                expected.name
            ));
        };
        let backend = &target.backend;
        let weight = u64::from(target.weight);
        if given.total != weight {
            return Err(format!(
                "{}: target {address} of backend {backend} weighs {} and should weigh {weight}",
                expected.name, given.total
            ));
        }
        if given.available < given.total {
            return Err(format!(
                "{}: Kong takes target {address} of backend {backend} for unhealthy, so that its share goes to the others",
                expected.name
            ));
        }
    }
    // One without weight may be missing: it gets nothing either way.
    let mut weighted = expected.targets.iter().filter(|(_, target)| target.weight > 0);
    match weighted.find(|(address, _)| !given.contains_key(address)) {
        None => Ok(()),
        Some((address, target)) => Err(format!(
            "{}: target {address} of backend {} is missing, so that its share goes to the others",
            expected.name, target.backend
        )),
    }
}

/// The shares that the worker that answered really gives, by backend: what is not available gets nothing. None if the answer
/// does not tell, if a target is nobody's, or if they are no whole basis points.
pub fn weights(answer: &Value, expected: &Upstream) -> Option<BTreeMap<BackendName, BasisPoints>> {
    let given = given(answer).ok()?;
    let mut sums: BTreeMap<BackendName, u64> = expected
        .targets
        .values()
        .map(|target| (target.backend.clone(), 0))
        .collect();
    for (address, given) in &given {
        *sums.get_mut(&expected.targets.get(address)?.backend)? += given.available;
    }
    let all: u64 = sums.values().sum();
    let share = |(backend, sum): (BackendName, u64)| {
        let parts = sum.checked_mul(10_000)?;
        let whole = parts.checked_rem(all)? == 0;
        let share = u32::try_from(parts.checked_div(all)?).ok().filter(|_| whole)?;
        Some((backend, BasisPoints::new(share).ok()?))
    };
    sums.into_iter().map(share).collect()
}

/// What each target is given. An empty list of Kong's is an object.
fn given(answer: &Value) -> Result<BTreeMap<SocketAddr, Given>, String> {
    let details = answer.pointer("/data/details");
    let details = details.ok_or("the worker that answered does not know the upstream yet")?;
    let hosts = details.get("hosts").ok_or("the answer has no list of targets")?;
    let mut given: BTreeMap<SocketAddr, Given> = BTreeMap::new();
    for host in hosts.as_array().into_iter().flatten() {
        let name = host.get("host").and_then(Value::as_str).unwrap_or_default();
        let ip: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let port = host.get("port").and_then(Value::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok());
        let number = |at: &str| host.pointer(at).and_then(Value::as_u64);
        let weights = number("/weight/total").zip(number("/weight/available"));
        let (Some((total, available)), Some(port)) = (weights, port) else {
            return Err(format!("the answer does not tell the weight of target {name}"));
        };
        // Ours are addresses: a name is somebody else's target.
        let ip = ip.ok_or_else(|| format!("there is a target {name}, which is nobody's"))?;
        let address = SocketAddr::new(ip.to_canonical(), port);
        if given.insert(address, Given { total, available }).is_some() {
            return Err(format!("the answer has target {address} twice"));
        }
    }
    let said = details.pointer("/weight/total").and_then(Value::as_u64);
    let sum = given.values().map(|given| given.total).sum();
    if said != Some(sum) {
        return Err(format!(
            "the weights of its targets sum up to {sum}, and Kong says {said:?}"
        ));
    }
    Ok(given)
}
