//! Whose requests are whose: routes of one Kong between which it would choose by chance.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use weir_model::SplitName;

use crate::kong::base::{Found, strings};
use crate::kong::document::Conflict;
use crate::kong::fits::header_name;

/// What requests a route takes, as far as two routes of one Kong can be at odds.
#[derive(Debug)]
pub(crate) struct Claim {
    hosts: BTreeSet<String>,
    paths: BTreeSet<String>,
    methods: BTreeSet<String>,
    headers: BTreeMap<String, BTreeSet<String>>,
    snis: bool,
}

impl Claim {
    /// Of a route as it is written.
    pub(crate) fn of(route: &Map<String, Value>) -> Self {
        let set = |field: &str| strings(route.get(field)).map(str::to_owned).collect();
        let headers = route.get("headers").and_then(Value::as_object);
        let headers = headers.into_iter().flatten().map(|(name, values)| {
            let values = strings(Some(values)).map(str::to_ascii_lowercase);
            (header_name(name), values.collect())
        });
        Self {
            hosts: strings(route.get("hosts")).map(str::to_ascii_lowercase).collect(),
            paths: set("paths"),
            methods: set("methods"),
            headers: headers.collect(),
            snis: route
                .get("snis")
                .and_then(Value::as_array)
                .is_some_and(|all| !all.is_empty()),
        }
    }

    /// The paths that it takes; an empty text where it does not ask.
    pub(crate) fn paths(&self) -> Vec<String> {
        match self.paths.is_empty() {
            true => vec![String::new()],
            false => self.paths.iter().cloned().collect(),
        }
    }

    /// A host and a method that both take who share this path and of whom neither asks for more. What is foreign may ask for very
    /// many of each: never are they put together.
    pub(crate) fn shared(&self, path: &str, other: &Self) -> Option<Key> {
        let one =
            |ours: &BTreeSet<String>, theirs: &BTreeSet<String>| match (ours.is_empty(), theirs.is_empty()) {
                (true, true) => Some(String::new()),
                (false, false) => ours.intersection(theirs).next().cloned(),
                _ => None,
            };
        let host = one(&self.hosts, &other.hosts)?;
        let method = one(&self.methods, &other.methods)?;
        self.is_at_odds_with(other)
            .then(|| (host, path.to_owned(), method))
    }

    /// Whether of two that share host, path and method neither asks for more: the same headers, of which one value is in both.
    fn is_at_odds_with(&self, other: &Self) -> bool {
        self.snis == other.snis
            && self.headers.len() == other.headers.len()
            && self.headers.iter().all(|(name, values)| {
                let theirs = other.headers.get(name);
                theirs.is_some_and(|theirs| !theirs.is_disjoint(values))
            })
    }
}

/// A host, a path and a method; an empty text is any.
pub(crate) type Key = (String, String, String);

/// Routes of ours that ask for neither more nor less than a route of the base, or of another split.
pub(crate) fn at_odds(services: &[Value], found: &[Found<'_>]) -> Vec<Conflict> {
    let mut known: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    // Who it is, and of which split, if it is ours.
    let mut all: Vec<(String, &str, Claim)> = Vec::new();
    let mut add =
        |known: &mut BTreeMap<String, Vec<usize>>, who: String, split, route: &Map<String, Value>| {
            let claim = Claim::of(route);
            let paths = claim.paths();
            let shared = paths.iter().find_map(|path| {
                let others = known.get(path)?.iter().filter_map(|at| all.get(*at));
                let mut others = others.filter(|(_, whose, _)| *whose != split);
                others.find_map(|(who, _, other)| Some((claim.shared(path, other)?, who.clone())))
            });
            for path in paths {
                known.entry(path).or_default().push(all.len());
            }
            all.push((who, split, claim));
            shared
        };
    for one in found.iter().filter(|one| one.kind == "routes") {
        // What is at odds in the base itself is the site's own affair: all of it is of one name here, the empty one.
        add(
            &mut known,
            format!("{} of the base", one.called()),
            "",
            one.entity,
        );
    }
    let mut conflicts = Vec::new();
    for service in services {
        let mut split = strings(service.get("tags")).filter_map(|tag| tag.strip_prefix("weir.split."));
        let Some(split) = split.next() else { continue };
        let routes = service["routes"].as_array().into_iter().flatten();
        for route in routes.filter_map(Value::as_object) {
            let shared = add(&mut known, format!("split {split}"), split, route);
            let (Some(((host, path, method), other)), Ok(name)) = (shared, split.parse::<SplitName>()) else {
                continue;
            };
            let asked = [("host", host), ("path", path), ("method", method)];
            let asked = asked.iter().filter(|(_, value)| !value.is_empty());
            let asked: Vec<String> = asked.map(|(what, value)| format!("{what} {value}")).collect();
            conflicts.push(Conflict {
                split: Some(name),
                what: format!("requests for {} are those of {other} as well", asked.join(", ")),
                help: "Kong would choose by chance: let one of both take them".to_owned(),
            });
        }
    }
    conflicts.dedup();
    conflicts
}
