//! What one step of one moving split costs among many that rest: `cargo run --release -p weir-planner --example step_cost`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement: what is not there ends it, and its answer goes to standard output"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use weir_model::{CommitId, SourceCommit, SourceFile, SourceName, SplitName, ZoneName};
use weir_planner::{
    Counts, Generation, Inputs, Item, Orders, Planned, ProvenWeights, Reach, Runs, Senses, Transit, plan,
    step,
};

const SPLITS: usize = 10_000;
const ZONES: usize = 100;

struct AllProven(Timestamp);

impl Senses for AllProven {
    fn reach(&self, _: &ZoneName) -> Reach {
        Reach::Reachable
    }
    fn runs(&self, _: &Item) -> Runs {
        Runs::Proven { since: self.0 }
    }
    fn fallen(&self, _: &Item) -> std::collections::BTreeSet<weir_model::BackendName> {
        [].into()
    }

    fn runs_where_reached(&self, item: &Item) -> Runs {
        self.runs(item)
    }
    fn resolves(&self, _: &Item, _: Option<&Item>) -> Result<(), String> {
        Ok(())
    }
    fn doors_ready(&self, _item: &Item, _has: Option<&Item>) -> Result<(), String> {
        Ok(())
    }

    fn holds(&self, _: &Item) -> bool {
        false
    }

    fn shares(&self, _: &Item) -> Option<ProvenWeights> {
        None
    }

    fn counts_at_proof(&self, _: &SplitName) -> BTreeMap<String, Counts> {
        BTreeMap::new()
    }

    fn counts(&self, _: &SplitName) -> BTreeMap<String, Counts> {
        BTreeMap::new()
    }
}

fn declaration(first: u32) -> String {
    let mut text = "apiVersion: weir.dev/v1alpha1\nkind: Federation\nmetadata: {name: shop}\n".to_owned();
    for zone in 0..ZONES {
        text += &format!(
            "---\napiVersion: weir.dev/v1alpha1\nkind: Zone\nmetadata: {{name: z{zone}}}\nspec: {{platform: vm, wave: {}}}\n",
            1 + zone % 2
        );
    }
    for split in 0..SPLITS {
        let a = if split == 7 { first } else { 90 };
        text += &format!(
            "---\napiVersion: weir.dev/v1alpha1\nkind: Split\nmetadata: {{name: s{split}}}\nspec:\n  service: s{split}\n  port: \
             8080\n  protocol: http\n  backends: {{a: {{zone: z1}}, b: {{zone: z2}}}}\n  routes:\n    - {{name: default, \
             weights: {{a: {a}, b: {}}}}}\n",
            100 - a
        );
    }
    text
}

fn read(text: &str) -> weir_model::Declaration {
    // by parts: a file has its limit
    let mut files = Vec::new();
    for (n, part) in text.split("---\n").collect::<Vec<_>>().chunks(500).enumerate() {
        files.push(SourceFile {
            source: SourceName("main".to_owned()),
            path: format!("{n}.yaml"),
            bytes: part.join("---\n").into_bytes().into(),
        });
    }
    let parsed = weir_model::parse(&files);
    assert!(!parsed.refused(), "{:?}", parsed.diagnostics.first());
    parsed.declaration
}

fn main() {
    let (before, after) = (read(&declaration(90)), read(&declaration(10)));
    let commits = [SourceCommit {
        source: SourceName("main".to_owned()),
        commit: CommitId("1".repeat(40)),
    }];
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let inputs = |declaration, parent, now| Inputs {
        declaration,
        commits: &commits,
        highest: Generation(0),
        parent,
        now,
    };
    let Planned::New(first) = plan(inputs(&before, None, now)) else {
        panic!("no plan");
    };
    let (senses, orders) = (AllProven(now), Orders::default());
    let only: BTreeSet<SplitName> = [SplitName::new("s7").unwrap()].into();
    let transit = Transit {
        senses: &senses,
        orders: &orders,
        reverts: None,
        only: Some(&only),
    };
    for (what, parent, declared) in [("a step", &first, &after), ("a look at rest", &first, &before)] {
        let mut times: Vec<u128> = Vec::new();
        for _ in 0..200 {
            let begin = Instant::now();
            let look = step(
                inputs(declared, Some(parent), now + SignedDuration::from_secs(600)),
                transit,
            );
            times.push(begin.elapsed().as_micros());
            assert_eq!(matches!(look.planned, Planned::New(_)), what == "a step");
        }
        times.sort_unstable();
        println!(
            "{what} of one split among {SPLITS} x {ZONES} zones: min {} us, median {} us, max {} us",
            times[0], times[100], times[199]
        );
    }
}
