//! Since when each thing is waited for, and when that is told. Pure.
//!
//! The planner knows of the last step at most, and each look makes what it says anew: what lasts is told from what is new here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use weir_model::SplitName;
use weir_planner::{Outlook, Phase};

use super::moving::{Turns, message};
use crate::ledger::{NewEvent, Turn};
use crate::state::{Waiting, Waits};

/// After so long it is told that a step waits for proof. Every step does so for a moment: a second or two where an agent writes to its
/// own control plane, some more where a cluster's controller carries it on. Who is silent is stale after 15 s unless told otherwise:
/// from then on it is nobody's haste any more.
const TOLD_AFTER: SignedDuration = SignedDuration::from_secs(15);

/// What is told then: also by how it ends a start knows since when.
fn lasts(name: &SplitName, stands: &Outlook) -> String {
    format!(
        "{}; it has waited for {} s",
        message(name, stands),
        TOLD_AFTER.as_secs()
    )
}

/// Since when what is recalled of before the start lasts, if it is this very wait.
fn recalled_since(turn: &Turn, name: &SplitName, stands: &Outlook) -> Option<Timestamp> {
    if turn.message == message(name, stands) {
        return Some(turn.at);
    }
    let told = turn.message == lasts(name, stands);
    told.then(|| turn.at.checked_sub(TOLD_AFTER).unwrap_or(turn.at))
}

