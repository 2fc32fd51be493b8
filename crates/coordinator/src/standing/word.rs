//! What one agent's word is worth: how old it may be, what it must have read back, and what it says instead.

use std::time::Duration;

use jiff::SignedDuration;
use weir_model::{BasisPoints, sabotaged};
use weir_planner::{Evidence, Item, ItemFact, ItemState, Pin, Proof, Verdict};
use weir_wire::api::Standing;

use super::Sight;
use crate::fleet::Agent;

/// How long live may differ from a new plan before that is called a difference and not a change on its way.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(15);

/// Clocks are corrected by so much now and then; by more they are set.
const CORRECTED: SignedDuration = SignedDuration::from_secs(1);

/// How long an agent's look at its zone may take, beyond the silence that is allowed: every call of it has an end.
const LOOK: SignedDuration = SignedDuration::from_secs(30);

impl Sight<'_> {
    /// Whether it cannot come back by itself: the certificate that it would show has ended.
    fn lost(&self, agent: &Agent) -> bool {
        !agent.connected && agent.certificate_expires.is_some_and(|end| end <= self.now)
    }

    pub(super) fn silent(&self, agent: &Agent) -> Option<(Standing, String)> {
        if sabotaged("trust-online") && agent.connected && agent.heard_at.is_some() {
            return None;
        }
        let Some(heard) = agent.heard_at else {
            let why = if agent.connected {
                "is connected and has not reported yet"
            } else {
                "was never heard"
            };
            return Some((Standing::Unknown, why.to_owned()));
        };
        let silence = self.now.duration_since(heard);
        let bound = bound(self.stale);
        let looked = agent.looked_at.unwrap_or(heard);
        let blind = self.now.duration_since(looked);
        // A clock that was set back must not make old words young: how old they are is then not known.
        if silence.min(blind) < -CORRECTED && !sabotaged("believe-the-future") {
            let ahead = span(-silence.min(blind));
            return Some((
                Standing::Stale,
                format!(
                    "was last heard {ahead} after what this coordinator's clock says now: it was set back, and how old what \
                     is shown is cannot be told before the agent reports again"
                ),
            ));
        }
        if silence <= bound && blind > bound.saturating_add(LOOK) {
            let how = format!("reports, but has not looked at its zone for {}", span(blind));
            return Some((Standing::Stale, format!("{how}; what is shown is old")));
        }
        (silence > bound).then(|| {
            let how = if agent.connected {
                "connected, but silent"
            } else {
                "not connected"
            };
            let since = span(silence);
            let why = if self.lost(agent) {
                format!(
                    "{how} for {since}, and its certificate has ended: what its host runs is not known; let it join again, \
                     or, if its host is gone, `weir-coordinator agent forget` it"
                )
            } else {
                format!("{how} for {since}; what is shown is old")
            };
            (Standing::Stale, why)
        })
    }

    /// Why what an agent said is not to be trusted any more: it is silent.
    pub fn silence(&self, agent: &Agent) -> Option<String> {
        self.silent(agent).map(|(_, why)| why)
    }

    /// Whether an agent's zone runs an item, by the last that it said, however long ago: it was read back, or nobody there
    /// calls the service.
    ///
    /// # Errors
    /// What it said instead.
    pub fn last_word(&self, agent: &Agent, item: &Item) -> Result<(), String> {
        match self.word(agent, item) {
            (Standing::Converged | Standing::Idle, _) => Ok(()),
            (_, why) => Err(why.unwrap_or_else(|| "has not proven it yet".to_owned())),
        }
    }

    /// Where an item stands by the word of one agent.
    pub(super) fn by(&self, agent: &Agent, item: &Item) -> (Standing, Option<String>) {
        if let Some((standing, why)) = self.silent(agent) {
            return (standing, Some(why));
        }
        let (standing, why) = self.word(agent, item);
        // Who cannot read the control plane does not know what is written there, nor who its proxies are.
        match (&agent.unreadable, standing) {
            (Some(unreadable), Standing::Idle) => (
                Standing::Progressing,
                Some(format!(
                    "nobody called it when its control plane was last read, and now it cannot be: {unreadable}"
                )),
            ),
            _ => (standing, why),
        }
    }

    /// The same, without asking how old that is.
    fn word(&self, agent: &Agent, item: &Item) -> (Standing, Option<String>) {
        let Some(fact) = agent.items.get(&item.split) else {
            return (
                Standing::Progressing,
                Some("has not reported on it yet".to_owned()),
            );
        };
        if let Some(pin) = &fact.pin {
            return pinned(fact, pin);
        }
        if let Some(fallen) = &fact.fallback {
            return elsewhere(fact, &fallen.why);
        }
        let told = |standing, why: &str| (standing, Some(why.to_owned()));
        if fact.generation < item.generation {
            return (
                Standing::Progressing,
                Some(format!(
                    "still drives generation {}, not {}{}",
                    fact.generation,
                    item.generation,
                    because(agent)
                )),
            );
        }
        if fact.generation > item.generation {
            return (
                Standing::Different,
                Some(format!(
                    "drives generation {}, newer than {} of the plan",
                    fact.generation, item.generation
                )),
            );
        }
        if fact.digest != item.digest {
            return told(
                Standing::Different,
                "drives other content under the same generation",
            );
        }
        match &fact.state {
            ItemState::Held(why) => told(Standing::Held, why),
            ItemState::Overridden(why) => told(Standing::Overridden, why),
            ItemState::Failed(why) => told(Standing::Failed, why),
            ItemState::Pending => told(Standing::Progressing, "received, not applied yet"),
            ItemState::Applied | ItemState::Proven => self.by_proof(item, fact),
        }
    }

    fn by_proof(&self, item: &Item, fact: &ItemFact) -> (Standing, Option<String>) {
        let Some(proof) = &fact.proof else {
            return (
                Standing::Progressing,
                Some("applied, not read back yet".to_owned()),
            );
        };
        if idle(fact) {
            return (
                Standing::Idle,
                Some(
                    "nobody calls it there: what it was told is written in its control plane, and whoever comes gets that"
                        .to_owned(),
                ),
            );
        }
        match &proof.verdict {
            Verdict::Different(what) => {
                let settling = self.now.duration_since(self.made(item.generation)) < SETTLE;
                let standing = if settling && fact.state == ItemState::Applied {
                    Standing::Progressing
                } else {
                    Standing::Different
                };
                (standing, Some(what.clone()))
            }
            Verdict::Unknown(why) => (
                Standing::Progressing,
                Some(format!("applied, but cannot be read back: {why}")),
            ),
            Verdict::Exact => match proof.evidence {
                Evidence::Live | Evidence::Sampled => match disagreement(item, proof, |_| 0) {
                    Some((standing, what)) => (standing, Some(what)),
                    None if fact.state == ItemState::Proven => (Standing::Converged, None),
                    None => (
                        Standing::Progressing,
                        Some("applied, proof is on its way".to_owned()),
                    ),
                },
                Evidence::Acknowledged => (
                    Standing::Progressing,
                    Some("acknowledged by the control plane, not read back from a proxy".to_owned()),
                ),
                Evidence::Unknown => (
                    Standing::Progressing,
                    Some("the proof names no evidence".to_owned()),
                ),
            },
        }
    }
}

