//! Break-glass pins: weights that somebody chose on this host for one split, and that hold here until they are ended here,
//! whatever newer plan is taken meanwhile. Pure; `store` keeps them, `break_glass` are the commands.
//!
//! A pin is an item of its own: what was in force, with other weights. So no backend's cluster comes or goes by it, it
//! survives the plan that it was made from, and everything else is as for any item (I3, the way by the anchor, proof).
//!
//! Other agents of the zone drive the same policy. The pinned one carries a label that is this pin's alone, and whoever
//! finds a pin that is not his own leaves the policy to who wrote it.

pub mod elsewhere;
mod weights;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_drivers::Observed;
use weir_model::{BackendName, DnsLabel, FederationName, RouteName, SplitName, ZoneName, sabotaged};
use weir_planner::{Generation, Item, ItemRef, Pin, ZonePlan, item_digest};
pub use weir_render::pin_in_words as told;
use weir_render::{Object, PINNED};

use crate::decide::SPLIT;
use crate::sealed;
use crate::take::Memory;
pub use weights::{Weights, shares, weights};
use weights::{list, set, whole};

/// What the sealed file calls its content.
pub const KIND: &str = "pins";
/// So many pins that are over are remembered for each split.
const ENDED: usize = 16;

/// All pins of one host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// Those in force, by split.
    pins: BTreeMap<SplitName, Pinned>,
    /// Labels of pins that are over, the newest last: a policy that still carries one may be written.
    ended: BTreeMap<SplitName, Vec<String>>,
}

/// One pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// Whose plan it was made from.
    pub federation: FederationName,
    /// What is driven while it holds.
    pub item: Arc<Item>,
    /// The item that it was made from.
    pub of: ItemRef,
    /// The value of the object's label; no other pin has it.
    pub label: String,
    /// What people are told of it.
    pub pin: Pin,
}

/// Who pins, and why.
#[derive(Debug, Clone)]
pub struct By {
    /// This agent.
    pub agent: DnsLabel,
    /// The user of the host.
    pub who: String,
    /// The host.
    pub host: String,
    /// In that user's words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// Why a pin is not made. Nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPinned {
    /// The split is not known here.
    #[error("this agent holds no split {split}; it holds {held}")]
    Split {
        /// The split that was named.
        split: SplitName,
        /// Those that there are.
        held: String,
    },
    /// It has no such route.
    #[error("split {split} has no route {route}; it has {routes}")]
    Route {
        /// The split.
        split: SplitName,
        /// The route that was named.
        route: RouteName,
        /// Those that there are.
        routes: String,
    },
    /// It has no such backend.
    #[error(
        "{backend} is no backend of split {split} as it is in force here; its backends are {backends}. A pin brings no \
         backend with it: that takes a commit"
    )]
    Backend {
        /// The split.
        split: SplitName,
        /// The backend that was named.
        backend: BackendName,
        /// Those that there are.
        backends: String,
    },
    /// What was in force then is not known any more.
    #[error(
        "what split {split} had at generation {generation} is not kept here; kept are the generations {kept}"
    )]
    Generation {
        /// The split.
        split: SplitName,
        /// The generation that was named.
        generation: Generation,
        /// Those that there are, with their weights.
        kept: String,
    },
    /// The weights do not make a whole.
    #[error("{0}")]
    Weights(String),
}

/// The value of the label: whose pin, and since when. Within what a label may be.
fn label(agent: &DnsLabel, at: Timestamp) -> String {
    let name: String = agent.to_string().chars().take(48).collect();
    format!("{}.{}", name.trim_end_matches('-'), at.as_second().max(0))
}

impl Pinned {
    /// Whether it is what the commands write: then it can be driven as any item.
    fn check(&self, split: &SplitName) -> Result<(), String> {
        let item = &self.item;
        if item.split != *split {
            return Err(format!("the pin of {split} is of split {}", item.split));
        }
        if item_digest(item) != item.digest {
            return Err(format!("the item of split {split} is not what its digest says"));
        }
        let starts_and_ends = |ok: fn(&u8) -> bool| {
            self.label.as_bytes().first().is_some_and(ok) && self.label.as_bytes().last().is_some_and(ok)
        };
        let within = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if self.label.len() > 63
            || !self.label.bytes().all(within)
            || !starts_and_ends(u8::is_ascii_alphanumeric)
        {
            return Err(format!(
                "the pin of {split} has no label that an object could have"
            ));
        }
        for route in &item.routes {
            whole(&route.weights).map_err(|why| format!("route {} of {split}: {why}", route.name))?;
            if let Some(backend) = route.weights.keys().find(|b| !item.destinations.contains_key(*b)) {
                return Err(format!(
                    "route {} of {split} names {backend}, which is nowhere",
                    route.name
                ));
            }
        }
        Ok(())
    }
}

