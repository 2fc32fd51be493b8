//! Commits that were taken or refused, and which are in force.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::Row;
use weir_model::{CommitId, Declaration, Diagnostic, SourceName, ZoneName};
use weir_planner::{Generation, Plan};
use weir_wire::api::CommitRecord;

use super::{Answer, Ledger, LedgerError, NewEvent, Order, events, number, orders, plans, stored, time};
use crate::git::{Head, Signature};
use crate::words;

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is in force.
    Taken,
    /// Its errors keep it out.
    Refused,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
        }
    }
}

/// A commit and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRow {
    /// Its source.
    pub source: SourceName,
    /// The commit, its author, time and subject.
    pub head: Head,
    /// What became of it.
    pub verdict: Verdict,
    /// Errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// Whose a commit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authored {
    /// `Name <mail>`.
    pub author: String,
    /// Who committed it; none if it was recorded by a version that did not ask.
    pub committer: Option<String>,
    /// `none` or `present`, which nobody verified; none likewise.
    pub signature: Option<String>,
    /// First line of its message.
    pub subject: String,
}

impl Signature {
    /// As the ledger and the API have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "none",
            Self::Present => "present",
        }
    }
}

/// Everything that one decision changes: recorded as a whole or not at all.
#[derive(Debug)]
pub struct Taken<'a> {
    /// Commits that were decided on.
    pub commits: &'a [CommitRow],
    /// The commits in force from now on; with what they declare about zones. None if nothing was taken.
    pub in_force: Option<(&'a BTreeMap<SourceName, CommitId>, &'a Declaration)>,
    /// The plan made of them; none if they change nothing.
    pub plan: Option<&'a Plan>,
    /// Commits of which this plan may be the first step: they were taken earlier, and had to wait.
    pub first_of: &'a [CommitId],
    /// Orders that it obeys or refuses.
    pub answers: &'a [(Order, Answer)],
    /// What to tell.
    pub events: &'a [NewEvent],
}

