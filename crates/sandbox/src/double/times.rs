//! Envoy's histogram of how long answers took: counted at once, shown since the last flush of statistics.

use std::sync::{LazyLock, Mutex, PoisonError};
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
#[derive(Debug, Default)]
pub struct Times(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    now: [u64; BOUNDS.len()],
    /// What was there at the last flush, and which one that was.
    shown: [u64; BOUNDS.len()],
    flush: u64,
}

/// Flushes so far: all histograms of a process are flushed at the same times, whoever looks.
fn flushes() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_secs() / FLUSH.as_secs()
}

impl Counted {
    /// What was counted until the last flush is shown from then on.
    fn flush(&mut self, flush: u64) {
        if flush > self.flush {
            (self.shown, self.flush) = (self.now, flush);
        }
    }
}

impl Times {
    /// An answer took so long. Envoy counts whole milliseconds.
    pub fn took(&self, time: Duration) {
        let ms = time.as_millis() as f64;
        let bucket = BOUNDS.iter().position(|bound| ms <= *bound);
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.flush(flushes());
        counted.now[bucket.unwrap_or(BOUNDS.len() - 1)] += 1;
    }

    /// How many took no longer than each bound and longer than the one before, as of the last flush; none before the first that
    /// found any.
    pub fn shown(&self) -> Option<Buckets> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.flush(flushes());
        let any = counted.shown.iter().any(|n| *n > 0);
        any.then(|| std::array::from_fn(|at| (BOUNDS[at], counted.shown[at])))
    }
}
