//! What is looked at between two activations, so that what needs one has it soon: who answers as the control plane, which
//! services it has, and what callers' proxies count.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::time::Instant;
use weir_planner::{Counts, Item};

use super::{CALM, Loop, SOON, State};
use crate::{decide, fallback};

/// Counters on their way, with the items that they are for.
pub(super) type Counting = BoxFuture<'static, (Vec<Arc<Item>>, Vec<Option<Counts>>)>;

/// Ends when they are there; never, if none are on their way.
pub(super) async fn counted(counting: &mut Option<Counting>) -> (Vec<Arc<Item>>, Vec<Option<Counts>>) {
    match counting {
        Some(counting) => counting.await,
        None => std::future::pending().await,
    }
}

impl Loop {
    /// Asks the control plane who it is; true if that is a reason to activate.
    pub(super) async fn look(&self, state: &mut State, began: Instant) -> bool {
        match self.driver.pulse().await {
            Ok(instance) => {
                let changed = state.instance.as_ref().is_some_and(|before| *before != instance);
                if changed {
                    tracing::warn!(
                        instance,
                        "the control plane was restarted: looking at once what it holds"
                    );
                }
                state.instance = Some(instance);
                changed || self.services(state, began).await
            }
            Err(error) => {
                if state.away.is_none() {
                    tracing::warn!(%error, help = error.help, "the control plane went away; traffic stays as it is");
                    state.away = Some(Instant::now());
                    return true;
                }
                // Its proxies run on: what they do is still worth saying.
                began.elapsed() >= CALM
            }
        }
    }

    /// Asks a control plane that answers which services there are; true if that is a reason to activate: others than before, or
    /// that it can be read again.
    async fn services(&self, state: &State, began: Instant) -> bool {
        let was_away = state.away.is_some();
        let Some(plan) = &state.plan else {
            return was_away;
        };
        let items = decide::items(&state.memory.pins.over(plan));
        if items.is_empty() {
            return was_away;
        }
        match self.driver.services(&plan.mesh, &items).await {
            None => was_away,
            Some(Ok(services)) => {
                let known = state.facts.as_ref();
                was_away || known.is_some_and(|facts| facts.services != services)
            }
            // What is known already is said again now and then, with what its proxies do.
            Some(Err(_)) => !was_away || began.elapsed() >= CALM,
        }
    }

    /// Whether any split has a fallback: then its callers' counters are read more often than all is looked at.
    pub(super) fn watches(&self, state: &State) -> bool {
        let plan = state.plan.as_ref();
        plan.is_some_and(|plan| plan.items.values().any(|item| !item.fallback.is_empty()))
    }

    /// Begins to read counters.
    pub(super) fn counting(&self, state: &State) -> Option<Counting> {
        let plan = state.plan.as_ref()?;
        let items = decide::items(&state.memory.pins.over(plan));
        let driver = Arc::clone(&self.driver);
        Some(Box::pin(async move {
            let counts = driver.count(&items).await;
            (items, counts)
        }))
    }

    /// Takes counters that were read; true if a backend went down and its share has to go elsewhere.
    pub(super) fn watch(&self, state: &mut State, items: &[Arc<Item>], counts: &[Option<Counts>]) -> bool {
        let Some(plan) = state.plan.clone() else {
            return false;
        };
        let now = Instant::now();
        let watch = &mut state.noticed.watch;
        watch.count(items, counts, now);
        // Where nobody can take the share, each activation finds so anew.
        let lately = state.fell.is_some_and(|fell| now.duration_since(fell) < SOON);
        if lately || state.away.is_some() || !fallback::is_due(&plan, &state.memory, watch, now) {
            return false;
        }
        state.fell = Some(now);
        true
    }
}
