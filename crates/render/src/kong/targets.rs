//! Weights as targets: whole numbers whose sums are the declared shares to the last one, however many addresses there are.
//!
//! Kong's ring has as many slots as the sum of all weights over their greatest common divisor, and is exact once around.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weir_model::{Address, BackendName, Host, RouteName, Via, sabotaged};

use crate::kong::document::AtDoor;

/// The addresses of DNS names, as the agent found them out.
pub type Resolved = BTreeMap<String, BTreeSet<IpAddr>>;

/// Targets by address. Never a name: one with several addresses multiplies its weight, and an SRV record overrides it
/// (facts 6 and 7).
pub type Targets = BTreeMap<SocketAddr, Target>;

/// One target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose it is.
    pub backend: BackendName,
    /// Its weight in Kong's ring.
    pub weight: u16,
}

/// The longest ring that Kong is given: each worker builds it anew at each change.
pub const LONGEST_RING: u64 = 100_000;

/// Where addresses of one backend cannot be given the same whole number, the lightest gets at least this, so that they
/// differ by a tenth at most. Where that makes the ring too long, they differ by more; the backend's sum is exact all the same.
const STEPS: u64 = 10;

/// The targets of one route at a door, with the weights of its item. A backend with weight 0 keeps its targets, with weight 0.
///
/// # Errors
/// Why there are none, in words: a weighted backend without an address (I3), one address of two backends, shares that need
/// numbers or a ring beyond what Kong takes.
pub fn targets(at: &AtDoor<'_>, resolved: &Resolved, route: &RouteName) -> Result<Targets, String> {
    given(at, resolved, route, |shares| {
        even(shares).or_else(|| nearly_even(shares))
    })
}

/// The sum of the weights of every upstream in a Kong with a database: six for each basis point, so that one target can have
/// all of it (60,000 of 65,535). With the same sum before and after, a change of weights needs one write for each target
/// that it changes, and no target gets more on the way than the larger of what it had and what it gets.
pub const SUM: u64 = 60_000;

/// The targets of one route at a door of a Kong with a database: the same shares as [`targets`], with weights whose sum is
/// always [`SUM`].
///
/// # Errors
/// As of [`targets`].
pub fn summing(at: &AtDoor<'_>, resolved: &Resolved, route: &RouteName) -> Result<Targets, String> {
    given(at, resolved, route, to_the_sum)
}

/// Numbers for the addresses of each backend: from their weights and how many they are.
type Numbers = fn(&[(u64, u64)]) -> Option<Vec<Vec<u16>>>;

fn given(
    at: &AtDoor<'_>,
    resolved: &Resolved,
    route: &RouteName,
    numbers: Numbers,
) -> Result<Targets, String> {
    let Via::Addresses(backends) = &at.door.via else {
        return Err("the mesh carries the weights, so that there are no targets".to_owned());
    };
    let found = at.item.routes.iter().find(|one| one.name == *route);
    let found = found.ok_or_else(|| format!("there is no route {route}"))?;
    let mut whose: BTreeMap<SocketAddr, &BackendName> = BTreeMap::new();
    let mut shares: Vec<(&BackendName, u64, Vec<SocketAddr>)> = Vec::new();
    for (backend, weight) in &found.weights {
        let listed = backends.get(backend).into_iter().flatten();
        let addresses = addresses(backend, listed, resolved)?;
        // Whoever has most of a route loses a bit of it, which all others gain.
        let shaved = u64::from(sabotaged("shave-targets") && (5_001..10_000).contains(&weight.get()));
        let weight = u64::from(weight.get()) - shaved;
        if weight > 0 && addresses.is_empty() {
            return Err(nowhere(backend, backends.get(backend)));
        }
        for address in &addresses {
            if let Some(other) = whose.insert(*address, backend) {
                return Err(format!(
                    "backends {other} and {backend} are both at {address}, so that Kong cannot tell them apart"
                ));
            }
        }
        shares.push((backend, weight, addresses.into_iter().collect()));
    }
    let counts: Vec<(u64, u64)> = shares
        .iter()
        .map(|(_, weight, addresses)| (*weight, addresses.len() as u64))
        .collect();
    let numbers = numbers(&counts)
        .ok_or_else(|| {
            let said = shares.iter().filter(|(_, weight, _)| *weight > 0);
            let said = said.map(|(backend, weight, addresses)| {
                format!("{weight} of 10000 over {} addresses of {backend}", addresses.len())
            });
            format!(
                "Kong cannot be given exactly these shares with weights up to 65535 and a ring up to {LONGEST_RING}: {}",
                said.collect::<Vec<_>>().join(", ")
            )
        })?;
    let mut targets = Targets::new();
    for ((backend, _, addresses), numbers) in shares.into_iter().zip(numbers) {
        for (address, weight) in addresses.into_iter().zip(numbers) {
            let backend = backend.clone();
            targets.insert(address, Target { backend, weight });
        }
    }
    Ok(targets)
}

