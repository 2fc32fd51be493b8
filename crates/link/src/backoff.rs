//! How long to wait before the next try: exponential with full jitter, so that a thousand agents that lost one
//! coordinator do not come back in the same second.

use std::time::Duration;

/// The bounds of the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The most that the first wait may last.
    pub first: Duration,
    /// The most that any wait may last.
    pub most: Duration,
}

impl Backoff {
    /// For sessions: at most 500 ms at first, at most 20 s ever.
    pub const SESSION: Self = Self {
        first: Duration::from_millis(500),
        most: Duration::from_secs(20),
    };

    /// The longest wait before try number `attempt` (from 0).
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }

    /// The wait before try number `attempt` (from 0): anywhere between nothing and the ceiling, as `random` (drawn
    /// evenly from all u64) says.
    pub fn wait(&self, attempt: u32, random: u64) -> Duration {
        let ceiling = self.ceiling(attempt).as_nanos();
        let part = (ceiling * u128::from(random)) >> 64;
        Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

/// A random number for [`Backoff::wait`]. If the system has none to give, the middle: waiting still works.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => u64::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_and_then_stays() {
        let b = Backoff::SESSION;
        let millis: Vec<u128> = [0, 1, 2, 5, 6, 31, 32, u32::MAX]
            .map(|n| b.ceiling(n).as_millis())
            .to_vec();
        assert_eq!(millis, [500, 1000, 2000, 16_000, 20_000, 20_000, 20_000, 20_000]);
    }

    #[test]
    fn the_wait_fills_all_that_is_below_the_ceiling() {
        let b = Backoff::SESSION;
        assert_eq!(b.wait(3, 0), Duration::ZERO);
        assert_eq!(b.wait(3, 1 << 63), Duration::from_secs(2));
        assert!(b.wait(3, u64::MAX) < Duration::from_secs(4));
        assert!(b.wait(3, u64::MAX) > Duration::from_millis(3999));
    }
}
