//! What only the global control plane can take away: the mesh, and with it everything of a zone; and MeshServices that vanish.

use weir_drivers::Fault;
use weir_model::{BackendName, BasisPoints};

use super::*;

/// A global control plane that lost its store deletes the mesh in every zone, and no agent can write before a person makes it
/// again: after hours, as a rule.
#[tokio::test(start_paused = true)]
async fn a_mesh_that_is_gone_is_told_as_that_and_all_is_back_within_a_second_of_its_return() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(30)).await;
    // A control plane that starts has no mesh for a moment, which is no news of its items.
    fake.lock().unwrap().mesh_gone = true;
    agent.pass(Duration::from_millis(1_200)).await;
    fake.lock().unwrap().mesh_gone = false;
    assert_eq!(agent.current.borrow().facts.fault, Some(Fault::MeshGone));
    assert_eq!(agent.current.borrow().facts.items[0].state, ItemState::Proven);
    agent.pass(Duration::from_millis(300)).await;
    assert_eq!(agent.current.borrow().facts.fault, None);
    {
        let mut fake = fake.lock().unwrap();
        fake.mesh_gone = true;
        fake.store.clear();
        fake.observed.clear();
    }
    agent.pass(Duration::from_secs(3 * 3_600)).await;
    let facts = agent.current.borrow().facts.clone();
    assert_eq!(facts.fault, Some(Fault::MeshGone));
    for told in [
        facts.unreadable.as_deref().unwrap(),
        match &facts.items[0].state {
            ItemState::Failed(why) => why.as_str(),
            other => panic!("{other:?}"),
        },
    ] {
        assert!(
            told.contains("does not have this mesh; make it on the global one"),
            "{told}"
        );
    }
    // Asked four times a second by one small question; the whole zone only now and then.
    assert!(fake.lock().unwrap().observed.len() <= 3 * 3_600 / 4);
    let back = Instant::now();
    fake.lock().unwrap().mesh_gone = false;
    agent.pass(Duration::from_secs(2)).await;
    assert_eq!(agent.puts(), [1, 1]);
    let took = fake.lock().unwrap().puts[1].1 - back;
    assert!(took <= Duration::from_millis(250), "{took:?}");
    assert_eq!(agent.current.borrow().facts.fault, None);
    assert_eq!(agent.current.borrow().facts.items[0].state, ItemState::Proven);
    agent.stop().await;
}

/// Kuma drops the share of a MeshService that is not there without a word: it is noticed within a second, and not at the next
/// look at everything.
#[tokio::test(start_paused = true)]
async fn a_service_that_vanishes_is_noticed_within_a_second_and_its_share_goes_to_its_fallback() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(with_fallback(plan(1, "fra"))).await.unwrap();
    agent.pass(Duration::from_secs(32)).await;
    assert_eq!(agent.puts(), [1]);
    let vanished = Instant::now();
    fake.lock().unwrap().resolves.remove("fra");
    agent.pass(Duration::from_millis(1_050)).await;
    let backend = BackendName::new("in-fra").unwrap();
    let current = Arc::clone(&agent.current.borrow());
    assert_eq!(current.facts.items[0].vanished, [backend.clone()].into());
    let told = |current: &weir_agent::current::Current, what: &str| {
        let mut notes = current.notes.iter();
        notes.any(|note| note.contains("MeshService of backend in-fra") && note.contains(what))
    };
    assert!(told(&current, "Kuma drops its share"), "{:?}", current.notes);
    agent.pass(Duration::from_secs(2)).await;
    let took = fake.lock().unwrap().puts[1].1 - vanished;
    assert!(took <= Duration::from_millis(2_600), "`after` is 1 s: {took:?}");
    let current = Arc::clone(&agent.current.borrow());
    let fallen = current.facts.items[0].fallback.clone().unwrap();
    assert!(
        fallen.down.contains(&backend) && fallen.why.contains("vanished"),
        "{fallen:?}"
    );
    assert!(told(&current, "its share goes to in-ams"), "{:?}", current.notes);
    // Back, it has to be well for a minute.
    fake.lock().unwrap().resolves.insert("fra");
    agent.pass(Duration::from_secs(2)).await;
    assert!(agent.current.borrow().facts.items[0].vanished.is_empty());
    agent.pass(Duration::from_secs(50)).await;
    assert_eq!(agent.puts(), [1, 1]);
    assert!(agent.current.borrow().facts.items[0].fallback.is_some());
    agent.pass(Duration::from_secs(20)).await;
    assert_eq!(agent.puts(), [1, 1, 1]);
    assert_eq!(agent.current.borrow().facts.items[0].fallback, None);
    agent.stop().await;
}

/// Nothing is written for a backend that is down without a fallback, and what is proven stays proven: what the coordinator is
/// told beside that is all that says it.
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_and_keeps_its_share_is_in_the_facts_beside_the_proof() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(30)).await;
    let fact = || agent.current.borrow().facts.items[0].clone();
    assert_eq!((fact().state, fact().failing.len()), (ItemState::Proven, 0));
    fake.lock().unwrap().unavailable.insert("fra");
    agent.pass(Duration::from_secs(20)).await;
    let backend = BackendName::new("in-fra").unwrap();
    let kept = fact().failing[&backend].clone();
    assert_eq!(
        (fact().state, kept.share),
        (ItemState::Proven, BasisPoints::WHOLE)
    );
    assert!(
        kept.why.contains("Unavailable") && kept.why.contains("no fallback is declared"),
        "{kept:?}"
    );
    assert!(
        kept.help.contains("`weir drain checkout in-fra --reason WHY`"),
        "{kept:?}"
    );
    assert_eq!(agent.puts(), [1], "nothing is changed");
    // A plan that leaves the dead and cannot be applied leaves nobody: what is in force counts.
    fake.lock().unwrap().resolves.remove("ams");
    agent.offers.send(plan(2, "ams")).await.unwrap();
    agent.pass(Duration::from_secs(10)).await;
    assert!(matches!(fact().state, ItemState::Held(_)), "{:?}", fact().state);
    assert!(fact().failing.contains_key(&backend));
    fake.lock().unwrap().resolves.insert("ams");
    agent.pass(Duration::from_secs(10)).await;
    assert_eq!(
        (agent.puts(), fact().failing.len()),
        (vec![1, 2], 0),
        "it is as dead as before"
    );
    agent.stop().await;
}
