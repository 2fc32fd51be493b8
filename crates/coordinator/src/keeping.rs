//! The loop that lets old history go, so that the ledger does not grow for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::state::InForce;

/// How often.
const EVERY: Duration = Duration::from_secs(3_600);
/// Between two steps of one round: whoever has to record something comes in between.
const BREATH: Duration = Duration::from_millis(100);

/// Runs until stopped. `history` is how long rows are kept.
pub(crate) async fn keep(
    ledger: Ledger,
    in_force: watch::Receiver<Option<InForce>>,
    history: Duration,
    stop: CancellationToken,
) {
    let history = SignedDuration::try_from(history).unwrap_or(SignedDuration::MAX);
    loop {
        let pause = match round(&ledger, &in_force, history).await {
            0 => EVERY,
            _ => BREATH,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn round(ledger: &Ledger, in_force: &watch::Receiver<Option<InForce>>, history: SignedDuration) -> u64 {
    let Ok(end) = Timestamp::now().checked_sub(history) else {
        return 0;
    };
    // Without a plan in force there is nothing that could be told from what is still needed.
    let Some(plan) = in_force.borrow().as_ref().map(|known| known.plan.clone()) else {
        return 0;
    };
    let items = plan.splits.values().flat_map(|split| split.items.values());
    // Whether a proof is of an item depends on when that item's generation was made.
    let needed: BTreeSet<_> = items
        .map(|item| item.generation)
        .chain([plan.generation])
        .collect();
    match ledger.forget_history(end, &needed).await {
        Ok(gone) => {
            if gone > 0 {
                tracing::info!(rows = gone, before = %end, "old history is let go");
            }
            gone
        }
        Err(error) => {
            // Planning and observing tell what is wrong with a ledger that takes no writes.
            tracing::warn!(%error, "old history stays");
            0
        }
    }
}
