//! Never twice: of one path Kong and the mesh do not both split, for the shares would multiply. What the zone's control plane is
//! given and what a Kong is given are looked at together here. Declarations alone do not show it: Kong goes by an upstream wherever
//! the host of a service is the name of one, whoever wrote it.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{FederationName, SplitName, Via};
use weir_planner::Item;

use crate::kong::document::{AtDoor, Conflict};
use crate::kong::entities::name;
use crate::object::{Form, Object};
use crate::policy::{self, Options, destination_labels};

/// What a whole configuration of Kong says of where requests go on to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ways {
    /// The hosts of the services by which requests of a split leave.
    pub leads: BTreeMap<SplitName, BTreeSet<String>>,
    /// The names of all upstreams.
    pub upstreams: BTreeSet<String>,
}

/// The policies that carry the weights of those of these doors at which the mesh does.
pub fn policies(federation: &FederationName, doors: &[AtDoor<'_>]) -> BTreeMap<SplitName, Vec<Object>> {
    let meshed = doors.iter().filter(|at| matches!(at.door.via, Via::Mesh(_)));
    // Both forms have the same spec.
    let render = |item: &Item| policy::render(item, federation, &Form::Universal, Options::default());
    meshed
        .map(|at| (at.item.split.clone(), render(at.item)))
        .collect()
}

/// Why one of these doors would be split twice, or by nobody, with these policies and in this configuration.
pub fn together(
    policies: &BTreeMap<SplitName, Vec<Object>>,
    doors: &[AtDoor<'_>],
    ways: &Ways,
) -> Vec<Conflict> {
    let mut conflicts = twice(doors, ways);
    for at in doors.iter().filter(|at| matches!(at.door.via, Via::Mesh(_))) {
        let split = &at.item.split;
        let policies = policies.get(split).map_or(&[][..], Vec::as_slice);
        if let Err(why) = carries(policies, at.item) {
            conflicts.push(Conflict {
                split: Some(split.clone()),
                what: format!(
                    "the mesh is to carry its weights at this gateway, and what it would be given does not: {why}"
                ),
                help: "the gateway keeps what it has; please report it with the split".to_owned(),
            });
        }
    }
    conflicts
}

/// What of a configuration alone shows that Kong would split what the mesh splits.
pub(crate) fn twice(doors: &[AtDoor<'_>], ways: &Ways) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for at in doors {
        let split = &at.item.split;
        let mut add = |what: String, help: &str| {
            conflicts.push(Conflict {
                split: Some(split.clone()),
                what,
                help: help.to_owned(),
            });
        };
        match &at.door.via {
            Via::Mesh(_) => {
                let leads = ways.leads.get(split).into_iter().flatten();
                for host in leads.filter(|host| ways.upstreams.contains(*host)) {
                    add(
                        split_by(host),
                        "give that upstream another name, or this door another address in `mesh`",
                    );
                }
                let mut own = at.item.routes.iter().map(|route| name(split, &route.name));
                if let Some(own) = own.find(|own| ways.upstreams.contains(own)) {
                    add(
                        format!(
                            "the mesh carries its weights, and there is an upstream {own} for it as well"
                        ),
                        "please report it",
                    );
                }
            }
            // Declared only of a gateway that is not in the mesh: no sidecar splits what leaves it, whatever a name is called, and the
            // agent asks for its addresses itself.
            Via::Addresses(_) => {}
        }
    }
    conflicts
}

/// What is wrong with a service that leads to this host, where there is an upstream of that name.
pub(crate) fn split_by(host: &str) -> String {
    format!(
        "it leads to {host}, where the mesh carries the weights, and this Kong has an upstream of that very name, to whose targets it \
         would go instead: what they split, the mesh would split again or never see"
    )
}

/// Whether one policy says an item's weights to all callers of its service, a gateway's sidecar among them.
fn carries(policies: &[Object], item: &Item) -> Result<(), String> {
    let [policy] = policies else {
        return Err(format!("{} policies instead of one", policies.len()));
    };
    let callers = policy.spec.get("targetRef");
    let kind = callers.and_then(|of| of.get("kind")?.as_str());
    // Sidecars alone would leave gateways out.
    let only = callers.and_then(|of| of.get("proxyTypes")?.as_array());
    if kind != Some("Mesh") || only.is_some_and(|only| !only.iter().any(|one| one == "Gateway")) {
        return Err(format!("policy {} is not for gateways", policy.name));
    }
    if !policy.is_for(item) {
        return Err(format!(
            "policy {} is not for service {} at port {}",
            policy.name, item.service, item.port
        ));
    }
    let given = policy::weights_of(&policy.spec).unwrap_or_default();
    if given.len() != item.routes.len() {
        return Err(format!(
            "policy {} has {} rules for {} routes",
            policy.name,
            given.len(),
            item.routes.len()
        ));
    }
    for (route, given) in item.routes.iter().zip(&given) {
        for (backend, weight) in route.weights.iter().filter(|(_, weight)| weight.get() > 0) {
            let labels = item.destinations.get(backend).map(destination_labels);
            let labels = labels.map(|labels| labels.into_iter().map(|(key, value)| (key.to_owned(), value)));
            let said = labels.and_then(|labels| given.get(&labels.collect::<BTreeMap<_, _>>()));
            if said != Some(weight) {
                return Err(format!(
                    "policy {} does not give backend {backend} its {} of 10000 of route {}",
                    policy.name,
                    weight.get(),
                    route.name
                ));
            }
        }
    }
    Ok(())
}
