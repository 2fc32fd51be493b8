//! What a transition waits for.

use std::sync::Arc;

use jiff::Timestamp;
use weir_model::{ZoneName, sabotaged};

use super::Turn;
use super::between::gives_more;
use crate::course::Items;
use crate::freezes::held_by;
use crate::outlook::Wait;
use crate::plan::Item;
use crate::senses::{Reach, Runs};

/// Whether what was found lets a transition go on.
pub(super) enum Gate {
    Open {
        /// Since when all that is waited for is so.
        since: Timestamp,
    },
    Waits(Vec<Wait>),
}

impl Turn<'_> {
    /// Whether every zone runs what it was last told, those that cannot be reached included: only then are zones no more
    /// than one bite apart after the next (I5).
    ///
    /// A zone that cannot resolve what it was told will not run it, however long one waits: it does not keep the others from
    /// going where it can follow.
    pub(super) fn in_step(&self, items: &Items) -> Gate {
        if sabotaged("skip-proof") {
            return Gate::Open {
                since: Timestamp::MIN,
            };
        }
        self.gate(items, |item| {
            if self.leaves_what_is_down(item, self.wanted.get(&item.zone)) {
                return None;
            }
            // Who is told to give less to a zone without an ingress follows, and is waited for.
            let from = self.before.set_out(&item.zone);
            let stuck = || self.transit.senses.resolves(item, from).is_err();
            match self.transit.senses.reach(&item.zone) {
                Reach::Reachable if stuck() => None,
                reach => self.told_of(reach, item),
            }
        })
    }

    /// Whether every zone runs what it was told: what a transition ends with.
    pub(super) fn all_run(&self, items: &Items) -> Gate {
        self.gate(items, |item| {
            self.told_of(self.transit.senses.reach(&item.zone), item)
        })
    }

    /// Whether every zone of these that can be reached runs what it was told, as far as it can be reached.
    ///
    /// `to` is where each goes, by that which is waited for.
    pub(super) fn reached_run<'a>(
        &self,
        items: &Items,
        among: impl Fn(&ZoneName) -> bool,
        to: impl Fn(&ZoneName) -> Option<&'a Item>,
    ) -> Gate {
        if sabotaged("wave-early") {
            return Gate::Open {
                since: Timestamp::MIN,
            };
        }
        self.gate(items, |item| {
            if !among(&item.zone) || self.leaves_what_is_down(item, to(&item.zone)) {
                return None;
            }
            match self.transit.senses.reach(&item.zone) {
                Reach::Nobody | Reach::Unreachable(_) => None,
                Reach::Partly(_) => Some(self.transit.senses.runs_where_reached(item)),
                Reach::Unsure(why) => Some(Runs::Not(why)),
                Reach::Reachable => Some(self.transit.senses.runs(item)),
            }
        })
    }

    /// The zones that cannot follow to this bite, by their own control planes (I3) and gateways, and whether that is so of every zone
    /// there is.
    pub(super) fn unready<'a>(&self, items: impl Iterator<Item = &'a Item>) -> (Vec<Wait>, bool) {
        let mut waits = Vec::new();
        let mut all = true;
        for item in items.filter(|item| !self.detached(&item.zone)) {
            let has = self.before.items.get(&item.zone).map(Arc::as_ref);
            let able = |item: &Item| {
                self.transit.senses.resolves(item, has)?;
                self.transit.senses.doors_ready(item, has)
            };
            let why = match self.transit.senses.reach(&item.zone) {
                Reach::Nobody => continue,
                Reach::Unreachable(_) => {
                    all = false;
                    continue;
                }
                Reach::Unsure(why) => {
                    all = false;
                    Err(why)
                }
                Reach::Partly(_) => {
                    all = false;
                    able(item)
                }
                Reach::Reachable => able(item),
            };
            match why {
                Ok(()) => all = false,
                Err(why) => waits.push(Wait {
                    zone: Some(item.zone.clone()),
                    why,
                }),
            }
        }
        (waits, all)
    }

    /// Whether a zone does not run an item only because backends are down that get no more weight where it goes: to wait until
    /// they are back would be to hold up the cure.
    fn leaves_what_is_down(&self, item: &Item, to: Option<&Item>) -> bool {
        let down = self.transit.senses.fallen(item);
        let Some(to) = to else { return false };
        !down.is_empty() && !down.iter().any(|backend| gives_more(item, to, backend))
    }

    /// What a zone says of an item, with why it says nothing newer; none if nobody there is to be asked.
    fn told_of(&self, reach: Reach, item: &Item) -> Option<Runs> {
        let runs = self.transit.senses.runs(item);
        match (reach, runs) {
            (Reach::Nobody, _) => None,
            // what was proven before is not known any more
            (Reach::Unsure(why), _) => Some(Runs::Not(why)),
            (Reach::Unreachable(away), Runs::Not(_)) => Some(Runs::Not(format!(
                "{away}; it keeps its last good plan, and the others go no further than one step beyond it. Bring it back; or, with \
                 weight 0 for its backends, declare `state: detached` on the zone"
            ))),
            (Reach::Partly(away), Runs::Not(_)) => Some(Runs::Not(format!(
                "{away}; its callers keep its last good plan, and the others go no further than one step beyond it. Bring it back; or, \
                 if its host is gone for good, `weir-coordinator agent forget ZONE AGENT`"
            ))),
            (_, runs) => Some(runs),
        }
    }

    fn gate(&self, items: &Items, of: impl Fn(&Item) -> Option<Runs>) -> Gate {
        let mut since = Timestamp::MIN;
        let mut waits = Vec::new();
        for (zone, item) in items {
            if self.detached(zone) || !self.wanted.contains_key(zone) {
                continue;
            }
            match of(item) {
                None => {}
                Some(Runs::Proven { since: at }) => since = since.max(at),
                Some(Runs::Not(why)) => waits.push(Wait {
                    zone: Some(zone.clone()),
                    why,
                }),
            }
        }
        if waits.is_empty() {
            Gate::Open { since }
        } else {
            Gate::Waits(waits)
        }
    }

    /// Why the zones of these waves may not be moved now, and until when.
    pub(super) fn frozen_for(&self, waves: &[u32]) -> Option<(String, Option<Timestamp>)> {
        let zones = self.declaration.zones.values().filter(|zone| {
            waves.contains(&zone.wave) && self.wanted.contains_key(&zone.name) && !zone.detached
        });
        let of = (&self.split.name, Some(self.split));
        held_by(self.transit.orders, self.declaration, of, zones, self.now)
    }
}
