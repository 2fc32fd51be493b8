//! What a large world is made of, and what may happen in it: drawn at random.

use proptest::prelude::*;

use super::super::*;

const MOST_ZONES: usize = 12;
const NAMES: [&str; 5] = ["eks", "lab", "new", "old", "vm"];

/// A world before anything happens in it.
#[derive(Debug, Clone)]
pub(super) struct Land {
    /// The wave of each zone.
    pub(super) waves: Vec<u32>,
    /// The zone of each backend.
    pub(super) homes: Vec<usize>,
    /// Per cent in a bite.
    pub(super) max_step: Option<u32>,
    pub(super) weights: Vec<u32>,
}

/// What happens. Numbers choose among what there is.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// The zones of these bits follow.
    Follow(u16),
    Cut(usize),
    Dark(usize),
    Dead(usize),
    Blind(usize, usize),
    NoIngress(usize),
    Fallen(usize, usize),
    Pass(i64),
    Commit {
        weights: Vec<u32>,
        refuge: Option<(usize, usize)>,
        freeze: bool,
        detached: Option<usize>,
    },
    Revert,
    Abort,
    Resume,
    Freeze,
    Drain(usize),
}

pub(super) fn land() -> impl Strategy<Value = Land> {
    let waves = prop::collection::vec(1..=6_u32, 2..=MOST_ZONES);
    let homes = prop::collection::vec(0..MOST_ZONES, 2..=NAMES.len());
    let step = prop_oneof![Just(None), Just(Some(20)), Just(Some(50))];
    (waves, homes, step, parts()).prop_map(|(waves, homes, max_step, weights)| Land {
        waves,
        homes,
        max_step,
        weights,
    })
}

fn parts() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![2 => Just(0), 3 => 1..=100_u32], NAMES.len())
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let one = 0..64_usize;
    let freeze = prop::bool::weighted(0.15);
    let (refuge, detached) = (
        prop::option::weighted(0.3, (one.clone(), one.clone())),
        prop::option::weighted(0.2, one.clone()),
    );
    let commit =
        (parts(), refuge, freeze, detached).prop_map(|(weights, refuge, freeze, detached)| Event::Commit {
            weights,
            refuge,
            freeze,
            detached,
        });
    prop_oneof![
        12 => prop_oneof![2 => Just(u16::MAX), 1 => any::<u16>()].prop_map(Event::Follow),
        4 => prop_oneof![Just(2_i64), Just(31), Just(61), Just(600)].prop_map(Event::Pass),
        5 => commit,
        2 => Just(Event::Revert),
        1 => Just(Event::Abort),
        1 => Just(Event::Resume),
        1 => Just(Event::Freeze),
        2 => one.clone().prop_map(Event::Drain),
        2 => one.clone().prop_map(Event::Cut),
        1 => one.clone().prop_map(Event::Dark),
        1 => one.clone().prop_map(Event::Dead),
        1 => (one.clone(), one.clone()).prop_map(|(zone, backend)| Event::Blind(zone, backend)),
        1 => one.clone().prop_map(Event::NoIngress),
        1 => (one.clone(), one).prop_map(|(zone, backend)| Event::Fallen(zone, backend)),
    ]
}

impl Land {
    pub(super) fn zone(&self, at: usize) -> ZoneName {
        zone(&format!("z{:02}", at % self.waves.len()))
    }

    pub(super) fn backend(&self, at: usize) -> BackendName {
        backend(NAMES[at % self.homes.len()])
    }

    pub(super) fn declare(&self, parts: &[u32], change: impl FnOnce(&mut Declaration)) -> Declaration {
        let names: Vec<String> = (0..self.waves.len()).map(|at| format!("z{at:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let places: Vec<String> = self
            .homes
            .iter()
            .zip(NAMES)
            .map(|(home, name)| format!("{name}@{}", self.zone(*home)))
            .collect();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let mut split = split("checkout", &places, &[]);
        // Two backends of one name and port in one zone are one to Kuma.
        for (at, home) in split.backends.values_mut().enumerate() {
            home.namespace = weir_model::DnsLabel::new(format!("n{at}")).ok();
        }
        split.routes[0].weights = shares(&parts[..self.homes.len()])
            .into_iter()
            .zip(NAMES)
            .map(|(share, name)| (backend(name), BasisPoints::new(share).unwrap()))
            .collect();
        split.transition = Transition {
            max_step: self
                .max_step
                .map(|percent| BasisPoints::new(percent * 100).unwrap()),
            ..Transition::default()
        };
        let mut declaration = with(&names, [split]);
        for (at, wave) in self.waves.iter().enumerate() {
            declaration.zones.get_mut(&self.zone(at)).unwrap().wave = *wave;
        }
        change(&mut declaration);
        declaration
    }

    /// The split of a declaration, to be changed.
    pub(super) fn change(declaration: &mut Declaration, change: impl FnOnce(&mut Split)) {
        let mut split = Split::clone(&declaration.splits[&checkout()]);
        change(&mut split);
        declaration.splits.insert(checkout(), Arc::new(split));
    }
}

/// Exact shares of 10,000.
fn shares(parts: &[u32]) -> Vec<u32> {
    let sum: u32 = parts.iter().sum();
    let mut shares: Vec<u32> = parts.iter().map(|part| part * 10_000 / sum.max(1)).collect();
    let rest = 10_000 - shares.iter().sum::<u32>();
    let largest = (0..shares.len()).max_by_key(|at| shares[*at]).unwrap();
    shares[largest] += rest;
    shares
}
