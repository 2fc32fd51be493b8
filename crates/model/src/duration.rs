//! Durations as people write them: `500ms`, `30s`, `1h30m`. Whole milliseconds, no fractions, always a unit.

use std::fmt::Write as _;

use jiff::SignedDuration;

/// The units, longest first, in milliseconds: the order in which they are written.
const UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration: numbers with units, the longer unit first, each unit once. `None` for everything else.
pub(crate) fn read(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut sum: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters)?;
        // Going on from where the last unit stood keeps their order and each to once.
        let (_, length) = units.find(|(name, _)| *name == unit)?;
        let number: u64 = number.parse().ok()?;
        sum = sum.checked_add(number.checked_mul(*length)?)?;
        rest = after;
    }
    Some(SignedDuration::from_millis(i64::try_from(sum).ok()?))
}

/// A duration as it would be declared, in the longest units that keep it exact: `1h30m`, `500ms`, `0s`. What is below a
/// millisecond is dropped.
pub fn written(duration: SignedDuration) -> String {
    let mut rest = duration.as_millis().unsigned_abs();
    let mut text = String::new();
    if rest == 0 {
        return "0s".to_owned();
    }
    if duration.is_negative() {
        text.push('-');
    }
    for (unit, length) in UNITS {
        let length = u128::from(*length);
        let number = rest / length;
        rest %= length;
        if number > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{number}{unit}");
        }
    }
    text
}
