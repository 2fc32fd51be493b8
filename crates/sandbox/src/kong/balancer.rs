//! The balancer of an upstream in one worker: its targets with what their names stand for, the ring, who is next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::names::Names;
use super::texts;

/// An address that somebody said is not well: upstream, host, port, address.
pub(super) type Unwell = BTreeSet<(String, String, u16)>;

/// The balancer of one upstream.
#[derive(Debug)]
pub(super) struct Balancer {
    /// The upstream.
    pub(super) upstream: Arc<Value>,
    /// Its targets, weight 0 and unresolved ones included.
    pub(super) targets: Vec<Target>,
    ring: Vec<(u32, u32)>,
    /// Who is next in it. Held for the whole of a choice: a worker of Kong is one thread, so that no two of its requests
    /// walk the ring at the same time, each past the place that is the other's.
    pointer: Mutex<usize>,
}

/// A target.
#[derive(Debug)]
pub(super) struct Target {
    /// As it was written, with a port.
    pub(super) target: String,
    /// Its host.
    pub(super) host: String,
    port: u16,
    weight: u64,
    /// Where its addresses come from, or why there are none.
    source: String,
    addresses: Vec<Address>,
}

/// An address of a target.
#[derive(Debug)]
struct Address {
    /// An address, or a name that an SRV record leads to.
    host: String,
    port: u16,
    weight: u64,
    available: AtomicBool,
}

/// Who is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// The `Host` to send, without port.
    pub(super) host: String,
    /// The target that it belongs to, as it was written.
    pub(super) target: String,
}

/// splitmix64: the next number of a sequence.
pub(super) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A target's host and port: 8000 where none is written.
pub(super) fn host_and_port(target: &str) -> Option<(String, u16)> {
    let host = texts::host(target).ok()?;
    Some((host.host, host.port.unwrap_or(8000)))
}

