//! Policies that are an anchor alone, as this agent has seen them: how long each is there, and whether what comes next may
//! come, the weights or the end. Pure: what was seen and the time come in. Not kept on disk: after a restart the waits
//! begin again, which is slower and never wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use weir_drivers::Sighting;
use weir_model::sabotaged;
use weir_render::{Extent, Held, Kind, Object, extent};

/// Where not every caller can be looked at: after so long the anchor is in all of them. From a write to an Envoy it took
/// at most 2.0 s in 60 changes, to warm its clusters 0.06 s (docs/performance.md).
const UNSEEN: Duration = Duration::from_secs(5);
/// A proxy that was looked at and has not taken the anchor for so long follows somebody else or nobody: the others do not
/// wait for it for ever.
const STUCK: Duration = Duration::from_secs(120);
/// For so long an Envoy serves a kept connection by the routes that it had when the connection last carried a request
/// (`kuma-dp --drain-time`, by default 30 s), and one second more.
const DRAIN: Duration = Duration::from_secs(31);

/// A policy that is gone is not made anew before this. Kuma looks once a second for what changed, by the number of writes
/// that each object has had: one that goes and comes between two looks, and has as many as the last time, is to it the
/// same as before, and its proxies never hear of the new one (measured on 2.14.3).
const FORGOTTEN: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
struct Seen {
    spec: Value,
    /// Since when it is there.
    since: Instant,
    /// It took the place of another anchor: a proxy that has one may still have that one.
    again: bool,
    /// Since when every caller has it.
    held: Option<Instant>,
    /// Since when no caller has anything else of ours.
    alone: Option<Instant>,
    /// The least of what callers ran when they were last looked at.
    last: Option<Held>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    seen: BTreeMap<(Kind, String), Seen>,
    /// Those that are gone, and when that was noted.
    gone: BTreeMap<(Kind, String), Instant>,
    /// The control plane did not answer when it was last asked.
    away: bool,
}

impl Anchors {
    /// Takes note of all objects that are an anchor alone, each with what proxies run of it; of those that are gone for
    /// how long.
    pub fn note(&mut self, objects: &[(Object, Sighting)], now: Instant) {
        let mut before = std::mem::take(&mut self.seen);
        if std::mem::take(&mut self.away) {
            for seen in before.values_mut() {
                seen.since = now;
            }
        }
        for (object, sighting) in objects {
            let key = (object.kind, object.name.clone());
            let mut seen = match before.remove(&key) {
                Some(seen) if seen.spec == object.spec => seen,
                other => Seen {
                    spec: object.spec.clone(),
                    since: now,
                    again: other.is_some(),
                    held: None,
                    alone: None,
                    last: None,
                },
            };
            // Whoever was seen not to follow is not taken for one who does because he cannot be looked at just now.
            seen.last = sighting.held.or(seen.last);
            let age = now.duration_since(seen.since);
            let complete = sighting.complete && !seen.again;
            let so = |is: bool, before: Option<Instant>| {
                let so = if is {
                    complete || age >= UNSEEN
                } else {
                    age >= STUCK
                };
                so.then(|| before.unwrap_or(now))
            };
            seen.held = so(seen.last != Some(Held::No), seen.held);
            seen.alone = so(!matches!(seen.last, Some(Held::No | Held::Besides)), seen.alone);
            self.gone.remove(&key);
            self.seen.insert(key, seen);
        }
        self.gone
            .retain(|_, since| now.duration_since(*since) < FORGOTTEN);
        self.gone.extend(before.into_keys().map(|key| (key, now)));
    }

    /// Whether this object may be made anew: it is not gone for less than Kuma takes to see that.
    pub fn may_come(&self, object: &Object) -> bool {
        !self.gone.contains_key(&(object.kind, object.name.clone()))
    }

    /// The control plane is away: all waits begin again once it is back, for until then nothing that was written may reach
    /// anybody.
    pub fn interrupted(&mut self) {
        self.away = true;
        for seen in self.seen.values_mut() {
            seen.held = None;
            seen.alone = None;
        }
    }

    /// Whether the whole policy may follow this anchor: every caller's Envoy has the clusters that it needs.
    pub fn held(&self, object: &Object) -> bool {
        sabotaged("weights-before-clusters") || self.seen(object).is_some_and(|seen| seen.held.is_some())
    }

    /// Whether this anchor may go: nothing has been sent to a backend because of it for longer than a connection lives on.
    pub fn may_go(&self, object: &Object, now: Instant) -> bool {
        if sabotaged("settle-before-drain") {
            return true;
        }
        let alone = self.seen(object).and_then(|seen| seen.alone);
        alone.is_some_and(|since| now.duration_since(since) >= DRAIN)
    }

    fn seen(&self, object: &Object) -> Option<&Seen> {
        let seen = self.seen.get(&(object.kind, object.name.clone()));
        seen.filter(|seen| seen.spec == object.spec)
    }
}

/// The objects that [`Anchors::note`] is about.
pub fn alone<'a>(ours: impl Iterator<Item = &'a Object>) -> Vec<Object> {
    ours.filter(|object| extent(object) == Extent::Anchor)
        .cloned()
        .collect()
}
