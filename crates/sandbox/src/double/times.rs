//! Envoy's histogram of how long answers took: counted at once, shown since the last flush of statistics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Envoy's default `stats_flush_interval`: until then a histogram does not tell of what came since the last.
const FLUSH: Duration = Duration::from_secs(5);

/// Upper bounds of the buckets, in milliseconds; the last takes what is beyond it.
const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Bounds and how many, as they are shown.
pub type Buckets = [(f64, u64); BOUNDS.len()];

/// One histogram.
#[derive(Debug)]
pub struct Times {
    counted: [AtomicU64; BOUNDS.len()],
    /// What was there at the last flush, and when that was.
    shown: Mutex<([u64; BOUNDS.len()], Instant)>,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            counted: Default::default(),
            shown: Mutex::new(([0; BOUNDS.len()], Instant::now())),
        }
    }
}

impl Times {
    /// An answer took so long. Envoy counts whole milliseconds.
    pub fn took(&self, time: Duration) {
        let ms = time.as_millis() as f64;
        let bucket = BOUNDS.iter().position(|bound| ms <= *bound);
        if let Some(counter) = self.counted.get(bucket.unwrap_or(BOUNDS.len() - 1)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many took no longer than each bound and longer than the one before, as of the last flush; none before the first that
    /// found any.
    pub fn shown(&self) -> Option<Buckets> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = shown.1.elapsed();
        if passed >= FLUSH {
            shown.0 = std::array::from_fn(|at| self.counted[at].load(Ordering::Relaxed));
            // Flushes come at their own times, whoever looks.
            shown.1 += FLUSH * u32::try_from(passed.as_secs() / FLUSH.as_secs()).unwrap_or(1);
        }
        let any = shown.0.iter().any(|n| *n > 0);
        any.then(|| std::array::from_fn(|at| (BOUNDS[at], shown.0[at])))
    }
}
