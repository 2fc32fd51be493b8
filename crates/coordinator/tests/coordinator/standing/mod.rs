//! I9 as a table: facts, plan and time in, what people are shown out.

mod detached;
mod doors;
mod failing;
mod idle;
mod items;
mod selfcheck;
mod senses;
mod steps;
mod transition;
mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use weir_coordinator::fleet::{Agent, Fleet, counting};
use weir_coordinator::standing::{self, Sight};
use weir_model::{
    BackendName, BasisPoints, CommitId, RouteName, SourceCommit, SourceFile, SourceName, SplitName, ZoneName,
};
use weir_planner::{
    CountScope, Counts, Course, Coverage, Digest, Evidence, Generation, Inputs, ItemFact, ItemState,
    KeptShare, Leg, Motion, Outlook, Phase, Pin, Plan, Planned, Proof, ProvenWeights, Quarantine,
    SecondWriter, ServiceFact, ServiceState, SplitPlan, Verdict, Wait,
};
use weir_wire::api::{AgentStatus, Percent, RouteWeights, SplitInZone, SplitStatus, Standing, ZoneStatus};

const STALE: Duration = Duration::from_secs(15);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Now, in every case.
fn now() -> Timestamp {
    at(100)
}

fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).unwrap()
}

fn plan() -> Plan {
    let file = SourceFile {
        source: SourceName("main".to_owned()),
        path: "a.yaml".to_owned(),
        bytes: crate::repository::declaration("shop", "90", "10")
            .into_bytes()
            .into(),
    };
    let declaration = weir_model::parse(&[file]).declaration;
    let commit = SourceCommit {
        source: SourceName("main".to_owned()),
        commit: CommitId("ab".repeat(20)),
    };
    match weir_planner::plan(Inputs {
        declaration: &declaration,
        commits: &[commit],
        highest: Generation(4),
        parent: None,
        now: at(50),
    }) {
        Planned::New(plan) => {
            assert_eq!(weir_planner::lint(&plan, None), []);
            plan
        }
        other => panic!("{other:?}"),
    }
}

fn weights(vm: u32) -> ProvenWeights {
    let share = |bp| BasisPoints::new(bp).unwrap();
    let mut shares = BTreeMap::from([(BackendName::new("vm").unwrap(), share(vm * 100))]);
    if vm < 100 {
        shares.insert(BackendName::new("cloud").unwrap(), share(10_000 - vm * 100));
    }
    BTreeMap::from([(RouteName::new("default").unwrap(), shares)])
}

/// As the API has them.
fn shares(vm: u32) -> RouteWeights {
    let share = |bp| Percent(BasisPoints::new(bp).unwrap());
    let shares = BTreeMap::from([
        ("vm".to_owned(), share(vm * 100)),
        ("cloud".to_owned(), share(10_000 - vm * 100)),
    ]);
    BTreeMap::from([("default".to_owned(), shares)])
}

fn proof(verdict: Verdict, evidence: Evidence) -> Proof {
    Proof {
        verdict,
        evidence,
        at: at(98),
        coverage: Coverage { seen: 2, of: 2 },
        weights: Some(weights(90)),
        unhealthy: BTreeSet::new(),
    }
}

fn pin() -> Pin {
    Pin {
        since: at(90),
        who: "alice".to_owned(),
        host: "vm-1".to_owned(),
        reason: "ams is dark".to_owned(),
        weights: weights(100),
    }
}

fn fact(plan: &Plan) -> ItemFact {
    let split = SplitName::new("checkout").unwrap();
    let item = &plan.splits[&split].items[&zone("fra")];
    ItemFact {
        proof: Some(proof(Verdict::Exact, Evidence::Live)),
        ..ItemFact::new(item.reference(), ItemState::Proven)
    }
}

fn agent(fact: ItemFact) -> Agent {
    Agent {
        connected: true,
        heard_at: Some(at(99)),
        looked_at: Some(at(99)),
        version: "0.1.0".to_owned(),
        generation: Generation(5),
        highest: Generation(5),
        certificate_expires: Some(at(3_600)),
        kuma: Some("2.14.3".to_owned()),
        unreadable: None,
        fault: None,
        store: None,
        refused: None,
        notes: Vec::new(),
        marks: BTreeMap::new(),
        items: BTreeMap::from([(fact.split.clone(), fact)]),
        services: Vec::new(),
    }
}

fn fleet(agents: impl IntoIterator<Item = (&'static str, Agent)>) -> Fleet {
    let agents = agents
        .into_iter()
        .map(|(name, agent)| (name.to_owned(), agent))
        .collect();
    Fleet {
        zones: BTreeMap::from([(zone("fra"), agents)]),
    }
}

fn look(plan: &Plan, fleet: &Fleet) -> SplitInZone {
    let split = standing::split(
        Sight {
            plan,
            created: &BTreeMap::new(),
            fleet,
            stale: STALE,
            now: now(),
        },
        Some(&BTreeMap::new()),
        &SplitName::new("checkout").unwrap(),
    )
    .unwrap();
    split.zones.into_iter().find(|shown| shown.zone == "fra").unwrap()
}

fn short(shown: &SplitInZone) -> (Standing, &str) {
    (shown.standing, shown.reason.as_deref().unwrap_or(""))
}
