//! The ways to break Weir on purpose, each with the invariant that then does not hold. The switches are in the code that
//! they break; this is the list of them.

use super::Invariant;

/// One switch.
#[derive(Debug, Clone, Copy)]
pub struct Sabotage {
    /// Its name, as the code asks for it.
    pub name: &'static str,
    /// What it does, for people.
    pub does: &'static str,
    /// What then does not hold.
    pub breaks: Invariant,
    /// Within so many seeds, from 0, it is found.
    pub within: u64,
    /// The seed that found it when it was last looked for. It is tried first, and is only a hint.
    pub hint: u64,
}

/// All of them.
pub const ALL: &[Sabotage] = &[
    Sabotage {
        name: "skip-prepare",
        does: "an agent asks no control plane whether backends resolve",
        breaks: Invariant::I3,
        within: 100,
        hint: 1,
    },
    Sabotage {
        name: "trust-unavailable",
        does: "a backend that is not available counts as ready",
        breaks: Invariant::I3,
        within: 100,
        hint: 6,
    },
    Sabotage {
        name: "held-is-applied",
        does: "what is held counts as applied",
        breaks: Invariant::I3,
        within: 1000,
        hint: 180,
    },
    Sabotage {
        name: "take-older",
        does: "an agent takes any plan that is offered",
        breaks: Invariant::I7,
        within: 100,
        hint: 0,
    },
    Sabotage {
        name: "overwrite-newer",
        does: "an agent writes over a policy of a newer generation",
        breaks: Invariant::I7,
        within: 2000,
        hint: 1253,
    },
    Sabotage {
        name: "forget-removals",
        does: "an agent with an old plan creates what a newer one removed",
        breaks: Invariant::I7,
        within: 2000,
        hint: 15,
    },
    Sabotage {
        name: "skip-introduction",
        does: "a split comes with its weights at once",
        breaks: Invariant::I4,
        within: 100,
        hint: 0,
    },
    Sabotage {
        name: "weights-before-clusters",
        does: "weights follow the anchor before every caller has its clusters",
        breaks: Invariant::I4,
        within: 100,
        hint: 0,
    },
    Sabotage {
        name: "settle-before-drain",
        does: "a withdrawn split goes before its connections have drained",
        breaks: Invariant::I4,
        within: 100,
        hint: 2,
    },
    Sabotage {
        name: "no-anchor",
        does: "policies carry no anchor",
        breaks: Invariant::I4,
        within: 100,
        hint: 0,
    },
    Sabotage {
        name: "shave-weights",
        does: "the weights of a route are not those that are declared",
        breaks: Invariant::I2,
        within: 100,
        hint: 0,
    },
    Sabotage {
        name: "take-broken-commits",
        does: "a commit with an error is taken",
        breaks: Invariant::I1,
        within: 100,
        hint: 0,
    },
    Sabotage {
        name: "remove-what-is-held",
        does: "what a held split has in place is taken away",
        breaks: Invariant::I6,
        within: 100,
        hint: 12,
    },
    Sabotage {
        name: "prove-without-reading",
        does: "what was written counts as proven",
        breaks: Invariant::I9,
        within: 100,
        hint: 0,
    },
    Sabotage {
        name: "trust-online",
        does: "an agent that is connected is never stale",
        breaks: Invariant::I9,
        within: 100,
        hint: 2,
    },
    Sabotage {
        name: "best-word-counts",
        does: "of several agents the best word is shown",
        breaks: Invariant::I9,
        within: 100,
        hint: 0,
    },
    Sabotage {
        name: "believe-the-future",
        does: "words from before the clock was set back count as new",
        breaks: Invariant::I9,
        within: 100,
        hint: 15,
    },
    Sabotage {
        name: "overwrite-strangers",
        does: "a policy of somebody else is written over",
        breaks: Invariant::I10,
        within: 2000,
        hint: 152,
    },
    Sabotage {
        name: "forget-highest",
        does: "the coordinator does not ask what generations agents have seen",
        breaks: Invariant::I11,
        within: 100,
        hint: 3,
    },
    Sabotage {
        name: "one-history",
        does: "agents with another history of plans are taken for followers of this one",
        breaks: Invariant::I11,
        within: 500,
        hint: 7,
    },
    Sabotage {
        name: "keep-old-items",
        does: "an item is never made anew",
        breaks: Invariant::I11,
        within: 100,
        hint: 2,
    },
    Sabotage {
        name: "skip-proof",
        does: "the next step of a shift does not wait for proof of the last",
        breaks: Invariant::I5,
        within: 500,
        hint: 0,
    },
    Sabotage {
        name: "wave-early",
        does: "a wave does not wait for proof of the one before it",
        breaks: Invariant::I5,
        within: 500,
        hint: 2,
    },
    Sabotage {
        name: "thaw",
        does: "a split that is frozen by order is moved",
        breaks: Invariant::I8,
        within: 500,
        hint: 226,
    },
    Sabotage {
        name: "one-slow-answer",
        does: "one slow answer is enough for a step to be taken back",
        breaks: Invariant::I1,
        within: 500,
        hint: 17,
    },
    Sabotage {
        name: "shave-targets",
        does: "the weights of a route at a Kong are not those that are declared",
        breaks: Invariant::I2,
        within: 500,
        hint: 73,
    },
    Sabotage {
        name: "revert-in-waves",
        does: "a revert goes step by step, as any other commit",
        breaks: Invariant::I8,
        within: 2000,
        hint: 123,
    },
    Sabotage {
        name: "ignore-aborts",
        does: "an abort changes nothing",
        breaks: Invariant::I8,
        within: 500,
        hint: 13,
    },
    Sabotage {
        name: "forget-pins",
        does: "an agent that starts remembers no pin",
        breaks: Invariant::I6,
        within: 2000,
        hint: 145,
    },
    Sabotage {
        name: "plan-over-pin",
        does: "a newer plan goes before a pin",
        breaks: Invariant::I6,
        within: 500,
        hint: 4,
    },
    Sabotage {
        name: "write-over-pins",
        does: "what another agent of the zone pinned is written over",
        breaks: Invariant::I6,
        within: 500,
        hint: 6,
    },
    Sabotage {
        name: "post-over-pins",
        does: "what another agent of the zone pinned is not seen by who drives the same gateway",
        breaks: Invariant::I6,
        within: 2_000,
        hint: 857,
    },
    Sabotage {
        name: "pinned-is-converged",
        does: "a pinned split is shown as converged",
        breaks: Invariant::I9,
        within: 100,
        hint: 4,
    },
    Sabotage {
        name: "one-failure",
        does: "one failed request is enough for a share to go elsewhere",
        breaks: Invariant::I1,
        within: 500,
        hint: 33,
    },
    Sabotage {
        name: "come-back-at-once",
        does: "a share comes back without waiting",
        breaks: Invariant::I1,
        within: 500,
        hint: 11,
    },
    Sabotage {
        name: "any-refuge",
        does: "a refuge is not asked whether it resolves",
        breaks: Invariant::I3,
        within: 500,
        hint: 260,
    },
    Sabotage {
        name: "any-capacity",
        does: "a refuge is not asked for its capacity",
        breaks: Invariant::I2,
        within: 500,
        hint: 3,
    },
    Sabotage {
        name: "never-come-back",
        does: "a share that went elsewhere never comes back",
        breaks: Invariant::I11,
        within: 100,
        hint: 1,
    },
    Sabotage {
        name: "fallback-is-converged",
        does: "a split with a share elsewhere is shown as converged",
        breaks: Invariant::I9,
        within: 100,
        hint: 1,
    },
    Sabotage {
        name: "return-to-drained",
        does: "a bad verdict or an abort returns the share to who is drained",
        breaks: Invariant::I1,
        within: 2000,
        hint: 69,
    },
    Sabotage {
        name: "go-back-past-drains",
        does: "another commit in mid-way goes back past a drain",
        breaks: Invariant::I1,
        within: 2000,
        hint: 20,
    },
    Sabotage {
        name: "forget-drains",
        does: "a look at a new commit knows of no drain",
        breaks: Invariant::I1,
        within: 2000,
        hint: 0,
    },
    Sabotage {
        name: "drop-impossible-drains",
        does: "a drain that a commit makes impossible is dropped",
        breaks: Invariant::I1,
        within: 2000,
        hint: 16,
    },
    Sabotage {
        name: "drained-refuge",
        does: "a dead backend's share goes to who is drained",
        breaks: Invariant::I9,
        within: 500,
        hint: 7,
    },
    Sabotage {
        name: "go-on-when-stopped",
        does: "what was stopped, for its way back leads to who is drained, goes on",
        breaks: Invariant::I8,
        within: 2000,
        hint: 69,
    },
    Sabotage {
        name: "send-nothing",
        does: "a Kong without a database is sent an empty configuration",
        breaks: Invariant::I4,
        within: 500,
        hint: 489,
    },
    Sabotage {
        name: "lose-the-base",
        does: "what a site keeps at its Kong itself is left out of the document",
        breaks: Invariant::I10,
        within: 500,
        hint: 73,
    },
    Sabotage {
        name: "lower-first",
        does: "targets lose their weight before those that gain it have it",
        breaks: Invariant::I4,
        within: 500,
        hint: 157,
    },
    Sabotage {
        name: "drop-dns-answers",
        does: "what a name server answers later is dropped",
        breaks: Invariant::I3,
        within: 500,
        hint: 89,
    },
    Sabotage {
        name: "ignore-hashes",
        does: "the hash of what a Kong runs is not compared",
        breaks: Invariant::I9,
        within: 2000,
        hint: 265,
    },
    Sabotage {
        name: "post-over-strangers",
        does: "a document is posted over what somebody else put there",
        breaks: Invariant::I10,
        within: 500,
        hint: 25,
    },
    Sabotage {
        name: "post-over-newer",
        does: "a document is posted over one of a newer generation",
        breaks: Invariant::I7,
        within: 500,
        hint: 201,
    },
    Sabotage {
        name: "prove-one-node",
        does: "one node of a gateway is asked for all",
        breaks: Invariant::I9,
        within: 500,
        hint: 41,
    },
    Sabotage {
        name: "absent-is-gone",
        does: "a document without a split that is not in force yet is posted over it",
        breaks: Invariant::I4,
        within: 2000,
        hint: 701,
    },
    Sabotage {
        name: "ahead-at-gateways-blindly",
        does: "a way back goes to gateways whatever was seen of who gets requests by it",
        breaks: Invariant::I3,
        within: 2500,
        hint: 137,
    },
    Sabotage {
        name: "way-back-asks-health",
        does: "a way back waits at a gateway until somebody says that its backends are well",
        breaks: Invariant::I8,
        within: 2000,
        hint: 489,
    },
    Sabotage {
        name: "drained-is-converged",
        does: "a split of which a backend is drained is shown as converged",
        breaks: Invariant::I9,
        within: 500,
        hint: 2,
    },
];

/// Turns one on in this thread, or all off. False if this program was built without them.
pub fn turn_on(name: Option<&str>) -> bool {
    #[cfg(feature = "sabotage")]
    {
        let found = ALL.iter().find(|sabotage| Some(sabotage.name) == name);
        weir_model::sabotage(found.map_or("", |sabotage| sabotage.name));
        true
    }
    #[cfg(not(feature = "sabotage"))]
    {
        name.is_none()
    }
}
