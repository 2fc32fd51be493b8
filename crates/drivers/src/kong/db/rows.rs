//! Entities of a database, one by one: read, written, and what hangs on one that is to go.

use std::collections::BTreeMap;

use futures::future::join_all;
use http::Method;
use serde_json::{Map, Value, json};
use weir_model::SplitName;
use weir_render::kong::changes::{Held, Row, Write, is_ours};
use weir_render::kong::database::{Entities, Kind, OfSplit};
use weir_render::kong::dead::questions;

use super::End;
use crate::DriverError;
use crate::kong::admin::Admin;
use crate::kong::{dead, refusal};

/// Why a raise would reach nobody, by what nodes say that answer. Not to be asked of a way back.
pub(super) async fn nobody_there(
    able: &[&Admin],
    held: &Held,
    of: Option<&OfSplit>,
    writes: &[Write],
) -> Option<String> {
    for question in questions(held, of?, writes) {
        let asking = able.iter().map(|node| dead::asked(node, &question));
        let said = able.iter().zip(join_all(asking).await);
        let said: Vec<_> = said
            .filter_map(|(node, said)| Some((node.url(), said?)))
            .collect();
        if let Some(why) = dead::why_not(said.iter().map(|(node, dead)| (*node, dead))) {
            return Some(why);
        }
    }
    None
}

/// Does one write; none if it is a pause.
pub(crate) async fn write(admin: &Admin, write: &Write) -> Option<Result<(), DriverError>> {
    Some(match write {
        Write::Await(_) | Write::Forget(_) => return None,
        Write::Make { entity, under } => {
            let mut body = entity.fields.clone();
            body.retain(|_, value| !value.is_null());
            body.insert("id".to_owned(), entity.id.clone().into());
            let path = match under {
                None => entity.kind.plural().to_owned(),
                Some(upstream) => format!("upstreams/{upstream}/targets"),
            };
            admin.write(Method::POST, &path, Some(&Value::Object(body))).await
        }
        Write::Change { of, under, fields } => {
            let path = path(of, under.as_deref());
            admin.write(Method::PATCH, &path, Some(&json!(fields))).await
        }
        Write::Remove { of, under } => {
            let path = path(of, under.as_deref());
            admin.write(Method::DELETE, &path, None).await
        }
    })
}

/// Whether nodes take up a write in their time, and nobody can ask them whether they did.
pub(super) fn takes_its_time(write: &Write) -> bool {
    let kind = match write {
        Write::Make { entity, .. } => entity.kind,
        Write::Change { of, .. } | Write::Remove { of, .. } => of.0,
        Write::Await(_) | Write::Forget(_) => return false,
    };
    matches!(kind, Kind::Service | Kind::Route | Kind::Upstream)
}

/// Where an entity is.
fn path((kind, id, _): &(Kind, String, String), under: Option<&str>) -> String {
    match under {
        None => format!("{}/{id}", kind.plural()),
        Some(upstream) => format!("upstreams/{upstream}/{}/{id}", kind.plural()),
    }
}

pub(super) fn about(write: &Write) -> String {
    match write {
        Write::Make { entity, .. } => format!("{} {}", entity.kind, entity.name),
        Write::Change {
            of: (kind, _, name), ..
        }
        | Write::Remove {
            of: (kind, _, name), ..
        } => {
            format!("{kind} {name}")
        }
        Write::Await(upstream) => format!("what leads to upstream {}", upstream.name),
        Write::Forget(name) => format!("what {name} leads to"),
    }
}

/// One target of ours of an upstream, or the upstream `itself`, to be written with the tags that it has: nothing of it is another
/// then, and every node is told.
pub(super) fn as_it_is(held: &Held, wanted: &Entities, upstream: &str, itself: bool) -> Option<Write> {
    let mut upstreams = held.rows.iter().filter(|row| row.kind == Kind::Upstream);
    let row = match itself {
        true => upstreams.find(|row| row.id == upstream && is_ours(row, wanted))?,
        false => held
            .targets
            .get(upstream)?
            .iter()
            .find(|row| is_ours(row, wanted))?,
    };
    Some(Write::Change {
        of: (row.kind, row.id.clone(), row.name.clone()),
        under: (!itself).then(|| upstream.to_owned()),
        fields: Map::from_iter([("tags".to_owned(), json!(row.tags))]),
    })
}

/// The services, routes and upstreams of a split as they were read: another text, another configuration. Nobody can ask a node which
/// of them it runs; what their targets get it says itself.
pub(super) fn print(held: &Held, split: &SplitName) -> String {
    let tag = format!("weir.split.{split}");
    let rows = held
        .rows
        .iter()
        .filter(|row| matches!(row.kind, Kind::Service | Kind::Route | Kind::Upstream));
    let rows = rows.filter(|row| row.tags.contains(&tag));
    let mut texts: Vec<String> = rows.map(|row| format!("{:?}", row.fields)).collect();
    texts.sort_unstable();
    texts.concat()
}

