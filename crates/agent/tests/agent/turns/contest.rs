//! Somebody else writes over, or removes, our policy each time that it is put back.

use serde_json::json;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Lets time pass while somebody undoes what is ours each second; how often that was.
async fn fought(agent: &Running, time: Duration, undo: impl Fn(&mut zone::Fake)) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        undo(&mut agent.fake.lock().unwrap());
        agent.pass(Duration::from_secs(1)).await;
    }
}

fn edit(fake: &mut zone::Fake) {
    for object in &mut fake.store {
        object.spec["to"][0]["rules"][0]["default"]["backendRefs"][0]["weight"] = json!(4_242);
    }
}

/// When it was written, in whole minutes since `began`.
fn minutes(agent: &Running, began: Instant) -> Vec<u64> {
    let fake = agent.fake.lock().unwrap();
    let since = fake.puts.iter().map(|(_, at)| (*at - began).as_secs() / 60);
    since.collect()
}

#[tokio::test(start_paused = true)]
async fn two_controllers_do_not_fight_for_ever() {
    {
        let (what, undo) = ("edits", edit as fn(&mut zone::Fake));
        let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
        let agent = Running::start(&dir, &fake);
        agent.offers.send(plan(1, "fra")).await.unwrap();
        agent.pass(Duration::from_secs(5)).await;
        let began = Instant::now();
        fought(&agent, 9 * MINUTE, undo).await;
        // Once by itself, and five times put back. Then nothing more is written, and it says so.
        assert_eq!(agent.puts(), [1; 6], "{what}");
        let current = Arc::clone(&agent.current.borrow());
        let item = &current.facts.items[0];
        assert!(
            matches!(&item.state, ItemState::Held(why) if why.contains("put back 5 times since")),
            "{what}: {:?}",
            item.state
        );
        let contested = item.contested.clone().unwrap();
        assert_eq!(
            (contested.object.as_str(), contested.rewrites),
            ("MeshHTTPRoute weir-checkout", 5),
            "{what}"
        );
        assert!(
            current
                .notes
                .iter()
                .any(|note| note.contains("weir-checkout is written over or removed")),
            "{what}: {:?}",
            current.notes
        );
        // A newer plan is written at once, once (I8).
        let offered = Instant::now();
        agent.offers.send(plan(2, "ams")).await.unwrap();
        agent.pass(Duration::from_millis(300)).await;
        assert_eq!(agent.puts(), [1, 1, 1, 1, 1, 1, 2], "{what}");
        assert!(agent.fake.lock().unwrap().puts[6].1 - offered < Duration::from_millis(10));
        fought(&agent, 90 * MINUTE, undo).await;
        let tries = minutes(&agent, began).split_off(7);
        assert_eq!(tries, [10, 30, 70], "{what}: less and less often");

        // The other one ends. At the next try it is over, and ten minutes later nothing is said any more.
        agent.pass(61 * MINUTE).await;
        let current = Arc::clone(&agent.current.borrow());
        assert_eq!(current.facts.items[0].state, ItemState::Proven, "{what}");
        assert_eq!(current.facts.items[0].contested, None, "{what}");
        assert_eq!(current.notes, [] as [&str; 0], "{what}");
        // What comes now is put back at once again.
        undo(&mut agent.fake.lock().unwrap());
        let puts = agent.puts().len();
        agent.pass(Duration::from_secs(6)).await;
        assert_eq!(agent.puts().len(), puts + 1, "{what}");
        agent.stop().await;
    }
}

/// Without a policy callers have no split at all: that is worse than a fight, and still it is no race.
#[tokio::test(start_paused = true)]
async fn what_is_removed_again_and_again_is_put_back_each_minute() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(5)).await;
    let remove = |fake: &mut zone::Fake| fake.store.clear();
    fought(&agent, 2 * MINUTE, remove).await;
    assert!(agent.current.borrow().facts.items[0].contested.is_some());
    let before = agent.puts().len();
    fought(&agent, 60 * MINUTE, remove).await;
    let puts = agent.puts().len() - before;
    assert!((55..=61).contains(&puts), "{puts} in an hour");
    agent.stop().await;
}

/// A control plane that loses its store each minute is nobody who fights: without our policies callers fall to Kuma.
#[tokio::test(start_paused = true)]
async fn what_goes_with_a_lost_store_is_put_back_each_time() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.offers.send(plan(1, "fra")).await.unwrap();
    agent.pass(Duration::from_secs(5)).await;
    for round in 0..20 {
        {
            let mut fake = fake.lock().unwrap();
            fake.store.clear();
            match round % 2 {
                // Killed and back between two looks; or away for longer, and the same one.
                0 => fake.instance += 1,
                _ => fake.away = true,
            }
        }
        agent.pass(Duration::from_secs(7)).await;
        fake.lock().unwrap().away = false;
        agent.pass(Duration::from_secs(13)).await;
        assert_eq!(agent.puts().len(), round + 2);
    }
    assert_eq!(agent.current.borrow().facts.items[0].contested, None);
    agent.stop().await;
}
