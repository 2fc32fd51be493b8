//! Routes that somebody else has in a database and that take the very requests of a door of ours: between two such Kong chooses by
//! chance.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kong::changes::{Row, is_ours};
use crate::kong::claims::Claim;
use crate::kong::database::{Entities, Kind};

/// Why a route of ours is not made, in words; and how it can be without a gap.
pub fn is_kept_out(name: &str, other: &str) -> String {
    format!(
        "route {name} is not made: its requests are those of {other} in this database as well, which is not Weir's, and Kong would \
         choose by chance. Let that one take more than this door does, such as a shorter path: it goes on serving, and this door comes \
         before it; remove it when this door is proven. Or let this door take other requests"
    )
}

/// Why a route of ours that is there is no proof, in words.
pub fn is_rivalled(name: &str, other: &str) -> String {
    format!(
        "requests for route {name} are those of {other} as well, which is not Weir's, and Kong chooses by chance: let one of both \
         take them"
    )
}

/// By the name of the route of ours: somebody else's that asks for neither more nor less. `routes` are all that the database has.
///
/// # Errors
/// If one of them is no entity: what is not known whole is not known.
pub fn beside(wanted: &Entities, routes: Vec<Value>) -> Result<BTreeMap<String, String>, String> {
    let chains = wanted.doors.values().flat_map(|of| &of.chains);
    let ours = chains.map(|chain| (chain.route.name.as_str(), Claim::of(&chain.route.fields)));
    let ours: Vec<(&str, Claim)> = ours.collect();
    let mut by_path: BTreeMap<String, Vec<&(&str, Claim)>> = BTreeMap::new();
    for one in &ours {
        for path in one.1.paths() {
            by_path.entry(path).or_default().push(one);
        }
    }
    let mut beside = BTreeMap::new();
    for route in routes {
        let row = Row::read(Kind::Route, route)?;
        if is_ours(&row, wanted) {
            continue;
        }
        let theirs = Claim::of(&row.fields);
        for path in theirs.paths() {
            let same = by_path.get(&path).into_iter().flatten();
            for (name, _) in same.filter(|(_, claim)| claim.shared(&path, &theirs).is_some()) {
                let called = format!("{} (id {})", row.called(), row.id);
                beside.entry((*name).to_owned()).or_insert(called);
            }
        }
    }
    Ok(beside)
}
