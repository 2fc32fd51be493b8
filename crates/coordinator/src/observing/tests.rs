//! Tests of what is worth recording and telling.

use weir_model::GatewayName;
use weir_planner::{Coverage, Digest, DoorFact, Evidence, ItemState, Pin, Proof, Verdict};

use super::*;

/// One agent that says this.
fn fleet(fact: ItemFact, heard: Timestamp) -> Fleet {
    let agent = Agent {
        connected: true,
        heard_at: Some(heard),
        looked_at: Some(heard),
        version: String::new(),
        generation: Generation(3),
        highest: Generation(3),
        certificate_expires: None,
        kuma: None,
        unreadable: None,
        refused: None,
        notes: Vec::new(),
        items: BTreeMap::from([(fact.split.clone(), fact)]),
        marks: BTreeMap::new(),
        services: Vec::new(),
    };
    let agents = BTreeMap::from([("fra-1".to_owned(), agent)]);
    Fleet {
        zones: BTreeMap::from([(ZoneName::new("fra").unwrap(), agents)]),
    }
}

#[test]
fn a_pin_and_its_end_are_each_told_once() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let pin = |second| Pin {
        since: at(second),
        who: "alice".to_owned(),
        host: "vm-1".to_owned(),
        reason: "ams is dark".to_owned(),
        weights: BTreeMap::new(),
    };
    let mut recorded = Recorded::default();
    let mut told = |pin: Option<Pin>| {
        let fact = ItemFact {
            split: SplitName::new("checkout").unwrap(),
            generation: Generation(3),
            digest: Digest([0; 32]),
            state: ItemState::Proven,
            proof: None,
            second_writers: Vec::new(),
            counts: None,
            pin,
            fallback: None,
            doors: BTreeMap::new(),
        };
        let fleet = self::fleet(fact, at(0));
        let mut news = News::default();
        news.agents(&fleet, &mut recorded, at(0));
        // That it is recorded again means that the ledger has it.
        let events = news.events.iter().filter(|event| event.kind.starts_with("zone."));
        (
            news.items.len(),
            events.map(|event| event.kind).collect::<Vec<_>>(),
        )
    };
    assert_eq!(told(None), (1, vec![]));
    assert_eq!(told(Some(pin(1))), (1, vec!["zone.pinned"]));
    assert_eq!(told(Some(pin(1))), (0, vec![]));
    assert_eq!(told(Some(pin(2))), (1, vec!["zone.pinned"]), "pinned anew");
    assert_eq!(told(None), (1, vec!["zone.unpinned"]));
    assert_eq!(told(None), (0, vec![]));
}

/// A gateway is read every few seconds, for as long as it lives: only what it says is worth a row, not that it says it again.
#[test]
fn a_gateway_that_says_the_same_again_is_not_recorded_again() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let mut recorded = Recorded::default();
    let mut rows = |second, verdict| {
        let proof = Proof {
            verdict,
            evidence: Evidence::Live,
            at: at(second),
            coverage: Coverage { seen: 1, of: 1 },
            weights: None,
        };
        let door = DoorFact {
            held: None,
            counting: None,
            proof: Some(proof.clone()),
        };
        let fact = ItemFact {
            split: SplitName::new("checkout").unwrap(),
            generation: Generation(3),
            digest: Digest([0; 32]),
            state: ItemState::Proven,
            proof: Some(proof),
            second_writers: Vec::new(),
            counts: None,
            pin: None,
            fallback: None,
            doors: BTreeMap::from([(GatewayName::new("edge").unwrap(), door)]),
        };
        let fleet = self::fleet(fact, at(second));
        let mut news = News::default();
        news.agents(&fleet, &mut recorded, at(second));
        news.items.len()
    };
    assert_eq!(rows(0, Verdict::Exact), 1);
    assert_eq!(rows(5, Verdict::Exact), 0);
    assert_eq!(rows(10, Verdict::Different("old".to_owned())), 1);
}