/// What is ours by its tags, what has a name that ours must have, and what would come between a door of ours and the mesh.
pub(super) async fn held(admin: &Admin, wanted: &Entities) -> Result<Held, DriverError> {
    let mut held = Held::default();
    let unknown = |path: &str, why: &str| refusal::unknown(why).at(&format!("GET {}/{path}", admin.url()));
    for kind in [Kind::Route, Kind::Service, Kind::Upstream] {
        let path = format!("{}?tags=weir", kind.plural());
        let all = admin.list(&path).await?;
        let all = all.ok_or_else(|| unknown(&path, &format!("it has no list of {}", kind.plural())))?;
        for one in all {
            held.rows
                .push(Row::read(kind, one).map_err(|why| unknown(&path, &why))?);
        }
    }
    let leads_into = wanted.mesh_hosts().map(|host| (Kind::Upstream, host));
    for (kind, name) in wanted.names().chain(leads_into) {
        let there = |row: &Row| row.kind == kind && row.name == name;
        if held.rows.iter().any(there) {
            continue;
        }
        let path = format!("{}/{name}", kind.plural());
        if let Some(one) = admin.get(&path).await? {
            held.rows
                .push(Row::read(kind, one).map_err(|why| unknown(&path, &why))?);
        }
    }
    let upstreams = held.rows.iter().filter(|row| row.kind == Kind::Upstream);
    for id in upstreams.map(|row| row.id.clone()).collect::<Vec<_>>() {
        let path = format!("upstreams/{id}/targets");
        // Gone since it was listed: then it has none.
        let all = admin.list(&path).await?.unwrap_or_default();
        let rows = all.into_iter().map(|one| Row::read(Kind::Target, one));
        let rows: Result<Vec<Row>, String> = rows.collect();
        held.targets.insert(id, rows.map_err(|why| unknown(&path, &why))?);
    }
    Ok(held)
}

/// What requests ours take, as a text.
pub(super) fn requests(wanted: &Entities) -> String {
    let mut text = String::new();
    for chain in wanted.doors.values().flat_map(|of| &of.chains) {
        let route = &chain.route;
        let of = ["hosts", "paths", "methods", "headers"].map(|field| route.fields.get(field));
        text.push_str(&format!("{} {of:?} ", route.name));
    }
    text
}

/// Who else takes them.
pub(super) async fn beside(
    admin: &Admin,
    wanted: &Entities,
) -> Result<BTreeMap<String, String>, DriverError> {
    let unknown = |why: &str| refusal::unknown(why).at(&format!("GET {}/routes", admin.url()));
    let all = admin.list("routes").await?;
    let all = all.ok_or_else(|| unknown("it has no list of routes"))?;
    weir_render::kong::beside::beside(wanted, all).map_err(|why| unknown(&why))
}

/// What is somebody else's and would go with one of ours, or lose its upstream (I10).
pub(super) async fn goes_with_it(
    admin: &Admin,
    (kind, id, name): &(Kind, String, String),
    (held, wanted): (&Held, &Entities),
) -> Result<(), End> {
    let below: &[&str] = match kind {
        Kind::Route => &["plugins"],
        Kind::Service => &["plugins", "routes"],
        Kind::Upstream | Kind::Target | Kind::Plugin => &[],
    };
    for what in below {
        let path = format!("{}/{id}/{what}", kind.plural());
        let all = admin.list(&path).await.map_err(End::Failed)?.unwrap_or_default();
        // By which requests are counted, and of no other kind are plugins of ours: it goes with it.
        let ours = |one: &Value| {
            *what == "plugins" && Row::read(Kind::Plugin, one.clone()).is_ok_and(|row| is_ours(&row, wanted))
        };
        if let Some(one) = all.iter().find(|one| !ours(one)) {
            let text = |field: &str| one.get(field).and_then(Value::as_str).unwrap_or("without a name");
            return Err(End::Held(format!(
                "{kind} {name} is to go, and has {} {} (id {}), which is not Weir's and would go with it: remove it first",
                what.trim_end_matches('s'),
                text("name"),
                text("id")
            )));
        }
    }
    if *kind == Kind::Upstream {
        let all = admin
            .list("services")
            .await
            .map_err(End::Failed)?
            .unwrap_or_default();
        let text = |one: &Value, field: &str| one.get(field).and_then(Value::as_str).map(str::to_owned);
        let ours = |id: &str| {
            held.rows
                .iter()
                .any(|row| row.kind == Kind::Service && row.id == id)
        };
        let leads = |one: &&Value| {
            text(one, "host").as_ref() == Some(name) && !ours(&text(one, "id").unwrap_or_default())
        };
        if let Some(one) = all.iter().find(leads) {
            return Err(End::Held(format!(
                "upstream {name} is to go, and service {}, which is not Weir's, leads to it: give that another host first",
                text(one, "name").or_else(|| text(one, "id")).unwrap_or_default()
            )));
        }
    }
    Ok(())
}
