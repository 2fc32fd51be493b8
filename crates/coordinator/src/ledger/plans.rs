//! Plans, as canonical JSON, by generation.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};
use weir_planner::{Generation, Plan};

use super::{Ledger, LedgerError, number, stored, time};

/// A plan as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRow {
    /// The plan.
    pub plan: Plan,
    /// The bytes as they were written.
    pub json: String,
}

impl Ledger {
    /// The plan with the highest generation.
    ///
    /// # Errors
    /// The ledger cannot be read, or what stands there is not a plan.
    pub async fn newest_plan(&self) -> Result<Option<Plan>, LedgerError> {
        let row = sqlx::query("SELECT generation, plan FROM plans ORDER BY generation DESC LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        match row {
            None => Ok(None),
            Some(row) => read(row.try_get(0)?, row.try_get(1)?).map(|row| Some(row.plan)),
        }
    }

    /// One plan; none if there is no such generation.
    ///
    /// # Errors
    /// The ledger cannot be read, or what stands there is not a plan.
    pub async fn plan(&self, generation: Generation) -> Result<Option<PlanRow>, LedgerError> {
        let row = sqlx::query("SELECT generation, plan FROM plans WHERE generation = $1")
            .bind(stored(generation.0))
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| read(row.try_get(0)?, row.try_get(1)?)).transpose()
    }

    /// Plans below a generation, newest first, at most `limit`: each as it was written.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn plans_before(
        &self,
        before: Option<Generation>,
        limit: u32,
    ) -> Result<Vec<(Generation, String)>, LedgerError> {
        let before = before.map_or(i64::MAX, |before| stored(before.0));
        let rows = sqlx::query(
            "SELECT generation, plan FROM plans WHERE generation < $1 ORDER BY generation DESC LIMIT $2",
        )
        .bind(before)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((Generation(number(row.try_get(0)?)), row.try_get(1)?)))
            .collect()
    }

    /// The plan from which a plan was made.
    ///
    /// # Errors
    /// The ledger cannot be read, or what stands there is not a plan.
    pub async fn parent_of(&self, plan: &Plan) -> Result<Option<Plan>, LedgerError> {
        let Some(parent) = plan.parent else {
            return Ok(None);
        };
        let row = sqlx::query("SELECT generation, plan FROM plans WHERE id = $1")
            .bind(parent.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| read(row.try_get(0)?, row.try_get(1)?).map(|row| row.plan))
            .transpose()
    }

    /// When each generation was made.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn created(&self) -> Result<BTreeMap<Generation, Timestamp>, LedgerError> {
        let rows = sqlx::query("SELECT generation, created FROM plans")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let at: Timestamp = row
                    .try_get::<String, _>(1)?
                    .parse()
                    .map_err(|error| LedgerError::damaged("the time of a plan", error))?;
                Ok((Generation(number(row.try_get(0)?)), at))
            })
            .collect()
    }
}

pub(super) async fn insert(tx: &mut SqliteConnection, plan: &Plan) -> Result<(), LedgerError> {
    // serde writes maps and fields in a fixed order: equal plans are equal bytes.
    let json =
        serde_json::to_string(plan).map_err(|error| LedgerError::damaged("the plan to write", error))?;
    sqlx::query("INSERT INTO plans (generation, id, parent, created, plan) VALUES ($1, $2, $3, $4, $5)")
        .bind(stored(plan.generation.0))
        .bind(plan.id.to_string())
        .bind(plan.parent.map(|id| id.to_string()))
        .bind(time(plan.created))
        .bind(json)
        .execute(tx)
        .await?;
    Ok(())
}

fn read(generation: i64, json: String) -> Result<PlanRow, LedgerError> {
    let what = || format!("plan of generation {generation}");
    let plan: Plan = serde_json::from_str(&json).map_err(|error| LedgerError::damaged(what(), error))?;
    if plan.generation.0 != number(generation) {
        return Err(LedgerError::damaged(
            what(),
            "it says that it is another generation",
        ));
    }
    Ok(PlanRow { plan, json })
}
