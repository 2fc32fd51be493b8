//! Whether Kong itself takes a backend for dead that is to get more: only it knows, and only where it asks its targets how they are.
//! Asked before weights are raised on the way forward; of a way back nobody is asked, for what a Kong has of a target may be old for
//! ever. Afterwards the proof tells.
//!
//! With a database checks are the site's to set on Weir's upstreams; without one they are in upstreams of its base, which may well have
//! the very targets of a split; under a controller a policy of the site's says so. Kong checks no target without weight, so that an
//! upstream says nothing of the first share of a backend in it. What it does not say surely holds nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value;
use weir_model::{BackendName, RouteName, SplitName};

use crate::kong::changes::Write;
use crate::kong::database::{Kind, OfSplit};
use crate::kong::document::Document;
use crate::kong::expected::Upstream;
use crate::kong::held::{Held, Row};

/// What is to be asked before a backend gets more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The upstreams to ask for, by id or name, as paths have them: `GET /upstreams/{this}/health`; with their names.
    pub upstreams: BTreeMap<String, String>,
    /// Backends that get more than they have, with all the targets that have weight then.
    raised: BTreeMap<BackendName, BTreeSet<Place>>,
}

/// Where a target is: at an address, or by a name that a domain may follow in Kong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Address(SocketAddr),
    Name(String, u16),
}

impl Place {
    fn of(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self::at(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::Name(host.to_ascii_lowercase(), port.parse().ok()?))
    }

    fn at(address: SocketAddr) -> Self {
        Self::Address(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Whether this, as it is wanted, is what Kong calls `found`.
    fn is(&self, found: &Self) -> bool {
        match (self, found) {
            (Self::Name(name, port), Self::Name(found, at)) => {
                let rest = found.strip_prefix(name.as_str());
                port == at && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
            _ => self == found,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Name(name, port) => format!("{name}:{port}"),
        }
    }
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
    Some(Question {
        upstreams: [(id.to_owned(), row.name.clone())].into(),
        raised: raised(upstream, held.under(row), Sums::AreOne),
    })
}

/// Whether the weights of an upstream always sum up to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sums {
    /// They do, but between two writes of one change: what is written is no raise any more.
    AreOne,
    /// They do not: shares are compared.
    Differ,
}

/// The backends that get more by an upstream than these targets, which are what there is of it, give them.
fn raised<'a>(
    upstream: &Upstream,
    there: impl Iterator<Item = &'a Row>,
    sums: Sums,
) -> BTreeMap<BackendName, BTreeSet<Place>> {
    let mut had: BTreeMap<&BackendName, u64> = BTreeMap::new();
    // Of an address that is nobody's any more it is not known whose it was: it may have been anybody's.
    let mut nobodys = 0;
    let (mut all, mut sum_of_all) = (0, 0);
    for row in there {
        all += row.weight();
        match row.address().and_then(|address| upstream.targets.get(&address)) {
            Some(target) => *had.entry(&target.backend).or_default() += row.weight(),
            None => nobodys += row.weight(),
        }
    }
    let mut gets: BTreeMap<&BackendName, (u64, BTreeSet<Place>)> = BTreeMap::new();
    for (address, target) in upstream.targets.iter().filter(|(_, target)| target.weight > 0) {
        let (sum, targets) = gets.entry(&target.backend).or_default();
        *sum += u64::from(target.weight);
        sum_of_all += u64::from(target.weight);
        targets.insert(Place::at(*address));
    }
    gets.retain(|backend, (sum, _)| {
        let had = had.get(backend).copied().unwrap_or_default() + nobodys;
        match sums {
            Sums::AreOne => *sum > had,
            Sums::Differ => {
                all == 0 || u128::from(*sum) * u128::from(all) > u128::from(had) * u128::from(sum_of_all)
            }
        }
    });
    gets.into_iter()
        .map(|(backend, (_, targets))| (backend.clone(), targets))
        .collect()
}

/// An upstream of a document whose targets may be known to be dead before it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before<'a> {
    /// The split.
    pub split: &'a SplitName,
    /// The route.
    pub route: &'a RouteName,
    upstream: &'a Upstream,
    /// The upstreams of the document that ask targets how they are which this one has.
    asking: BTreeSet<String>,
}

/// What a document would give to targets of which a Kong that runs the one before may know that they are dead. Empty where nothing in
/// the document asks a target how it is, which nobody has to be asked for.
pub fn before(document: &Document) -> Vec<Before<'_>> {
    // A word in bytes is cheaper to look for than a document is to read.
    let word = b"\"healthchecks\"";
    if !document.bytes.windows(word.len()).any(|part| part == word) {
        return Vec::new();
    }
    let Ok(whole) = serde_json::from_slice::<Value>(&document.bytes) else {
        return Vec::new();
    };
    let list = |of: &Value, what: &str| {
        of.get(what)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let text = |of: &Value, what: &str| of.get(what).and_then(Value::as_str).map(str::to_owned);
    let apart = list(&whole, "targets");
    let mut checked: BTreeMap<String, Vec<Option<Place>>> = BTreeMap::new();
    for upstream in list(&whole, "upstreams") {
        let Some(name) = text(&upstream, "name") else {
            continue;
        };
        if !upstream.get("healthchecks").is_some_and(heals) {
            continue;
        }
        let of_it = |target: &&Value| {
            let of = target.get("upstream");
            let by = |what: &str| of.and_then(|of| text(of, what));
            let is = of.and_then(Value::as_str).map(str::to_owned);
            let is = is.or_else(|| by("name")).or_else(|| by("id"));
            is.is_some() && (is.as_ref() == Some(&name) || is == text(&upstream, "id"))
        };
        let inside = list(&upstream, "targets");
        let targets = inside.iter().chain(apart.iter().filter(of_it));
        let places = targets.map(|target| text(target, "target").as_deref().and_then(Place::of));
        let places = places.collect();
        checked.insert(name, places);
    }
    let mut found = Vec::new();
    for (split, door) in &document.doors {
        for (route, upstream) in &door.upstreams {
            // Of a name it is Kong that knows its addresses.
            let may_have = |place: &Option<Place>| match place {
                Some(Place::Address(address)) => upstream.targets.contains_key(address),
                Some(Place::Name(..)) | None => true,
            };
            let asking = checked.iter().filter(|(_, places)| places.iter().any(may_have));
            let asking: BTreeSet<String> = asking.map(|(name, _)| name.clone()).collect();
            if !asking.is_empty() {
                found.push(Before {
                    split,
                    route,
                    upstream,
                    asking,
                });
            }
        }
    }
    found
}

