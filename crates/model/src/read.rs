//! Documents to drafts: what each field says, and everything that is wrong within one document.
//!
//! Changed together with the table in `shape.rs`.

mod freeze;
mod transition;

use crate::codes;
use crate::declaration::{Place, Platform, Protocol, Prune};
use crate::diagnostic::{Diagnostic, Span};
use crate::draft::{
    BackendDraft, Backends, Drafts, Fallbacks, FederationDraft, KumaZone, Matches, Namespace, RouteDraft,
    Routes, SplitDraft, TransitionDraft, Unreadable, Weights, ZoneDraft, ZoneState,
};
use crate::freeze::Freeze;
use crate::limits;
use crate::names::{BackendName, DnsLabel, MeshName, PortName};
use crate::nearest::nearest;
use crate::read_match::read_match;
use crate::reader::{At, Fields, Reader, shown};
use crate::shape;
use crate::weight::{BasisPoints, WeightError};
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
        Some("Split") => drafts.splits.push(split(reader, root, place)),
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
        Some(At { value: true, .. }) => ZoneState::Detached,
    }
}

fn split(reader: &mut Reader<'_>, root: &Node, place: Place) -> SplitDraft {
    let (name, spec) = parts(reader, root, &shape::SPLIT, &shape::SPLIT_SPEC, &place.span);
    let mut draft = SplitDraft {
        place: named_place(&place, name.as_ref()),
        name: name.map(|at| at.map(Into::into)),
        service: None,
        port: None,
        port_names: Some(Vec::new()),
        protocol: None,
        backends: Backends::default(),
        routes: Routes::default(),
        transition: TransitionDraft::default(),
        streaming: Some(None),
        freeze: Some(Freeze::Never),
        fallbacks: Fallbacks::default(),
    };
    let Some((spec, _)) = spec else {
        return draft;
    };
    draft.service = spec
        .get("service")
        .and_then(|entry| reader.label(&entry.value, "`spec.service`"))
        .map(|at| at.map(Into::into));
    draft.port = spec.get("port").and_then(|entry| {
        let port = reader.whole(&entry.value, "`spec.port`", 1, 65535)?;
        let port = u16::try_from(port).ok()?;
        Some(reader.at(port, &entry.value.span))
    });
    if let Some(entry) = spec.get("portNames") {
        draft.port_names = port_names(reader, entry);
    }
    draft.protocol = spec.get("protocol").and_then(|entry| {
        let read = |text: &str| match text {
            "http" => Some(Protocol::Http),
            "http2" => Some(Protocol::Http2),
            "grpc" => Some(Protocol::Grpc),
            "tcp" => Some(Protocol::Tcp),
            _ => None,
        };
        let message = |text: &str| format!("the mesh cannot split the protocol `{text}`");
        word(
            reader,
            entry,
            "`spec.protocol`",
            codes::PROTOCOL,
            shape::PROTOCOLS,
            message,
            read,
        )
    });
    if let Some(entry) = spec.get("backends") {
        draft.backends = backends(reader, entry);
    }
    if let Some(entry) = spec.get("routes") {
        draft.routes = routes(reader, entry);
    }
    if let Some(entry) = spec.get("transition") {
        draft.transition = transition::transition(reader, entry);
    }
    if let Some(entry) = spec.get("streaming") {
        draft.streaming = reader.flag(&entry.value, "`spec.streaming`").map(Some);
    }
    if let Some(entry) = spec.get("freeze") {
        draft.freeze = freeze::freeze(reader, entry);
    }
    if let Some(entry) = spec.get("fallback") {
        draft.fallbacks = transition::fallbacks(reader, entry);
    }
    draft
}

/// Names of the port, each once; none where one of them is no name.
fn port_names(reader: &mut Reader<'_>, entry: &Entry) -> Option<Vec<At<PortName>>> {
    let items = reader.list(&entry.value, "`spec.portNames`", limits::PORT_NAMES)?;
    let mut sound = true;
    let mut names: Vec<At<PortName>> = Vec::new();
    for item in items {
        let Some(text) = reader.text(item, "a port's name") else {
            sound = false;
            continue;
        };
        let name = match PortName::new(text) {
            Ok(name) => reader.at(name, &item.span),
            Err(error) => {
                sound = false;
                reader.error(
                    codes::BAD_NAME,
                    &item.span,
                    format!("`{}` is not a port's name: {error}", shown(text)),
                    "not an RFC 1123 label",
                    "use the name that the port has in its Service or its inbound",
                );
                continue;
            }
        };
        if let Some(first) = names.iter().find(|first| first.value == name.value) {
            sound = false;
            reader.diagnostics.push(
                Diagnostic::error(
                    codes::DUPLICATE_NAME,
                    format!("the port's name `{}` stands twice", name.value),
                    name.place.label("again here"),
                )
                .also(first.place.label("first here"))
                .help("remove one of the two"),
            );
            continue;
        }
        names.push(name);
    }
    sound.then_some(names)
}

