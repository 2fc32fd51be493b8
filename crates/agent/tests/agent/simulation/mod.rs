//! Seeded random lives of a zone's agents against a fake zone: plans that change, come late or again, control planes that
//! fail at each call, lose their store, or lose the answer; backends that come and go; agents that restart and forget;
//! strangers who write. The invariants are asserted at every single write. A failure names its seed.

mod life;
mod plans;
mod removal;
mod zone;

use std::sync::Arc;

use futures::executor::block_on;
use jiff::Timestamp;
use plans::{federation, item, plan, service_fact};
use tokio::time::Instant;
use weir_agent::activation::{Noticed, activate};
use weir_agent::anchors::Anchors;
use weir_agent::decide::decide;
use weir_agent::take::{Memory, NotTaken, Offer, judge};
use weir_drivers::Observed;
use weir_model::SplitName;
use weir_planner::{Generation, ZoneFacts, ZonePlan, anchor, item_digest};
use weir_render::{Form, Options, Step, render};
use weir_wire::{Offered, Term};
use zone::Fake;

const OPTIONS: Options = Options { anchored: true };

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One agent: what it has in memory, and what is on its disk.
#[derive(Default)]
pub(crate) struct Agent {
    pub(crate) plan: Option<ZonePlan>,
    pub(crate) memory: Memory,
    pub(crate) facts: Option<ZoneFacts>,
    pub(crate) taken: Generation,
    pub(crate) noticed: Noticed,
}

impl Agent {
    pub(crate) fn offer(&mut self, plan: &ZonePlan) {
        match judge(
            &federation(),
            &plans::zone(),
            self.plan.as_ref(),
            &self.memory,
            &Offered {
                term: Term::NONE,
                plan: plan.clone(),
            },
        ) {
            Ok(Offer::Newer) => {
                assert!(plan.generation >= self.taken, "I7: an older plan was taken");
                self.taken = plan.generation;
                self.memory.highest = self.memory.highest.max(plan.generation);
                self.plan = Some(plan.clone());
            }
            Ok(Offer::Held) => assert_eq!(self.plan.as_ref(), Some(plan)),
            Err(NotTaken::Older { .. } | NotTaken::Item { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    pub(crate) fn activate(&mut self, driver: &Fake, begin: Instant) {
        let Some(plan) = &self.plan else { return };
        let now = begin + driver.0.lock().unwrap().now;
        let (memory, anchors) = (&self.memory, &mut self.noticed);
        let done = block_on(activate(
            driver,
            plan,
            memory,
            OPTIONS,
            self.facts.as_ref(),
            anchors,
            &move || (now, Timestamp::now()),
        ));
        self.memory = done.memory;
        self.facts = Some(done.facts);
    }
}

/// A split that gets another name while its backends do not resolve is held, and what is in place stays until it is not.
#[test]
fn what_a_held_split_takes_over_is_not_removed() {
    let old = Arc::new(item("checkout", [10_000, 0, 0], 1));
    let mut new = item("checkout", [0, 10_000, 0], 2);
    new.split = SplitName::new("payment").unwrap();
    new.anchor = anchor(&federation(), &new.split);
    new.digest = item_digest(&new);
    let live = render(&old, &federation(), &Form::Universal, OPTIONS);
    let mut observed = Observed {
        services: vec![service_fact("checkout", "fra")],
        ours: live.into_iter().map(|object| (object, Generation(1))).collect(),
        ..Observed::default()
    };
    let plan = plan(2, [Arc::new(new)]);
    let (memory, anchors) = (Memory::default(), Anchors::default());
    let decide = |observed: &Observed| decide(&plan, &memory, observed, OPTIONS, &anchors, Instant::now());
    let decided = decide(&observed);
    assert_eq!(decided.held.len(), 1);
    assert_eq!(decided.steps, []);
    observed.services.push(service_fact("checkout", "ams"));
    let decided = decide(&observed);
    assert!(
        matches!(decided.steps.as_slice(), [Step::Put { .. }, Step::Delete { .. }]),
        "{decided:?}"
    );
}
