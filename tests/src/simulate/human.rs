//! People: what they declare in Git, and how they change it, at good moments and bad ones.

mod drains;
mod outlet;
pub(crate) mod pins;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use weir_coordinator::git::{Content, Head, Signature};
use weir_coordinator::ledger::OrderKind;
use weir_model::{CommitId, Protocol, SourceFile, SourceName, SplitName};

use super::gateway::{self, Kind};
use super::world::{Event, SPLITS, World, ZONES, stamp};
use super::zone::{Place, Shares};
use super::{Dice, Ms};

pub(crate) use outlet::Outlet;

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

#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) tree: Tree,
    pub(crate) head: Arc<Head>,
    pub(crate) parent: Option<usize>,
}

/// The repository: all commits that ever were, and where the branch is.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) commits: Vec<Commit>,
    pub(crate) branch: usize,
    pub(crate) zones: usize,
    /// The zones that have a gateway, and how that is configured.
    pub(crate) gates: BTreeMap<Place, Kind>,
}

fn text(tree: &Tree, zones: usize, gates: &BTreeMap<Place, Kind>) -> String {
    let mut text = String::from(
        "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\nspec:\n  transition: {verify: {requests: 5, within: 3s}}\n",
    );
    for (place, zone) in ZONES.iter().enumerate().take(zones) {
        let wave = tree.wave(place);
        let detached = if tree.detached == Some(place) {
            ", state: detached"
        } else {
            ""
        };
        let gate = gates.get(&place).map(|kind| kind.text()).unwrap_or_default();
        let _ = write!(
            text,
            "---\napiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: {zone}}}\nspec: {{platform: vm, wave: {wave}{detached}{gate}}}\n"
        );
    }
    for (split, declared) in &tree.splits {
        let name = SPLITS[*split];
        let (most, bake) = declared.steps;
        let verify = if declared.latency {
            ", verify: {latency: 250ms}"
        } else {
            ""
        };
        let backends: Vec<String> = declared
            .backends
            .iter()
            .map(|place| {
                let most = declared.capacity.get(place);
                let most = most.map_or_else(String::new, |most| {
                    format!(", capacity: {}.{:02}", most / 100, most % 100)
                });
                format!("{}: {{zone: {}{most}}}", BACKENDS[*place], ZONES[*place])
            })
            .collect();
        let freeze = if declared.frozen { "  freeze: true\n" } else { "" };
        let _ = write!(
            text,
            "---\napiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: {name}}}\nspec:\n{freeze}  service: {name}\n  port: \
             8080\n  protocol: {}\n  backends: {{{}}}\n  transition: {{maxStep: {most}, bake: {bake}s{verify}}}\n{}{}  routes:\n",
            declared.protocol,
            backends.join(", "),
            outlet::text(declared),
            if gates.is_empty() {
                String::new()
            } else {
                gateway::doors(*split, declared)
            }
        );
        let last = declared.routes.len() - 1;
        for (number, route) in declared.routes.iter().enumerate() {
            let weights: Vec<String> = route
                .iter()
                .map(|(place, weight)| format!("{}: {}.{:02}", BACKENDS[*place], weight / 100, weight % 100))
                .collect();
            let matches = if number == last {
                ""
            } else {
                "match: {headers: [{name: x-beta, exact: \"true\"}]}, "
            };
            let name = if number == last { "default" } else { "beta" };
            let _ = writeln!(
                text,
                "    - {{name: {name}, {matches}weights: {{{}}}}}",
                weights.join(", ")
            );
        }
    }
    if tree.broken {
        text.push_str("---\napiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {name: oops\n");
    }
    text
}

impl Repository {
    pub(crate) fn new(first: Tree, zones: usize, gates: BTreeMap<Place, Kind>) -> Self {
        let mut repository = Self {
            commits: Vec::new(),
            branch: 0,
            zones,
            gates,
        };
        repository.commit(first, None, "the first", 0);
        repository
    }

    /// Commits on top of the branch.
    pub(crate) fn commit(&mut self, tree: Tree, parent: Option<usize>, subject: &str, now: Ms) -> usize {
        let bytes = text(&tree, self.zones, &self.gates).into_bytes();
        let of_tree = blake3::hash(&bytes).to_hex();
        let number = self.commits.len();
        let id = blake3::hash(format!("{number} {of_tree}").as_bytes()).to_hex();
        let head = Head {
            commit: CommitId(id[..40].to_owned()),
            author: "Ada <ada@example.com>".to_owned(),
            committer: "Ada <ada@example.com>".to_owned(),
            signature: Signature::Absent,
            authored_at: stamp(now),
            subject: subject.to_owned(),
            content: Content::Files(self.files(bytes)),
            tree: Some(of_tree[..40].to_owned()),
        };
        self.commits.push(Commit {
            tree,
            head: Arc::new(head),
            parent,
        });
        self.branch = number;
        number
    }

    fn files(&self, bytes: Vec<u8>) -> Arc<[SourceFile]> {
        let file = |path: &str, bytes: Vec<u8>| SourceFile {
            source: SourceName("main".to_owned()),
            path: path.to_owned(),
            bytes: bytes.into(),
        };
        // One that nobody names would be a file with a declaration that is none.
        let named = self.gates.values().any(|kind| kind.base);
        let base = named.then(|| file("edge.yaml", gateway::BASE.as_bytes().to_vec()));
        [file("all.yaml", bytes)].into_iter().chain(base).collect()
    }

    pub(crate) fn newest(&self) -> Arc<Head> {
        Arc::clone(&self.commits[self.branch].head)
    }

    pub(crate) fn head_of(&self, id: &CommitId) -> Option<Arc<Head>> {
        let found = self.commits.iter().find(|commit| commit.head.commit == *id);
        found.map(|commit| Arc::clone(&commit.head))
    }

    pub(crate) fn tree_of(&self, id: &CommitId) -> Option<&Tree> {
        let found = self.commits.iter().find(|commit| commit.head.commit == *id);
        found.map(|commit| &commit.tree)
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
        self.note_abort(&split);
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
        // Of what nobody takes they make something that is taken.
        let taken = |tree: &Tree| {
            !tree.broken && in_force.is_none_or(|was| was.splits.keys().any(|n| tree.splits.contains_key(n)))
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