fn backends(reader: &mut Reader<'_>, entry: &Entry) -> Backends {
    let mut backends = Backends::default();
    let Some(entries) = reader.entries(&entry.value, "`spec.backends`") else {
        return backends;
    };
    if entries.is_empty() {
        reader.error(
            codes::EMPTY,
            &entry.key_span,
            "a split needs at least one backend",
            "no backend here",
            "add one: a name, and the zone where this version of the service runs",
        );
        return backends;
    }
    if !reader.count(&entry.value, entries.len(), "`spec.backends`", limits::BACKENDS) {
        return backends;
    }
    backends.complete = matches!(&entry.value.value, Value::Mapping(all) if all.len() == entries.len());
    for entry in entries {
        let name = reader.name(&entry.key, &entry.key_span, "this backend's key");
        let fields = reader.fields(&entry.value, &shape::BACKEND, &entry.key_span);
        let zone = fields
            .as_ref()
            .and_then(|fields| fields.get("zone"))
            .and_then(|entry| reader.label(&entry.value, "`zone`"));
        let namespace = match &fields {
            None => Namespace::Unreadable,
            Some(fields) => match fields.get("namespace") {
                None => Namespace::Absent,
                Some(entry) => {
                    let label = reader.label(&entry.value, "`namespace`");
                    label.map_or(Namespace::Unreadable, Namespace::Named)
                }
            },
        };
        let capacity = match fields.as_ref().and_then(|fields| fields.get("capacity")) {
            None => Some(None),
            Some(entry) => transition::share(reader, &entry.value, "`capacity`", true).map(Some),
        };
        match name {
            None => backends.complete = false,
            Some(name) => backends.found.push(BackendDraft {
                name: name.map(BackendName::from),
                zone: zone.map(|at| at.map(Into::into)),
                namespace,
                capacity,
            }),
        }
    }
    backends
}

fn routes(reader: &mut Reader<'_>, entry: &Entry) -> Routes {
    let mut routes = Routes {
        place: Some(reader.place(&entry.key_span)),
        ..Routes::default()
    };
    let Some(items) = reader.list(&entry.value, "`spec.routes`", limits::ROUTES) else {
        return routes;
    };
    routes.complete = true;
    for item in items {
        if let Some(route) = route(reader, item) {
            routes.found.push(route);
        } else {
            routes.complete = false;
        }
    }
    routes
}

fn route(reader: &mut Reader<'_>, node: &Node) -> Option<RouteDraft> {
    let owner = heading(node);
    let fields = reader.fields(node, &shape::ROUTE, &owner)?;
    let name = fields
        .get("name")
        .and_then(|entry| reader.label(&entry.value, "a route's `name`"));
    let matches = match fields.get("match") {
        None => Matches::Absent,
        Some(entry) => {
            let key = reader.place(&entry.key_span);
            match read_match(reader, entry) {
                None => Matches::Unreadable(key),
                Some(value) => Matches::Given(At { value, place: key }),
            }
        }
    };
    let weights = fields
        .get("weights")
        .map_or_else(Weights::default, |entry| weights(reader, entry));
    let place = reader.place(&owner);
    Some(RouteDraft {
        place: named_place(&place, name.as_ref()),
        name: name.map(|at| at.map(Into::into)),
        matches,
        weights,
    })
}

fn weights(reader: &mut Reader<'_>, entry: &Entry) -> Weights {
    let mut weights = Weights {
        place: Some(reader.place(&entry.key_span)),
        ..Weights::default()
    };
    let Some(entries) = reader.entries(&entry.value, "`weights`") else {
        return weights;
    };
    // Of a key that stands twice only one weight is known here: the sum would be a second complaint.
    if !reader.count(&entry.value, entries.len(), "`weights`", limits::BACKENDS) {
        return weights;
    }
    weights.named = true;
    weights.complete = matches!(&entry.value.value, Value::Mapping(all) if all.len() == entries.len());
    for entry in entries {
        let name = reader.name(&entry.key, &entry.key_span, "this backend's key");
        let weight = weight(reader, &entry.value);
        weights.complete &= name.is_some() && weight.is_some();
        weights.named &= name.is_some();
        if let Some(name) = name {
            weights.found.push((name.map(BackendName::from), weight));
        }
    }
    weights
}

/// The number that a share is, or what is there instead; `None` where that has been reported.
fn weight_text(node: &Node) -> Option<Result<&str, String>> {
    Some(match (node.scalar(), &node.value) {
        (_, Value::Unreadable) => return None,
        (Some(Scalar::Number(text)), _) => Ok(text),
        (Some(Scalar::Text(text)), Value::Scalar { plain: false, .. }) => {
            Err(format!("`\"{}\"`", shown(text)))
        }
        (Some(Scalar::Text(text)), _) => Err(format!("`{}`", shown(text))),
        (Some(Scalar::Bool(_)), _) => Err("true or false".to_owned()),
        (Some(Scalar::Null), _) => Err("nothing".to_owned()),
        (None, Value::Sequence(_)) => Err("a list".to_owned()),
        (None, _) => Err("a mapping".to_owned()),
    })
}

fn weight(reader: &mut Reader<'_>, node: &Node) -> Option<At<BasisPoints>> {
    let (error, found) = match weight_text(node)? {
        Err(found) => (WeightError::NotANumber, found),
        Ok(text) => match BasisPoints::from_percent_text(text) {
            Ok(weight) => return Some(reader.at(weight, &node.span)),
            Err(error) => (error, format!("`{}`", shown(text))),
        },
    };
    let (code, label, help) = match error {
        WeightError::NotANumber => (
            codes::WEIGHT_NOT_A_NUMBER,
            "not a weight",
            "write per cent as a plain number: 90 or 0.5; no quotes, no `%`, no exponent",
        ),
        WeightError::Range => (
            codes::WEIGHT_RANGE,
            "out of range",
            "weights are per cent: each between 0 and 100, together exactly 100",
        ),
        WeightError::Precision => (
            codes::WEIGHT_PRECISION,
            "too many decimals",
            "the smallest share is 0.01 per cent: round to two decimals so that the sum is 100",
        ),
    };
    reader.error(
        code,
        &node.span,
        format!("{error}, but here is {found}"),
        label,
        help,
    );
    None
}
