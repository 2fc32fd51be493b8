//! Which of several coordinators goes on: the one that began last. Pure.
//!
//! Two that serve one federation by mistake, each with a ledger of its own, would plan above each other without end. Each
//! process has a term: one more than the last that its ledger knows, and above all that agents followed before it met them.
//! Agents follow no lower term than they did; what they followed they say in their greeting. One that this process has offered
//! a plan, and that comes back with a term above this process's, got that from another that began later and is alive: so this
//! one stops. What an agent knew before it was first offered anything here may be of a history that is lost, and ends nobody:
//! this process goes above it.
//!
//! No two ever offer the same agent the same term as news, so one of two always sees the other's term above its own.

use std::fmt;

use weir_model::ZoneName;
use weir_wire::Term;

/// How far above its own a coordinator believes a term. A start every millisecond for a month is less.
const LEAP: u64 = 1 << 32;

/// What a greeting says of the term of the coordinator that hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighed {
    /// Nothing against it.
    Stands,
    /// It goes on in this one.
    Rises(Term),
    /// Another coordinator has begun after it, and is followed.
    Superseded,
}

/// Weighs what an agent says to have followed. `told` is the term in which this process last offered it a plan; none if it
/// never did.
pub fn weigh(own: Term, told: Term, says: Term) -> Weighed {
    // What no history can have reached ends nobody: that agent waits alone.
    if says <= told || says.0.saturating_sub(own.0) > LEAP {
        return Weighed::Stands;
    }
    match (told.is_none(), says.cmp(&own)) {
        (_, std::cmp::Ordering::Less) => Weighed::Stands,
        (false, std::cmp::Ordering::Greater) => Weighed::Superseded,
        _ => Weighed::Rises(says.next()),
    }
}

/// Who followed another coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// Of which zone.
    pub zone: ZoneName,
    /// Its name.
    pub agent: String,
    /// The term that it followed.
    pub by: Term,
}

/// This coordinator's term, and whether it still goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// In which it offers plans.
    pub term: Term,
    /// Set once another has begun after it. It ends with this process alone.
    pub superseded: Option<Superseded>,
}

impl Lead {
    /// The highest that is known: whoever begins next begins above it.
    pub fn highest(&self) -> Term {
        let other = self.superseded.as_ref().map(|other| other.by);
        other.map_or(self.term, |other| other.max(self.term))
    }

    /// Why it has stopped, with what to do; none while it goes on.
    pub fn stopped(&self) -> Option<String> {
        self.superseded
            .as_ref()
            .map(|other| format!("{}", Stopped(self.term, other)))
    }
}

struct Stopped<'a>(Term, &'a Superseded);

impl fmt::Display for Stopped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(own, Superseded { zone, agent, by }) = self;
        write!(
            f,
            "superseded: another weir-coordinator serves this federation. Agent {agent} of zone {zone} follows term {by}, and \
             this coordinator is of term {own}: it makes no more plans and holds no sessions; zones keep what they have. Stop \
             the one that is not wanted; if this one is to go on, restart it after that. Where there is no other, two hosts run as \
             {agent}, or its data is a copy from elsewhere: mend that, and restart this one"
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

    use std::collections::BTreeMap;

    use super::*;

    fn weighed(own: u64, told: u64, says: u64) -> Weighed {
        weigh(Term(own), Term(told), Term(says))
    }

    #[test]
    fn only_who_was_told_here_and_followed_another_since_ends_a_coordinator() {
        assert_eq!(
            weighed(5, 0, 0),
            Weighed::Stands,
            "an agent of a version without terms"
        );
        assert_eq!(weighed(5, 0, 4), Weighed::Stands, "a restart");
        assert_eq!(
            weighed(5, 0, 5),
            Weighed::Rises(Term(6)),
            "a ledger that is one start old"
        );
        assert_eq!(
            weighed(1, 0, 9),
            Weighed::Rises(Term(10)),
            "a ledger that was lost"
        );
        assert_eq!(weighed(5, 5, 5), Weighed::Stands, "it comes back");
        assert_eq!(weighed(5, 5, 0), Weighed::Stands, "its memory was torn");
        assert_eq!(
            weighed(7, 5, 6),
            Weighed::Stands,
            "an older one is alive: that one will hear of it"
        );
        assert_eq!(weighed(5, 4, 5), Weighed::Rises(Term(6)), "a twin");
        assert_eq!(weighed(5, 5, 6), Weighed::Superseded);
        assert_eq!(weighed(5, 5, u64::MAX), Weighed::Stands, "a lie");
        assert_eq!(weighed(5, 0, u64::MAX), Weighed::Stands);
    }

    /// However agents go to and fro between coordinators, each with any term of its own and any restarts: it comes to an end, one
    /// goes on, and it is the one that all agents follow.
    #[test]
    fn of_several_one_is_left_however_agents_go_to_and_fro() {
        let mut seed = 1_u64;
        let mut below = move |n: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for round in 0..2_000 {
            const AGENTS: usize = 4;
            let count = usize::try_from(2 + below(2)).unwrap();
            let mut own: Vec<Option<Term>> = (0..count).map(|_| Some(Term(1 + below(4)))).collect();
            let mut told = vec![BTreeMap::<usize, Term>::new(); count];
            let mut follows: Vec<Term> = (0..AGENTS).map(|_| Term(below(6))).collect();
            let (mut rises, mut left) = (0, count);
            for _ in 0..400 {
                let (a, c) = (
                    usize::try_from(below(4)).unwrap(),
                    usize::try_from(below(count as u64)).unwrap(),
                );
                let Some(term) = own[c] else { continue };
                let before = told[c].get(&a).copied().unwrap_or_default();
                let term = match weigh(term, before, follows[a]) {
                    Weighed::Stands => term,
                    Weighed::Rises(to) => {
                        assert!(to > term);
                        rises += 1;
                        to
                    }
                    Weighed::Superseded => {
                        own[c] = None;
                        left -= 1;
                        continue;
                    }
                };
                own[c] = Some(term);
                // One may be without a plan as yet, and offers none.
                if below(4) > 0 && term >= follows[a] {
                    told[c].insert(a, term);
                    follows[a] = term;
                }
            }
            assert_eq!(left, 1, "round {round}: {own:?} {follows:?}");
            assert!(rises < 60, "round {round}: {rises}");
            let last = own.iter().flatten().next().unwrap();
            assert!(
                follows.iter().all(|of| of == last),
                "round {round}: {own:?} {follows:?}"
            );
        }
    }
}
