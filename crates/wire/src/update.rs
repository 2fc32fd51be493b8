//! A zone's plan on its way: a manifest of all its items, and only those items that the agent lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{CommitId, GatewayName, SourceCommit, SourceName, SplitName};
use weir_planner::{GatewayPlan, GatewayRef, Generation, Item, ItemRef, PlanId, ZonePlan};

use crate::gateway::{gateway_in, gateway_out};
use crate::item::twice;
use crate::scalar::{commits_out, read};
use crate::{WireError, v1};

/// What an agent says that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holds {
    /// Items.
    pub items: BTreeSet<ItemRef>,
    /// What is the same for all splits at a gateway of its zone.
    pub gateways: BTreeSet<GatewayRef>,
}

impl From<&ZonePlan> for Holds {
    fn from(plan: &ZonePlan) -> Self {
        let gateways = plan.gateways.iter();
        Self {
            items: plan.items.values().map(|item| item.reference()).collect(),
            gateways: gateways.map(|(name, gateway)| gateway.reference(name)).collect(),
        }
    }
}

impl Holds {
    /// Whether all of this is held there too.
    pub fn are_in(&self, other: &Self) -> bool {
        self.items.is_subset(&other.items) && self.gateways.is_subset(&other.gateways)
    }
}

/// The same things, themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Items.
    pub items: BTreeMap<SplitName, Arc<Item>>,
    /// Gateways.
    pub gateways: BTreeMap<GatewayName, Arc<GatewayPlan>>,
}

impl From<&ZonePlan> for Held {
    fn from(plan: &ZonePlan) -> Self {
        Self {
            items: plan.items.clone(),
            gateways: plan.gateways.clone(),
        }
    }
}

/// What to send to an agent that holds this much. An agent that holds all of it gets the manifests alone.
pub fn plan_update(plan: &ZonePlan, holds: &Holds) -> v1::PlanUpdate {
    let references: Vec<ItemRef> = plan.items.values().map(|item| item.reference()).collect();
    let lacking = plan
        .items
        .values()
        .filter(|item| !holds.items.contains(&item.reference()));
    let gateways = || plan.gateways.iter().map(|(name, gateway)| (name, &**gateway));
    let held =
        |(name, gateway): &(&GatewayName, &GatewayPlan)| holds.gateways.contains(&gateway.reference(name));
    v1::PlanUpdate {
        federation: plan.federation.to_string(),
        zone: plan.zone.to_string(),
        kuma_zone: plan.kuma_zone.to_string(),
        mesh: plan.mesh.to_string(),
        plan_id: plan.plan.to_string(),
        generation: plan.generation.0,
        commits: commits_out(&plan.commits),
        manifest: references.iter().map(v1::ItemRef::from).collect(),
        items: lacking.map(|item| v1::Item::from(&**item)).collect(),
        gateway_manifest: gateways()
            .map(|(name, gateway)| v1::GatewayRef::from(&gateway.reference(name)))
            .collect(),
        gateways: gateways().filter(|of| !held(of)).map(gateway_out).collect(),
    }
}

