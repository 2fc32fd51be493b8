//! Documents to drafts: what each field says, and everything that is wrong within one document.
//!
//! Changed together with the table in `shape.rs`.

mod freeze;
mod gateway;
mod split;
mod transition;

use crate::codes;
use crate::declaration::{Place, Platform, Prune};
use crate::diagnostic::Span;
use crate::draft::{Drafts, FederationDraft, KumaZone, TransitionDraft, Unreadable, ZoneDraft, ZoneState};
use crate::freeze::Freeze;
use crate::names::{DnsLabel, MeshName};
use crate::nearest::nearest;
use crate::reader::{At, Fields, Reader, shown};
use crate::shape;
use crate::yaml::{Document, Entry, Node, Scalar, Value};

/// Reads one document.
pub(crate) fn document(reader: &mut Reader<'_>, document: &Document, drafts: &mut Drafts) {
    let root = &document.root;
    let place = reader.place(&heading(root));
    if !document.whole {
        let kind = kind_of(root);
        drafts.unreadable.push(Unreadable { place, kind });
        return;
    }
    let Value::Mapping(entries) = &root.value else {
        reader.entries(root, "a document");
        return;
    };
    let Some(kind) = entries.iter().find(|entry| entry.key == "kind") else {
        reader.error(
            codes::MISSING_FIELD,
            &place.span,
            "this document has no `kind`",
            "`kind` is missing here",
            format!(
                "add `apiVersion: {}` and a kind: {}",
                shape::API_VERSION,
                shape::KINDS.join(", ")
            ),
        );
        return;
    };
    let foreign = !api_version(reader, entries);
    match reader.text(&kind.value, "`kind`") {
        None => {}
        Some("Federation") => drafts.federations.push(federation(reader, root, place)),
        Some("Zone") => drafts.zones.push(zone(reader, root, place)),
        Some("Split") => drafts.splits.push(split::split(reader, root, place)),
        // A file of another program is told of once, by its apiVersion.
        Some(_) if foreign => {}
        Some(other) => {
            let known = shape::KINDS;
            let help = match nearest(other, known.iter().copied()) {
                Some(kind) => format!("did you mean `{kind}`?"),
                None => format!(
                    "the kinds are: {}; keep other files out of this path",
                    known.join(", ")
                ),
            };
            let message = format!("there is no kind `{}`", shown(other));
            reader.error(
                codes::UNKNOWN_KIND,
                &kind.value.span,
                message,
                "unknown kind",
                help,
            );
        }
    }
}

/// Where a document as a whole is shown: its first line.
fn heading(root: &Node) -> Span {
    match &root.value {
        Value::Mapping(entries) => entries.first().map_or_else(
            || root.span.clone(),
            |entry| match &entry.value.value {
                Value::Scalar { .. } if entry.value.span.line == entry.key_span.line => Span {
                    end: entry.value.span.end.max(entry.key_span.end),
                    ..entry.key_span.clone()
                },
                _ => entry.key_span.clone(),
            },
        ),
        _ => root.span.clone(),
    }
}

/// Whether it is ours, as far as can be told.
fn api_version(reader: &mut Reader<'_>, entries: &[Entry]) -> bool {
    let Some(entry) = entries.iter().find(|entry| entry.key == "apiVersion") else {
        return true;
    };
    match reader.text(&entry.value, "`apiVersion`") {
        Some(version) if version != shape::API_VERSION => {
            reader.error(
                codes::UNKNOWN_API_VERSION,
                &entry.value.span,
                format!("there is no apiVersion `{}`", shown(version)),
                "unknown apiVersion",
                format!(
                    "write `{}`; keep other files out of this path",
                    shape::API_VERSION
                ),
            );
            false
        }
        _ => true,
    }
}

/// The kind of a document that broke off, if it came that far.
fn kind_of(root: &Node) -> Option<String> {
    let Value::Mapping(entries) = &root.value else {
        return None;
    };
    let kind = entries.iter().find(|entry| entry.key == "kind")?;
    match kind.value.scalar() {
        Some(Scalar::Text(text)) => Some(text.to_owned()),
        _ => None,
    }
}