impl Pins {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty() && self.ended.is_empty()
    }

    /// The pin of a split.
    pub fn of(&self, split: &SplitName) -> Option<&Pinned> {
        self.pins.get(split)
    }

    /// All that are in force, by split.
    pub fn in_force(&self) -> impl Iterator<Item = (&SplitName, &Pinned)> {
        self.pins.iter()
    }

    /// Pins one route of a split, the default one if none is named, on top of what is in force: the pin that there is, what
    /// was applied last, or what the plan has. Routes that were pinned before stay so.
    ///
    /// # Errors
    /// Why not.
    pub fn pin(
        &mut self,
        plan: &ZonePlan,
        memory: &Memory,
        split: &SplitName,
        route: Option<&RouteName>,
        weights: &Weights,
        by: By,
    ) -> Result<&Pinned, NotPinned> {
        let base = self.base(plan, memory, split)?;
        let name = match route {
            Some(route) => Some(route),
            None => base.routes.last().map(|route| &route.name),
        };
        let name = name.cloned().unwrap_or_else(|| RouteName::from(by.agent.clone()));
        self.pin_routes(
            plan,
            memory,
            split,
            &BTreeMap::from([(name, weights.clone())]),
            by,
        )
    }

    /// Pins all routes to the weights that they had when the plan had a generation.
    ///
    /// # Errors
    /// Why not: that is not kept, or what it named is not there any more.
    pub fn pin_to(
        &mut self,
        plan: &ZonePlan,
        memory: &Memory,
        split: &SplitName,
        generation: Generation,
        by: By,
    ) -> Result<&Pinned, NotPinned> {
        self.base(plan, memory, split)?;
        // What never was is no place to go back to: a slip of the finger would pin what is in force.
        let once = memory
            .past
            .at(split, generation)
            .filter(|_| generation <= plan.generation);
        let once = once.ok_or_else(|| NotPinned::Generation {
            split: split.clone(),
            generation,
            kept: memory.past.told(split),
        })?;
        // A backend that had nothing then need not be there now.
        let some = |weights: &Weights| -> Weights {
            let all = weights.iter().filter(|(_, weight)| weight.get() > 0);
            all.map(|(name, weight)| (name.clone(), *weight)).collect()
        };
        let routes = once.weights.iter();
        let wanted: BTreeMap<_, _> = routes
            .map(|(name, weights)| (name.clone(), some(weights)))
            .collect();
        self.pin_routes(plan, memory, split, &wanted, by)
    }

    /// What a pin is made on top of.
    fn base<'a>(
        &'a self,
        plan: &'a ZonePlan,
        memory: &'a Memory,
        split: &SplitName,
    ) -> Result<&'a Arc<Item>, NotPinned> {
        let planned = || {
            let item = plan.items.get(split);
            item.map(|item| memory.own(split).unwrap_or(item))
        };
        let before = self.pins.get(split).map(|before| &before.item);
        before.or_else(planned).ok_or_else(|| NotPinned::Split {
            split: split.clone(),
            held: list(plan.items.keys()),
        })
    }

    fn pin_routes(
        &mut self,
        plan: &ZonePlan,
        memory: &Memory,
        split: &SplitName,
        wanted: &BTreeMap<RouteName, Weights>,
        by: By,
    ) -> Result<&Pinned, NotPinned> {
        let base = self.base(plan, memory, split)?;
        let before = self.pins.get(split);
        let mut item = Item::clone(base);
        let mut pinned = BTreeMap::new();
        for (route, weights) in wanted {
            pinned.insert(route.clone(), set(&mut item, route, weights)?);
        }
        item.digest = item_digest(&item);
        let of = before.map_or_else(|| base.reference(), |before| before.of.clone());
        let mut routes = before
            .map(|before| before.pin.weights.clone())
            .unwrap_or_default();
        routes.extend(pinned);
        let made = Pinned {
            federation: plan.federation.clone(),
            item: Arc::new(item),
            of,
            label: label(&by.agent, by.at),
            pin: Pin {
                since: by.at,
                who: by.who,
                host: by.host,
                reason: by.reason,
                weights: routes,
            },
        };
        if let Some(before) = before {
            let over = before.label.clone();
            self.end(split, over);
        }
        let slot = self.pins.entry(split.clone());
        Ok(slot.insert_entry(made).into_mut())
    }

    /// What the zone says against a pin that was just made, if that is not kept: another agent's pin of the same policy, or a
    /// backend that does not resolve. What is in force already is no worse for being pinned.
    pub fn objection(&self, pinned: &Pinned, memory: &Memory, observed: &Observed) -> Option<String> {
        let item = &pinned.item;
        let mut live = observed.ours.iter().map(|(object, _)| object);
        if let Some((object, label)) =
            live.find_map(|object| Some((object, self.foreign(object)?)).filter(|(is, _)| is.is_for(item)))
        {
            return Some(format!(
                "{} is pinned already, by {}: end that one there with `weir-agent unpin`, or, if that host is gone for good, \
                 here with `weir-agent unpin --split {} --gone {label}`",
                object.name,
                told(label),
                item.split
            ));
        }
        let applied = memory.applied.get(&item.split);
        if applied.is_some_and(|applied| applied.digest == item.digest) {
            return None;
        }
        // At three in the morning: what gives no more to anybody who cannot be reached passes.
        let has = applied.map(Arc::as_ref);
        weir_render::backends_ready(item, has, &observed.services).err()
    }

    /// Ends the pin of a split; none if there is none.
    pub fn unpin(&mut self, split: &SplitName) -> Option<Pinned> {
        let over = self.pins.remove(split)?;
        self.end(split, over.label.clone());
        Some(over)
    }

    /// Takes a pin for ended that another agent made, whose host is gone.
    pub fn end(&mut self, split: &SplitName, label: String) {
        let ended = self.ended.entry(split.clone()).or_default();
        ended.retain(|is| *is != label);
        ended.push(label);
        let over = ended.len().saturating_sub(ENDED);
        ended.drain(..over);
    }

    /// Leaves out what is not this zone's.
    #[must_use]
    pub fn within(mut self, federation: &FederationName, zone: &ZoneName) -> Self {
        self.pins
            .retain(|_, pinned| pinned.federation == *federation && pinned.item.zone == *zone);
        self
    }

    /// What is driven: the plan, and what is pinned in the place of its items or beside them.
    pub fn over<'a>(&self, plan: &'a ZonePlan) -> Cow<'a, ZonePlan> {
        let mut driven = Cow::Borrowed(plan);
        for (split, pinned) in &self.pins {
            let newer = |item: &Arc<Item>| item.generation > pinned.of.generation;
            if sabotaged("plan-over-pin") && plan.items.get(split).is_some_and(newer) {
                continue;
            }
            if driven.items.get(split) != Some(&pinned.item) {
                driven
                    .to_mut()
                    .items
                    .insert(split.clone(), Arc::clone(&pinned.item));
            }
        }
        driven
    }

    /// The pin that a live object carries, if it is somebody else's: then the object is left to whoever wrote it.
    pub fn foreign<'a>(&self, object: &'a Object) -> Option<&'a str> {
        let label = object.pinned()?;
        let split = SplitName::new(object.labels.get(SPLIT)?.as_str()).ok()?;
        let ended = self.ended.get(&split);
        let ours = self.pins.get(&split).is_some_and(|pinned| pinned.label == label)
            || ended.is_some_and(|labels| labels.iter().any(|over| over == label));
        (!ours && !sabotaged("write-over-pins")).then_some(label)
    }

    /// The labels of all pins of this host, those that are over and are remembered included.
    pub fn labels(&self) -> impl Iterator<Item = &String> {
        let in_force = self.pins.values().map(|pinned| &pinned.label);
        in_force.chain(self.ended.values().flatten())
    }

    /// What a newer plan has for a pinned split and what waits for the end of the pin, a sentence for each; or that a pin
    /// waits for a plan.
    pub fn waiting(&self, plan: Option<&ZonePlan>) -> Vec<String> {
        let Some(plan) = plan else {
            let idle = |split: &SplitName| {
                format!(
                    "split {split} is pinned here, and no plan is held: its policy stays as it is, and is driven once the \
                     coordinator sends a plan"
                )
            };
            return self.pins.keys().map(idle).collect();
        };
        let waits = |(split, pinned): (&SplitName, &Pinned)| {
            let what = match plan.items.get(split) {
                Some(item) if item.reference() == pinned.of => return None,
                Some(item) => format!("has it at generation {}", item.generation),
                None => "takes it away".to_owned(),
            };
            Some(format!(
                "split {split} is pinned here at generation {}; plan {} {what}, which waits for `weir-agent unpin --split \
                 {split}`",
                pinned.of.generation, plan.generation
            ))
        };
        self.pins.iter().filter_map(waits).collect()
    }
}