fn resolve(target: &Value, names: &dyn Names) -> Option<Target> {
    let text = target["target"].as_str()?;
    let (host, port) = host_and_port(text)?;
    let weight = target["weight"].as_u64().unwrap_or(100);
    let address = |host: String, port: u16, weight: u64| Address {
        host,
        port,
        weight,
        available: AtomicBool::new(true),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let (source, addresses) = if let Ok(ip) = bare.parse::<IpAddr>() {
        let source = if ip.is_ipv4() { "A" } else { "AAAA" };
        (source.to_owned(), vec![address(bare.to_owned(), port, weight)])
    } else {
        let services = names.services(&host);
        let mut known = names.addresses(&host);
        known.sort_unstable();
        if !services.is_empty() {
            let one = |service: &super::names::Service| {
                let port = if service.port == 0 { port } else { service.port };
                // The record's weight takes the place of the target's, and none is still one.
                address(service.target.clone(), port, u64::from(service.weight).max(1))
            };
            ("SRV".to_owned(), services.iter().map(one).collect())
        } else if known.is_empty() {
            ("dns server error: 3 name error".to_owned(), Vec::new())
        } else {
            // Each address has the weight of the whole target.
            let all = known
                .iter()
                .map(|ip| address(ip.to_string(), port, weight))
                .collect();
            ("A".to_owned(), all)
        }
    };
    Some(Target {
        target: format!("{host}:{port}"),
        host,
        port,
        weight,
        source,
        addresses,
    })
}

/// Whether an upstream has a health checker at all.
fn is_checked(upstream: &Value) -> bool {
    let checks = &upstream["healthchecks"];
    let on = |path: &str| {
        let number = checks.pointer(path).and_then(Value::as_f64);
        number.is_some_and(|number| number != 0.0)
    };
    [
        "/active/healthy/interval",
        "/active/unhealthy/interval",
        "/passive/unhealthy/tcp_failures",
        "/passive/unhealthy/timeouts",
        "/passive/unhealthy/http_failures",
    ]
    .into_iter()
    .any(on)
}

impl Balancer {
    /// The balancer of an upstream with these targets. The seed decides the order of its ring.
    pub(super) fn new(
        upstream: Arc<Value>,
        targets: &[Arc<Value>],
        names: &dyn Names,
        unwell: &Unwell,
        mut seed: u64,
    ) -> Self {
        let targets: Vec<Target> = targets
            .iter()
            .filter_map(|target| resolve(target, names))
            .collect();
        let id = upstream["id"].as_str().unwrap_or_default();
        let checked = is_checked(&upstream);
        let mut divisor = 0;
        for target in &targets {
            for address in &target.addresses {
                divisor = gcd(divisor, address.weight);
                let key = (id.to_owned(), address.host.clone(), address.port);
                // What was said of an address is looked up by a health checker, and only an upstream that is checked has one.
                let known = checked && address.weight > 0 && unwell.contains(&key);
                address.available.store(!known, Ordering::Relaxed);
            }
        }
        let mut ring = Vec::new();
        for (t, target) in (0..).zip(&targets) {
            for (a, address) in (0..).zip(&target.addresses) {
                // Without any weight there is no divisor, and no ring.
                let points = address.weight.checked_div(divisor).unwrap_or_default();
                let points = usize::try_from(points).unwrap_or_default();
                ring.extend(std::iter::repeat_n((t, a), points));
            }
        }
        for last in (1..ring.len()).rev() {
            let other = usize::try_from(random(&mut seed) % (last as u64 + 1)).unwrap_or_default();
            ring.swap(last, other);
        }
        Self {
            upstream,
            targets,
            ring,
            pointer: Mutex::new(0),
        }
    }

    /// Whether what its names stand for has changed.
    pub(super) fn is_stale(&self, names: &dyn Names) -> bool {
        // Its own targets: others come with a change, when that is taken up.
        let again = |known: &Target| resolve(&json!({"target": known.target, "weight": known.weight}), names);
        let now = self.targets.iter().filter_map(again);
        let seen = |target: &Target| -> Vec<(String, u16, u64)> {
            target
                .addresses
                .iter()
                .map(|a| (a.host.clone(), a.port, a.weight))
                .collect()
        };
        now.zip(&self.targets)
            .any(|(now, then)| now.source != then.source || seen(&now) != seen(then))
    }

    /// What each address weighs.
    pub(super) fn gives(&self) -> BTreeMap<String, u64> {
        let mut gives = BTreeMap::new();
        for address in self.targets.iter().flat_map(|target| &target.addresses) {
            *gives
                .entry(format!("{}:{}", address.host, address.port))
                .or_default() += address.weight;
        }
        gives
    }

    /// Whether it asks its targets how they are.
    pub(super) fn is_checked(&self) -> bool {
        is_checked(&self.upstream)
    }

    /// Says of a host's addresses whether they are well; those that it has.
    pub(super) fn mark(&self, host: &str, port: u16, only: Option<&str>, well: bool) -> Vec<(String, u16)> {
        let mut found = Vec::new();
        for target in self
            .targets
            .iter()
            .filter(|target| target.host == host && target.port == port)
        {
            for address in &target.addresses {
                if only.is_none_or(|only| only == address.host) {
                    address.available.store(well, Ordering::Relaxed);
                    found.push((address.host.clone(), address.port));
                }
            }
        }
        found
    }

    /// Says of all of its addresses that they are well.
    pub(super) fn recover(&self) {
        for address in self.targets.iter().flat_map(|target| &target.addresses) {
            address.available.store(true, Ordering::Relaxed);
        }
    }

    fn weights(&self) -> (u64, u64) {
        self.targets
            .iter()
            .map(Target::weights)
            .fold((0, 0), |(total, away), (t, a)| (total + t, away + a))
    }

    fn is_healthy(&self) -> bool {
        let (total, away) = self.weights();
        let threshold = self.upstream["healthchecks"]["threshold"]
            .as_f64()
            .unwrap_or_default();
        total > 0 && (total - away) as f64 / total as f64 * 100.0 > threshold
    }

    /// Who is next in the ring.
    pub(super) fn next(&self, names: &dyn Names) -> Option<Peer> {
        if !self.is_healthy() {
            return None;
        }
        let mut pointer = self.pointer.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..self.ring.len() {
            let (target, address) = self.ring[*pointer % self.ring.len()];
            *pointer = (*pointer + 1) % self.ring.len();
            if let Some(peer) = self.peer(target as usize, address as usize, names) {
                return Some(peer);
            }
        }
        None
    }

    /// Who a key belongs to, without those that were tried: not Kong's points, but as steady as they are.
    pub(super) fn by_key(&self, key: &str, tried: &[SocketAddr], names: &dyn Names) -> Option<Peer> {
        if !self.is_healthy() {
            return None;
        }
        let mut best: Option<(f64, Peer)> = None;
        for (t, target) in self.targets.iter().enumerate() {
            for (a, address) in target.addresses.iter().enumerate().filter(|(_, a)| a.weight > 0) {
                let Some(peer) = self
                    .peer(t, a, names)
                    .filter(|peer| !tried.contains(&peer.address))
                else {
                    continue;
                };
                let hash = blake3::hash(format!("{key}\n{}:{}", address.host, address.port).as_bytes());
                let mut eight = [0; 8];
                eight.copy_from_slice(&hash.as_bytes()[..8]);
                let part = (u64::from_be_bytes(eight) as f64 + 1.0) / (u64::MAX as f64 + 2.0);
                let score = address.weight as f64 / -part.ln();
                if best.as_ref().is_none_or(|(best, _)| score > *best) {
                    best = Some((score, peer));
                }
            }
        }
        best.map(|(_, peer)| peer)
    }

    fn peer(&self, target: usize, address: usize, names: &dyn Names) -> Option<Peer> {
        let target = self.targets.get(target)?;
        let address = target.addresses.get(address)?;
        if !address.available.load(Ordering::Relaxed) {
            return None;
        }
        let ip = match address.host.parse() {
            Ok(ip) => ip,
            Err(_) => names.addresses(&address.host).into_iter().next()?,
        };
        let by_name = self.upstream["use_srv_name"] == true && address.host.parse::<IpAddr>().is_err();
        let host = self.upstream["host_header"].as_str();
        let host = host.unwrap_or(if by_name { &address.host } else { &target.host });
        Some(Peer {
            address: SocketAddr::new(ip, address.port),
            host: host.to_owned(),
            target: target.target.clone(),
        })
    }

    /// `balancer_health=1`.
    pub(super) fn status(&self) -> Value {
        let (total, away) = self.weights();
        let hosts: Vec<Value> = self.targets.iter().map(|target| target.status(None)).collect();
        let state = if self.is_healthy() { "HEALTHY" } else { "UNHEALTHY" };
        json!({
            "health": if self.is_checked() { state } else { "HEALTHCHECKS_OFF" },
            "balancer_health": state,
            "id": self.upstream["id"],
            "details": {
                "healthy": self.is_healthy(),
                "weight": {"total": total, "available": total - away, "unavailable": away},
                "hosts": table(hosts),
            },
        })
    }

    /// The health of one target, and all that is known of it.
    pub(super) fn health_of(&self, target: &str) -> (&'static str, Option<Value>) {
        let Some(found) = self.targets.iter().find(|one| one.target == target) else {
            return ("DNS_ERROR", None);
        };
        let checked = self.is_checked() && found.weight > 0;
        let well = |address: &Address| address.available.load(Ordering::Relaxed);
        let health = match found.addresses.as_slice() {
            [] => "DNS_ERROR",
            _ if !checked => "HEALTHCHECKS_OFF",
            all if all.iter().any(well) => "HEALTHY",
            _ => "UNHEALTHY",
        };
        (health, Some(found.status(Some(checked))))
    }
}

/// A list as Lua writes it: an empty one is an object.
fn table(all: Vec<Value>) -> Value {
    if all.is_empty() { json!({}) } else { all.into() }
}

impl Target {
    /// The weight of all addresses, and of those that are not well.
    fn weights(&self) -> (u64, u64) {
        let away = self
            .addresses
            .iter()
            .filter(|address| !address.available.load(Ordering::Relaxed));
        (
            self.addresses.iter().map(|address| address.weight).sum(),
            away.map(|address| address.weight).sum(),
        )
    }

    fn status(&self, checked: Option<bool>) -> Value {
        let (total, away) = self.weights();
        let one = |address: &Address| {
            let well = address.available.load(Ordering::Relaxed);
            let mut shown = json!({"ip": address.host, "port": address.port, "weight": address.weight});
            match checked {
                None => shown["healthy"] = well.into(),
                Some(false) => shown["health"] = "HEALTHCHECKS_OFF".into(),
                Some(true) => shown["health"] = if well { "HEALTHY" } else { "UNHEALTHY" }.into(),
            }
            shown
        };
        json!({
            "host": self.host, "port": self.port, "dns": self.source, "nodeWeight": self.weight,
            "weight": {"total": total, "available": total - away, "unavailable": away},
            "addresses": table(self.addresses.iter().map(one).collect()),
        })
    }
}
