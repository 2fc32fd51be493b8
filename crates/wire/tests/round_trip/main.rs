//! Whatever a room can say arrives as it was said, and whatever a stranger sends is answered, never with a panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod doors;
mod made;

use std::sync::Arc;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use weir_model::ZoneName;
use weir_planner::{Evidence, Generation, ItemFact, PlanId, Verdict, item_digest};
use weir_wire::{Greeting, Held, Holds, Term, agent_report, assemble, plan_update, v1};

use doors::*;
use made::*;

/// Through bytes, as over a network.
fn sent<M: prost::Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn a_plan_arrives_whole_whatever_the_agent_already_holds(plan in zone_plan(), which in any::<u32>()) {
        let has = |i: usize| which >> (i % 32) & 1 == 1;
        let mut part = plan.clone();
        part.items = plan.items.iter().enumerate().filter(|(i, _)| has(*i))
            .map(|(_, (name, item))| (name.clone(), Arc::clone(item))).collect();
        part.gateways = plan.gateways.iter().enumerate().filter(|(i, _)| has(*i + 7))
            .map(|(_, (name, gateway))| (name.clone(), Arc::clone(gateway))).collect();
        let held = Held::from(&part);
        let update = sent(&plan_update(&plan, &Holds::from(&part)));
        prop_assert_eq!(update.items.len(), plan.items.len() - held.items.len());
        prop_assert_eq!(update.gateways.len(), plan.gateways.len() - held.gateways.len());
        prop_assert_eq!(assemble(&update, &held).unwrap(), plan);
    }

    #[test]
    fn an_item_changed_on_its_way_is_refused(plan in zone_plan(), port in 1_u32..65_536) {
        let mut update = plan_update(&plan, &Holds::default());
        prop_assume!(update.items.first().is_some_and(|item| item.port != port));
        update.items[0].port = port;
        let error = assemble(&update, &Held::default()).unwrap_err();
        prop_assert!(error.field().ends_with(".digest"), "{}", error);
    }

    /// It decides who carries the weights: turned on its way, the plan is refused.
    #[test]
    fn a_gateway_changed_on_its_way_is_refused(plan in zone_plan()) {
        let mut update = plan_update(&plan, &Holds::default());
        prop_assume!(!update.gateways.is_empty());
        update.gateways[0].in_mesh = !update.gateways[0].in_mesh;
        let error = assemble(&update, &Held::default()).unwrap_err();
        prop_assert!(error.field().ends_with(".digest"), "{}", error);
        update.gateways.clear();
        prop_assert!(assemble(&update, &Held::default()).unwrap_err().to_string().contains("neither sent nor"));
    }

    #[test]
    fn an_item_that_is_neither_sent_nor_held_is_missed(plan in zone_plan()) {
        let mut update = plan_update(&plan, &Holds::default());
        prop_assume!(update.items.pop().is_some());
        prop_assert!(assemble(&update, &Held::default()).unwrap_err().to_string().contains("neither sent nor"));
    }

    #[test]
    fn a_report_arrives_as_it_was_made(report in report()) {
        let message = sent(&v1::Report::from(&report));
        prop_assert_eq!(agent_report(&report.facts.zone, &message).unwrap(), report);
    }

    #[test]
    fn a_greeting_arrives_as_it_was_said(
        federation in named(), zone in named(), agent in label(), version in "[0-9.]{1,9}",
        (highest, generation, term) in any::<(u64, u64, u64)>(), plan in option::of(any::<[u8; 32]>()),
        items in btree_set(item_ref(), 0..4), gateways in btree_set(gateway_ref(), 0..3),
    ) {
        let greeting = Greeting {
            federation, zone, agent, version, highest: Generation(highest), plan: plan.map(PlanId),
            generation: Generation(generation), holds: Holds { items, gateways },
            term: Term(term),
        };
        prop_assert_eq!(Greeting::try_from(&sent(&v1::Hello::from(&greeting))).unwrap(), greeting);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let zone = ZoneName::new("fra").unwrap();
        if let Ok(report) = v1::Report::decode(bytes.as_slice()) {
            drop(agent_report(&zone, &report));
        }
        if let Ok(update) = v1::PlanUpdate::decode(bytes.as_slice()) {
            drop(assemble(&update, &Held::default()));
        }
        if let Ok(hello) = v1::Hello::decode(bytes.as_slice()) {
            drop(Greeting::try_from(&hello));
        }
    }

    /// Closer to the truth than random bytes: real messages with a few bytes changed decode more often.
    #[test]
    fn damaged_messages_never_panic(
        report in report(), plan in zone_plan(), damage in vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            for (at, byte) in &damage {
                let length = bytes.len();
                if let Some(slot) = at.checked_rem(length).and_then(|at| bytes.get_mut(at)) {
                    *slot = *byte;
                }
            }
            bytes
        };
        let zone = ZoneName::new("fra").unwrap();
        if let Ok(report) = v1::Report::decode(damaged(v1::Report::from(&report).encode_to_vec()).as_slice()) {
            drop(agent_report(&zone, &report));
        }
        let update = plan_update(&plan, &Holds::default()).encode_to_vec();
        if let Ok(update) = v1::PlanUpdate::decode(damaged(update).as_slice())
            && let Ok(assembled) = assemble(&update, &Held::default())
        {
            // What is taken in spite of the damage has the items of the digests that it names.
            for item in assembled.items.values() {
                prop_assert_eq!(item_digest(item), item.digest);
            }
        }
    }
}

#[test]
fn words_of_a_newer_agent_are_no_evidence() {
    let item = v1::ItemFact {
        split: "checkout".to_owned(),
        digest: vec![0; 32],
        state: "applied".to_owned(),
        proof: Some(v1::Proof {
            verdict: "splendid".to_owned(),
            evidence: "telepathy".to_owned(),
            at: Some(v1::Time { seconds: 1, nanos: 0 }),
            ..v1::Proof::default()
        }),
        ..v1::ItemFact::default()
    };
    let proof = ItemFact::try_from(&item).unwrap().proof.unwrap();
    assert_eq!(proof.evidence, Evidence::Unknown);
    assert!(
        matches!(proof.verdict, Verdict::Unknown(_)),
        "{:?}",
        proof.verdict
    );
    let error = ItemFact::try_from(&v1::ItemFact {
        state: "reticulating".to_owned(),
        ..item
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "unusable message: state: `reticulating` is not a state of an item that this version knows"
    );
}
