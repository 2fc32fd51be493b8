//! The loop that keeps this coordinator's term in the ledger, and tells people when another has begun after it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, LedgerError, NewEvent};
use crate::sessions::{Lead, Sessions};
use crate::state::{Troubles, trouble};

/// After a failed write, how long until the next try.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until stopped.
///
/// Nothing waits for the write: a process that died before it begins once more in the same term, and the first agent that
/// has followed that lets it rise.
pub(crate) async fn keep(
    sessions: Sessions,
    ledger: Ledger,
    troubles: Arc<watch::Sender<Troubles>>,
    stop: CancellationToken,
) {
    let mut lead = sessions.lead();
    let mut told = false;
    loop {
        let now = lead.borrow_and_update().clone();
        // Shown, and planned by, before anything is written.
        trouble(&troubles, "term", |t| &mut t.superseded, now.stopped());
        let written = write(&ledger, &now, &mut told).await;
        if let Err(error) = &written {
            // Planning and observing tell what is wrong with a ledger that takes no writes.
            tracing::debug!(%error, "the term cannot be written");
        }
        let again = async {
            match written {
                Ok(()) => std::future::pending().await,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = lead.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

async fn write(ledger: &Ledger, lead: &Lead, told: &mut bool) -> Result<(), LedgerError> {
    ledger.keep_term(lead.highest()).await?;
    if let Some(why) = lead.stopped().filter(|_| !*told) {
        let event = NewEvent::new("coordinator.superseded", why);
        let event = match &lead.superseded {
            Some(other) => event.zone(&other.zone),
            None => event,
        };
        ledger.record(Timestamp::now(), &[event]).await?;
        *told = true;
    }
    Ok(())
}
