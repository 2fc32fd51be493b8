//! Drafts to a [`Declaration`]: all that can only be seen from several places at once. What concerns one split is in
//! `check/split.rs`, how its weights move in `check/transition.rs`.
//!
//! Whatever was unreadable has been reported; a check that would need it is left out, so that one mistake is one
//! diagnostic.

mod base_service;
mod claims;
mod door;
mod gateway;
mod http_route;
mod split;
mod transition;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codes;
use crate::declaration::{Declaration, Federation, Place, Platform, Zone};
use crate::diagnostic::{Diagnostic, Label};
use crate::draft::{Drafts, KumaZone, SplitDraft, ZoneDraft, ZoneState};
use crate::names::{DnsLabel, ServiceName, ZoneName};
use crate::reader::At;

/// Checks everything; what is sound becomes the declaration.
pub(crate) fn declaration(drafts: &Drafts, diagnostics: &mut Vec<Diagnostic>) -> Declaration {
    let mut check = Check {
        zones: BTreeMap::new(),
        detached: BTreeMap::new(),
        gateways: BTreeMap::new(),
        claims: BTreeMap::new(),
        drafts,
        diagnostics,
    };
    let federation = check.federation(drafts);
    let zones = check.zones(&drafts.zones);
    let mut splits = BTreeMap::new();
    check.split_names(&drafts.splits);
    for draft in &drafts.splits {
        if let Some(split) = check.split(draft) {
            splits
                .entry(split.name.clone())
                .or_insert_with(|| Arc::new(split));
        }
    }
    Declaration {
        federation,
        zones,
        splits,
    }
}

