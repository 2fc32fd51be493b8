//! The plugins of a Kong with a database by which requests are counted: read and written when all else is, for a revert waits for
//! none of it. Whatever is said of them holds up nothing; the next activation looks again.

use serde_json::Value;
use weir_model::SplitName;
use weir_render::kong::changes::{Held, Row, Write};
use weir_render::kong::counting::PLUGIN;
use weir_render::kong::database::{Entities, Kind};
use weir_render::kong::{Counted, Plugins, plugins};

use crate::DriverError;
use crate::kong::Bringing;
use crate::kong::admin::Admin;
use crate::kong::db::write;
use crate::kong::refusal;

/// What the nodes of a database say of the plugin. A Kong does not start on a database that has a plugin which it is not configured
/// to run, and takes up no change of any plugin meanwhile: so all of them must have it before any is given it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logs<'a> {
    /// The node that has it not, in words.
    pub(crate) unable: &'a Option<String>,
    /// Whether each node said what it has.
    pub(crate) all_asked: bool,
}

/// Why this node is given none, by what it says of itself.
pub(crate) fn unable(admin: &Admin, said: &Value) -> Option<String> {
    let has = said.pointer(&format!("/plugins/available_on_server/{PLUGIN}"));
    let has = has.is_some_and(|has| !matches!(has, Value::Null | Value::Bool(false)));
    (!has).then(|| {
        format!(
            "Kong at {} is not configured to run the plugin {PLUGIN} (`plugins`), and would not start on a database that has it",
            admin.url()
        )
    })
}

/// Brings them to what is wanted: whether anything was written, and what is counted now.
pub(crate) async fn brought(
    admin: &Admin,
    wanted: &Entities,
    held: &mut Held,
    (by, logs): (Bringing<'_>, Logs<'_>),
) -> (bool, Counted) {
    let todo = plugins_of(admin, wanted, held, (by, logs)).await;
    let (mut any, mut counted) = (false, todo.counted);
    let gone = todo.gone.iter().map(|gone| (None, gone));
    let come = todo.come.iter().map(|(split, come)| (Some(split), come));
    for (split, one) in gone.chain(come) {
        if by.overtaken.is_cancelled() {
            break;
        }
        match (write(admin, one).await, split) {
            (Some(Ok(())), _) => any = true,
            (Some(Err(error)), Some(split)) => drop(counted.insert(split.clone(), Err(error.to_string()))),
            // One that did not go is there at the next look.
            (Some(Err(_)) | None, _) => {}
        }
    }
    (any, counted)
}

/// What is to be done about them, with those that are there put to what is held.
async fn plugins_of(
    admin: &Admin,
    wanted: &Entities,
    held: &mut Held,
    (by, logs): (Bringing<'_>, Logs<'_>),
) -> Plugins {
    let chosen: Vec<&SplitName> = wanted
        .doors
        .iter()
        .filter(|(_, of)| of.is_to_be_counted())
        .map(|(split, _)| split)
        .collect();
    match listed(admin, !chosen.is_empty()).await {
        Ok(rows) => {
            held.plugins = rows;
            let mut todo = plugins(held, wanted, by.plan, by.absent, logs.unable.as_deref());
            if !logs.all_asked {
                let why = "a node does not answer, and none is given what counts before all of them say that they can run it";
                for (split, write) in std::mem::take(&mut todo.come) {
                    // One that is there counts on, whatever it is to say otherwise.
                    if matches!(write, Write::Make { .. }) {
                        todo.counted.insert(split, Err(why.to_owned()));
                    }
                }
            }
            todo
        }
        Err(error) => {
            let why = error.to_string();
            Plugins {
                counted: chosen
                    .into_iter()
                    .map(|split| (split.clone(), Err(why.clone())))
                    .collect(),
                ..Plugins::default()
            }
        }
    }
}

/// All of their kind where it is chosen that requests are counted, for one of somebody else's may be in the way; else ours, which go.
async fn listed(admin: &Admin, chosen: bool) -> Result<Vec<Row>, DriverError> {
    let path = if chosen { "plugins" } else { "plugins?tags=weir" };
    let unknown = |why: &str| refusal::unknown(why).at(&format!("GET {}/{path}", admin.url()));
    let all = admin.list(path).await?;
    let all = all
        .ok_or_else(|| unknown("it has no list of plugins"))?
        .into_iter();
    let of_kind = all.filter(|one| one.get("name").and_then(Value::as_str) == Some(PLUGIN));
    let rows = of_kind.map(|one| Row::read(Kind::Plugin, one));
    rows.collect::<Result<_, String>>().map_err(|why| unknown(&why))
}
