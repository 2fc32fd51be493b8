//! A Split, as it is written: its port, its backends, its routes and their weights.
//!
//! Changed together with the table in `shape.rs`.

use super::{heading, named_place, parts, word};
use crate::codes;
use crate::declaration::{Place, Protocol};
use crate::diagnostic::Diagnostic;
use crate::draft::{
    BackendDraft, Backends, Fallbacks, Matches, Namespace, RouteDraft, Routes, SplitDraft, TransitionDraft,
    Weights,
};
use crate::freeze::Freeze;
use crate::limits;
use crate::names::{BackendName, PortName};
use crate::read_match::read_match;
use crate::reader::{At, Reader, shown};
use crate::shape;
use crate::weight::{BasisPoints, WeightError};
use crate::yaml::{Entry, Node, Scalar, Value};

pub(super) fn split(reader: &mut Reader<'_>, root: &Node, place: Place) -> SplitDraft {
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
        gateways: Some(Vec::new()),
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
        draft.transition = super::transition::transition(reader, entry);
    }
    if let Some(entry) = spec.get("streaming") {
        draft.streaming = reader.flag(&entry.value, "`spec.streaming`").map(Some);
    }
    if let Some(entry) = spec.get("freeze") {
        draft.freeze = super::freeze::freeze(reader, entry);
    }
    if let Some(entry) = spec.get("fallback") {
        draft.fallbacks = super::transition::fallbacks(reader, entry);
    }
    if let Some(entry) = spec.get("gateways") {
        draft.gateways = super::gateway::doors(reader, entry);
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
            Some(entry) => super::transition::share(reader, &entry.value, "`capacity`", true).map(Some),
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
pub(super) fn weight_text(node: &Node) -> Option<Result<&str, String>> {
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
