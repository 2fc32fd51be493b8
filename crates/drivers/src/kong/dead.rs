//! Asking nodes whether they take a backend for dead that is to get more: what each says, and whom that holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use tokio::time::timeout;
use weir_model::{BackendName, SplitName};
use weir_render::kong::database::Kind;
use weir_render::kong::dead::{self, Question};
use weir_render::kong::{Document, Row};

use crate::kong::admin::Admin;
use crate::kong::observe;

/// So long the answer to one question is waited for: what is not known holds nobody.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// So many questions a node is asked at the same time.
const ABREAST: usize = 8;

/// The backends that a node takes for dead, with why.
pub(crate) type Dead = BTreeMap<BackendName, String>;

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

/// Why a raise waits, by what the nodes say that answered. One of them is enough: requests come to it too.
pub(super) fn why_not<'a>(said: impl IntoIterator<Item = (&'a str, &'a Dead)>) -> Option<String> {
    said.into_iter().find_map(|(node, dead)| {
        let why = dead.values().next()?;
        Some(in_words(node, why))
    })
}

/// Which of these splits of a document wait, and why: it would give more to a backend that a node which runs another document takes
/// for dead. Of no other split anything is asked. In haste all questions together are waited for as long as one is.
pub(super) async fn of_document(
    nodes: &[&Admin],
    document: &Document,
    (of, in_haste): (&BTreeSet<SplitName>, bool),
) -> BTreeMap<SplitName, String> {
    let mut waits = BTreeMap::new();
    if of.is_empty() {
        return waits;
    }
    let mut before = dead::before(document);
    before.retain(|one| of.contains(one.split));
    if before.is_empty() {
        return waits;
    }
    let asking = nodes.iter().map(|admin| at_node(admin, document, &before));
    let asking = join_all(asking);
    let said = match in_haste {
        true => timeout(PATIENCE, asking).await.unwrap_or_default(),
        false => asking.await,
    };
    for (place, one) in before.iter().enumerate() {
        let of_it = nodes.iter().zip(&said);
        let of_it = of_it.filter_map(|(admin, said)| Some((admin.url(), said.get(&place)?)));
        if let Some(why) = why_not(of_it) {
            waits
                .entry(one.split.clone())
                .or_insert_with(|| format!("route {}: {why}", one.route));
        }
    }
    waits
}

/// Whom nodes that run a document take for dead of those who have targets in it, by split, with why. Nobody is to get more by that: it
/// is told before somebody may.
pub(super) async fn in_document(
    nodes: &[&Admin],
    document: &Document,
    of: &BTreeSet<SplitName>,
) -> BTreeMap<SplitName, Dead> {
    if of.is_empty() {
        return BTreeMap::new();
    }
    let mut before = dead::before(document);
    before.retain(|one| of.contains(one.split));
    let mut asking = Vec::new();
    for node in nodes {
        for one in &before {
            asking.push(async move { (node.url(), one, asked(node, &one.of_everybody()).await) });
        }
    }
    let mut said = stream::iter(asking).buffered(ABREAST);
    let mut all: BTreeMap<SplitName, Dead> = BTreeMap::new();
    while let Some((node, one, dead)) = said.next().await {
        for (backend, why) in dead.unwrap_or_default() {
            let of_split = all.entry(one.split.clone()).or_default();
            let why = || format!("route {}: {}", one.route, in_words(node, &why));
            of_split.entry(backend).or_insert_with(why);
        }
    }
    all
}

fn in_words(node: &str, why: &str) -> String {
    format!(
        "the Kong at {node}: {why}; see to that backend, or to the checks if it is well; it goes on by itself when one of its targets \
         answers them"
    )
}

/// What one node says, by the place of whom it was asked of; nothing of what it does not answer.
async fn at_node(admin: &Admin, document: &Document, before: &[dead::Before<'_>]) -> BTreeMap<usize, Dead> {
    match timeout(PATIENCE, observe::hash(admin)).await {
        // It has all of it: whatever it says now, nobody gets more.
        Ok(Ok(Some(hash))) if hash == document.hash => return BTreeMap::new(),
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return BTreeMap::new(),
    }
    let mut asking = Vec::new();
    for (place, one) in before.iter().enumerate() {
        asking.push(async move {
            let said = timeout(PATIENCE, of_one(admin, one)).await.ok()??;
            Some((place, said))
        });
    }
    let said: Vec<_> = stream::iter(asking).buffer_unordered(ABREAST).collect().await;
    said.into_iter().flatten().collect()
}

async fn of_one(admin: &Admin, one: &dead::Before<'_>) -> Option<Dead> {
    let path = format!("upstreams/{}/targets", one.name());
    let there = admin.list(&path).await.ok()?.unwrap_or_default();
    let there = there.into_iter().map(|row| Row::read(Kind::Target, row));
    let there: Vec<Row> = there.collect::<Result<_, _>>().ok()?;
    asked(admin, &one.question(&there)?).await
}
