//! Events: one sentence each, numbered without gaps, in the order in which they were written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use tokio::sync::watch;
use weir_model::{SplitName, ZoneName};
use weir_planner::Generation;
use weir_wire::api::Event;

use super::{Ledger, LedgerError, number, stored, time};

/// An event before it has a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// As in [`Event::kind`].
    pub kind: &'static str,
    /// In one sentence.
    pub message: String,
    /// Zone, if about one.
    pub zone: Option<ZoneName>,
    /// Split, if about one.
    pub split: Option<SplitName>,
    /// Generation, if about one.
    pub generation: Option<Generation>,
}

/// The last that was told of a split's transitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// As in [`Event::kind`].
    pub kind: String,
    /// In one sentence.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

impl NewEvent {
    /// An event about the federation as a whole.
    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            zone: None,
            split: None,
            generation: None,
        }
    }

    /// What must hold does not: a fault of Weir.
    pub fn failed_check(why: &str) -> Self {
        Self::new(
            "selfcheck.failed",
            format!("a self-check failed, please report it: {why}"),
        )
    }

    /// About a zone.
    #[must_use]
    pub fn zone(mut self, zone: &ZoneName) -> Self {
        self.zone = Some(zone.clone());
        self
    }

    /// About a split.
    #[must_use]
    pub fn split(mut self, split: &SplitName) -> Self {
        self.split = Some(split.clone());
        self
    }

    /// About a generation.
    #[must_use]
    pub fn generation(mut self, generation: Generation) -> Self {
        self.generation = Some(generation);
        self
    }
}

impl Ledger {
    /// Records events.
    ///
    /// # Errors
    /// The ledger cannot be written; then none of them is recorded.
    pub async fn record(&self, at: Timestamp, events: &[NewEvent]) -> Result<(), LedgerError> {
        if events.is_empty() {
            return Ok(());
        }
        let _one = self.writing.lock().await;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let newest = append(&mut tx, at, events).await?;
        tx.commit().await?;
        self.announce(newest);
        Ok(())
    }

    /// At most `limit` events with a number above `after`, in order.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn events(&self, after: u64, limit: u32) -> Result<Vec<Event>, LedgerError> {
        let rows = sqlx::query(
            "SELECT id, at, kind, message, zone, split, generation FROM events WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(stored(after))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// The last event `transition.*` of each split.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn last_turns(&self) -> Result<BTreeMap<SplitName, Turn>, LedgerError> {
        let rows = sqlx::query(
            "SELECT split, kind, message, at FROM events WHERE id IN (SELECT MAX(id) FROM events \
             WHERE kind LIKE 'transition.%' AND kind <> 'transition.unjudged' AND split IS NOT NULL GROUP BY split)",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let split = SplitName::new(row.try_get::<String, _>(0)?)
                    .map_err(|error| LedgerError::damaged("the split of an event", error))?;
                let at: String = row.try_get(3)?;
                let turn = Turn {
                    kind: row.try_get(1)?,
                    message: row.try_get(2)?,
                    at: at
                        .parse()
                        .map_err(|error| LedgerError::damaged("the time of an event", error))?,
                };
                Ok((split, turn))
            })
            .collect()
    }

    /// The number of the newest event, as it rises.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest_event.subscribe()
    }

    pub(super) fn announce(&self, newest: u64) {
        self.newest_event.send_if_modified(|known| {
            let rises = newest > *known;
            *known = newest.max(*known);
            rises
        });
    }
}

/// A row of id, at, kind, message, zone, split and generation.
pub(super) fn read(row: &SqliteRow) -> Result<Event, LedgerError> {
    Ok(Event {
        id: number(row.try_get(0)?),
        at: row.try_get(1)?,
        kind: row.try_get(2)?,
        message: row.try_get(3)?,
        zone: row.try_get(4)?,
        split: row.try_get(5)?,
        generation: row.try_get::<Option<i64>, _>(6)?.map(number),
    })
}

/// Writes events inside a transaction; returns the newest number, 0 if there was none to write.
pub(super) async fn append(
    tx: &mut SqliteConnection,
    at: Timestamp,
    events: &[NewEvent],
) -> Result<u64, sqlx::Error> {
    let mut newest = 0;
    for event in events {
        newest = sqlx::query_scalar(
            "INSERT INTO events (id, at, kind, message, zone, split, generation) \
             VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM events), $1, $2, $3, $4, $5, $6) RETURNING id",
        )
        .bind(time(at))
        .bind(event.kind)
        .bind(&event.message)
        .bind(event.zone.as_ref().map(ZoneName::as_str))
        .bind(event.split.as_ref().map(SplitName::as_str))
        .bind(event.generation.map(|g| stored(g.0)))
        .fetch_one(&mut *tx)
        .await?;
    }
    Ok(number(newest))
}
