//! A zone's plan on its way: a manifest of all its items, and only those items that the agent lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use weir_model::{CommitId, GatewayName, SourceCommit, SourceName, SplitName};
use weir_planner::{Digest, GatewayPlan, GatewayRef, Generation, Item, ItemRef, PlanId, ZonePlan};

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

/// What to send to an agent that holds this much. An agent that holds all of it gets the manifests alone. The term is for
/// whoever offers it to say.
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
        term: 0,
    }
}

/// The whole plan, from what was sent and what is held.
///
/// # Errors
/// If anything is damaged, missing, or not what the manifest says. Then nothing of the update may be used.
pub fn assemble(update: &v1::PlanUpdate, held: &Held) -> Result<ZonePlan, WireError> {
    let zone = read("plan.zone", &update.zone)?;
    let kuma_zone = read("plan.kuma_zone", &update.kuma_zone)?;
    let mesh = read("plan.mesh", &update.mesh)?;
    let generation = Generation(update.generation);
    let item = |from: &v1::Item| {
        let item = Item::try_from(from).map_err(|e| e.within(format_args!("plan.items[{}]", from.split)))?;
        Ok((item.split.clone(), item))
    };
    let sent = sent("plan.items", update.items.iter().map(item))?;
    let reference = |entry: &v1::ItemRef| {
        let field = format!("plan.manifest[{}]", entry.split);
        let wanted = ItemRef::try_from(entry).map_err(|e| e.within(&field))?;
        Ok((field, (wanted.split, wanted.generation, wanted.digest)))
    };
    let items = whole(
        ("plan.items", "plan.manifest"),
        update.manifest.iter().map(reference),
        (sent, &held.items),
        |item| (item.generation, item.digest),
        generation,
    )?;
    let elsewhere =
        |item: &&Arc<Item>| (&item.zone, &item.kuma_zone, &item.mesh) != (&zone, &kuma_zone, &mesh);
    if let Some(item) = items.values().find(elsewhere) {
        return Err(WireError::new(
            format!("plan.manifest[{}]", item.split),
            format!(
                "the item is for zone {} (in Kuma {}) of mesh {}, the plan for zone {zone} ({kuma_zone}) of mesh {mesh}",
                item.zone, item.kuma_zone, item.mesh
            ),
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
        generation,
        commits: commits.collect(),
        gateways: gateways(update, held, generation)?,
        items,
    })
}

/// The gateways of the whole plan.
fn gateways(
    update: &v1::PlanUpdate,
    held: &Held,
    generation: Generation,
) -> Result<BTreeMap<GatewayName, Arc<GatewayPlan>>, WireError> {
    let gateway = |from: &v1::Gateway| {
        gateway_in(from).map_err(|e| e.within(format_args!("plan.gateways[{}]", from.gateway)))
    };
    let reference = |entry: &v1::GatewayRef| {
        let field = format!("plan.gateway_manifest[{}]", entry.gateway);
        let wanted = GatewayRef::try_from(entry).map_err(|e| e.within(&field))?;
        Ok((field, (wanted.gateway, wanted.generation, wanted.digest)))
    };
    whole(
        ("plan.gateways", "plan.gateway_manifest"),
        update.gateway_manifest.iter().map(reference),
        (
            sent("plan.gateways", update.gateways.iter().map(gateway))?,
            &held.gateways,
        ),
        |gateway| (gateway.generation, gateway.digest),
        generation,
    )
}

/// Items or gateways, by name.
type Parts<N, T> = BTreeMap<N, Arc<T>>;

/// What was sent, each once.
fn sent<N: Ord + Display + Clone, T>(
    field: &str,
    parts: impl Iterator<Item = Result<(N, T), WireError>>,
) -> Result<Parts<N, T>, WireError> {
    let mut sent = BTreeMap::new();
    for part in parts {
        let (name, part) = part?;
        if sent.insert(name.clone(), Arc::new(part)).is_some() {
            return Err(twice(field, &name.to_string()));
        }
    }
    Ok(sent)
}

/// All that a manifest names, each exactly as it says, from what was sent and what is held. What was sent and is not named is
/// an error too. `fields` are those of the parts and of the manifest.
fn whole<N: Ord + Display, T>(
    fields: (&str, &str),
    manifest: impl Iterator<Item = Result<(String, (N, Generation, Digest)), WireError>>,
    (mut sent, held): (Parts<N, T>, &Parts<N, T>),
    is: impl Fn(&T) -> (Generation, Digest),
    plan: Generation,
) -> Result<Parts<N, T>, WireError> {
    let mut whole = BTreeMap::new();
    for entry in manifest {
        let (field, (name, generation, digest)) = entry?;
        let found = sent
            .remove(&name)
            .or_else(|| held.get(&name).map(Arc::clone))
            .ok_or_else(|| WireError::new(&field, "it was neither sent nor is it held"))?;
        let there = is(&found);
        if there != (generation, digest) {
            return Err(WireError::new(
                &field,
                format!(
                    "wanted is generation {generation} with content {}, there is generation {} with content {}",
                    digest.short(),
                    there.0,
                    there.1.short()
                ),
            ));
        }
        if generation > plan {
            return Err(WireError::new(
                &field,
                format!("generation {generation} is above the plan's, {plan}"),
            ));
        }
        let again = name.to_string();
        if whole.insert(name, found).is_some() {
            return Err(twice(fields.1, &again));
        }
    }
    match sent.keys().next() {
        None => Ok(whole),
        Some(name) => Err(WireError::new(
            fields.0,
            format!("`{name}` is not in the manifest"),
        )),
    }
}
