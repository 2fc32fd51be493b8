//! The highest term that is known: whoever begins next begins above it.

use weir_wire::Term;

use super::{Ledger, LedgerError, number, stored};

impl Ledger {
    /// The highest term that this ledger knows; none before the first.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn term(&self) -> Result<Term, LedgerError> {
        let term: Option<i64> = sqlx::query_scalar("SELECT term FROM terms WHERE id = 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(Term(term.map_or(0, number)))
    }

    /// Keeps a term, unless a higher one is kept.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn keep_term(&self, term: Term) -> Result<(), LedgerError> {
        sqlx::query(
            "INSERT INTO terms (id, term) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET \
             term = CASE WHEN terms.term > excluded.term THEN terms.term ELSE excluded.term END",
        )
        .bind(stored(term.0))
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
