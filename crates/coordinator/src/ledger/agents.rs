//! What agents said: kept so that after a restart the silent ones are still missed, and old proof is shown as old.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::Row;
use weir_model::{SplitName, ZoneName};
use weir_planner::{Generation, ItemFact};

use super::{Ledger, LedgerError, NewEvent, events, number, stored, time};

/// One agent as last known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// Zone.
    pub zone: ZoneName,
    /// Its own name.
    pub name: String,
    /// Version of its program.
    pub version: String,
    /// Generation of the plan that it holds.
    pub generation: Generation,
    /// Highest generation that it ever took.
    pub highest: Generation,
    /// Version of its Kuma.
    pub kuma: Option<String>,
    /// When last heard.
    pub heard_at: Option<Timestamp>,
    /// When its certificate ends.
    pub certificate_expires: Option<Timestamp>,
}

/// What one agent said about one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemRow {
    /// Zone.
    pub zone: ZoneName,
    /// Agent.
    pub agent: String,
    /// What it said.
    pub fact: ItemFact,
}

impl Ledger {
    /// Records what changed in the zones: agents, what they said about items, which zone has first proven all of a
    /// generation, and the events of it.
    ///
    /// # Errors
    /// The ledger cannot be written; then nothing of it is recorded.
    pub async fn observe(
        &self,
        at: Timestamp,
        agents: &[AgentRow],
        items: &[ItemRow],
        proven: &[(ZoneName, Generation, Timestamp)],
        told: &[NewEvent],
    ) -> Result<(), LedgerError> {
        let _one = self.writing.lock().await;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for agent in agents {
            sqlx::query(
                "INSERT INTO agents (zone, name, version, generation, highest, kuma, heard_at, certificate_expires) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (zone, name) DO UPDATE SET \
                 version = excluded.version, generation = excluded.generation, highest = excluded.highest, \
                 kuma = excluded.kuma, heard_at = excluded.heard_at, certificate_expires = excluded.certificate_expires",
            )
            .bind(agent.zone.as_str())
            .bind(&agent.name)
            .bind(&agent.version)
            .bind(stored(agent.generation.0))
            .bind(stored(agent.highest.0))
            .bind(&agent.kuma)
            .bind(agent.heard_at.map(time))
            .bind(agent.certificate_expires.map(time))
            .execute(&mut *tx)
            .await?;
        }
        for item in items {
            let fact = serde_json::to_string(&item.fact)
                .map_err(|error| LedgerError::damaged("a fact to write", error))?;
            sqlx::query(
                "INSERT INTO proofs (id, zone, agent, split, generation, recorded, fact) \
                 VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM proofs), $1, $2, $3, $4, $5, $6)",
            )
            .bind(item.zone.as_str())
            .bind(&item.agent)
            .bind(item.fact.split.as_str())
            .bind(stored(item.fact.generation.0))
            .bind(time(at))
            .bind(fact)
            .execute(&mut *tx)
            .await?;
        }
        for (zone, generation, when) in proven {
            sqlx::query(
                "INSERT INTO zone_proofs (generation, zone, at) VALUES ($1, $2, $3) ON CONFLICT (generation, zone) DO NOTHING",
            )
            .bind(stored(generation.0))
            .bind(zone.as_str())
            .bind(time(*when))
            .execute(&mut *tx)
            .await?;
        }
        let newest = events::append(&mut tx, at, told).await?;
        tx.commit().await?;
        self.announce(newest);
        Ok(())
    }

    /// All agents that were ever heard and not forgotten.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn agents(&self) -> Result<Vec<AgentRow>, LedgerError> {
        let rows = sqlx::query(
            "SELECT zone, name, version, generation, highest, kuma, heard_at, certificate_expires FROM agents",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(AgentRow {
                    zone: zone(row.try_get(0)?)?,
                    name: row.try_get(1)?,
                    version: row.try_get(2)?,
                    generation: Generation(number(row.try_get(3)?)),
                    highest: Generation(number(row.try_get(4)?)),
                    kuma: row.try_get(5)?,
                    heard_at: timestamp(row.try_get(6)?)?,
                    certificate_expires: timestamp(row.try_get(7)?)?,
                })
            })
            .collect()
    }

    /// The last that each agent said about each item.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn last_facts(&self) -> Result<BTreeMap<(ZoneName, String, SplitName), ItemFact>, LedgerError> {
        let rows = sqlx::query(
            "SELECT zone, agent, fact FROM proofs WHERE id IN (SELECT MAX(id) FROM proofs GROUP BY zone, agent, split)",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let fact: ItemFact = serde_json::from_str(&row.try_get::<String, _>(2)?)
                    .map_err(|error| LedgerError::damaged("a fact", error))?;
                Ok((
                    (zone(row.try_get(0)?)?, row.try_get(1)?, fact.split.clone()),
                    fact,
                ))
            })
            .collect()
    }

    /// When each zone had first proven all of a generation.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn zone_proofs(&self, generation: Generation) -> Result<BTreeMap<String, String>, LedgerError> {
        let rows = sqlx::query("SELECT zone, at FROM zone_proofs WHERE generation = $1")
            .bind(stored(generation.0))
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect()
    }
}

fn zone(name: String) -> Result<ZoneName, LedgerError> {
    ZoneName::new(name).map_err(|error| LedgerError::damaged("the name of a zone", error))
}

fn timestamp(text: Option<String>) -> Result<Option<Timestamp>, LedgerError> {
    text.map(|text| {
        text.parse()
            .map_err(|error| LedgerError::damaged("a time", error))
    })
    .transpose()
}
