//! Gateways of zones and their bases: what can only be seen from several places at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Check;
use crate::base::Entities;
use crate::codes;
use crate::declaration::Place;
use crate::diagnostic::Diagnostic;
use crate::draft::{BaseDraft, GatewayDraft, ParentDraft, ZoneDraft, beside};
use crate::gateway::{Base, Channel, Gateway, ParentRef};
use crate::names::{GatewayName, ZoneName};
use crate::reader::At;

/// Every gateway with a name, however broken; whole where it is sound.
pub(super) type Known = BTreeMap<ZoneName, BTreeMap<GatewayName, Option<Gateway>>>;

impl<'d> Check<'d> {
    /// The gateways of one zone; `None` if one of them is not sound.
    pub(super) fn gateways(
        &mut self,
        draft: &'d ZoneDraft,
        zone: &ZoneName,
    ) -> Option<BTreeMap<GatewayName, Gateway>> {
        let mut known = BTreeMap::new();
        let mut first: BTreeMap<&GatewayName, &Place> = BTreeMap::new();
        for found in draft.gateways.as_ref()? {
            let Some(At { value: name, place }) = &found.name else {
                continue;
            };
            if let Some(earlier) = first.get(name) {
                self.taken(
                    format!("there are two gateways named `{name}` in the zone `{zone}`"),
                    place.label("again here"),
                    earlier.label("first here"),
                );
                known.insert(name.clone(), None);
                continue;
            }
            first.insert(name, place);
            let gateway = self.gateway(found, name);
            known.insert(name.clone(), gateway);
        }
        let all = draft.gateways.as_ref()?.len();
        let sound: BTreeMap<GatewayName, Gateway> = known
            .iter()
            .filter_map(|(name, gateway)| Some((name.clone(), gateway.clone()?)))
            .collect();
        self.gateways.insert(zone.clone(), known);
        (sound.len() == all).then_some(sound)
    }

    fn gateway(&mut self, draft: &'d GatewayDraft, name: &GatewayName) -> Option<Gateway> {
        let base = match &draft.base {
            BaseDraft::Unreadable => return None,
            BaseDraft::Absent => None,
            BaseDraft::Named(at) if matches!(draft.channel, Some(Channel::AdminDb | Channel::Kic)) => {
                let (message, help) = match draft.channel {
                    Some(Channel::Kic) => (
                        format!(
                            "the gateway `{name}` is run by Kong Ingress Controller, and has a `base` besides"
                        ),
                        "remove `base`: what is yours stays in objects of the cluster, and Weir touches nothing but its own \
                         HTTPRoutes; or say `channel: admin-dbless`, if no controller runs this Kong",
                    ),
                    _ => (
                        format!("the gateway `{name}` has a database, and a `base` besides"),
                        "remove `base`: what is in the database stays there, and Weir touches nothing but its own; or say \
                         `channel: admin-dbless`, if this Kong has no database",
                    ),
                };
                let diagnostic = Diagnostic::error(
                    codes::DATABASE_BASE,
                    message,
                    at.place.label("nothing would post it"),
                );
                self.push(diagnostic.help(help));
                return None;
            }
            BaseDraft::Named(at) => Some(self.base(at)?),
        };
        let (base, entities) = base.unzip();
        let parent = self.parent(draft, name)?;
        Some(Gateway {
            name: name.clone(),
            channel: draft.channel?,
            in_mesh: draft.in_mesh?,
            base,
            entities: entities.unwrap_or_default(),
            parent,
            place: draft.place.clone(),
        })
    }

    /// What routes are attached to; the outer `None` if it is not as the channel needs it.
    #[expect(
        clippy::option_option,
        reason = "whether it is sound, and whether there is one"
    )]
    fn parent(&mut self, draft: &'d GatewayDraft, name: &GatewayName) -> Option<Option<ParentRef>> {
        let (message, label, help) = match (&draft.parent, draft.channel?) {
            (ParentDraft::Unreadable, _) => return None,
            (ParentDraft::Absent, Channel::AdminDbless | Channel::AdminDb) => return Some(None),
            (ParentDraft::Named(at), Channel::Kic) => return Some(Some(at.value.clone())),
            (ParentDraft::Absent, Channel::Kic) => (
                format!("the gateway `{name}` does not say which Gateway its routes are attached to"),
                draft.place.label("no `parentRef`"),
                "name the Gateway of Gateway API that this Kong Ingress Controller serves: parentRef: {namespace: kong, name: kong}",
            ),
            (ParentDraft::Named(at), Channel::AdminDbless | Channel::AdminDb) => (
                format!(
                    "the gateway `{name}` is configured through its Admin API, and has a `parentRef` besides"
                ),
                at.place.label("no route would be attached to it"),
                "remove `parentRef`; or say `channel: kic`, if Kong Ingress Controller runs this Kong",
            ),
        };
        self.push(Diagnostic::error(codes::PARENT, message, label).help(help));
        None
    }

    fn base(&mut self, at: &At<String>) -> Option<(Base, Arc<Entities>)> {
        let named = beside(&at.place, &at.value).unwrap_or_else(|| at.value.clone());
        let key = (at.place.source.clone(), named);
        match self.drafts.bases.get(&key) {
            Some(read) => {
                let read = read.as_ref()?;
                let base = Base {
                    source: key.0,
                    file: key.1,
                    document: Arc::from(read.document.to_string()),
                };
                Some((base, Arc::clone(&read.entities)))
            }
            None => {
                let declares = self.drafts.zones.iter().map(|zone| &zone.place);
                let declares = declares.chain(self.drafts.splits.iter().map(|split| &split.place));
                let mut declares = declares.chain(self.drafts.federations.iter().map(|found| &found.place));
                let message = if declares.any(|place| place.source == key.0 && place.file == key.1) {
                    format!("{} declares things itself, and is no document of Kong", key.1)
                } else {
                    format!("there is no file `{}` in this source", key.1)
                };
                self.push(
                    Diagnostic::error(codes::NO_BASE, message, at.place.label("named here"))
                        .help("give the path of Kong's declarative configuration from this file's directory on, such as kong/edge.yaml"),
                );
                None
            }
        }
    }
}
