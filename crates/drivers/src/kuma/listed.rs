//! Who calls a service, by a control plane's list of its proxies: those that are connected, and those that are known and are not. Pure.

use serde_json::Value;
use weir_planner::{Evidence, Proof, Verdict};

use super::elsewhere::{Dataplane, Reach};

/// The zone's dataplanes, as its control plane lists them.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) connected: Vec<Dataplane>,
    /// Whom those may call that are known and not connected: they run on with what they have.
    away: Vec<Reach>,
}

impl Listed {
    pub(super) fn read(overviews: &[Value]) -> Self {
        let (mut connected, mut away) = (Vec::new(), Vec::new());
        for overview in overviews {
            match Dataplane::read(overview) {
                Some(dataplane) => connected.push(dataplane),
                None => away.extend(Reach::read(overview)),
            }
        }
        Self { connected, away }
    }

    /// Whether nobody calls a service, and that is more than a list without names: somebody is connected, and of those who are
    /// not none may call it.
    pub(super) fn has_no_caller(&self, service: &str, port: u16) -> bool {
        let connected = self.connected.iter().any(|d| d.calls(service, port));
        !self.connected.is_empty() && !connected && !self.may_be_called_unseen(service, port)
    }

    /// Whether somebody may call a service who is known and not connected, so that nobody tells what he runs.
    pub(super) fn may_be_called_unseen(&self, service: &str, port: u16) -> bool {
        self.away.iter().any(|reach| reach.covers(service, port))
    }
}

/// That nobody calls it is not known of those who are not connected.
pub(super) fn only_if_seen(mut proof: Proof, unseen: bool) -> Proof {
    if unseen
        && proof.nobody_calls()
        && let Verdict::Unknown(why) = &mut proof.verdict
    {
        why.push_str(", and one that is not connected to the control plane may");
        proof.evidence = Evidence::Unknown;
    }
    proof
}
