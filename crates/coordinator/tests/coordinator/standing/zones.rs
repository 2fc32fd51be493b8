//! Zones as a whole, and what agents note.

use super::*;

#[test]
fn zones_show_their_worst_and_agents_nobody_declared() {
    let plan = plan();
    let mut seen = fleet([("fra-1", agent(fact(&plan)))]);
    seen.zones.insert(
        zone("oslo"),
        BTreeMap::from([("oslo-1".to_owned(), agent(fact(&plan)))]),
    );
    let platforms = BTreeMap::from([(zone("fra"), "vm".to_owned()), (zone("ams"), "vm".to_owned())]);
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &seen,
        stale: STALE,
        now: now(),
    };
    let agents = |name: &str| {
        vec![AgentStatus {
            name: name.to_owned(),
            connected: true,
            heard_at: Some("2027-01-15T08:01:39Z".to_owned()),
            version: "0.1.0".to_owned(),
            generation: 5,
            certificate_expires: Some("2027-01-15T09:00:00Z".to_owned()),
            notes: Vec::new(),
        }]
    };
    assert_eq!(
        standing::zones(sight, &platforms),
        vec![
            ZoneStatus {
                name: "ams".to_owned(),
                platform: "vm".to_owned(),
                kuma_zone: "ams".to_owned(),
                standing: Standing::Unknown,
                reason: Some("no agent of this zone was ever heard".to_owned()),
                generation: 0,
                kuma: None,
                store: None,
                agents: Vec::new(),
                detached: None,
            },
            ZoneStatus {
                name: "fra".to_owned(),
                platform: "vm".to_owned(),
                kuma_zone: "fra".to_owned(),
                standing: Standing::Converged,
                reason: None,
                generation: 5,
                kuma: Some("2.14.3".to_owned()),
                store: None,
                agents: agents("fra-1"),
                detached: None,
            },
            ZoneStatus {
                name: "oslo".to_owned(),
                platform: "unknown".to_owned(),
                kuma_zone: String::new(),
                standing: Standing::Unknown,
                reason: Some("has agents, but the declaration in force does not name this zone".to_owned()),
                generation: 5,
                kuma: Some("2.14.3".to_owned()),
                store: None,
                agents: agents("oslo-1"),
                detached: None,
            },
        ]
    );
    // The split as a whole is as its worst zone: nobody in ams was ever heard.
    let split = standing::split(
        sight,
        Some(&BTreeMap::new()),
        &SplitName::new("checkout").unwrap(),
    )
    .unwrap();
    assert_eq!(
        (split.standing, split.generation, split.since.as_str()),
        (Standing::Unknown, 5, "2027-01-15T08:00:50Z")
    );
    assert_eq!(standing::proven_at(sight, &zone("fra")), Some(at(98)));
    assert_eq!(standing::proven_at(sight, &zone("ams")), None);
    // Whatever the agent's clock says, a zone followed after the plan was made and before now.
    for (clock, shown) in [(-4_000, 50), (4_000, 100)] {
        let mut fact = fact(&plan);
        fact.proof.as_mut().unwrap().at = at(clock);
        let skewed = fleet([("fra-1", agent(fact))]);
        let sight = Sight {
            fleet: &skewed,
            ..sight
        };
        assert_eq!(standing::proven_at(sight, &zone("fra")), Some(at(shown)));
    }
}