/// The fields of `metadata` and `spec` of a document.
fn parts<'n>(
    reader: &mut Reader<'_>,
    root: &'n Node,
    whole: &shape::Shape,
    spec_shape: &shape::Shape,
    heading: &Span,
) -> (Option<At<DnsLabel>>, Option<(Fields<'n>, Span)>) {
    let Some(fields) = reader.fields(root, whole, heading) else {
        return (None, None);
    };
    let name = fields.get("metadata").and_then(|entry| {
        let metadata = reader.fields(&entry.value, &shape::METADATA, &entry.key_span)?;
        reader.label(&metadata.get("name")?.value, "`metadata.name`")
    });
    let spec = fields.get("spec").and_then(|entry| {
        let spec = reader.fields(&entry.value, spec_shape, &entry.key_span)?;
        Some((spec, entry.key_span.clone()))
    });
    (name, spec)
}

fn federation(reader: &mut Reader<'_>, root: &Node, place: Place) -> FederationDraft {
    let (name, spec) = parts(
        reader,
        root,
        &shape::FEDERATION,
        &shape::FEDERATION_SPEC,
        &place.span,
    );
    let given = matches!(&root.value, Value::Mapping(all) if all.iter().any(|entry| entry.key == "spec"));
    let mesh = match (&spec, spec.as_ref().and_then(|(spec, _)| spec.get("mesh"))) {
        (_, Some(entry)) => reader
            .label(&entry.value, "`spec.mesh`")
            .map(|at| MeshName::from(at.value)),
        (None, None) if given => None,
        (_, None) => MeshName::new("default").ok(),
    };
    let prune = match spec.as_ref().and_then(|(spec, _)| spec.get("prune")) {
        None => Some(Prune::default()),
        Some(entry) => word(
            reader,
            entry,
            "`spec.prune`",
            codes::WRONG_TYPE,
            shape::PRUNE,
            |text| format!("`spec.prune` cannot be `{text}`"),
            |text| match text {
                "refuse" => Some(Prune::Refuse),
                "allow" => Some(Prune::Allow),
                _ => None,
            },
        )
        .map(|at| at.value),
    };
    let field = |name| spec.as_ref().and_then(|(spec, _)| spec.get(name));
    let transition = field("transition").map_or_else(TransitionDraft::default, |entry| {
        transition::transition(reader, entry)
    });
    let freeze = match field("freeze") {
        None => Some(Freeze::Never),
        Some(entry) => freeze::freeze(reader, entry),
    };
    FederationDraft {
        place: named_place(&place, name.as_ref()),
        name: name.map(|at| at.map(Into::into)),
        mesh,
        prune,
        transition,
        freeze,
    }
}

/// A declared thing's place is its name where it has one: that is what other diagnostics point at.
fn named_place(heading: &Place, name: Option<&At<DnsLabel>>) -> Place {
    name.map_or_else(|| heading.clone(), |at| at.place.clone())
}

/// One of some words, else the nearest of them in the help.
fn word<T>(
    reader: &mut Reader<'_>,
    entry: &Entry,
    what: &str,
    code: crate::diagnostic::Code,
    words: &[&str],
    message: impl Fn(&str) -> String,
    value: impl Fn(&str) -> Option<T>,
) -> Option<At<T>> {
    let text = reader.text(&entry.value, what)?;
    if let Some(value) = value(text) {
        return Some(reader.at(value, &entry.value.span));
    }
    let help = match nearest(text, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? It is one of: {}", words.join(", ")),
        None => format!("it is one of: {}", words.join(", ")),
    };
    reader.error(
        code,
        &entry.value.span,
        message(&shown(text)),
        "not one of them",
        help,
    );
    None
}

fn zone(reader: &mut Reader<'_>, root: &Node, place: Place) -> ZoneDraft {
    let (name, spec) = parts(reader, root, &shape::ZONE, &shape::ZONE_SPEC, &place.span);
    let mut draft = ZoneDraft {
        place: named_place(&place, name.as_ref()),
        name: name.map(|at| at.map(Into::into)),
        platform: None,
        kuma_zone: None,
        wave: None,
        state: ZoneState::Unreadable,
        freeze: None,
        gateways: Some(Vec::new()),
    };
    let Some((spec, _)) = spec else {
        return draft;
    };
    draft.platform = spec.get("platform").and_then(|entry| {
        let read = |text: &str| match text {
            "eks" => Some(Platform::Eks),
            "eks-d" => Some(Platform::EksD),
            "kubernetes" => Some(Platform::Kubernetes),
            "vm" => Some(Platform::Vm),
            _ => None,
        };
        let message = |text: &str| format!("there is no platform `{text}`");
        let words = shape::PLATFORMS;
        word(
            reader,
            entry,
            "`spec.platform`",
            codes::UNKNOWN_PLATFORM,
            words,
            message,
            read,
        )
        .map(|at| at.value)
    });
    draft.kuma_zone = match spec.get("kumaZone") {
        None => Some(KumaZone::Own),
        Some(entry) => reader.label(&entry.value, "`spec.kumaZone`").map(KumaZone::Named),
    };
    draft.wave = match spec.get("wave") {
        None => Some(1),
        Some(entry) => reader.whole(&entry.value, "`spec.wave`", 1, 1000),
    };
    draft.state = match spec.get("state") {
        None => ZoneState::Attached,
        Some(entry) => state(reader, entry),
    };
    draft.freeze = match spec.get("freeze") {
        None => Some(Freeze::Never),
        Some(entry) => freeze::freeze(reader, entry),
    };
    if let Some(entry) = spec.get("gateways") {
        draft.gateways = gateway::gateways(reader, entry);
    }
    draft
}

fn state(reader: &mut Reader<'_>, entry: &Entry) -> ZoneState {
    let detached = word(
        reader,
        entry,
        "`spec.state`",
        codes::WRONG_TYPE,
        shape::STATES,
        |text| format!("`spec.state` cannot be `{text}`"),
        |text| match text {
            "attached" => Some(false),
            "detached" => Some(true),
            _ => None,
        },
    );
    match detached {
        None => ZoneState::Unreadable,
        Some(At { value: false, .. }) => ZoneState::Attached,
        Some(At { value: true, place }) => ZoneState::Detached(place),
    }
}
