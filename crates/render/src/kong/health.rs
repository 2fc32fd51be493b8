//! Shares read back: `GET /upstreams/{upstream}/health?balancer_health=1`, the only exact account that Kong gives of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use weir_model::{BackendName, BasisPoints};

use crate::kong::expected::Upstream;
use crate::kong::targets::Target;

/// What a worker gives one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Given {
    total: u64,
    available: u64,
}

/// Which target: by its address, or by the name that Kong resolves itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Address(SocketAddr),
    Name(String, u16),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl Upstream {
    fn target(&self, at: &At) -> Option<&Target> {
        match at {
            At::Address(address) => self.targets.get(address),
            At::Name(name, port) => self.names.get(&(name.clone(), *port)),
        }
    }

    /// A name as it is expected: the cluster's own domain may follow in Kong.
    fn name(&self, found: String, port: u16) -> At {
        let known = self.names.keys().find(|(known, at)| {
            let rest = found.strip_prefix(known.as_str());
            *at == port && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        match known {
            Some((known, _)) => At::Name(known.clone(), port),
            None => At::Name(found, port),
        }
    }

    fn all(&self) -> impl Iterator<Item = (At, &Target)> {
        let addresses = self.targets.iter();
        let addresses = addresses.map(|(address, target)| (At::Address(*address), target));
        let names = self.names.iter();
        addresses.chain(names.map(|((name, port), target)| (At::Name(name.clone(), *port), target)))
    }
}

/// What is different at a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differs {
    /// In words.
    pub why: String,
    /// If all that is different is that Kong takes targets for unhealthy: whose these are. Empty if anything else is.
    pub unhealthy: BTreeSet<BackendName>,
}

impl From<String> for Differs {
    fn from(why: String) -> Self {
        Self {
            why,
            unhealthy: BTreeSet::new(),
        }
    }
}

/// Whether the worker that answered gives each target exactly its weight, and all of it is available.
///
/// # Errors
/// What is different: what nobody's health explains before what it does.
pub fn shares(answer: &Value, expected: &Upstream) -> Result<(), Differs> {
    let given = given(answer, expected)?;
    let mut unhealthy = BTreeSet::new();
    let mut first = None;
    for (address, given) in &given {
        let Some(target) = expected.target(address) else {
            if expected.drains && given.total == 0 {
                continue;
            }
            let why = format!("{} has a target {address} that is nobody's", expected.name);
            return Err(why.into());
        };
        let backend = &target.backend;
        let weight = u64::from(target.weight);
        if given.total != weight {
            let why = format!(
                "{}: target {address} of backend {backend} weighs {} and should weigh {weight}",
                expected.name, given.total
            );
            return Err(why.into());
        }
        if given.available < given.total {
            unhealthy.insert(backend.clone());
            first.get_or_insert_with(|| {
                format!(
                    "{}: Kong takes target {address} of backend {backend} for unhealthy, so that its share goes to the others",
                    expected.name
                )
            });
        }
    }
    // One without weight may be missing: it gets nothing either way.
    let mut weighted = expected.all().filter(|(_, target)| target.weight > 0);
    if let Some((address, target)) = weighted.find(|(address, _)| !given.contains_key(address)) {
        let why = format!(
            "{}: target {address} of backend {} is missing, so that its share goes to the others",
            expected.name, target.backend
        );
        return Err(why.into());
    }
    match first {
        None => Ok(()),
        Some(why) => Err(Differs { why, unhealthy }),
    }
}

/// The shares that the worker that answered really gives, by backend: what is not available gets nothing. None if the answer
/// does not tell, if a target is nobody's, or if they are no whole basis points.
pub fn weights(answer: &Value, expected: &Upstream) -> Option<BTreeMap<BackendName, BasisPoints>> {
    let given = given(answer, expected).ok()?;
    let mut sums: BTreeMap<BackendName, u64> = expected
        .all()
        .map(|(_, target)| (target.backend.clone(), 0))
        .collect();
    for (address, given) in &given {
        match expected.target(address) {
            None if expected.drains && given.total == 0 => {}
            target => *sums.get_mut(&target?.backend)? += given.available,
        }
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
fn given(answer: &Value, expected: &Upstream) -> Result<BTreeMap<At, Given>, String> {
    let details = answer.pointer("/data/details");
    let details = details.ok_or("the worker that answered does not know the upstream yet")?;
    let hosts = details.get("hosts").ok_or("the answer has no list of targets")?;
    let mut given: BTreeMap<At, Given> = BTreeMap::new();
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
        let at = match ip {
            Some(ip) => At::Address(SocketAddr::new(ip.to_canonical(), port)),
            None => expected.name(name.to_ascii_lowercase(), port),
        };
        let told = at.to_string();
        if given.insert(at, Given { total, available }).is_some() {
            return Err(format!("the answer has target {told} twice"));
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