/// Whether what an agent drives is written there and nobody calls it, by what the zone says of its proxies: not by silence, nor
/// by a list that could not be had, which have no evidence. It drives what is its own, in full.
pub(crate) fn idle(fact: &ItemFact) -> bool {
    let written = matches!(fact.state, ItemState::Applied | ItemState::Proven);
    let free = fact.pin.is_none() && fact.fallback.is_none();
    written && free && fact.proof.as_ref().is_some_and(Proof::nobody_calls)
}

/// Silence that is allowed.
pub(crate) fn bound(stale: Duration) -> SignedDuration {
    SignedDuration::try_from(stale).unwrap_or(SignedDuration::MAX)
}

/// Somebody at an agent's host decided otherwise: that is never converged, whatever was read back.
pub(super) fn pinned(fact: &ItemFact, pin: &Pin) -> (Standing, Option<String>) {
    let (standing, besides) = match &fact.state {
        ItemState::Failed(why) => (Standing::Failed, format!("; and failed: {why}")),
        ItemState::Held(why) => (Standing::Overridden, format!("; and not in force: {why}")),
        ItemState::Overridden(why) => (Standing::Overridden, format!("; and overridden: {why}")),
        ItemState::Proven if sabotaged("pinned-is-converged") => (Standing::Converged, String::new()),
        ItemState::Pending | ItemState::Applied | ItemState::Proven => (Standing::Overridden, String::new()),
    };
    let why = format!(
        "pinned on host {} by {} since {:.0}: {}; `weir-agent unpin --split {}` there ends it{besides}",
        pin.host, pin.who, pin.since, pin.reason, fact.split
    );
    (standing, Some(why))
}

