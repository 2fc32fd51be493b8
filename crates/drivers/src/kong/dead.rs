//! Asking nodes whether they take a backend for dead that is to get more: what each says, and whom that holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use weir_model::{BackendName, SplitName};
use weir_render::kong::database::Kind;
use weir_render::kong::dead::{self, Question};
use weir_render::kong::{Document, Row};

use crate::kong::admin::Admin;
use crate::kong::observe;

/// So long a node is waited for: a change that may be a revert is behind it, and what is not known holds nobody.
const PATIENCE: Duration = Duration::from_secs(2);

/// The backends that a node takes for dead, with why.
pub(super) type Dead = BTreeMap<BackendName, String>;

/// What one node says; none if it does not answer, for what is not known holds nobody.
pub(super) async fn asked(admin: &Admin, question: &Question) -> Option<Dead> {
    let asking = question.upstreams.iter().map(|(id, name)| async move {
        let path = format!("upstreams/{id}/health");
        let answer = admin.list(&path).await.ok()?;
        Some((name.clone(), answer.unwrap_or_default()))
    });
    let answers = timeout(PATIENCE, join_all(asking)).await.ok()?;
    let answers: BTreeMap<_, _> = answers.into_iter().flatten().collect();
    (!answers.is_empty()).then(|| dead::dead(question, &answers))
}

/// Why a raise waits, by what the nodes say that answered. On the way to what a zone did not have one node is enough: requests come to
/// it too. On the way back what one alone has of it may be old, so that all have to say so.
pub(super) fn why_not(said: &[(&str, Dead)], is_back: bool) -> Option<String> {
    let everywhere = |backend: &BackendName| said.iter().all(|(_, dead)| dead.contains_key(backend));
    said.iter().find_map(|(node, dead)| {
        let (_, why) = dead.iter().find(|(backend, _)| !is_back || everywhere(backend))?;
        Some(format!(
            "the Kong at {node}: {why}; see to that backend, or to the checks if it is well; it goes on by itself when one of its targets \
             answers them"
        ))
    })
}

/// Which splits of a document wait, and why: it would give more to a backend that a node which runs another document takes for dead.
pub(super) async fn of_document(
    nodes: &[&Admin],
    document: &Document,
    back: &BTreeSet<SplitName>,
) -> BTreeMap<SplitName, String> {
    let before = dead::before(document);
    if before.is_empty() {
        return BTreeMap::new();
    }
    let asking = nodes.iter().map(|admin| async {
        let said = timeout(PATIENCE, at_node(admin, document, &before)).await;
        said.unwrap_or_else(|_| before.iter().map(|_| None).collect())
    });
    let said = join_all(asking).await;
    let mut waits = BTreeMap::new();
    for (place, one) in before.iter().enumerate() {
        let of_it = nodes.iter().zip(&said).filter_map(|(admin, said)| {
            let dead = said.get(place)?.clone()?;
            Some((admin.url(), dead))
        });
        let of_it: Vec<(&str, Dead)> = of_it.collect();
        if let Some(why) = why_not(&of_it, back.contains(one.split)) {
            waits
                .entry(one.split.clone())
                .or_insert_with(|| format!("route {}: {why}", one.route));
        }
    }
    waits
}

/// What one node says of each; none of what it does not answer.
async fn at_node(admin: &Admin, document: &Document, before: &[dead::Before<'_>]) -> Vec<Option<Dead>> {
    match observe::hash(admin).await {
        // It has all of it: whatever it says now, nobody gets more.
        Ok(Some(hash)) if hash == document.hash => before.iter().map(|_| Some(Dead::new())).collect(),
        Ok(_) => {
            let asking = before.iter().map(|one| async move {
                let path = format!("upstreams/{}/targets", one.name());
                let there = admin.list(&path).await.ok()?.unwrap_or_default();
                let there = there.into_iter().map(|row| Row::read(Kind::Target, row));
                let there: Vec<Row> = there.collect::<Result<_, _>>().ok()?;
                match one.question(&there) {
                    None => Some(Dead::new()),
                    Some(question) => asked(admin, &question).await,
                }
            });
            join_all(asking).await
        }
        Err(_) => before.iter().map(|_| None).collect(),
    }
}