/// Puts a pin's label on an object.
pub(crate) fn mark(objects: &mut [Object], label: &str) {
    for object in objects {
        object.labels.insert(PINNED.to_owned(), label.to_owned());
    }
}

/// What the file of pins says, by its bytes; or that what was known last stays in force, and why. A pin is never lost because
/// a file is: who ends one writes a file that says so.
///
/// # Errors
/// In words for people.
pub fn read(bytes: Result<Option<Vec<u8>>, String>, last: &Pins) -> Result<Pins, String> {
    let help = "what was pinned before stays in force; `weir-agent pins` shows it, and `weir-agent pin` or `unpin` write the \
                file anew";
    match bytes {
        Ok(None) if last.is_empty() => Ok(Pins::default()),
        Ok(None) => Err(format!("the file of pins is gone: {help}")),
        Err(error) => Err(format!("the file of pins cannot be read: {error}: {help}")),
        Ok(Some(bytes)) => open(&bytes).map_err(|why| format!("the file of pins is damaged: {why}: {help}")),
    }
}

fn open(bytes: &[u8]) -> Result<Pins, String> {
    let pins: Pins = sealed::open(KIND, bytes)?;
    for (split, pinned) in &pins.pins {
        pinned.check(split)?;
    }
    Ok(pins)
}
