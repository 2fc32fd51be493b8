//! Routes that somebody else has in a database and that take the very requests of a door of ours: between two such Kong chooses by
//! chance.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kong::changes::{Row, is_ours};
use crate::kong::claims::{Claim, Key};
use crate::kong::database::{Entities, Kind};

/// By the name of the route of ours: somebody else's that asks for neither more nor less. `routes` are all that the database has.
///
/// # Errors
/// If one of them is no entity: what is not known whole is not known.
pub fn beside(wanted: &Entities, routes: Vec<Value>) -> Result<BTreeMap<String, String>, String> {
    let chains = wanted.doors.values().flat_map(|of| &of.chains);
    let ours = chains.map(|chain| (chain.route.name.as_str(), Claim::of(&chain.route.fields)));
    let ours: Vec<(&str, Claim)> = ours.collect();
    let mut by_key: BTreeMap<Key, Vec<&(&str, Claim)>> = BTreeMap::new();
    for one in &ours {
        for key in one.1.keys() {
            by_key.entry(key).or_default().push(one);
        }
    }
    let mut beside = BTreeMap::new();
    for route in routes {
        let row = Row::read(Kind::Route, route)?;
        if is_ours(&row, wanted) {
            continue;
        }
        let theirs = Claim::of(&row.fields);
        for key in theirs.keys() {
            let same = by_key.get(&key).into_iter().flatten();
            for (name, _) in same.filter(|(_, claim)| claim.is_at_odds_with(&theirs)) {
                let called = format!("{} (id {})", row.called(), row.id);
                beside.entry((*name).to_owned()).or_insert(called);
            }
        }
    }
    Ok(beside)
}
