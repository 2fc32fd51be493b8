//! What is told of a split that no plan is made of now: without a step of a transition being at fault.

use std::collections::BTreeMap;

use jiff::Timestamp;
use weir_model::SplitName;

use crate::outlook::{Outlook, Phase, Wait};

/// What cannot be gone towards: its steps would break a rule.
pub(super) fn no_order(breach: &str) -> Outlook {
    let why = format!(
        "the next step would break a rule of plans: {breach}. Commit what changes one thing at a time (weights, then names, zones \
         or ports), or what it rested on; and please report this"
    );
    Outlook {
        phase: Phase::Held,
        ..at_the_door(
            &why,
            None,
            "nothing of this split moves until another commit changes it",
        )
    }
}

/// What cannot come beside what is in force.
pub(super) fn no_place(breach: &str) -> Outlook {
    let why = format!("beside what is in force it would break a rule of plans: {breach}");
    let next = "it comes by itself when what is in its way has gone, or when a commit changes one of the two";
    Outlook {
        phase: Phase::Held,
        ..at_the_door(&why, None, next)
    }
}

/// What cannot be gone towards because of a drain.
pub(super) fn drained_in_the_way(why: &str) -> Outlook {
    let next = "nothing of this split moves, reverts neither, until `weir undrain` ends the drain or a commit gives the share to \
                somebody else";
    Outlook {
        phase: Phase::Held,
        ..at_the_door(why, None, next)
    }
}

/// Another name and other weights in one commit.
pub(super) fn two_at_once(was: &SplitName) -> Outlook {
    let why = format!(
        "this split takes the place of split {was} and changes its weights with the name: so it would go everywhere at once. \
         Commit the new name with the weights of {was} first, and the weights after that; split {was} stays as it is until then"
    );
    Outlook {
        phase: Phase::Held,
        ..at_the_door(&why, None, "nothing moves until another commit changes it")
    }
}

/// What is declared and not looked at yet: agents are first told anew what this history has.
pub(super) fn told_anew() -> Outlook {
    let next = "agents hold plans that this history does not know: they are told anew what it has, and what is declared is gone \
                towards from there";
    Outlook {
        phase: Phase::Shift,
        waits: Vec::new(),
        ..at_the_door("", None, next)
    }
}

/// What may not come or go now.
pub(crate) fn at_the_door(why: &str, until: Option<Timestamp>, next: &str) -> Outlook {
    Outlook {
        declared: BTreeMap::new(),
        phase: Phase::Frozen,
        bite: 0,
        bites: 1,
        wave: None,
        waves: Vec::new(),
        waits: vec![Wait {
            zone: None,
            why: why.to_owned(),
        }],
        next: next.to_owned(),
        since: None,
        until,
        drained: false,
    }
}
