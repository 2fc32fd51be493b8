//! What history may go: rows that are older than the configuration keeps them, and that nothing stands on.
//!
//! The newest row of each table always stays, because numbers go on from it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::Row;
use weir_planner::Generation;

use super::{Ledger, LedgerError, number, stored, time};

/// At most so many rows of each table go in one transaction, so that no decision waits long for its own.
const STEP: i64 = 1_000;

impl Ledger {
    /// Deletes some of what was recorded before `end`; returns how many rows, 0 when nothing is left to delete.
    ///
    /// What stays whatever its age: plans whose generation is among `needed`, the plans that agents hold or ever held
    /// the highest of, and the newest plan, each with the plan that it was made from; the newest decision of every source
    /// and those on the commits in force; the newest word of every agent on every split.
    ///
    /// # Errors
    /// The ledger cannot be written; then nothing goes.
    pub async fn forget_history(
        &self,
        end: Timestamp,
        needed: &BTreeSet<Generation>,
    ) -> Result<u64, LedgerError> {
        let end = time(end);
        let _one = self.writing.lock().await;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut gone = 0;
        let old = sqlx::query(
            "SELECT generation FROM plans WHERE created < $1 \
             AND generation < (SELECT MAX(generation) FROM plans) \
             AND generation NOT IN (SELECT generation FROM agents UNION SELECT highest FROM agents) \
             AND id NOT IN (SELECT parent FROM plans WHERE parent IS NOT NULL AND (created >= $1 \
                 OR generation = (SELECT MAX(generation) FROM plans) \
                 OR generation IN (SELECT generation FROM agents UNION SELECT highest FROM agents))) \
             ORDER BY generation",
        )
        .bind(&end)
        .fetch_all(&mut *tx)
        .await?;
        let mut left = STEP;
        for row in &old {
            let generation = Generation(number(row.try_get(0)?));
            if left == 0 || needed.contains(&generation) {
                continue;
            }
            left -= 1;
            for statement in [
                "DELETE FROM plans WHERE generation = $1",
                "DELETE FROM zone_proofs WHERE generation = $1",
            ] {
                let done = sqlx::query(statement)
                    .bind(stored(generation.0))
                    .execute(&mut *tx)
                    .await?;
                gone += done.rows_affected();
            }
        }
        for statement in [
            "DELETE FROM commits WHERE id IN (SELECT id FROM commits AS c WHERE seen_at < $1 \
             AND id NOT IN (SELECT MAX(id) FROM commits GROUP BY source) \
             AND NOT EXISTS (SELECT 1 FROM in_force WHERE source = c.source AND commit_id = c.commit_id) \
             ORDER BY id LIMIT $2)",
            "DELETE FROM proofs WHERE id IN (SELECT id FROM proofs WHERE recorded < $1 \
             AND id NOT IN (SELECT MAX(id) FROM proofs GROUP BY zone, agent, split) ORDER BY id LIMIT $2)",
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < $1 \
             AND id < (SELECT MAX(id) FROM events) ORDER BY id LIMIT $2)",
        ] {
            let done = sqlx::query(statement)
                .bind(&end)
                .bind(STEP)
                .execute(&mut *tx)
                .await?;
            gone += done.rows_affected();
        }
        tx.commit().await?;
        Ok(gone)
    }
}