/// Since when each split waits for what, after that of the look before; none of those for the first since the start. And what is to be
/// told of it now, beside the turns of the splits `told`.
pub(super) fn waits(
    before: Option<&Waits>,
    recalled: &Turns,
    now: &BTreeMap<SplitName, Outlook>,
    (told, at): (&BTreeSet<&SplitName>, Timestamp),
) -> (Waits, Vec<NewEvent>) {
    let (mut waits, mut events) = (Waits::new(), Vec::new());
    for (name, stands) in now {
        let Some(first) = stands.waits.first() else {
            continue;
        };
        let place = (stands.phase, stands.bite, stands.wave);
        let was = before.and_then(|before| before.get(name));
        let was = was.filter(|was| was.place == place);
        // A clock that was set back: not later than now.
        let seen = was.map_or(at, |was| was.seen.min(at));
        let recalled = recalled
            .get(name)
            .and_then(|turn| recalled_since(turn, name, stands));
        // Of these it is kept since when they are so for their first reason.
        let kept = stands
            .since
            .filter(|_| matches!(stands.phase, Phase::Held | Phase::Frozen));
        let mut since = BTreeMap::new();
        for wait in &stands.waits {
            let is_first = wait.zone == first.zone;
            let known = kept.filter(|_| is_first);
            let known = known.or(recalled.filter(|_| is_first));
            let known = match was.and_then(|was| was.since.get(&wait.zone)) {
                Some(since) => known.or(*since),
                None => known.or(before.map(|_| at)),
            };
            since.insert(wait.zone.clone(), known.map(|since| since.min(at)));
        }
        let began = since.get(&first.zone).copied().flatten().unwrap_or(seen);
        let lasted = at.duration_since(began);
        let mut waiting = Waiting {
            told: was.is_some_and(|was| was.told) || recalled.is_some() || told.contains(name),
            place,
            seen,
            since,
        };
        if stands.phase == Phase::Shift && !waiting.told && lasted >= TOLD_AFTER {
            events.push(NewEvent::new("transition.waits", lasts(name, stands)).split(name));
            waiting.told = true;
        }
        waits.insert(name.clone(), waiting);
    }
    (waits, events)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

    use weir_model::ZoneName;
    use weir_planner::Wait;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn zone(name: &str) -> ZoneName {
        ZoneName::new(name).unwrap()
    }

    /// A shift that waits for these zones.
    fn shift(bite: u32, zones: &[&str]) -> BTreeMap<SplitName, Outlook> {
        let wait = |name: &&str| Wait {
            zone: Some(zone(name)),
            why: "has not proven it".to_owned(),
        };
        let stands = Outlook {
            declared: BTreeMap::new(),
            phase: Phase::Shift,
            bite,
            bites: 2,
            wave: Some(1),
            waves: vec![1],
            waits: zones.iter().map(wait).collect(),
            next: String::new(),
            since: Some(at(-1)),
            until: None,
            drained: false,
        };
        BTreeMap::from([(SplitName::new("checkout").unwrap(), stands)])
    }

    /// Since when each zone is waited for; none where that is not known.
    type Since = Vec<(String, Option<i64>)>;

    /// One look after the other.
    struct Looks {
        waits: Option<Waits>,
        recalled: Turns,
    }

    impl Looks {
        /// What is told, and since when each zone is waited for.
        fn look(&mut self, now: &BTreeMap<SplitName, Outlook>, second: i64) -> (Vec<String>, Since) {
            let none = BTreeSet::new();
            let (waits, events) = super::waits(self.waits.as_ref(), &self.recalled, now, (&none, at(second)));
            let since = waits.values().flat_map(|waiting| &waiting.since);
            let since = since.map(|(zone, since)| {
                let zone = zone.as_ref().unwrap().to_string();
                (zone, since.map(|since| since.duration_since(at(0)).as_secs()))
            });
            let since = since.collect();
            self.waits = Some(waits);
            (events.into_iter().map(|event| event.message).collect(), since)
        }
    }

    #[test]
    fn the_first_wait_is_told_once_it_lasts_and_each_says_since_when() {
        let mut looks = Looks {
            waits: Some(Waits::new()),
            recalled: Turns::new(),
        };
        let of = |zone: &str, since| (zone.to_owned(), Some(since));
        let (one, two) = (shift(1, &["fra"]), shift(1, &["ams", "fra"]));
        assert_eq!(looks.look(&one, 0), (vec![], vec![of("fra", 0)]));
        // Another zone that is waited for as well does not make it begin anew, whichever is named first.
        assert_eq!(looks.look(&two, 9), (vec![], vec![of("ams", 9), of("fra", 0)]));
        assert_eq!(looks.look(&one, 14), (vec![], vec![of("fra", 0)]));
        let words = "split checkout: zone fra: has not proven it; it has waited for 15 s";
        assert_eq!(looks.look(&one, 15), (vec![words.to_owned()], vec![of("fra", 0)]));
        assert_eq!(looks.look(&one, 16), (vec![], vec![of("fra", 0)]), "once");
        // The next step waits for itself.
        let next = shift(2, &["fra"]);
        assert_eq!(looks.look(&next, 17), (vec![], vec![of("fra", 17)]));
        assert_eq!(looks.look(&next, 31).0, Vec::<String>::new());
        assert_eq!(looks.look(&next, 32).0.len(), 1);
        // Steps that are proven in time say nothing, and leave nothing behind.
        assert_eq!(looks.look(&shift(2, &[]), 33), (vec![], vec![]));

        // After a start what was told is known, and since when.
        let turn = Turn {
            kind: "transition.waits".to_owned(),
            message: words.to_owned(),
            at: at(15),
        };
        let mut looks = Looks {
            waits: None,
            recalled: Turns::from([(SplitName::new("checkout").unwrap(), turn)]),
        };
        assert_eq!(looks.look(&one, 60), (vec![], vec![of("fra", 0)]));
        looks.recalled.clear();
        assert_eq!(
            looks.look(&one, 90),
            (vec![], vec![of("fra", 0)]),
            "it was told then"
        );
        // What was not told may have begun long ago.
        let mut looks = Looks {
            waits: None,
            recalled: Turns::new(),
        };
        let unknown = || vec![("fra".to_owned(), None)];
        assert_eq!(looks.look(&one, 60), (vec![], unknown()));
        assert_eq!(looks.look(&two, 61).1, [of("ams", 61), ("fra".to_owned(), None)]);
        assert_eq!(looks.look(&one, 75), (vec![words.to_owned()], unknown()));
        assert_eq!(looks.look(&next, 76), (vec![], vec![of("fra", 76)]));
        // A clock that is set back does not make it wait since later than now.
        assert_eq!(looks.look(&next, -50), (vec![], vec![of("fra", -50)]));
    }
}
