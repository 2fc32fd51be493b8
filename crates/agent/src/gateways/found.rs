//! What a gateway is found to run of which this agent remembers nothing: a door that would not be made any more keeps its place if it
//! is there, and is in no other one's way.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use weir_drivers::kong::GatewayDriver as _;
use weir_model::SplitName;
use weir_planner::Item;

use super::{At, Decided};

/// Items by split, as if this agent had posted them.
pub(super) type Found = BTreeMap<SplitName, Arc<Item>>;

/// Of the splits that are left out of a document because nothing of them is known there: those that a node runs by the very item
/// that is wanted. None if there are none.
pub(super) async fn left_out(at: At<'_>, decided: &Decided) -> Option<Found> {
    if decided.is_by_split() {
        return None;
    }
    let out = decided.wanted.iter();
    let out = out.filter(|(split, _)| decided.left_out.contains(*split));
    let out: BTreeMap<&SplitName, &Arc<Item>> = out.collect();
    if out.is_empty() {
        return None;
    }
    let driver = &at.driver.dbless;
    let nodes = driver
        .nodes()
        .into_iter()
        .filter(|node| !at.left.contains_key(node));
    let looks = nodes.map(|node| async move { driver.observe(&node, &[].into()).await.ok() });
    let found = at.overtaken.run_until_cancelled(join_all(looks)).await?;
    let entities = found
        .iter()
        .flatten()
        .flat_map(|live| live.entities.iter().flatten());
    let runs = |split: &SplitName, item: &Item| {
        let tags = [
            format!("weir.split.{split}"),
            format!("weir.generation.{}", item.generation),
        ];
        let mut entities = entities.clone();
        entities.any(|entity| tags.iter().all(|tag| entity.tags.contains(tag)))
    };
    let items = out.into_iter().filter(|(split, item)| runs(split, item));
    let items: Found = items
        .map(|(split, item)| (split.clone(), Arc::clone(item)))
        .collect();
    (!items.is_empty()).then_some(items)
}

/// Of the splits that belong there and are not in force here: those that every node runs as this agent posted them, with why they stay.
/// A node that is without one may have been given that by who knows more, and nothing comes back to it.
pub(super) async fn stays(at: At<'_>, decided: &Decided) -> BTreeMap<SplitName, String> {
    let given = at.posted.into_iter().flat_map(|posted| &posted.items);
    let absent =
        given.filter(|(split, item)| decided.absent.contains(*split) && item.doors.contains_key(at.name));
    let absent: BTreeMap<&SplitName, &Arc<Item>> = absent.collect();
    if absent.is_empty() || decided.document.is_none() {
        return BTreeMap::new();
    }
    let driver = &at.driver.dbless;
    let nodes = driver
        .nodes()
        .into_iter()
        .filter(|node| !at.left.contains_key(node));
    let looks = nodes.map(|node| async move { driver.observe(&node, &[].into()).await.ok() });
    let seen = at.overtaken.run_until_cancelled(join_all(looks)).await;
    let seen: Option<Vec<_>> = seen.and_then(|seen| seen.into_iter().collect());
    let Some(seen) = seen.filter(|seen| !seen.is_empty()) else {
        return BTreeMap::new();
    };
    let runs = |split: &SplitName, item: &Item| {
        let tags = [
            format!("weir.split.{split}"),
            format!("weir.generation.{}", item.generation),
        ];
        seen.iter().all(|live| {
            let mut entities = live.entities.iter().flatten();
            entities.any(|entity| tags.iter().all(|tag| entity.tags.contains(tag)))
        })
    };
    let there = absent.into_iter().filter(|(split, item)| runs(split, item));
    let why = "it is declared and not in force in this zone yet, and stays at this gateway as it was posted";
    there.map(|(split, _)| (split.clone(), why.to_owned())).collect()
}
