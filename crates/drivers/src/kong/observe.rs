//! What one node runs: what it says of itself, and its entities where its hash does not say what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use weir_render::kong::live::EMPTY_HASH;
use weir_render::kong::{Entity, Live};

use crate::kong::admin::Admin;
use crate::kong::refusal::{self, Failure};
use crate::{DriverError, Fault};

/// Kinds by their path, and as a document calls them. Targets go with their upstreams.
const KINDS: [(&str, &str); 19] = [
    ("services", "services"),
    ("routes", "routes"),
    ("upstreams", "upstreams"),
    ("consumers", "consumers"),
    ("plugins", "plugins"),
    ("certificates", "certificates"),
    ("ca_certificates", "ca_certificates"),
    ("snis", "snis"),
    ("consumer_groups", "consumer_groups"),
    ("vaults", "vaults"),
    ("key-sets", "key_sets"),
    ("keys", "keys"),
    ("filter-chains", "filter_chains"),
    ("key-auths", "keyauth_credentials"),
    ("basic-auths", "basicauth_credentials"),
    ("hmac-auths", "hmacauth_credentials"),
    ("jwts", "jwt_secrets"),
    ("acls", "acls"),
    ("oauth2", "oauth2_credentials"),
];

/// Those that every Kong has; the others come with plugins and versions.
const ALWAYS: usize = 8;

/// What a node runs. Entities are read only if the hash is none of these.
pub(crate) async fn observe(admin: &Admin, known: &BTreeSet<String>) -> Result<Live, DriverError> {
    let mut live = root(admin).await?;
    live.hash = hash(admin).await?;
    let Some(hash_before) = live.hash.clone().filter(|_| live.database == "off") else {
        return Ok(live);
    };
    if hash_before == EMPTY_HASH || known.contains(&hash_before) {
        return Ok(live);
    }
    let mut lists: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (at, (path, kind)) in KINDS.into_iter().enumerate() {
        match admin.list(path).await? {
            Some(all) => drop(lists.insert(kind.to_owned(), all)),
            None if at < ALWAYS => {
                return Err(at_root(
                    admin,
                    refusal::no_kong(&format!("it has no list of {kind}")),
                ));
            }
            None => {}
        }
    }
    let entities = Entity::read(&lists).map_err(|why| at_root(admin, refusal::unknown(&why)))?;
    // Pages of two documents are of neither.
    if hash(admin).await?.as_deref() != Some(&hash_before) {
        let why = "it was given another configuration while it was read";
        let help = "somebody else writes to this Kong; the next activation reads it again";
        return Err(at_root(admin, Failure::new(Fault::NotYet, why, help)));
    }
    live.entities = Some(entities);
    Ok(live)
}

fn at_root(admin: &Admin, failure: Failure) -> DriverError {
    failure.at(&format!("GET {}/", admin.url()))
}

/// What it says of itself.
pub(crate) async fn root(admin: &Admin) -> Result<Live, DriverError> {
    root_and_pace(admin).await.map(|(live, _)| live)
}

/// What it says of itself, and within what time it takes up what is written to its database.
pub(crate) async fn root_and_pace(admin: &Admin) -> Result<(Live, Duration), DriverError> {
    of_itself(admin, &said(admin).await?)
}

/// The answer at its root.
pub(crate) async fn said(admin: &Admin) -> Result<Value, DriverError> {
    let said = admin.get("").await?;
    said.ok_or_else(|| at_root(admin, refusal::no_kong("there is nothing")))
}

/// What that answer says.
pub(crate) fn of_itself(admin: &Admin, said: &Value) -> Result<(Live, Duration), DriverError> {
    let seconds = |what: &str, otherwise: f64| {
        let said = said
            .pointer(&format!("/configuration/{what}"))
            .and_then(Value::as_f64);
        Duration::try_from_secs_f64(said.unwrap_or(otherwise)).unwrap_or(Duration::MAX)
    };
    let pace = seconds("db_update_frequency", 5.0)
        .saturating_add(seconds("db_update_propagation", 0.0))
        .saturating_add(seconds("worker_state_update_frequency", 5.0));
    let text = |at: &str| said.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let version = text("/version").zip(text("/configuration/database"));
    let (version, database) = version.ok_or_else(|| {
        at_root(
            admin,
            refusal::no_kong("it says neither its version nor whether it has a database"),
        )
    })?;
    let workers = said.pointer("/pids/workers").and_then(Value::as_array);
    let live = Live {
        version,
        database,
        role: text("/configuration/role").unwrap_or_else(|| "traditional".to_owned()),
        router: text("/configuration/router_flavor").unwrap_or_else(|| "traditional_compatible".to_owned()),
        workers: workers.map_or(1, Vec::len).max(1),
        hash: None,
        controller: None,
        entities: None,
    };
    Ok((live, pace))
}

/// `configuration_hash`; none with a database.
pub(crate) async fn hash(admin: &Admin) -> Result<Option<String>, DriverError> {
    let said = admin.get("status").await?;
    let said = said.ok_or_else(|| at_root(admin, refusal::no_kong("it has no /status")))?;
    let hash = said.get("configuration_hash").and_then(Value::as_str);
    Ok(hash.map(str::to_owned))
}
