//! The parts of a running coordinator: each a task that lives until the stop. One that ends before (a panic) would leave a
//! coordinator that answers and follows nothing; so it stops everything, and whoever started the program starts it again.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// All parts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Parts {
    tasks: TaskTracker,
    stop: CancellationToken,
    died: Arc<OnceLock<&'static str>>,
}

impl Parts {
    /// None yet. `stop` is what ends them, and what is cancelled if one ends by itself.
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            tasks: TaskTracker::new(),
            stop,
            died: Arc::default(),
        }
    }

    /// Starts a part.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let watch = Watch {
            name,
            parts: self.clone(),
        };
        self.tasks.spawn(async move {
            let _watch = watch;
            work.await;
        });
    }

    /// Waits until all have ended, for so long at most; false if some have not.
    pub async fn ended(&self, within: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(within, self.tasks.wait()).await.is_ok()
    }

    /// The part that ended before the stop, if one did.
    pub fn died(&self) -> Option<&'static str> {
        self.died.get().copied()
    }
}

/// Dropped when its part ends, by a panic as well.
struct Watch {
    name: &'static str,
    parts: Parts,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.parts.stop.is_cancelled() {
            tracing::error!(
                part = self.name,
                "a part of the coordinator ended by itself: stopping"
            );
            // Of several the first is told.
            let _first = self.parts.died.set(self.name);
            self.parts.stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_dies_stops_everything_and_is_named() {
        let stop = CancellationToken::new();
        let parts = Parts::new(stop.clone());
        parts.spawn("observing", stop.clone().cancelled_owned());
        parts.spawn("planning", async { panic!("a bug") });
        stop.cancelled().await;
        assert!(parts.ended(Duration::from_secs(10)).await);
        assert_eq!(parts.died(), Some("planning"));

        let stop = CancellationToken::new();
        let parts = Parts::new(stop.clone());
        parts.spawn("observing", stop.clone().cancelled_owned());
        stop.cancel();
        assert!(parts.ended(Duration::from_secs(10)).await);
        assert_eq!(parts.died(), None);
    }
}
