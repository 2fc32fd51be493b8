//! What agents said of one split, as it was: for its history.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::Row;
use weir_model::SplitName;
use weir_planner::{Generation, ItemFact};
use weir_wire::api::Event;

use super::{Ledger, LedgerError, events, stored, time};

/// What an agent said, whenever that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Its zone.
    pub zone: String,
    /// Its name.
    pub agent: String,
    /// When the coordinator heard it.
    pub at: Timestamp,
    /// What it said.
    pub fact: ItemFact,
}

fn moment(text: &str) -> Result<Timestamp, LedgerError> {
    text.parse()
        .map_err(|error| LedgerError::damaged("the time of a word", error))
}

impl Ledger {
    /// What was said of a split in one generation, in order.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn words(&self, split: &SplitName, generation: Generation) -> Result<Vec<Word>, LedgerError> {
        let rows = sqlx::query(
            "SELECT zone, agent, recorded, fact FROM proofs WHERE split = $1 AND generation = $2 ORDER BY id",
        )
        .bind(split.as_str())
        .bind(stored(generation.0))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Word {
                    zone: row.try_get(0)?,
                    agent: row.try_get(1)?,
                    at: moment(&row.try_get::<String, _>(2)?)?,
                    fact: serde_json::from_str(&row.try_get::<String, _>(3)?)
                        .map_err(|error| LedgerError::damaged("a fact", error))?,
                })
            })
            .collect()
    }

    /// When each agent, by zone and name, first said anything of a split that is still kept.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn first_words(
        &self,
        split: &SplitName,
    ) -> Result<BTreeMap<(String, String), Timestamp>, LedgerError> {
        let rows = sqlx::query(
            "SELECT zone, agent, MIN(recorded) FROM proofs WHERE split = $1 GROUP BY zone, agent",
        )
        .bind(split.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let at = moment(&row.try_get::<String, _>(2)?)?;
                Ok(((row.try_get(0)?, row.try_get(1)?), at))
            })
            .collect()
    }

    /// What happened to a split beside its steps since then: who ordered what, of it or of all, and why; pins; backends that were down,
    /// and shares that went elsewhere for that; what held it up, and that it went on without a verdict. Newest first, at most `limit`.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn between_steps(
        &self,
        split: &SplitName,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<Event>, LedgerError> {
        let rows = sqlx::query(
            "SELECT id, at, kind, message, zone, split, generation FROM events \
             WHERE at >= $2 AND (split = $1 AND (kind LIKE 'order.%' OR kind LIKE 'backend.%' OR kind IN ('zone.fallback', \
             'zone.pinned', 'zone.unpinned', 'transition.held', 'transition.frozen', 'transition.unjudged')) \
             OR split IS NULL AND kind LIKE 'order.%') ORDER BY id DESC LIMIT $3",
        )
        .bind(split.as_str())
        .bind(time(since))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(events::read).collect()
    }
}
