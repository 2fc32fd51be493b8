//! What one document says, as far as it could be read: the step between text and [`crate::Declaration`].
//!
//! A field that could not be read is `None` here and has been reported; checks over several fields skip it, so
//! that one mistake is one diagnostic.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use crate::declaration::{Match, Place, Platform, Protocol, Prune, SourceName};
use crate::freeze::Freeze;
use crate::gateway::{Address, Channel, ParentRef, Routing};
use crate::names::{
    BackendName, DnsLabel, FederationName, GatewayName, MeshName, PortName, RouteName, ServiceName,
    SplitName, ZoneName,
};
use crate::reader::At;
use crate::transition::Insufficient;
use crate::weight::BasisPoints;

/// All drafts of all files, in the order of sources, files and lines.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    pub(crate) federations: Vec<FederationDraft>,
    pub(crate) zones: Vec<ZoneDraft>,
    pub(crate) splits: Vec<SplitDraft>,
    /// Documents that could not be read to their end, and files that could not be read at all.
    pub(crate) unreadable: Vec<Unreadable>,
    /// The bases of gateways, by source and path; `None` for one that is wrong.
    pub(crate) bases: BTreeMap<(SourceName, String), Option<crate::base::Read>>,
}

impl Drafts {
    /// The files that gateways here name as their bases.
    pub(crate) fn bases(&self) -> impl Iterator<Item = (SourceName, String)> {
        let gateways = self.zones.iter().flat_map(|zone| zone.gateways.iter().flatten());
        gateways.filter_map(|gateway| match &gateway.base {
            BaseDraft::Named(at) => Some((at.place.source.clone(), beside(&at.place, &at.value)?)),
            BaseDraft::Absent | BaseDraft::Unreadable => None,
        })
    }

    /// Whether there is nothing of a declaration in it.
    pub(crate) fn declares_nothing(&self) -> bool {
        self.federations.is_empty() && self.zones.is_empty() && self.splits.is_empty()
    }

    /// Adds what another file says.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.federations.append(&mut other.federations);
        self.zones.append(&mut other.zones);
        self.splits.append(&mut other.splits);
        self.unreadable.append(&mut other.unreadable);
        self.bases.append(&mut other.bases);
    }

    /// The file that most likely holds what is missing: an unreadable one of this kind, else of no known kind.
    pub(crate) fn may_hold(&self, kind: &str) -> Option<&str> {
        let of = |wanted: Option<&str>| self.unreadable.iter().find(|u| u.kind.as_deref() == wanted);
        of(Some(kind))
            .or_else(|| of(None))
            .map(|unreadable| unreadable.place.file.as_str())
    }
}

#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) place: Place,
    /// Its kind, if that much could be read.
    pub(crate) kind: Option<String>,
}

#[derive(Debug)]
pub(crate) struct FederationDraft {
    pub(crate) place: Place,
    pub(crate) name: Option<At<FederationName>>,
    /// `None`: given, but unreadable.
    pub(crate) mesh: Option<MeshName>,
    /// `None`: given, but unreadable.
    pub(crate) prune: Option<Prune>,
    pub(crate) transition: TransitionDraft,
    /// `None`: given, but unreadable.
    pub(crate) freeze: Option<Freeze>,
}

#[derive(Debug)]
pub(crate) struct ZoneDraft {
    pub(crate) place: Place,
    pub(crate) name: Option<At<ZoneName>>,
    pub(crate) platform: Option<Platform>,
    /// `None`: given, but unreadable.
    pub(crate) kuma_zone: Option<KumaZone>,
    /// `None`: given, but unreadable.
    pub(crate) wave: Option<u32>,
    pub(crate) state: ZoneState,
    /// `None`: given, but unreadable.
    pub(crate) freeze: Option<Freeze>,
    /// `None`: given, but unreadable.
    pub(crate) gateways: Option<Vec<GatewayDraft>>,
}

/// One gateway of a zone.
#[derive(Debug)]
pub(crate) struct GatewayDraft {
    pub(crate) place: Place,
    pub(crate) name: Option<At<GatewayName>>,
    pub(crate) channel: Option<Channel>,
    pub(crate) in_mesh: Option<bool>,
    pub(crate) base: BaseDraft,
    pub(crate) parent: ParentDraft,
}

/// `parentRef` of a gateway.
#[derive(Debug)]
pub(crate) enum ParentDraft {
    Absent,
    Unreadable,
    Named(At<ParentRef>),
}

