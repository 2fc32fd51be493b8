//! The plan's file is damaged: what was in force is kept in force, nothing older is taken up, nothing is taken away.

use super::*;

/// An agent that took plans 3 and 4 and applied both, as it lies on its disk.
async fn stopped_after_two_plans() -> (tempfile::TempDir, Arc<std::sync::Mutex<zone::Fake>>) {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    for offered in [plan(3, "fra"), plan(4, "ams")] {
        agent.offers.send(offered).await.unwrap();
        agent.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(agent.puts(), [3, 4]);
    agent.stop().await;
    (dir, fake)
}

#[tokio::test(start_paused = true)]
async fn a_torn_plan_leaves_what_is_in_force_in_force() {
    let (dir, fake) = stopped_after_two_plans().await;
    std::fs::write(dir.path().join("plan.json"), "half").unwrap();
    // Twice: at the second start the damaged file is gone, too.
    for _ in 0..2 {
        let agent = Running::start(&dir, &fake);
        agent.pass(Duration::from_secs(10)).await;
        agent.stop().await;
    }
    let agent = Running::start(&dir, &fake);
    // Its store is lost: what comes back is what was in force, of generation 4, and not what the older copy says.
    {
        let mut fake = fake.lock().unwrap();
        assert_eq!(fake.puts.len(), 2);
        fake.store.clear();
        fake.instance += 1;
    }
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.puts(), [3, 4, 4]);
    let current = Arc::clone(&agent.current.borrow());
    assert_eq!(current.facts.items[0].generation, Generation(4));
    assert!(
        current
            .notes
            .iter()
            .any(|note| note.contains("plan file is damaged")),
        "{:?}",
        current.notes
    );
    // An older plan is refused, the same one and a newer one are taken.
    agent.offers.send(plan(3, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(6)).await;
    assert_eq!(agent.puts(), [3, 4, 4]);
    agent.offers.send(plan(4, "ams")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(
        agent.current.borrow().plan.as_ref().unwrap().generation,
        Generation(4)
    );
    assert_eq!(agent.current.borrow().notes, [] as [&str; 0]);
    agent.offers.send(plan(5, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(agent.puts(), [3, 4, 4, 5]);
    agent.stop().await;
}

/// The zone went on without this agent, by another one of it: that is neither written over nor taken away.
#[tokio::test(start_paused = true)]
async fn nothing_newer_is_written_over_and_nothing_is_taken_away() {
    let (dir, fake) = stopped_after_two_plans().await;
    std::fs::write(dir.path().join("plan.json"), "half").unwrap();
    let foreign = {
        let mut fake = fake.lock().unwrap();
        let mut newer = fake.store[0].clone();
        newer
            .labels
            .insert("weir.dev/generation".to_owned(), "9".to_owned());
        newer.spec["to"][0]["rules"][0]["default"]["backendRefs"][0]["weight"] = 77.into();
        let mut other = newer.clone();
        other.name = "weir-cart".to_owned();
        other
            .labels
            .insert("weir.dev/split".to_owned(), "cart".to_owned());
        fake.store = vec![newer, other];
        fake.store.clone()
    };
    let agent = Running::start(&dir, &fake);
    agent.pass(Duration::from_secs(60)).await;
    assert_eq!(fake.lock().unwrap().store, foreign);
    // Its own goes, the other one stays and tells of a newer plan: then it was removed, as far as anybody here can know.
    fake.lock().unwrap().store.remove(0);
    agent.pass(Duration::from_secs(60)).await;
    assert_eq!(agent.puts(), [3, 4]);
    assert_eq!(fake.lock().unwrap().store.len(), 1);
    agent.stop().await;
}

/// Without the memory nothing tells what of the older plan is in force still; without the older copy there is no frame.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_is_left_to_the_coordinator() {
    for torn in ["memory.json", "plan.json.before"] {
        let (dir, fake) = stopped_after_two_plans().await;
        for file in ["plan.json", torn] {
            std::fs::write(dir.path().join(file), "half").unwrap();
        }
        fake.lock().unwrap().store.clear();
        let agent = Running::start(&dir, &fake);
        agent.pass(Duration::from_secs(30)).await;
        assert_eq!(agent.puts(), [3, 4], "{torn}");
        assert!(agent.current.borrow().plan.is_none(), "{torn}");
        agent.stop().await;
    }
}

/// A plan that was damaged while its agent ran takes no good copy's place.
#[tokio::test(start_paused = true)]
async fn the_copy_of_before_is_whole() {
    let (dir, fake) = stopped_after_two_plans().await;
    let before = std::fs::read(dir.path().join("plan.json.before")).unwrap();
    let agent = Running::start(&dir, &fake);
    std::fs::write(dir.path().join("plan.json"), "half").unwrap();
    agent.offers.send(plan(5, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(agent.puts(), [3, 4, 5]);
    assert_eq!(
        std::fs::read(dir.path().join("plan.json.before")).unwrap(),
        before
    );
    let now = std::fs::read(dir.path().join("plan.json")).unwrap();
    agent.offers.send(plan(6, "ams")).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(std::fs::read(dir.path().join("plan.json.before")).unwrap(), now);
    agent.stop().await;
}
