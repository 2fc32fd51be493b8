//! The addresses by which a gateway reaches backends: looked up anew, or, for a way back in haste, as they were found a moment ago.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weir_drivers::dns::Answers;
use weir_model::GatewayName;

use super::shared::lock;
use super::{Gateways, Posted, Shared, Wanted, names};

/// What was looked up, or tried to be, so short a time ago is good enough for a way back. A calm gateway looks every 5 s, and a name
/// server that says nothing is waited for 3 s.
const LATELY: Duration = Duration::from_secs(15);

impl Gateways {
    /// Addresses of the names that the doors of this agent's gateways have. None if something newer is wanted before a name server
    /// answered.
    pub(super) async fn looked_up(
        &self,
        name: &GatewayName,
        (wanted, mut newer): (&Wanted, watch::Receiver<Option<Arc<Wanted>>>),
        shared: &Shared,
        posted: Option<&Posted>,
    ) -> Option<Answers> {
        let (before, all, last) = {
            let shared = lock(shared);
            // Those of all gateways: whoever looks names up forgets what nobody asks for.
            let all = self.drivers.keys();
            let all = all.flat_map(|gateway| names(wanted, gateway, shared.memory.posted.get(gateway)));
            let all: BTreeSet<String> = all.collect();
            (shared.memory.resolved.clone(), all, shared.looked_up)
        };
        let is_new =
            |(split, item): (_, &Arc<_>)| posted.and_then(|posted| posted.items.get(split)) != Some(item);
        let mut back = wanted
            .back
            .iter()
            .filter_map(|split| Some((split, wanted.items.get(split)?)));
        let goes_back = back.any(|(split, item)| item.doors.contains_key(name) && is_new((split, item)));
        let is_young = last.is_some_and(|last| (self.clock)().duration_since(last) < LATELY);
        if goes_back && is_young && all.iter().all(|name| before.contains_key(name)) {
            let known = before.iter().filter(|(name, _)| all.contains(*name));
            return Some(Answers {
                addresses: known.map(|(name, of)| (name.clone(), of.clone())).collect(),
                troubles: Vec::new(),
            });
        }
        // Who goes back waits for no name server; everything else can wait for the answer, or nobody would ever hear one.
        let overtaken = async {
            let back = newer.wait_for(|newer| {
                let changes = |newer: &Wanted, split| newer.items.get(split) != wanted.items.get(split);
                newer
                    .as_ref()
                    .is_some_and(|newer| newer.back.iter().any(|split| changes(newer, split)))
            });
            if back.await.is_err() {
                // Without anybody who could want something else this waits for nothing.
                std::future::pending::<()>().await;
            }
        };
        let answers = tokio::select! {
            biased;
            () = overtaken => {
                lock(shared).looked_up = Some((self.clock)());
                return None;
            }
            answers = self.names.resolve(&all, &before) => answers,
        };
        let mut shared = lock(shared);
        shared.looked_up = Some((self.clock)());
        shared.memory.resolved.retain(|name, _| all.contains(name));
        shared.memory.resolved.extend(answers.addresses.clone());
        drop(shared);
        Some(answers)
    }
}
