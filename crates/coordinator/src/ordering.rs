//! Giving an order to the coordinator that serves, and waiting for what becomes of it: for the API and for the command on
//! the host alike.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use weir_model::SplitName;

use crate::ledger::{Answer, Ledger, LedgerError, Order, OrderKind};
use crate::tokens;

/// How long planning may take for its answer; it looks once a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How often its answer is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// A reason is at most so many characters.
const LONGEST: usize = 500;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No id can be made for it.
    #[error(transparent)]
    Id(#[from] tokens::Refused),
    /// Nobody answered, and it was taken back.
    #[error(
        "planning has not answered within {} s: the order was taken back, nothing was done",
        PATIENCE.as_secs()
    )]
    Unanswered,
}

/// A reason without the blanks around it, if it is one.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("an order needs a reason: whoever finds it in force wants to know why".to_owned()),
        1..=LONGEST if text.chars().any(char::is_control) => {
            Err("the reason must be one line without control characters".to_owned())
        }
        1..=LONGEST => Ok(text.to_owned()),
        n => Err(format!(
            "the reason has {n} characters; at most {LONGEST} are kept"
        )),
    }
}

/// Gives an order, and waits for what becomes of it. Whoever stops waiting has given it all the same.
///
/// # Errors
/// There is no answer. What could not be taken back in time was answered, and then that is returned.
pub(crate) async fn give(
    ledger: &Ledger,
    kind: OrderKind,
    split: Option<SplitName>,
    reason: String,
    who: String,
) -> Result<Answer, OrderError> {
    let order = Order {
        id: tokens::fresh_id()?,
        kind,
        split,
        reason,
        who,
    };
    ledger.order(Timestamp::now(), &order).await?;
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ledger.answered(&order.id).await? {
            return Ok(answer);
        }
        if Instant::now() >= until && ledger.withdraw_order(&order.id).await? {
            return Err(OrderError::Unanswered);
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        assert_eq!(reason("  eks burns \n"), Ok("eks burns".to_owned()));
        let longest = "é".repeat(500);
        assert_eq!(reason(&longest), Ok(longest.clone()));
        for bad in ["", " \t\n", "a\nb", "a\u{1b}[2Jb", &format!("{longest}x")] {
            assert!(reason(bad).is_err(), "{bad:?}");
        }
    }
}
