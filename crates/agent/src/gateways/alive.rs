//! What a gateway without a database is to run once its nodes were asked whom they take for dead: one document carries everything, so
//! that a split which would send more to nobody stays in it as it was, and the others go on. (In a database, and under a controller,
//! each split is written by itself, and its driver asks before it writes.)

use std::collections::BTreeMap;

use super::{At, Decided, Deciding, Refusals, found};

/// What is decided where these documents were refused, and nothing more is given to who is dead.
pub(super) async fn decided(at: At<'_>, decide: Deciding<'_>, refusals: &Refusals) -> Decided {
    let none = BTreeMap::new();
    let mut decided = decide(refusals, None, &none);
    // Whoever remembers nothing does not know what is in force there and speaks against itself.
    let found = found::left_out(at, &decided).await;
    if found.is_some() {
        decided = decide(refusals, found.as_ref(), &none);
    }
    let Some(document) = &decided.document else {
        return decided;
    };
    let asked = at.driver.dbless.dead(document, at.left, at.back);
    // What is newer asks for itself.
    let waits = at.overtaken.run_until_cancelled(asked).await.unwrap_or_default();
    match waits.is_empty() {
        true => decided,
        false => decide(refusals, found.as_ref(), &waits),
    }
}
