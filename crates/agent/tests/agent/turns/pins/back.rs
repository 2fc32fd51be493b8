//! Pins that go back to a generation, and pins of which the file is gone.

use super::*;

/// Back to what was in force at a generation, with coordinator and Git gone; what is not known any more is refused.
#[tokio::test(start_paused = true)]
async fn a_pin_goes_back_to_a_generation() {
    let dir = tempfile::tempdir().unwrap();
    let agent = settled(&dir).await;
    for (generation, to) in [(4, "ams"), (7, "fra")] {
        agent.offers.send(plan(generation, to)).await.unwrap();
        agent.pass(Duration::from_secs(5)).await;
    }
    let store = Store::new(dir.path());
    let to = |generation: u64| {
        let (plan, memory) = (store.peek_plan().unwrap().unwrap(), store.peek_memory().unwrap());
        let mut pins = known(&store, &memory.pins);
        pins.pin_to(
            &plan,
            &memory,
            &checkout(),
            Generation(generation),
            by("fra-1", 0),
        )?;
        store.keep_pins(&pins).unwrap();
        Ok::<_, NotPinned>(())
    };
    let refused = to(0).unwrap_err().to_string();
    assert!(
        refused.ends_with("kept are the generations 7 (in-fra 100 %), 4 (in-ams 100 %), 1 (in-fra 100 %)"),
        "{refused}"
    );
    assert!(to(8).is_err(), "the plan is at 7");
    // The plan of generation 6 had what came with 4.
    to(6).unwrap();
    agent.pass(Duration::from_secs(2)).await;
    assert!(
        agent.in_force().0.starts_with("in-ams 100"),
        "{:?}",
        agent.in_force()
    );
    let past = store.peek_memory().unwrap().past;
    assert_eq!(past.of(&checkout()).len(), 3, "a pin is no past of the plan's");
    agent.stop().await;
}

/// Cut short, changed, emptied, gone, or not to be read: what was pinned stays so, and everybody is told.
#[tokio::test(start_paused = true)]
async fn a_pin_outlives_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let agent = settled(&dir).await;
    pin(dir.path(), "fra-1", 0, "in-ams=100").unwrap();
    agent.pass(Duration::from_secs(2)).await;
    let fake = std::sync::Arc::clone(&agent.fake);
    agent.stop().await;
    let file = dir.path().join("pins.json");
    let good = std::fs::read(&file).unwrap();
    let turned = {
        let mut bytes = good.clone();
        let at = bytes.len() - 40;
        bytes[at] ^= 1;
        bytes
    };
    // Sealed as it should be, with weights that make no whole.
    let forged = {
        let pins: Pins = weir_agent::sealed::open(pin::KIND, &good).unwrap();
        let mut value = serde_json::to_value(&pins).unwrap();
        value["pins"]["checkout"]["item"]["routes"][0]["weights"]["in-ams"] = 9_000.into();
        weir_agent::sealed::seal(pin::KIND, &value).unwrap()
    };
    let pinned = ("in-ams 100".to_owned(), Some("fra-1.1800000000".to_owned()));
    let spoilt: [(Option<&[u8]>, &str); 6] = [
        (Some(&good[..good.len() / 2]), "damaged"),
        (Some(&good[..10]), "damaged"),
        (Some(b""), "damaged"),
        (Some(&turned), "damaged"),
        (Some(&forged), "damaged"),
        (None, "is gone"),
    ];
    for running in [true, false] {
        for (bytes, told) in &spoilt {
            std::fs::write(&file, &good).unwrap();
            let agent = running.then(|| Running::start(&dir, &fake));
            if let Some(agent) = &agent {
                agent.pass(Duration::from_secs(2)).await;
                assert_eq!(agent.notes(), "", "it has read the good one");
            }
            match bytes {
                Some(bytes) => std::fs::write(&file, bytes).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            // What a kill in the middle of a write leaves.
            std::fs::write(dir.path().join("pins.json.00.draft"), &good[..20]).unwrap();
            let agent = agent.unwrap_or_else(|| Running::start(&dir, &fake));
            agent.pass(Duration::from_secs(10)).await;
            assert_eq!(agent.in_force(), pinned, "running {running}, {told}");
            assert!(
                agent.notes().contains(told),
                "running {running}: {}",
                agent.notes()
            );
            assert!(agent.current.borrow().facts.items[0].pin.is_some());
            agent.stop().await;
        }
    }
    assert_eq!(fake.lock().unwrap().puts.len(), 2, "none of it was written again");

    // The memory is lost as well: the policy itself tells that it is pinned, and nobody moves it.
    std::fs::write(dir.path().join("memory.json"), "half").unwrap();
    let agent = Running::start(&dir, &fake);
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(agent.in_force(), pinned);
    assert!(matches!(agent.state(), ItemState::Held(why) if why.contains("fra-1.1800000000")));
    agent.stop().await;

    // Whoever ends a pin beside a damaged file ends it.
    std::fs::write(&file, &good).unwrap();
    let agent = Running::start(&dir, &fake);
    agent.pass(Duration::from_secs(2)).await;
    std::fs::write(&file, &turned).unwrap();
    agent.pass(Duration::from_secs(2)).await;
    unpin(dir.path());
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.in_force(), ("in-fra 100".to_owned(), None));
    assert_eq!(agent.notes(), "");
    let aside = std::fs::read_dir(dir.path()).unwrap();
    let mut aside = aside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(
        aside.any(|name| name.starts_with("pins.json.damaged-")),
        "kept to be looked at"
    );
    agent.stop().await;
}