struct Check<'d> {
    /// Every zone with a name, however broken; the platform where it is known.
    zones: BTreeMap<ZoneName, Option<Platform>>,
    /// The detached ones, and where each says so.
    detached: BTreeMap<ZoneName, &'d Place>,
    /// The gateways of every zone whose list of them could be read.
    gateways: gateway::Known,
    /// What doors take, so far.
    claims: claims::Claims<'d>,
    drafts: &'d Drafts,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'d> Check<'d> {
    fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// A name that an earlier thing of the same kind has already.
    fn taken(&mut self, message: String, again: Label, first: Label) {
        self.push(
            Diagnostic::error(codes::DUPLICATE_NAME, message, again)
                .also(first)
                .help("rename one of them, or remove it if it is a copy"),
        );
    }

    fn federation(&mut self, drafts: &Drafts) -> Option<Federation> {
        let Some(first) = drafts.federations.first() else {
            // A broken one has been reported.
            if drafts
                .unreadable
                .iter()
                .any(|u| u.kind.as_deref() == Some("Federation"))
            {
                return None;
            }
            let help = match drafts.may_hold("Federation") {
                None => "add a document with `kind: Federation` and a `metadata.name`".to_owned(),
                Some(file) => format!(
                    "add a document with `kind: Federation`, or mend {file}, which could not be read and may hold it"
                ),
            };
            self.diagnostics.push(Diagnostic {
                labels: Vec::new(),
                ..Diagnostic::error(codes::NO_FEDERATION, "there is no Federation", empty_label()).help(help)
            });
            return None;
        };
        for again in drafts.federations.iter().skip(1) {
            self.push(
                Diagnostic::error(
                    codes::TWO_FEDERATIONS,
                    "there is more than one Federation",
                    again.place.label("another one"),
                )
                .also(first.place.label("the first"))
                .help("keep one: all sources together are one declaration"),
            );
        }
        Some(Federation {
            name: first.name.as_ref()?.value.clone(),
            mesh: first.mesh.clone()?,
            prune: first.prune?,
            freeze: first.freeze.clone()?,
            place: first.place.clone(),
        })
    }

    fn zones(&mut self, drafts: &'d [ZoneDraft]) -> BTreeMap<ZoneName, Zone> {
        let mut zones = BTreeMap::new();
        let mut first: BTreeMap<&ZoneName, &Place> = BTreeMap::new();
        let mut kuma: BTreeMap<DnsLabel, (&ZoneName, &Place)> = BTreeMap::new();
        for draft in drafts {
            let Some(At { value: name, place }) = &draft.name else {
                continue;
            };
            if let Some(earlier) = first.get(name) {
                self.taken(
                    format!("there are two zones named `{name}`"),
                    place.label("again here"),
                    earlier.label("first here"),
                );
                continue;
            }
            first.insert(name, place);
            self.zones.insert(name.clone(), draft.platform);
            let gateways = self.gateways(draft, name);
            if let ZoneState::Detached(at) = &draft.state {
                self.detached.insert(name.clone(), at);
            }
            let (kuma_zone, shown) = match &draft.kuma_zone {
                None => continue,
                Some(KumaZone::Own) => match DnsLabel::new(name.as_str()) {
                    Ok(label) => (label, place),
                    Err(_) => continue,
                },
                Some(KumaZone::Named(at)) => (at.value.clone(), &at.place),
            };
            if let Some((other, earlier)) = kuma.get(&kuma_zone) {
                self.diagnostics.push(
                    Diagnostic::error(
                        codes::TWO_ZONES,
                        format!("the zones `{other}` and `{name}` are the same Kuma zone `{kuma_zone}`"),
                        shown.label("this one"),
                    )
                    .also(earlier.label("and this one"))
                    .help("declare each Kuma zone once; `kumaZone` is the zone's own name if not given"),
                );
                continue;
            }
            kuma.insert(kuma_zone.clone(), (name, shown));
            let detached = match draft.state {
                ZoneState::Unreadable => continue,
                ZoneState::Attached => false,
                ZoneState::Detached(_) => true,
            };
            if let (Some(platform), Some(wave), Some(freeze), Some(gateways)) =
                (draft.platform, draft.wave, draft.freeze.clone(), gateways)
            {
                zones.insert(
                    name.clone(),
                    Zone {
                        name: name.clone(),
                        platform,
                        kuma_zone,
                        wave,
                        detached,
                        freeze,
                        gateways,
                        place: draft.place.clone(),
                    },
                );
            }
        }
        zones
    }

    /// Names, and services with their ports, that two splits claim. There is one mesh, so a port of a service
    /// is one thing; another port of the same service is another.
    fn split_names(&mut self, drafts: &[SplitDraft]) {
        let mut names: BTreeMap<_, &Place> = BTreeMap::new();
        let mut ports: BTreeMap<(&ServiceName, u16), &At<ServiceName>> = BTreeMap::new();
        let mut sections: Sections<'_> = drafts
            .iter()
            .filter_map(|draft| {
                let (service, port) = (draft.service.as_ref()?, draft.port.as_ref()?);
                Some((
                    (&service.value, port.value.to_string()),
                    (port.value, &port.place),
                ))
            })
            .collect();
        for draft in drafts {
            if let Some(name) = &draft.name {
                if let Some(first) = names.get(&name.value) {
                    self.taken(
                        format!("there are two splits named `{}`", name.value),
                        name.place.label("again here"),
                        first.label("first here"),
                    );
                    // A copy shares its service as well; that would be the same mistake told twice.
                    continue;
                }
                names.insert(&name.value, &name.place);
            }
            let (Some(service), Some(port)) = (&draft.service, &draft.port) else {
                continue;
            };
            if let Some(first) = ports.get(&(&service.value, port.value)) {
                let message = format!(
                    "two splits for port {} of the service `{}`",
                    port.value, service.value
                );
                self.diagnostics.push(
                    Diagnostic::error(codes::TWO_SPLITS, message, service.place.label("this one"))
                        .also(first.place.label("and this one"))
                        .help("merge their routes into one split: two would overrule each other in the mesh"),
                );
                continue;
            }
            ports.insert((&service.value, port.value), service);
            self.port_names(draft, service, port.value, &mut sections);
        }
    }
}

/// What Kuma tells ports of a service apart by (the name, else the number), with the port that claims it.
type Sections<'d> = BTreeMap<(&'d ServiceName, String), (u16, &'d Place)>;

impl Check<'_> {
    /// Names of ports that another split of the service claims as well: the mesh could not tell the two apart.
    fn port_names<'d>(
        &mut self,
        draft: &'d SplitDraft,
        service: &'d At<ServiceName>,
        port: u16,
        sections: &mut Sections<'d>,
    ) {
        for name in draft.port_names.iter().flatten() {
            let key = (&service.value, name.value.to_string());
            match sections.get(&key) {
                Some((other, first)) if *other != port => {
                    let message = format!(
                        "two splits for the port `{}` of the service `{}`",
                        name.value, service.value
                    );
                    self.diagnostics.push(
                        Diagnostic::error(codes::TWO_SPLITS, message, name.place.label("this one"))
                            .also(first.label("and this one"))
                            .help("a port's name belongs to one port: keep it where that port is declared"),
                    );
                }
                Some(_) => {}
                None => {
                    sections.insert(key, (port, &name.place));
                }
            }
        }
    }
}

/// Stands in where a diagnostic has no place; it is removed at once.
fn empty_label() -> Label {
    Label {
        source: crate::declaration::SourceName(String::new()),
        file: String::new(),
        span: crate::diagnostic::Span {
            start: 0,
            end: 0,
            line: 1,
            column: 1,
        },
        text: String::new(),
    }
}