/// Kuma asks for a named port by its name alone. It keeps nothing from converging, but somebody must be told.
#[test]
fn a_port_name_that_is_not_declared_is_told_with_what_to_do() {
    let plan = plan();
    let seen = |namespace: Option<&str>, port: u16, name: &str| ServiceFact {
        service: "checkout".parse().unwrap(),
        kuma_zone: "use1".parse().unwrap(),
        namespace: namespace.map(|name| name.parse().unwrap()),
        ports: [(port, None)].into(),
        port_names: [(port, name.to_owned())].into(),
        state: ServiceState::Available,
        way: weir_planner::Way::Unknown,
    };
    let mut one = agent(fact(&plan));
    one.services = vec![seen(Some("shop"), 8080, "http"), seen(None, 9090, "admin")];
    let two = one.clone();
    let shown = look(&plan, &fleet([("fra-1", one), ("fra-2", two)]));
    assert_eq!(shown.standing, Standing::Converged);
    assert_eq!(
        shown.notes,
        [
            "callers by MeshService get no split: port 8080 of MeshService checkout of Kuma zone use1, namespace shop, is \
             called http; add `portNames: [http]` to split checkout"
        ]
    );
    let mut named = plan.clone();
    let split = named
        .splits
        .get_mut(&SplitName::new("checkout").unwrap())
        .unwrap();
    let split = Arc::make_mut(split);
    let item = Arc::make_mut(split.items.get_mut(&zone("fra")).unwrap());
    item.port_names = ["web".parse().unwrap()].into();
    let mut other = agent(fact(&plan));
    other.services = vec![seen(None, 8080, "http"), seen(Some("shop"), 8080, "web")];
    let shown = look(&named, &fleet([("fra-1", other)]));
    let told = "callers by MeshService get no split: port 8080 of MeshService checkout of Kuma zone use1 is called http; \
                add `portNames: [web, http]` to split checkout";
    assert_eq!(shown.notes, [told]);
}

/// It keeps nothing from converging, and callers of somebody who is no backend are split: somebody must be told.
#[test]
fn whose_callers_are_taken_along_is_told_beside_converged() {
    let plan = plan();
    let seen = |zone: &str, namespace: Option<&str>| ServiceFact {
        service: "checkout".parse().unwrap(),
        kuma_zone: zone.parse().unwrap(),
        namespace: namespace.map(|name| name.parse().unwrap()),
        ports: [(8080, Some(weir_model::Protocol::Http))].into(),
        port_names: BTreeMap::new(),
        state: ServiceState::Available,
        way: weir_planner::Way::Unknown,
    };
    let mut one = agent(fact(&plan));
    one.services = vec![seen("use1", Some("staging"))];
    let shown = look(&plan, &fleet([("fra-1", one)]));
    assert_eq!(shown.standing, Standing::Converged);
    let [note] = shown.notes.as_slice() else {
        panic!("{:?}", shown.notes)
    };
    assert!(
        note.contains("takes along callers of MeshService checkout of Kuma zone use1, namespace staging,"),
        "{note}"
    );
}

/// What an agent says of its zone reaches whoever asks, as long as it speaks.
#[test]
fn notes_of_agents_are_shown_while_they_are_heard() {
    let plan = plan();
    let mut one = agent(fact(&plan));
    one.notes = vec!["the cluster cannot be watched".to_owned()];
    let mut silent = one.clone();
    silent.heard_at = Some(at(0));
    let seen = fleet([("fra-1", one), ("fra-2", silent)]);
    let sight = Sight {
        plan: &plan,
        created: &BTreeMap::new(),
        fleet: &seen,
        stale: STALE,
        now: now(),
    };
    let told: Vec<_> = standing::notes(sight)
        .into_iter()
        .map(|note| [note.zone, note.agent, note.note])
        .collect();
    assert_eq!(told, [["fra", "fra-1", "the cluster cannot be watched"]]);
    let zones = standing::zones(sight, &BTreeMap::new());
    let fra = zones.iter().find(|shown| shown.name == "fra").unwrap();
    assert_eq!(fra.agents[0].notes, ["the cluster cannot be watched"]);
}

/// How old a word is that comes from after now cannot be told: it must not stay young until the clock has caught up.
#[test]
fn a_clock_that_was_set_back_makes_no_old_word_young() {
    let plan = plan();
    let mut agent = agent(fact(&plan));
    let a_little = at(100 + 1);
    (agent.heard_at, agent.looked_at) = (Some(a_little), Some(a_little));
    let shown = look(&plan, &fleet([("fra-1", agent.clone())]));
    assert_eq!(shown.standing, Standing::Converged, "clocks are corrected");
    for (heard, looked) in [(3_600, 3_600), (99, 3_600), (102, 102)] {
        (agent.heard_at, agent.looked_at) = (Some(at(heard)), Some(at(looked)));
        let shown = look(&plan, &fleet([("fra-1", agent.clone())]));
        let (standing, why) = short(&shown);
        assert_eq!(standing, Standing::Stale);
        assert!(why.contains("after what this coordinator's clock says"), "{why}");
    }
}
