//! People: what they declare in Git, and how they change it, at good moments and bad ones.

mod drains;
mod outlet;
pub(crate) mod pins;
mod repository;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_coordinator::ledger::OrderKind;
use weir_model::{Protocol, SplitName};

use super::gateway::{self, Kind};
use super::world::{Event, SPLITS, World, ZONES, stamp};
use super::zone::{Place, Shares};
use super::{Dice, Ms};

pub(crate) use outlet::Outlet;
pub(crate) use repository::Repository;

/// The names of the backends in each zone.
pub(crate) const BACKENDS: [&str; 3] = ["vm", "cloud", "lab"];

/// What one split declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) protocol: Protocol,
    pub(crate) backends: BTreeSet<Place>,
    /// By route, in the order of precedence; shares in basis points that sum to 10,000, zeros included.
    pub(crate) routes: Shares,
    /// `maxStep` in per cent, and `bake` in seconds.
    pub(crate) steps: (u32, u32),
    /// Where shares go while their backends are down.
    pub(crate) fallback: BTreeMap<Place, Outlet>,
    /// What a backend can take at most of a route, in basis points.
    pub(crate) capacity: BTreeMap<Place, u32>,
    /// Its door at the zones' gateways: none, or by which path.
    pub(crate) door: u8,
    /// Slow answers are a bad verdict.
    pub(crate) latency: bool,
    /// Whose zone is detached: nothing is given to it.
    pub(crate) away: Option<Place>,
    /// `freeze: true`: no share moves but back.
    pub(crate) frozen: bool,
}

impl Declared {
    /// Another door, or none.
    pub(crate) fn redoor(&mut self, dice: &mut Dice) {
        if self.protocol != Protocol::Tcp {
            self.door = [0, 1, 1, 1, 2][dice.index(5)];
        }
    }
}

/// What one commit declares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tree {
    pub(crate) splits: BTreeMap<usize, Declared>,
    /// Something in it is wrong, so that nobody may take it.
    pub(crate) broken: bool,
    /// Each zone is a wave of its own.
    pub(crate) waves: bool,
    /// A zone that nobody waits for.
    pub(crate) detached: Option<Place>,
}

impl Tree {
    /// The wave in which a zone moves.
    pub(crate) fn wave(&self, place: Place) -> usize {
        // The first zone moves first; the others together, or one after the other.
        if self.waves {
            place + 1
        } else {
            1 + usize::from(place > 0)
        }
    }

    /// Nothing is given to what is in the zone that nobody waits for; where nobody else can take it, it is waited for again.
    fn leave_detached(&mut self) {
        for declared in self.splits.values_mut() {
            declared.away = self.detached;
        }
        let Some(gone) = self.detached else { return };
        for declared in self.splits.values_mut() {
            for route in &mut declared.routes {
                let share = route.get(&gone).copied().unwrap_or_default();
                if share == 0 {
                    continue;
                }
                let Some((_, other)) = route.iter_mut().find(|(place, _)| **place != gone) else {
                    self.detached = None;
                    return self.leave_detached();
                };
                *other += share;
                route.insert(gone, 0);
            }
            declared.make_room();
        }
    }
}

/// Shares of one route.
fn route(dice: &mut Dice, backends: &BTreeSet<Place>) -> BTreeMap<Place, u32> {
    let all: Vec<Place> = backends.iter().copied().collect();
    let mut left = 10_000;
    let mut shares: BTreeMap<Place, u32> = all.iter().map(|place| (*place, 0)).collect();
    let first = dice.index(all.len());
    for n in 0..all.len() {
        let place = all[(first + n) % all.len()];
        let last = n + 1 == all.len();
        let share = match dice.below(10) {
            _ if last => left,
            0..4 => left,
            4 => 0,
            5 => left.min(1),
            _ => u32::try_from(dice.below(u64::from(left) / 100 + 1)).unwrap_or_default() * 100,
        };
        shares.insert(place, share);
        left -= share;
    }
    shares
}

