//! What the loop wants its gateways to run: what is in force in the mesh, and what goes ahead of that; and the loop's end of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use weir_drivers::kong::pins::Sight;
use weir_model::{GatewayName, SplitName};
use weir_planner::{Item, ZoneFacts, ZonePlan};

use super::Told;
use super::ahead::may_go_ahead;
use crate::pin::elsewhere::{Elsewhere, PinnedThere};
use crate::take::Memory as Taken;

/// What the zone's gateways are to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The plan that is held.
    pub plan: Arc<ZonePlan>,
    /// What is in force of each split, as it is driven: with pins and fallbacks. The mesh has it already: a split that the
    /// zone's control plane holds back is held at its gateways as well, so that both doors give the same share. Only a way
    /// back goes ahead of the mesh.
    pub items: BTreeMap<SplitName, Arc<Item>>,
    /// What the mesh is to have by the plan and has not yet, in the same way. Where there is any, a gateway may be ahead
    /// already, and then nothing older is written there (I7). Not of what is pinned: that is what somebody wants, however old.
    pub next: BTreeMap<SplitName, Arc<Item>>,
    /// Of `items`, those that go ahead of the mesh.
    pub ahead: BTreeSet<SplitName>,
    /// Of `items`, those of which somebody pinned the weights, with the pin's label: on this host, or on another one as the control
    /// plane shows it.
    pub pins: BTreeMap<SplitName, String>,
    /// What was last seen of pins. No news by itself.
    pub sight: Sight,
    /// Of `items`, those by which the zone goes back to weights that it had before, or that somebody pinned, or falls back: no Kong is
    /// asked first whom it takes for dead.
    pub back: BTreeSet<SplitName>,
}

impl Wanted {
    /// From a plan, what was taken of it, and what the zone showed when its control plane last answered, if it did.
    pub fn new(
        plan: &Arc<ZonePlan>,
        memory: &Taken,
        seen: Option<&ZoneFacts>,
        elsewhere: &Elsewhere,
    ) -> Self {
        let over = memory.pins.over(plan);
        let (mut items, mut next, mut ahead) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let (mut back, mut pins) = (BTreeSet::new(), BTreeMap::new());
        for (split, planned) in &plan.items {
            // Both doors give what is pinned, by whomever, unless it was ended here in the place of a host that is gone.
            let ended = |there: &PinnedThere| memory.pins.labels().any(|label| *label == there.label);
            let there = elsewhere.pinned.get(split).filter(|there| !ended(there));
            if let Some(there) = there
                && let Some(item) = &there.item
            {
                pins.insert(split.clone(), there.label.clone());
                back.insert(split.clone());
                items.insert(split.clone(), Arc::clone(item));
                continue;
            }
            let Some(was) = memory.applied.get(split) else {
                continue;
            };
            let comes = over.items.get(split).unwrap_or(planned);
            let (mut now, mut pin) = (was, memory.pins.of(split).map(|own| &own.label));
            if (comes.generation, comes.digest) != (was.generation, was.digest) {
                match may_go_ahead(comes, was, memory, seen) {
                    true => {
                        now = comes;
                        ahead.insert(split.clone());
                    }
                    false if memory.pins.of(split).is_none() => {
                        next.insert(split.clone(), crate::fallback::driven(comes, memory));
                    }
                    false => {}
                }
            }
            // What is in force of a pin stays of it, also where that is over and nothing else can be taken yet.
            if Arc::ptr_eq(now, was) {
                let same = (comes.generation, comes.digest) == (was.generation, was.digest);
                pin = pin.filter(|_| same).or(memory.pinned.get(split));
            }
            pins.extend(pin.map(|label| (split.clone(), label.clone())));
            let driven = crate::fallback::driven(now, memory);
            // A share that goes elsewhere while a backend is down waits for nobody either; where it comes back it is a way forward.
            let elsewhere = !Arc::ptr_eq(&driven, now);
            if elsewhere || memory.pins.of(split).is_some() || memory.past.had_before(now) {
                back.insert(split.clone());
            }
            items.insert(split.clone(), driven);
        }
        Self {
            pins,
            sight: elsewhere.sight(&memory.pins),
            plan: Arc::clone(plan),
            items,
            next,
            ahead,
            back,
        }
    }

    /// Whether it is what is wanted already, whatever was seen of pins and when.
    fn is_no_news(&self, was: &Self) -> bool {
        (&self.plan, &self.items, &self.next) == (&was.plan, &was.items, &was.next)
            && (&self.ahead, &self.pins, &self.back) == (&was.ahead, &was.pins, &was.back)
    }

    /// What is wanted of one gateway, as a text.
    pub(super) fn of(&self, gateway: &GatewayName) -> String {
        let planned = self.plan.gateways.get(gateway).map(|planned| planned.digest);
        let here = self
            .items
            .iter()
            .filter(|(_, item)| item.doors.contains_key(gateway));
        // The routes too: a fallback changes them under one digest.
        let here = here.map(|(split, item)| (split, item.generation, item.digest, &item.routes));
        format!("{planned:?} {:?}", here.collect::<Vec<_>>())
    }
}

/// The loop's end of it.
#[derive(Debug)]
pub struct Link {
    /// What is wanted; none before the first plan.
    pub want: watch::Sender<Option<Arc<Wanted>>>,
    /// How it stands.
    pub told: watch::Receiver<Arc<Told>>,
    /// The gateways that this agent drives.
    pub drives: BTreeSet<GatewayName>,
}

impl Link {
    /// Says what is wanted from now on; whether that is news.
    pub fn want(&self, wanted: Arc<Wanted>) -> bool {
        self.want.send_if_modified(|was| {
            let news = !was.as_ref().is_some_and(|was| wanted.is_no_news(was));
            *was = Some(wanted);
            news
        })
    }

    /// Says it if something goes ahead of the mesh by it that did not before: before the mesh is looked at. Everything else is
    /// said after that, with what the mesh took. Whether it was said.
    pub fn want_ahead(&self, wanted: Arc<Wanted>) -> bool {
        let Some(before) = self.want.borrow().clone() else {
            return false;
        };
        let of = |wanted: &Wanted, split: &SplitName| {
            let item = wanted.items.get(split);
            item.map(|item| (item.generation, item.digest))
        };
        let mut ahead = wanted.ahead.iter();
        ahead.any(|split| of(&before, split) != of(&wanted, split)) && self.want(wanted)
    }
}