/// The whole plan, from what was sent and what is held.
///
/// # Errors
/// If anything is damaged, missing, or not what the manifest says. Then nothing of the update may be used.
pub fn assemble(update: &v1::PlanUpdate, held: &Held) -> Result<ZonePlan, WireError> {
    let mut sent = BTreeMap::new();
    for item in &update.items {
        let item = Item::try_from(item).map_err(|e| e.within(format_args!("plan.items[{}]", item.split)))?;
        let split = item.split.clone();
        if sent.insert(split.clone(), Arc::new(item)).is_some() {
            return Err(twice("plan.items", split.as_str()));
        }
    }
    let zone = read("plan.zone", &update.zone)?;
    let kuma_zone = read("plan.kuma_zone", &update.kuma_zone)?;
    let mesh = read("plan.mesh", &update.mesh)?;
    let mut items = BTreeMap::new();
    for entry in &update.manifest {
        let field = format!("plan.manifest[{}]", entry.split);
        let wanted = ItemRef::try_from(entry).map_err(|e| e.within(&field))?;
        let found = sent
            .remove(&wanted.split)
            .or_else(|| held.items.get(&wanted.split).map(Arc::clone))
            .ok_or_else(|| WireError::new(&field, "it was neither sent nor is it held"))?;
        let is = found.reference();
        if is != wanted {
            return Err(WireError::new(
                &field,
                format!(
                    "wanted is generation {} with content {}, there is generation {} with content {}",
                    wanted.generation,
                    wanted.digest.short(),
                    is.generation,
                    is.digest.short()
                ),
            ));
        }
        if found.zone != zone || found.kuma_zone != kuma_zone || found.mesh != mesh {
            return Err(WireError::new(
                &field,
                format!(
                    "the item is for zone {} (in Kuma {}) of mesh {}, the plan for zone {zone} ({kuma_zone}) of mesh {mesh}",
                    found.zone, found.kuma_zone, found.mesh
                ),
            ));
        }
        if found.generation.0 > update.generation {
            return Err(WireError::new(
                &field,
                format!(
                    "generation {} is above the plan's, {}",
                    found.generation, update.generation
                ),
            ));
        }
        if items.insert(wanted.split, found).is_some() {
            return Err(twice("plan.manifest", &entry.split));
        }
    }
    if let Some(split) = sent.keys().next() {
        return Err(WireError::new(
            "plan.items",
            format!("`{split}` is not in the manifest"),
        ));
    }
    if update.generation == 0 {
        return Err(WireError::new("plan.generation", "0 stands for no plan"));
    }
    let commits = update.commits.iter().map(|c| SourceCommit {
        source: SourceName(c.source.clone()),
        commit: CommitId(c.commit.clone()),
    });
    Ok(ZonePlan {
        federation: read("plan.federation", &update.federation)?,
        zone,
        kuma_zone,
        mesh,
        plan: read::<PlanId>("plan.plan_id", &update.plan_id)?,
        generation: Generation(update.generation),
        commits: commits.collect(),
        gateways: gateways(update, held)?,
        items,
    })
}

/// The gateways of the whole plan, in the same way.
fn gateways(
    update: &v1::PlanUpdate,
    held: &Held,
) -> Result<BTreeMap<GatewayName, Arc<GatewayPlan>>, WireError> {
    let mut sent = BTreeMap::new();
    for gateway in &update.gateways {
        let (name, planned) =
            gateway_in(gateway).map_err(|e| e.within(format_args!("plan.gateways[{}]", gateway.gateway)))?;
        if sent.insert(name, Arc::new(planned)).is_some() {
            return Err(twice("plan.gateways", &gateway.gateway));
        }
    }
    let mut gateways = BTreeMap::new();
    for entry in &update.gateway_manifest {
        let field = format!("plan.gateway_manifest[{}]", entry.gateway);
        let wanted = GatewayRef::try_from(entry).map_err(|e| e.within(&field))?;
        let found = sent
            .remove(&wanted.gateway)
            .or_else(|| held.gateways.get(&wanted.gateway).map(Arc::clone))
            .filter(|found| found.reference(&wanted.gateway) == wanted)
            .ok_or_else(|| {
                WireError::new(&field, "what the manifest names was neither sent nor is it held")
            })?;
        if found.generation.0 > update.generation {
            return Err(WireError::new(
                &field,
                format!(
                    "generation {} is above the plan's, {}",
                    found.generation, update.generation
                ),
            ));
        }
        if gateways.insert(wanted.gateway, found).is_some() {
            return Err(twice("plan.gateway_manifest", &entry.gateway));
        }
    }
    if let Some(name) = sent.keys().next() {
        return Err(WireError::new(
            "plan.gateways",
            format!("`{name}` is not in the manifest"),
        ));
    }
    Ok(gateways)
}
