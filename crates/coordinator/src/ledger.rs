//! The ledger: what was seen in Git and decided, the plans, what zones proved, and events. SQLite, in SQL that PostgreSQL
//! understands as well.
//!
//! Every change of it is one transaction, so that a kill at any time leaves either all or nothing of it. One coordinator
//! writes the history (the data directory is locked); `token` commands write their own tables beside it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqlSafeStr, SqlitePool};
use tokio::sync::{Mutex, watch};

mod agents;
mod commits;
mod events;
mod forgets;
mod history;
mod orders;
mod plans;
mod terms;
mod words;

pub use agents::{AgentRow, ItemRow};
pub use commits::{Authored, CommitRow, Taken, Verdict};
pub use events::{NewEvent, Turn};
pub use forgets::{Forgotten, Question};
pub use orders::{Answer, Order, OrderKind};
pub use plans::PlanRow;
pub use words::Word;

/// The migrations, in order. Each stays as it was released.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "ledger", include_str!("../migrations/0001_ledger.sql")),
    (2, "tokens", include_str!("../migrations/0002_tokens.sql")),
    (3, "forgets", include_str!("../migrations/0003_forgets.sql")),
    (4, "trees", include_str!("../migrations/0004_trees.sql")),
    (5, "orders", include_str!("../migrations/0005_orders.sql")),
    (6, "drains", include_str!("../migrations/0006_drains.sql")),
    (7, "terms", include_str!("../migrations/0007_terms.sql")),
    (8, "history", include_str!("../migrations/0008_history.sql")),
];

/// The open ledger. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    pool: SqlitePool,
    /// Ids rise by one: one writer at a time hands them out.
    writing: Arc<Mutex<()>>,
    newest_event: Arc<watch::Sender<u64>>,
}

/// What is wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be opened.
    #[error(
        "the ledger {} cannot be opened: {cause}; check that the directory is writable and the disk not full; if the file is damaged, restore it from a backup or move it away (traffic stays as it is meanwhile)",
        file.display()
    )]
    Open {
        /// The database file.
        file: PathBuf,
        /// Why.
        cause: sqlx::Error,
    },
    /// It was written by a newer version, or its schema was changed by hand.
    #[error("the ledger {} has another schema than this version knows: {cause}", file.display())]
    Schema {
        /// The database file.
        file: PathBuf,
        /// Why.
        cause: sqlx::migrate::MigrateError,
    },
    /// A read or write failed.
    #[error("the ledger cannot be used: {0}")]
    Sql(#[from] sqlx::Error),
    /// Whoever gave an order took it back before what obeys it was recorded.
    #[error(
        "an order was taken back while it was planned by: nothing of that is recorded, and it is planned anew"
    )]
    TakenBack,
    /// A row does not hold what was written there.
    #[error("the ledger is damaged: {what}: {why}")]
    Damaged {
        /// Which row.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl LedgerError {
    fn damaged(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Damaged {
            what: what.into(),
            why: why.to_string(),
        }
    }
}

impl Ledger {
    /// Opens the ledger, makes it if there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn open(file: &Path) -> Result<Self, LedgerError> {
        let opening = |cause| LedgerError::Open {
            file: file.to_owned(),
            cause,
        };
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was published must be on disk: after a power cut no agent may know a plan that the ledger lost.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await
            .map_err(opening)?;
        migrator().run(&pool).await.map_err(|cause| match cause {
            sqlx::migrate::MigrateError::Execute(cause) => opening(cause),
            cause => LedgerError::Schema {
                file: file.to_owned(),
                cause,
            },
        })?;
        let newest: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM events")
            .fetch_one(&pool)
            .await
            .map_err(opening)?;
        Ok(Self {
            pool,
            writing: Arc::default(),
            newest_event: Arc::new(watch::Sender::new(number(newest))),
        })
    }

    /// The database, for the tables of others (tokens).
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Writes what is left to write and lets go of the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Asks for nothing and writes nothing, but needs the ledger to be writable.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn check(&self) -> Result<(), LedgerError> {
        let _one = self.writing.lock().await;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE in_force SET commit_id = commit_id")
            .execute(&mut *tx)
            .await?;
        tx.rollback().await?;
        Ok(())
    }
}

fn migrator() -> Migrator {
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(
            *version,
            Cow::Borrowed(*name),
            MigrationType::Simple,
            (*sql).into_sql_str(),
            false,
        )
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
}

/// The database has signed numbers only; ours are never below 0.
fn number(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as the ledger keeps it: UTC, always with microseconds, so that text sorts as time does.
pub(crate) fn time(at: jiff::Timestamp) -> String {
    format!("{at:.6}")
}
