//! Orders: what people want beside Git, who wants it and why, and what became of it.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use weir_model::{BackendName, SplitName};

use super::{Ledger, LedgerError, NewEvent, events, time};

/// What is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderKind {
    /// Break off what is under way: back to where the split last rested.
    Abort,
    /// End freezes, and quarantine.
    Resume,
    /// Stay where it is, but for reverts and aborts.
    Freeze,
    /// A backend takes nothing, whatever Git declares.
    Drain {
        /// Which.
        backend: BackendName,
        /// Who takes its share, if that was said.
        to: Option<BackendName>,
    },
    /// End a drain.
    Undrain {
        /// Of which backend.
        backend: BackendName,
    },
}

impl OrderKind {
    /// As people write it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Resume => "resume",
            Self::Freeze => "freeze",
            Self::Drain { .. } => "drain",
            Self::Undrain { .. } => "undrain",
        }
    }

    /// The backend that it names.
    pub fn backend(&self) -> Option<&BackendName> {
        match self {
            Self::Abort | Self::Resume | Self::Freeze => None,
            Self::Drain { backend, .. } | Self::Undrain { backend } => Some(backend),
        }
    }

    /// Who is to take a share.
    fn refuge(&self) -> Option<&BackendName> {
        match self {
            Self::Drain { to, .. } => to.as_ref(),
            _ => None,
        }
    }

    fn of(word: &str, backend: Option<BackendName>, to: Option<BackendName>) -> Result<Self, LedgerError> {
        match (word, backend) {
            ("abort", None) => Ok(Self::Abort),
            ("resume", None) => Ok(Self::Resume),
            ("freeze", None) => Ok(Self::Freeze),
            ("drain", Some(backend)) => Ok(Self::Drain { backend, to }),
            ("undrain", Some(backend)) => Ok(Self::Undrain { backend }),
            (_, backend) => Err(LedgerError::damaged(
                "an order",
                format!("its kind is `{word}`, of backend {backend:?}"),
            )),
        }
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Which.
    pub id: String,
    /// What.
    pub kind: OrderKind,
    /// For which split; none for all.
    pub split: Option<SplitName>,
    /// Why.
    pub reason: String,
    /// Who.
    pub who: String,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was carried out.
    pub done: bool,
    /// In one sentence.
    pub message: String,
}

impl Order {
    /// `"why", says who`.
    pub fn told(&self) -> String {
        format!("\"{}\", says {}", self.reason, self.who)
    }

    fn event(&self, answer: &Answer) -> NewEvent {
        let kind = match (answer.done, &self.kind) {
            (false, _) => "order.refused",
            (true, OrderKind::Abort) => "order.abort",
            (true, OrderKind::Resume) => "order.resume",
            (true, OrderKind::Freeze) => "order.freeze",
            (true, OrderKind::Drain { .. }) => "order.drain",
            (true, OrderKind::Undrain { .. }) => "order.undrain",
        };
        let what = self.kind.word();
        let mut of = self
            .split
            .as_ref()
            .map_or_else(|| "all splits".to_owned(), |split| format!("split {split}"));
        if let Some(backend) = self.kind.backend() {
            of = format!("backend {backend} of {of}");
        }
        let event = NewEvent::new(
            kind,
            format!("{what} of {of}: {}; {}", self.told(), answer.message),
        );
        match &self.split {
            Some(split) => event.split(split),
            None => event,
        }
    }
}

fn read(row: &SqliteRow) -> Result<Order, LedgerError> {
    let split: Option<String> = row.try_get(2)?;
    let split = split
        .map(SplitName::new)
        .transpose()
        .map_err(|error| LedgerError::damaged("the split of an order", error))?;
    let backend = |at: usize| -> Result<Option<BackendName>, LedgerError> {
        let name: Option<String> = row.try_get(at)?;
        name.map(BackendName::new)
            .transpose()
            .map_err(|error| LedgerError::damaged("a backend of an order", error))
    };
    Ok(Order {
        id: row.try_get(0)?,
        kind: OrderKind::of(&row.try_get::<String, _>(1)?, backend(5)?, backend(6)?)?,
        split,
        reason: row.try_get(3)?,
        who: row.try_get(4)?,
    })
}