impl Ledger {
    /// Records one decision, with the answers to the orders that it obeys: who takes an order back, or finds it again after a
    /// crash, can rely on nothing having come of it.
    ///
    /// # Errors
    /// The ledger cannot be written, or an order was taken back; then nothing of it is recorded, and nothing may be published.
    pub async fn decide(&self, at: Timestamp, taken: Taken<'_>) -> Result<(), LedgerError> {
        let _one = self.writing.lock().await;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(plan) = taken.plan {
            plans::insert(&mut tx, plan).await?;
            for commit in taken.first_of {
                sqlx::query(
                    "UPDATE commits SET generation = $1 WHERE commit_id = $2 AND verdict = $3 AND generation IS NULL",
                )
                .bind(stored(plan.generation.0))
                .bind(&commit.0)
                .bind(Verdict::Taken.word())
                .execute(&mut *tx)
                .await?;
            }
        }
        for row in taken.commits {
            let diagnostics = serde_json::to_string(&row.diagnostics)
                .map_err(|error| LedgerError::damaged("diagnostics to write", error))?;
            let generation = match row.verdict {
                Verdict::Taken => taken.plan.map(|plan| stored(plan.generation.0)),
                Verdict::Refused => None,
            };
            sqlx::query(
                "INSERT INTO commits (id, source, commit_id, author, authored_at, subject, seen_at, verdict, generation, \
                 diagnostics, committer, signature) \
                 VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM commits), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            )
            .bind(&row.source.0)
            .bind(&row.head.commit.0)
            .bind(&row.head.author)
            .bind(time(row.head.authored_at))
            .bind(&row.head.subject)
            .bind(time(at))
            .bind(row.verdict.word())
            .bind(generation)
            .bind(diagnostics)
            .bind(&row.head.committer)
            .bind(row.head.signature.word())
            .execute(&mut *tx)
            .await?;
            if let (Verdict::Taken, Some(tree)) = (row.verdict, &row.head.tree) {
                sqlx::query(
                    "INSERT INTO trees (source, now) VALUES ($1, $2) ON CONFLICT (source) DO UPDATE SET \
                     before = CASE WHEN trees.now = excluded.now THEN trees.before ELSE trees.now END, now = excluded.now",
                )
                .bind(&row.source.0)
                .bind(tree)
                .execute(&mut *tx)
                .await?;
            }
        }
        if let Some((commits, declaration)) = taken.in_force {
            sqlx::query("DELETE FROM in_force").execute(&mut *tx).await?;
            for (source, commit) in commits {
                sqlx::query("INSERT INTO in_force (source, commit_id) VALUES ($1, $2)")
                    .bind(&source.0)
                    .bind(&commit.0)
                    .execute(&mut *tx)
                    .await?;
            }
            sqlx::query("DELETE FROM zones").execute(&mut *tx).await?;
            for zone in declaration.zones.values() {
                sqlx::query("INSERT INTO zones (name, platform, kuma_zone) VALUES ($1, $2, $3)")
                    .bind(zone.name.as_str())
                    .bind(words::platform(zone.platform))
                    .bind(zone.kuma_zone.as_str())
                    .execute(&mut *tx)
                    .await?;
            }
        }
        let mut newest = events::append(&mut tx, at, taken.events).await?;
        for (order, answer) in taken.answers {
            newest = orders::answer(&mut tx, at, order, answer)
                .await?
                .ok_or(LedgerError::TakenBack)?;
        }
        tx.commit().await?;
        self.announce(newest);
        Ok(())
    }

    /// The commits in force, by source.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn in_force(&self) -> Result<BTreeMap<SourceName, CommitId>, LedgerError> {
        let rows = sqlx::query("SELECT source, commit_id FROM in_force")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| Ok((SourceName(row.try_get(0)?), CommitId(row.try_get(1)?))))
            .collect()
    }

    /// The platform of each zone in force, in the declaration's words.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn platforms(&self) -> Result<BTreeMap<ZoneName, String>, LedgerError> {
        let rows = sqlx::query("SELECT name, platform FROM zones")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let name = ZoneName::new(row.try_get::<String, _>(0)?)
                    .map_err(|error| LedgerError::damaged("the name of a zone", error))?;
                Ok((name, row.try_get(1)?))
            })
            .collect()
    }

    /// The newest decision about a source: the commit, its verdict and diagnostics.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn newest_decision(
        &self,
        source: &SourceName,
    ) -> Result<Option<(CommitId, Verdict, Vec<Diagnostic>)>, LedgerError> {
        let row = sqlx::query(
            "SELECT commit_id, verdict, diagnostics FROM commits WHERE source = $1 ORDER BY id DESC LIMIT 1",
        )
        .bind(&source.0)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let verdict = match row.try_get::<String, _>(1)?.as_str() {
                "taken" => Verdict::Taken,
                _ => Verdict::Refused,
            };
            Ok((
                CommitId(row.try_get(0)?),
                verdict,
                diagnostics(&row.try_get::<String, _>(2)?)?,
            ))
        })
        .transpose()
    }

    /// The tree that a source declared directly before the one that was taken last; none if there was no other.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn tree_before(&self, source: &SourceName) -> Result<Option<String>, LedgerError> {
        let row = sqlx::query("SELECT before FROM trees WHERE source = $1")
            .bind(&source.0)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
    }

    /// Whose a commit is; none if it is not known any more.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn authored(&self, commit: &CommitId) -> Result<Option<Authored>, LedgerError> {
        let row = sqlx::query(
            "SELECT author, committer, signature, subject FROM commits WHERE commit_id = $1 ORDER BY id DESC LIMIT 1",
        )
        .bind(&commit.0)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(Authored {
                author: row.try_get(0)?,
                committer: row.try_get(1)?,
                signature: row.try_get(2)?,
                subject: row.try_get(3)?,
            })
        })
        .transpose()
    }

    /// Commits, newest first, at most `limit`, older than row `before` if given. With each row's number.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn commits(&self, limit: u32) -> Result<Vec<CommitRecord>, LedgerError> {
        let rows = sqlx::query(
            "SELECT source, commit_id, author, authored_at, subject, seen_at, verdict, generation, diagnostics, \
             committer, signature FROM commits ORDER BY id DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let generation = row.try_get::<Option<i64>, _>(7)?.map(number);
            let proven = match generation {
                Some(generation) => self.zone_proofs(Generation(generation)).await?,
                None => BTreeMap::new(),
            };
            records.push(CommitRecord {
                source: row.try_get(0)?,
                commit: row.try_get(1)?,
                author: row.try_get(2)?,
                authored_at: row.try_get(3)?,
                subject: row.try_get(4)?,
                seen_at: row.try_get(5)?,
                verdict: row.try_get(6)?,
                generation,
                diagnostics: diagnostics(&row.try_get::<String, _>(8)?)?,
                committer: row.try_get(9)?,
                signature: row.try_get(10)?,
                proven,
            });
        }
        Ok(records)
    }
}

fn diagnostics(json: &str) -> Result<Vec<Diagnostic>, LedgerError> {
    serde_json::from_str(json).map_err(|error| LedgerError::damaged("the diagnostics of a commit", error))
}
