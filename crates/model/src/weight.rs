//! Weights as integers in basis points (1/100 of a per cent). Never floats.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A share in basis points, 0 to 10 000. An explicit 0 is a weight, not an absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(try_from = "u32", into = "u32")]
pub struct BasisPoints(u16);

/// Why a number is not a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightError {
    /// Below 0 or above 100 per cent.
    Range,
    /// More than two decimals.
    Precision,
    /// Not a decimal number.
    NotANumber,
}

impl fmt::Display for WeightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "a weight is between 0 and 100 per cent",
            Self::Precision => "a weight has at most two decimals",
            Self::NotANumber => "a weight is a decimal number such as 90 or 0.5",
        })
    }
}

impl std::error::Error for WeightError {}

impl BasisPoints {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const WHOLE: Self = Self(10_000);

    /// Wraps basis points.
    ///
    /// # Errors
    /// [`WeightError::Range`] above 10 000.
    pub fn new(basis_points: u32) -> Result<Self, WeightError> {
        u16::try_from(basis_points)
            .ok()
            .filter(|bp| *bp <= 10_000)
            .map(Self)
            .ok_or(WeightError::Range)
    }

    /// The number of basis points, 0 to 10 000.
    pub fn get(self) -> u32 {
        u32::from(self.0)
    }

    /// Reads per cent as people write it: `90`, `0.5`, `12.25`. Exact: no float is involved.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn from_percent_text(text: &str) -> Result<Self, WeightError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let decimal = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !decimal(whole) || !decimal(fraction) {
            return Err(WeightError::NotANumber);
        }
        let fraction = fraction.trim_end_matches('0');
        let whole = whole.trim_start_matches('0');
        let zero = whole.is_empty() && fraction.is_empty();
        if negative && !zero {
            return Err(WeightError::Range);
        }
        if fraction.len() > 2 {
            return Err(WeightError::Precision);
        }
        if whole.len() > 3 {
            return Err(WeightError::Range);
        }
        let whole: u32 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| WeightError::NotANumber)?
        };
        let hundredths: u32 = match fraction.len() {
            0 => 0,
            1 => 10 * fraction.parse::<u32>().map_err(|_| WeightError::NotANumber)?,
            _ => fraction.parse().map_err(|_| WeightError::NotANumber)?,
        };
        Self::new(whole * 100 + hundredths)
    }
}

impl TryFrom<u32> for BasisPoints {
    type Error = WeightError;
    fn try_from(basis_points: u32) -> Result<Self, WeightError> {
        Self::new(basis_points)
    }
}

impl From<BasisPoints> for u32 {
    fn from(weight: BasisPoints) -> Self {
        weight.get()
    }
}

/// Per cent, as short as it is exact: `90`, `0.5`, `12.25`.
impl fmt::Display for BasisPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        let text = match (rest, rest % 10) {
            (0, _) => format!("{whole}"),
            (_, 0) => format!("{whole}.{}", rest / 10),
            _ => format!("{whole}.{rest:02}"),
        };
        f.pad(&text)
    }
}