/// The path inside its source of a file that is named from the directory of the file that names it, as people name files
/// beside each other; none for one that is outside.
pub(crate) fn beside(place: &Place, named: &str) -> Option<String> {
    let mut parts: Vec<&str> = place.file.split('/').collect();
    parts.pop();
    for part in named.split('/') {
        match part {
            "" => return None,
            "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// What a gateway's base is.
#[derive(Debug)]
pub(crate) enum BaseDraft {
    Absent,
    Unreadable,
    /// Its path from the directory of the zone's file.
    Named(At<String>),
}

/// One door of a split: whole, or not here at all.
#[derive(Debug)]
pub(crate) struct DoorDraft {
    pub(crate) place: Place,
    pub(crate) gateway: At<GatewayName>,
    /// `None`: all that have the gateway.
    pub(crate) zones: Option<Vec<At<ZoneName>>>,
    pub(crate) entry: EntryDraft,
    pub(crate) via: ViaDraft,
}

#[derive(Debug)]
pub(crate) enum EntryDraft {
    Routes(Routing),
    Service(At<String>),
    HttpRoute(At<String>),
}

#[derive(Debug)]
pub(crate) enum ViaDraft {
    Mesh(At<Address>),
    Addresses {
        backends: Vec<(At<BackendName>, BTreeSet<Address>)>,
        /// The key `backends`.
        place: Place,
    },
}

/// Whether the zone takes part.
#[derive(Debug)]
pub(crate) enum ZoneState {
    Unreadable,
    Attached,
    /// Where it says so.
    Detached(Place),
}

/// The zone's name in Kuma.
#[derive(Debug)]
pub(crate) enum KumaZone {
    /// Not given: the zone's own name.
    Own,
    Named(At<DnsLabel>),
}

#[derive(Debug)]
pub(crate) struct SplitDraft {
    pub(crate) place: Place,
    pub(crate) name: Option<At<SplitName>>,
    pub(crate) service: Option<At<ServiceName>>,
    pub(crate) port: Option<At<u16>>,
    /// `None`: given, but unreadable in part.
    pub(crate) port_names: Option<Vec<At<PortName>>>,
    pub(crate) protocol: Option<At<Protocol>>,
    pub(crate) backends: Backends,
    pub(crate) routes: Routes,
    pub(crate) transition: TransitionDraft,
    /// `None`: given, but unreadable. The inner one: not given.
    pub(crate) streaming: Option<Option<At<bool>>>,
    /// `None`: given, but unreadable.
    pub(crate) freeze: Option<Freeze>,
    pub(crate) fallbacks: Fallbacks,
    /// `None`: given, but unreadable in part.
    pub(crate) gateways: Option<Vec<DoorDraft>>,
}

/// What is given of a transition; `None` is not given, or not readable.
#[derive(Debug, Default)]
pub(crate) struct TransitionDraft {
    pub(crate) max_step: Option<At<BasisPoints>>,
    pub(crate) bake: Option<SignedDuration>,
    pub(crate) requests: Option<u64>,
    pub(crate) within: Option<SignedDuration>,
    pub(crate) insufficient: Option<Insufficient>,
    pub(crate) latency: Option<SignedDuration>,
    /// Some of it could not be read.
    pub(crate) unreadable: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Fallbacks {
    pub(crate) found: Vec<FallbackDraft>,
    /// Some of them could not be read.
    pub(crate) unreadable: bool,
}

#[derive(Debug)]
pub(crate) struct FallbackDraft {
    /// The backend that is down.
    pub(crate) from: At<BackendName>,
    pub(crate) to: Vec<At<BackendName>>,
    pub(crate) after: SignedDuration,
    pub(crate) recover: SignedDuration,
}

#[derive(Debug, Default)]
pub(crate) struct Backends {
    pub(crate) found: Vec<BackendDraft>,
    /// Every backend's name could be read.
    pub(crate) complete: bool,
}

#[derive(Debug)]
pub(crate) struct BackendDraft {
    pub(crate) name: At<BackendName>,
    pub(crate) zone: Option<At<ZoneName>>,
    pub(crate) namespace: Namespace,
    /// `None`: given, but unreadable. The inner one: not given.
    pub(crate) capacity: Option<Option<At<BasisPoints>>>,
}

impl BackendDraft {
    /// The capacity, where it is given and could be read.
    pub(crate) fn capacity(&self) -> Option<&At<BasisPoints>> {
        self.capacity.as_ref()?.as_ref()
    }
}

#[derive(Debug)]
pub(crate) enum Namespace {
    Absent,
    Unreadable,
    Named(At<DnsLabel>),
}

#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) found: Vec<RouteDraft>,
    /// The list itself could be read (each route may still have problems).
    pub(crate) complete: bool,
    /// Where a missing route is shown.
    pub(crate) place: Option<Place>,
}

#[derive(Debug)]
pub(crate) struct RouteDraft {
    /// The whole route.
    pub(crate) place: Place,
    pub(crate) name: Option<At<RouteName>>,
    pub(crate) matches: Matches,
    pub(crate) weights: Weights,
}

impl RouteDraft {
    /// Takes what no other route takes.
    pub(crate) fn is_default(&self) -> bool {
        match &self.matches {
            Matches::Absent => true,
            Matches::Given(at) => at.value.is_any(),
            Matches::Unreadable(_) => false,
        }
    }

    /// A backend's weight here, where it could be read.
    pub(crate) fn weight(&self, backend: &BackendName) -> Option<&At<BasisPoints>> {
        let mut found = self.weights.found.iter();
        found.find(|(name, _)| name.value == *backend)?.1.as_ref()
    }
}

#[derive(Debug)]
pub(crate) enum Matches {
    /// Given, but unreadable in part.
    Unreadable(Place),
    /// Not given at all.
    Absent,
    /// The place is that of the key `match`.
    Given(At<Match>),
}

#[derive(Debug, Default)]
pub(crate) struct Weights {
    pub(crate) found: Vec<(At<BackendName>, Option<At<BasisPoints>>)>,
    /// All of them could be read.
    pub(crate) complete: bool,
    /// All of the names could be read.
    pub(crate) named: bool,
    /// The key `weights`.
    pub(crate) place: Option<Place>,
}