impl Before<'_> {
    /// The name of the upstream itself: which targets it has there says who gets more.
    pub fn name(&self) -> &str {
        &self.upstream.name
    }

    /// What is to be asked where these are the targets of the upstream now; none if nobody gets more.
    pub fn question(&self, there: &[Row]) -> Option<Question> {
        let raised = raised(self.upstream, there.iter(), Sums::Differ);
        let upstreams = self.asking.iter().map(|name| (name.clone(), name.clone()));
        (!raised.is_empty()).then(|| Question {
            upstreams: upstreams.collect(),
            raised,
        })
    }

    /// What is to be asked where it is not known yet who is to get more: of every backend that has a target there.
    pub fn of_everybody(&self) -> Question {
        let mut raised: BTreeMap<BackendName, BTreeSet<Place>> = BTreeMap::new();
        for (address, target) in &self.upstream.targets {
            let places = raised.entry(target.backend.clone()).or_default();
            places.insert(Place::at(*address));
        }
        let upstreams = self.asking.iter().map(|name| (name.clone(), name.clone()));
        Question {
            upstreams: upstreams.collect(),
            raised,
        }
    }
}

/// What is to be asked of an upstream that a controller makes, of backends that get more by it; none if the upstream does not ask its
/// targets how they are, or nobody gets more.
pub fn of_controller(
    live: &Value,
    upstream: &Upstream,
    gets_more: &BTreeSet<BackendName>,
) -> Option<Question> {
    if !heals(live.get("healthchecks")?) {
        return None;
    }
    let addresses = upstream.targets.iter();
    let addresses = addresses.map(|(address, target)| (Place::at(*address), target));
    let names = upstream.names.iter();
    let names = names.map(|((name, port), target)| (Place::Name(name.clone(), *port), target));
    let mut raised: BTreeMap<BackendName, BTreeSet<Place>> = BTreeMap::new();
    for (place, target) in addresses.chain(names) {
        if target.weight > 0 && gets_more.contains(&target.backend) {
            raised.entry(target.backend.clone()).or_default().insert(place);
        }
    }
    (!raised.is_empty()).then(|| Question {
        upstreams: [(upstream.name.clone(), upstream.name.clone())].into(),
        raised,
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

/// The backends that are to get more and all of whose targets are dead to the node that answers, with why more weight for them would
/// reach nobody. `answers` are lists of targets as `GET /upstreams/{upstream}/health` gives them, by the upstream's name: a target is
/// dead if one of them says so and none says that it answers.
pub fn dead(question: &Question, answers: &BTreeMap<String, Vec<Value>>) -> BTreeMap<BackendName, String> {
    let (mut well, mut unwell) = (BTreeSet::new(), BTreeMap::new());
    for (name, answer) in answers {
        // Nobody asks one without weight.
        let asked = answer
            .iter()
            .filter(|of| of.get("weight").and_then(Value::as_u64) != Some(0));
        for (place, health) in asked.flat_map(places) {
            match health.as_str() {
                "UNHEALTHY" => drop(unwell.insert(place, name.as_str())),
                "HEALTHY" => drop(well.insert(place)),
                _ => {}
            }
        }
    }
    let is_dead = |place: &Place| {
        let well = well.iter().any(|found| place.is(found));
        let mut unwell = unwell.iter();
        unwell
            .find(|(found, _)| place.is(found) && !well)
            .map(|(_, name)| *name)
    };
    let mut dead = BTreeMap::new();
    for (backend, places) in &question.raised {
        let names: Option<BTreeSet<&str>> = places.iter().map(is_dead).collect();
        let Some(names) = names.filter(|names| !names.is_empty()) else {
            continue;
        };
        let names: Vec<&str> = names.into_iter().collect();
        let places: Vec<String> = places.iter().map(Place::told).collect();
        let why = format!(
            "the health checks of upstream {} take every target of backend {backend} for dead ({}), so that more weight for it would \
             reach nobody",
            names.join(", "),
            places.join(", ")
        );
        dead.insert(backend.clone(), why);
    }
    dead
}

/// What a row of such a list says: of its target, and of the addresses that a name stands for.
fn places(row: &Value) -> Vec<(Place, String)> {
    let text = |of: &Value, what: &str| of.get(what).and_then(Value::as_str).map(str::to_owned);
    let whole = text(row, "target")
        .as_deref()
        .and_then(Place::of)
        .zip(text(row, "health"));
    let addresses = row.pointer("/data/addresses").and_then(Value::as_array);
    let addresses = addresses.into_iter().flatten().filter_map(|of| {
        let ip = text(of, "ip")?;
        let ip = ip.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        let port = u16::try_from(of.get("port")?.as_u64()?).ok()?;
        Some((Place::at(SocketAddr::new(ip, port)), text(of, "health")?))
    });
    whole.into_iter().chain(addresses).collect()
}
