//! What a gateway without a database is to run once its nodes were asked whom they take for dead: one document carries everything, so
//! that a split which would send more to nobody stays in it as it was, and the others go on. (In a database, and under a controller,
//! each split is written by itself, and its driver asks before it writes.)
//!
//! Asked is of what changes on its way forward, and of nothing else: a way back waits for nobody's opinion (I8), and what is there
//! already, or is new, has nothing to stay as.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{SplitName, sabotaged};

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
    let stays = found::stays(at, &decided).await;
    if !stays.is_empty() {
        decided = decide(refusals, found.as_ref(), &stays);
    }
    let Some(document) = &decided.document else {
        return decided;
    };
    let changes = decided.items.iter().filter(|(split, item)| {
        let before = at.posted.and_then(|posted| posted.items.get(*split));
        before.is_some_and(|before| before != *item)
    });
    let (back, of): (BTreeSet<SplitName>, BTreeSet<SplitName>) = changes
        .map(|(split, _)| split.clone())
        .partition(|split| at.back.contains(split));
    // The document may have a way back as well, which does not wait for what the others ask one after the other.
    let asked = at.driver.dbless.dead(document, at.left, (&of, !back.is_empty()));
    // What is newer asks for itself.
    let mut waits = at.overtaken.run_until_cancelled(asked).await.unwrap_or_default();
    if sabotaged("way-back-asks-health") {
        let nobody_says = |split| (split, "nobody says that its backends are well".to_owned());
        waits.extend(back.into_iter().map(nobody_says));
    }
    match waits.is_empty() {
        true => decided,
        false => {
            waits.extend(stays);
            decide(refusals, found.as_ref(), &waits)
        }
    }
}