fn split(dice: &mut Dice, zones: usize, protocol: Protocol) -> Declared {
    let all = dice.chance(70);
    let mut backends: BTreeSet<Place> = (0..zones).filter(|_| all || dice.chance(70)).collect();
    if backends.is_empty() {
        backends.insert(dice.index(zones));
    }
    let mut routes = Vec::new();
    if protocol != Protocol::Tcp && dice.chance(20) {
        routes.push(route(dice, &backends));
    }
    routes.push(route(dice, &backends));
    let steps = [(100, 0), (50, 0), (25, 2), (10, 12)][dice.index(4)];
    let (fallback, capacity) = outlet::outlets(dice, &backends);
    let mut declared = Declared {
        protocol,
        backends,
        routes,
        steps,
        fallback,
        capacity,
        door: 0,
        latency: protocol != Protocol::Tcp && dice.chance(40),
        away: None,
        frozen: false,
    };
    declared.make_room();
    declared
}

/// What a federation begins with.
pub(crate) fn first_tree(dice: &mut Dice, zones: usize) -> Tree {
    let mut tree = Tree {
        waves: dice.chance(50),
        ..Tree::default()
    };
    for n in 0..SPLITS.len() {
        if n == 0 || dice.chance(45) {
            let protocol = protocol(n);
            tree.splits.insert(n, split(dice, zones, protocol));
        }
    }
    tree
}

/// The last one is TCP.
fn protocol(split: usize) -> Protocol {
    if split + 1 == SPLITS.len() {
        Protocol::Tcp
    } else {
        Protocol::Http
    }
}

/// What a service speaks when it is well.
pub(crate) fn protocol_of(service: &str) -> Protocol {
    protocol(
        SPLITS
            .iter()
            .position(|name| *name == service)
            .unwrap_or_default(),
    )
}

impl World {
    /// Somebody does something in Git.
    pub(crate) fn people(&mut self) {
        let now = self.now;
        let at = self.repository.branch;
        let zones = self.repository.zones;
        let mut tree = self.repository.commits[at].tree.clone();
        tree.broken = false;
        let (subject, parent) = match self.dice.below(100) {
            0..46 => {
                let names: Vec<usize> = tree.splits.keys().copied().collect();
                if let Some(n) = names.get(self.dice.index(names.len().max(1)))
                    && let Some(declared) = tree.splits.get_mut(n)
                {
                    let r = self.dice.index(declared.routes.len());
                    declared.routes[r] = route(&mut self.dice, &declared.backends);
                    declared.make_room();
                    // Whoever watches it does not like what they see.
                    if self.dice.chance(15) {
                        let after = self.dice.between(500, 15_000);
                        self.at(after, Event::Aborts(*n));
                    }
                }
                ("moves weights", Some(at))
            }
            46..48 => {
                let names: Vec<usize> = tree.splits.keys().copied().collect();
                if let Some(n) = names.get(self.dice.index(names.len().max(1)))
                    && let Some(declared) = tree.splits.get_mut(n)
                {
                    declared.frozen = !declared.frozen;
                }
                ("freezes a split, or ends that", Some(at))
            }
            48..58 => {
                let n = self.dice.index(SPLITS.len());
                if tree.splits.remove(&n).is_none() {
                    tree.splits.insert(n, split(&mut self.dice, zones, protocol(n)));
                }
                ("adds or removes a split", Some(at))
            }
            58..66 => {
                let n = self.dice.index(SPLITS.len());
                if let Some(declared) = tree.splits.get_mut(&n) {
                    let door = declared.door;
                    *declared = split(&mut self.dice, zones, protocol(n));
                    declared.door = door;
                }
                ("changes backends", Some(at))
            }
            66..69 => {
                self.order();
                return;
            }
            69..72 => {
                let zone = self.dice.index(zones);
                tree.detached = tree.detached.xor(Some(zone));
                ("detaches a zone, or attaches it again", Some(at))
            }
            72..84 => {
                // A revert of the last commit.
                let Some(before) = self.repository.commits[at].parent else {
                    return;
                };
                tree = self.repository.commits[before].tree.clone();
                ("reverts", Some(at))
            }
            84..90 => {
                tree.broken = true;
                ("breaks the file", Some(at))
            }
            90..93 => {
                tree.splits.clear();
                ("removes all files", Some(at))
            }
            _ => {
                // History is rewritten: the branch goes back to a commit from before.
                let back = self.dice.index(self.repository.commits.len());
                self.repository.branch = back;
                let commit = self.repository.commits[back].head.commit.clone();
                self.story.tell(now, || {
                    format!("somebody forces the branch back to {}", commit.short())
                });
                self.forget_revert();
                return;
            }
        };
        // Beside that, somebody opens or closes doors; what is new has one or not.
        if !self.gates.is_empty() && !matches!(subject, "reverts" | "removes all files") {
            let fresh = |n: &usize| !self.repository.commits[at].tree.splits.contains_key(n);
            let any = self.gate_dice.chance(20);
            for (n, declared) in &mut tree.splits {
                if any || fresh(n) {
                    declared.redoor(&mut self.gate_dice);
                }
            }
        }
        if subject != "reverts" {
            tree.leave_detached();
        }
        if subject != "reverts" && tree == self.repository.commits[at].tree {
            return;
        }
        let number = self.repository.commit(tree, parent, subject, now);
        let commit = self.repository.commits[number].head.commit.clone();
        let tree = self.repository.commits[number].tree.clone();
        self.story.tell(now, || {
            format!("somebody {subject}: commit {} {}", commit.short(), shown(&tree))
        });
        if subject == "reverts" {
            self.note_revert(number);
        } else {
            self.forget_revert();
        }
    }
}