fn addresses<'a>(
    backend: &BackendName,
    listed: impl Iterator<Item = &'a Address>,
    resolved: &Resolved,
) -> Result<BTreeSet<SocketAddr>, String> {
    let mut found = BTreeSet::new();
    for address in listed {
        let one;
        let ips = match &address.host {
            Host::Ip(ip) => {
                one = BTreeSet::from([*ip]);
                Some(&one)
            }
            Host::Name(name) => resolved.get(name),
        };
        for ip in ips.into_iter().flatten() {
            // What is mapped into IPv6 is the IPv4 address, for Kong too.
            let ip = ip.to_canonical();
            if ip.is_unspecified() || ip.is_multicast() {
                return Err(format!(
                    "{address} of backend {backend} is {ip}, where nobody can listen"
                ));
            }
            found.insert(SocketAddr::new(ip, address.port));
        }
    }
    Ok(found)
}

fn nowhere(backend: &BackendName, listed: Option<&BTreeSet<Address>>) -> String {
    let listed: Vec<String> = listed.into_iter().flatten().map(ToString::to_string).collect();
    if listed.is_empty() {
        format!("backend {backend} gets requests, and this door has no address of it")
    } else {
        format!(
            "backend {backend} gets requests, and {} leads to no address yet",
            listed.join(", ")
        )
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One number for all addresses of a backend, by weight and number of addresses; none if Kong takes no such numbers.
fn even(shares: &[(u64, u64)]) -> Option<Vec<Vec<u16>>> {
    let mut multiple = 1_u64;
    for (weight, count) in shares.iter().filter(|(weight, _)| *weight > 0) {
        let needed = count / gcd(*weight, *count);
        multiple = (multiple / gcd(multiple, needed)).checked_mul(needed)?;
    }
    let mut numbers = Vec::new();
    for (weight, count) in shares {
        let each = weight.checked_mul(multiple)?.checked_div(*count).unwrap_or(0);
        numbers.push(vec![each; usize::try_from(*count).ok()?]);
    }
    reduced(numbers)
}

/// Numbers of which those of one backend differ by one, and whose sums are exact.
fn nearly_even(shares: &[(u64, u64)]) -> Option<Vec<Vec<u16>>> {
    let sum: u64 = shares.iter().map(|(weight, _)| weight).sum();
    let weighted = || shares.iter().filter(|(weight, _)| *weight > 0);
    let lightest = |multiple: u64| weighted().map(|(weight, count)| weight * multiple / count).min();
    let multiples = (1..=LONGEST_RING.checked_div(sum)?)
        .filter_map(|multiple| Some((lightest(multiple)?.min(STEPS), multiple)))
        .filter(|(lightest, _)| *lightest > 0);
    // The most even, and of those the shortest ring.
    let mut multiples: Vec<(u64, u64)> = multiples.collect();
    multiples.sort_by_key(|(lightest, multiple)| (std::cmp::Reverse(*lightest), *multiple));
    multiples.into_iter().find_map(|(_, multiple)| {
        let numbers = shares.iter().map(|(weight, count)| {
            let sum = weight * multiple;
            let (each, more) = (
                sum.checked_div(*count).unwrap_or(0),
                sum.checked_rem(*count).unwrap_or(0),
            );
            (0..*count).map(|at| each + u64::from(at < more)).collect()
        });
        reduced(numbers.collect())
    })
}

/// Numbers of which those of one backend differ by one at most, and whose sum is [`SUM`]. Each rises with its backend's weight.
fn to_the_sum(shares: &[(u64, u64)]) -> Option<Vec<Vec<u16>>> {
    let all: u64 = shares.iter().map(|(weight, _)| weight).sum();
    let one = |(weight, count): &(u64, u64)| -> Option<Vec<u16>> {
        let sum = weight.checked_mul(SUM)?.checked_div(all)?;
        // An address that would get nothing beside one that gets something is no even share.
        if sum > 0 && sum < *count {
            return None;
        }
        let (each, more) = (
            sum.checked_div(*count).unwrap_or(0),
            sum.checked_rem(*count).unwrap_or(0),
        );
        (0..*count)
            .map(|at| u16::try_from(each + u64::from(at < more)).ok())
            .collect()
    };
    shares.iter().map(one).collect()
}

/// The same shares in the smallest numbers, if Kong takes them.
fn reduced(numbers: Vec<Vec<u64>>) -> Option<Vec<Vec<u16>>> {
    let divisor = numbers.iter().flatten().fold(0, |so_far, one| gcd(so_far, *one));
    let sum = numbers
        .iter()
        .flatten()
        .try_fold(0_u64, |sum, one| sum.checked_add(*one))?;
    // Weight for nobody is no ring at all: every request would be refused.
    if sum.checked_div(divisor)? > LONGEST_RING {
        return None;
    }
    let one = |number: u64| u16::try_from(number / divisor).ok();
    numbers
        .into_iter()
        .map(|all| all.into_iter().map(one).collect())
        .collect()
}
