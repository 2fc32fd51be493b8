//! Whether a counted share may be called right: the binomial bound.
//!
//! Pure. A share is right if its count is no further from what was declared than chance goes once in a million counts:
//! [`Z`] standard deviations, and one request more because counts are whole. A declared 0 or 100 per cent has no spread
//! at all: there one stray request is an error.

/// Two-sided chance of about one in a million.
pub const Z: f64 = 4.9;

/// The counts that `declared` basis points of `total` requests may come to, both included.
pub fn bounds(total: u64, declared: u32) -> (u64, u64) {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let n = total as f64;
    let p = f64::from(declared) / 10_000.0;
    if declared == 0 || declared >= 10_000 {
        let all = if declared == 0 { 0 } else { total };
        return (all, all);
    }
    let spread = Z * (n * p * (1.0 - p)).sqrt() + 1.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=n before"
    )]
    let whole = |x: f64| x.clamp(0.0, n) as u64;
    (whole((n * p - spread).ceil()), whole((n * p + spread).floor()))
}

/// Whether this count is inside.
pub fn inside(count: u64, total: u64, declared: u32) -> bool {
    let (least, most) = bounds(total, declared);
    (least..=most).contains(&count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_shares_have_no_spread_and_others_a_small_one() {
        assert_eq!(bounds(10_000, 0), (0, 0));
        assert_eq!(bounds(10_000, 10_000), (10_000, 10_000));
        assert_eq!(bounds(10_000, 1_000), (852, 1_148));
        assert_eq!(bounds(10_000, 5_000), (4_754, 5_246));
        assert_eq!(bounds(10, 1), (0, 1));
        assert_eq!(bounds(0, 5_000), (0, 0));
    }

    #[test]
    fn chance_stays_inside_and_a_wrong_weight_does_not() {
        // The proxy's own generator with a fixed seed: 2,000 samples of 10,000 at 10 per cent.
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        for _ in 0..2_000 {
            let count = (0..10_000).filter(|_| random() % 10 == 0).count() as u64;
            assert!(inside(count, 10_000, 1_000), "{count}");
        }
        let count = (0..10_000).filter(|_| random() % 100 < 12).count() as u64;
        assert!(!inside(count, 10_000, 1_000), "12 per cent is not 10: {count}");
    }
}
