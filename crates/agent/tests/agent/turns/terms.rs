//! Of two coordinators the older is refused, whatever it offers, and nothing changes by that.

use std::time::Duration;

use weir_agent::store::Store;
use weir_agent::take::{Memory, NotTaken, Offer, judge};
use weir_planner::{Generation, ZonePlan};
use weir_wire::{Offered, Term};

use super::zone::{Running, fake, federation, plan, zone};

fn offered(term: u64, plan: ZonePlan) -> Offered {
    let term = Term(term);
    Offered { term, plan }
}

#[test]
fn a_newer_plan_of_an_older_term_is_not_taken() {
    let held = plan(3, "fra");
    let memory = Memory {
        highest: Generation(3),
        term: Term(7),
        ..Memory::default()
    };
    let judged = |term, plan| judge(&federation(), &zone(), Some(&held), &memory, &offered(term, plan));
    assert_eq!(
        judged(6, plan(4, "ams")),
        Err(NotTaken::OlderTerm {
            generation: Generation(4),
            offered: Term(6),
            highest: Term(7),
        })
    );
    for term in [7, 8] {
        assert_eq!(judged(term, plan(4, "ams")), Ok(Offer::Newer));
    }
    // Somebody went back to a coordinator of a version without terms: generations alone decide.
    assert_eq!(judged(0, plan(4, "ams")), Ok(Offer::Newer));
    assert!(matches!(judged(0, plan(2, "ams")), Err(NotTaken::Older { .. })));
    // A newer term makes no plan newer, and what is held is held whoever says it.
    assert!(matches!(judged(9, plan(2, "ams")), Err(NotTaken::Older { .. })));
    assert_eq!(judged(9, plan(3, "ams")), Err(NotTaken::Forked(Generation(3))));
    assert_eq!(judged(6, held.clone()), Ok(Offer::Held));
}

#[tokio::test(start_paused = true)]
async fn who_has_followed_a_newer_coordinator_does_not_go_back_to_the_older_even_after_a_restart() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), fake());
    let agent = Running::start(&dir, &fake);
    agent.in_terms.send(offered(4, plan(3, "fra"))).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(agent.puts(), [3]);
    // Another coordinator holds the very same plan: it is followed from now on, and that is said at once.
    agent.in_terms.send(offered(6, plan(3, "fra"))).await.unwrap();
    agent.pass(Duration::from_millis(1)).await;
    assert_eq!(agent.current.borrow().term, Term(6));
    agent.stop().await;
    let kept = Store::new(dir.path()).load(&federation(), &zone()).unwrap();
    assert_eq!(kept.memory.term, Term(6));

    let agent = Running::start(&dir, &fake);
    assert_eq!(agent.current.borrow().term, Term(6), "said in the first greeting");
    agent.in_terms.send(offered(5, plan(9, "ams"))).await.unwrap();
    agent.pass(Duration::from_secs(20)).await;
    assert_eq!(agent.puts(), [3], "the last good plan stays in force");
    let refused = agent.current.borrow().refused.clone().unwrap();
    assert!(
        refused
            .starts_with("plan 9 is offered in term 5, and this agent has followed a coordinator of term 6"),
        "{refused}"
    );
    assert_eq!(
        agent.current.borrow().facts.highest,
        Generation(3),
        "it counts for nothing"
    );
    // The newer one goes on, from wherever it was.
    agent.in_terms.send(offered(6, plan(4, "ams"))).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(agent.puts(), [3, 4]);
    assert_eq!(agent.current.borrow().refused, None);
    agent.stop().await;

    // With its memory torn it takes what comes next, and goes on from there.
    std::fs::write(dir.path().join("memory.json"), "half").unwrap();
    let agent = Running::start(&dir, &fake);
    agent.in_terms.send(offered(5, plan(5, "fra"))).await.unwrap();
    agent.pass(Duration::from_secs(1)).await;
    assert_eq!(
        (agent.puts(), agent.current.borrow().term),
        (vec![3, 4, 5], Term(5))
    );
    agent.stop().await;
}