/// Shares that are elsewhere while their backends are down: never converged, and said to be so only once it was read back.
pub(super) fn elsewhere(fact: &ItemFact, why: &str) -> (Standing, Option<String>) {
    let (standing, besides) = match &fact.state {
        ItemState::Failed(why) => (Standing::Failed, format!(", but it failed: {why}")),
        ItemState::Held(why) => (Standing::Held, format!(", but it is not in force: {why}")),
        ItemState::Overridden(why) => (Standing::Overridden, format!(", but it is overridden: {why}")),
        ItemState::Pending | ItemState::Applied => (Standing::Fallback, "; not read back yet".to_owned()),
        ItemState::Proven if sabotaged("fallback-is-converged") => (Standing::Converged, String::new()),
        ItemState::Proven => (
            Standing::Fallback,
            "; it comes back by itself when it has been well for long enough".to_owned(),
        ),
    };
    (standing, Some(format!("{why}{besides}")))
}

/// Why an agent does not take the plan, as an end of a sentence.
pub(super) fn because(agent: &Agent) -> String {
    let why = agent.refused.as_ref();
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

/// A proof that calls itself exact is believed only if it says so of every route, and of a proxy that was looked at.
/// `tolerance`: how far, in basis points, a share may be from the wanted one.
pub(super) fn disagreement(
    item: &Item,
    proof: &Proof,
    tolerance: impl Fn(BasisPoints) -> u32,
) -> Option<(Standing, String)> {
    let lacking = |what: String| Some((Standing::Progressing, format!("the proof is not whole: {what}")));
    let Some(weights) = proof.weights.as_ref() else {
        return lacking("it names no weights".to_owned());
    };
    if proof.coverage.seen == 0 {
        return lacking("no proxy was looked at".to_owned());
    }
    for route in &item.routes {
        let Some(live) = weights.get(&route.name) else {
            return lacking(format!("it says nothing of route {}", route.name));
        };
        for backend in route.weights.keys().chain(live.keys()) {
            let wanted = route.weights.get(backend).copied().unwrap_or_default();
            let found = live.get(backend).copied().unwrap_or_default();
            if found.get().abs_diff(wanted.get()) > tolerance(wanted) {
                return Some((
                    Standing::Different,
                    format!("route {} gives {backend} {found} %, not {wanted} %", route.name),
                ));
            }
        }
    }
    None
}

/// Whether a proof is of every route's weights, and of a proxy that was looked at.
pub(crate) fn agrees(item: &Item, proof: &Proof) -> bool {
    disagreement(item, proof, |_| 0).is_none()
}

/// `42 s`, `3 min`, `5 h`, `2 d`: one figure is enough.
fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
