//! The term of a coordinator: a number that is higher the later it began. Of two that serve one federation by mistake,
//! agents follow the one with the higher term.

use std::fmt;

use serde::{Deserialize, Serialize};
use weir_planner::ZonePlan;

use crate::update::{Held, assemble};
use crate::{WireError, v1};

/// A term. 0 stands for none: a coordinator of a version that had no terms, an agent that has not followed any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// None.
    pub const NONE: Self = Self(0);

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether it stands for none.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A plan as a coordinator offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// In this term; none from a coordinator that has none.
    pub term: Term,
    /// The whole of it.
    pub plan: ZonePlan,
}

impl Offered {
    /// From what was sent and what is held, as [`assemble`] does it.
    ///
    /// # Errors
    /// As there.
    pub fn assemble(update: &v1::PlanUpdate, held: &Held) -> Result<Self, WireError> {
        Ok(Self {
            term: Term(update.term),
            plan: assemble(update, held)?,
        })
    }
}