impl Ledger {
    /// Leaves an order for the coordinator that serves. `order.id` must be new.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn order(&self, at: Timestamp, order: &Order) -> Result<(), LedgerError> {
        sqlx::query(
            "INSERT INTO orders (id, kind, split, reason, who, asked_at, backend, refuge) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&order.id)
        .bind(order.kind.word())
        .bind(order.split.as_ref().map(SplitName::as_str))
        .bind(&order.reason)
        .bind(&order.who)
        .bind(time(at))
        .bind(order.kind.backend().map(BackendName::as_str))
        .bind(order.kind.refuge().map(BackendName::as_str))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Orders without an answer, oldest first.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn orders_waiting(&self) -> Result<Vec<Order>, LedgerError> {
        let rows = sqlx::query(
            "SELECT id, kind, split, reason, who, backend, refuge FROM orders WHERE answer IS NULL ORDER BY asked_at, id",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Freezes and drains in force, oldest first.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn standing_orders(&self) -> Result<Vec<Order>, LedgerError> {
        let rows = sqlx::query(
            "SELECT id, kind, split, reason, who, backend, refuge FROM orders \
             WHERE kind IN ('freeze', 'drain') AND done = 1 AND ended_at IS NULL ORDER BY asked_at, id",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Answers an order, and tells so. One that was taken back stays so.
    ///
    /// # Errors
    /// The ledger cannot be written; then it still waits.
    pub async fn answer_order(
        &self,
        at: Timestamp,
        order: &Order,
        answer: &Answer,
    ) -> Result<(), LedgerError> {
        let _one = self.writing.lock().await;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(newest) = self::answer(&mut tx, at, order, answer).await? {
            tx.commit().await?;
            self.announce(newest);
        }
        Ok(())
    }

    /// The answer to an order; none yet if there is none.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn answered(&self, id: &str) -> Result<Option<Answer>, LedgerError> {
        let row = sqlx::query("SELECT answer, done FROM orders WHERE id = $1 AND answer IS NOT NULL")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            Ok(Answer {
                message: row.try_get(0)?,
                done: row.try_get(1)?,
            })
        })
        .transpose()
    }

    /// Takes an order back. True if it had not been answered.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn withdraw_order(&self, id: &str) -> Result<bool, LedgerError> {
        let gone = sqlx::query("DELETE FROM orders WHERE id = $1 AND answer IS NULL")
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(gone.rows_affected() > 0)
    }
}

/// Writes an answer, what it ends, and that it was given: the number of that event, or none if the order was taken back. A
/// resume that was carried out ends the freezes of its split, or all that are for all; an undrain the drains of its backend.
pub(super) async fn answer(
    tx: &mut SqliteConnection,
    at: Timestamp,
    order: &Order,
    answer: &Answer,
) -> Result<Option<u64>, LedgerError> {
    let answered = sqlx::query("UPDATE orders SET answer = $2, done = $3 WHERE id = $1 AND answer IS NULL")
        .bind(&order.id)
        .bind(&answer.message)
        .bind(answer.done)
        .execute(&mut *tx)
        .await?;
    if answered.rows_affected() == 0 {
        return Ok(None);
    }
    if answer.done && order.kind == OrderKind::Resume {
        sqlx::query(
            "UPDATE orders SET ended_at = $1 WHERE kind = 'freeze' AND done = 1 AND ended_at IS NULL AND split IS $2",
        )
        .bind(time(at))
        .bind(order.split.as_ref().map(SplitName::as_str))
        .execute(&mut *tx)
        .await?;
    }
    if let (true, OrderKind::Undrain { backend }) = (answer.done, &order.kind) {
        sqlx::query(
            "UPDATE orders SET ended_at = $1 WHERE kind = 'drain' AND done = 1 AND ended_at IS NULL AND split IS $2 \
             AND backend = $3",
        )
        .bind(time(at))
        .bind(order.split.as_ref().map(SplitName::as_str))
        .bind(backend.as_str())
        .execute(&mut *tx)
        .await?;
    }
    Ok(Some(events::append(tx, at, &[order.event(answer)]).await?))
}