impl World {
    /// Somebody gives an order beside Git.
    fn order(&mut self) {
        let Ok(split) = SplitName::new(SPLITS[self.dice.index(SPLITS.len())]) else {
            return;
        };
        match self.dice.below(4) {
            0 | 1 => self.abort(split),
            2 => self.give(OrderKind::Freeze, split),
            _ => {
                self.forget_revert();
                self.give(OrderKind::Resume, split);
            }
        }
    }

    fn abort(&mut self, split: SplitName) {
        // Whom a ledger that takes nothing gives no answer has ordered nothing.
        if !self.coordinator.full {
            self.note_abort(&split);
        }
        self.give(OrderKind::Abort, split);
    }

    /// Somebody who watched a split move wants it back where it was.
    pub(crate) fn somebody_aborts(&mut self, split: usize) {
        if let Ok(split) = SplitName::new(SPLITS[split])
            && !self.quiet
        {
            self.abort(split);
        }
    }

    /// Nothing is frozen by what is declared any more.
    pub(crate) fn thaw(&mut self) {
        let at = self.repository.branch;
        let newest = &self.repository.commits[at].tree;
        let in_force = self.coordinator.ledger.commits.values().next();
        let in_force = in_force.and_then(|commit| self.repository.tree_of(commit));
        let freezes = |tree: &Tree| tree.splits.values().any(|declared| declared.frozen);
        if !freezes(newest) && !in_force.is_some_and(freezes) {
            return;
        }
        // Of what nobody takes they make something that is taken: it leaves something of what is in force, and a split that is
        // declared and frozen before it came is not in force.
        let plan = self.coordinator.ledger.plan.as_ref();
        let taken = |tree: &Tree| {
            let stays = |name: &SplitName| tree.splits.keys().any(|n| SPLITS[*n] == name.as_str());
            !tree.broken && plan.is_none_or(|plan| plan.splits.is_empty() || plan.splits.keys().any(stays))
        };
        let mut tree = in_force.filter(|_| !taken(newest)).unwrap_or(newest).clone();
        tree.broken = false;
        for declared in tree.splits.values_mut() {
            declared.frozen = false;
        }
        self.repository
            .commit(tree, Some(at), "ends all freezes", self.now);
        self.forget_revert();
    }
}

fn shown(tree: &Tree) -> String {
    let splits: Vec<String> = tree
        .splits
        .iter()
        .map(|(n, declared)| {
            let routes: Vec<String> = declared
                .routes
                .iter()
                .map(|route| {
                    let all: Vec<String> = route
                        .iter()
                        .map(|(place, weight)| format!("{} {weight}", ZONES[*place]))
                        .collect();
                    all.join(", ")
                })
                .collect();
            format!("{}: {}", SPLITS[*n], routes.join(" | "))
        })
        .collect();
    format!("({})", splits.join("; "))
}
