//! Forgetting agents whose hosts are gone: the questions of `agent forget`, and their answers.

use jiff::Timestamp;
use sqlx::Row;
use weir_model::ZoneName;

use super::{Ledger, LedgerError, NewEvent, events, time};

/// What became of an agent that was to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// Nobody waits for it any more.
    Now,
    /// It is connected, so it stays.
    Connected,
    /// There is no such agent.
    Unknown,
}

impl Forgotten {
    fn word(self) -> &'static str {
        match self {
            Self::Now => "forgotten",
            Self::Connected => "connected",
            Self::Unknown => "unknown",
        }
    }
}

/// One question that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Which.
    pub id: String,
    /// The agent's zone.
    pub zone: ZoneName,
    /// Its name.
    pub agent: String,
}

impl Ledger {
    /// Takes an agent and all that it said out of the ledger, and tells so. For a coordinator that serves, or while none
    /// does: whoever holds the lock of the data directory.
    ///
    /// # Errors
    /// The ledger cannot be written; then nothing of it is forgotten.
    pub async fn forget(
        &self,
        at: Timestamp,
        zone: &ZoneName,
        agent: &str,
    ) -> Result<Forgotten, LedgerError> {
        let _one = self.writing.lock().await;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let gone = sqlx::query("DELETE FROM agents WHERE zone = $1 AND name = $2")
            .bind(zone.as_str())
            .bind(agent)
            .execute(&mut *tx)
            .await?;
        if gone.rows_affected() == 0 {
            return Ok(Forgotten::Unknown);
        }
        sqlx::query("DELETE FROM proofs WHERE zone = $1 AND agent = $2")
            .bind(zone.as_str())
            .bind(agent)
            .execute(&mut *tx)
            .await?;
        let told = NewEvent::new(
            "agent.forgotten",
            format!(
                "agent {agent} of zone {zone} is forgotten by `agent forget`: nobody waits for it any more"
            ),
        )
        .zone(zone);
        let newest = events::append(&mut tx, at, &[told]).await?;
        tx.commit().await?;
        self.announce(newest);
        Ok(Forgotten::Now)
    }

    /// Asks the coordinator that serves to forget an agent; returns the question's number.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn ask_to_forget(
        &self,
        at: Timestamp,
        zone: &ZoneName,
        agent: &str,
    ) -> Result<String, LedgerError> {
        let id: String = sqlx::query_scalar(
            "INSERT INTO forgets (id, zone, agent, asked_at) VALUES (lower(hex(randomblob(8))), $1, $2, $3) RETURNING id",
        )
        .bind(zone.as_str())
        .bind(agent)
        .bind(time(at))
        .fetch_one(&self.pool)
        .await?;
        Ok(id)
    }

    /// The answer to a question; none yet if there is none. An answer is taken away with its question.
    ///
    /// # Errors
    /// The ledger cannot be used.
    pub async fn forgotten(&self, id: &str) -> Result<Option<Forgotten>, LedgerError> {
        let answer: Option<String> =
            sqlx::query_scalar("DELETE FROM forgets WHERE id = $1 AND answer IS NOT NULL RETURNING answer")
                .bind(id)
                .fetch_optional(&self.pool)
                .await?;
        Ok(answer.map(|word| {
            [Forgotten::Now, Forgotten::Connected]
                .into_iter()
                .find(|answer| answer.word() == word)
                .unwrap_or(Forgotten::Unknown)
        }))
    }

    /// Takes a question back. True if it had not been answered.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn withdraw(&self, id: &str) -> Result<bool, LedgerError> {
        let gone = sqlx::query("DELETE FROM forgets WHERE id = $1 AND answer IS NULL")
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(gone.rows_affected() > 0)
    }

    /// Questions without an answer.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn asked_to_forget(&self) -> Result<Vec<Question>, LedgerError> {
        let rows = sqlx::query("SELECT id, zone, agent FROM forgets WHERE answer IS NULL ORDER BY asked_at")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Question {
                    id: row.try_get(0)?,
                    zone: ZoneName::new(row.try_get::<String, _>(1)?)
                        .map_err(|error| LedgerError::damaged("the name of a zone", error))?,
                    agent: row.try_get(2)?,
                })
            })
            .collect()
    }

    /// Answers a question.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn answer(&self, id: &str, answer: Forgotten) -> Result<(), LedgerError> {
        let _one = self.writing.lock().await;
        sqlx::query("UPDATE forgets SET answer = $2 WHERE id = $1")
            .bind(id)
            .bind(answer.word())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
