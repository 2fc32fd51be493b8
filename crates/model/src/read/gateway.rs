//! Gateways of a zone and doors of a split, as they are written. Changed together with the table in `shape/gateway.rs`.

mod text;

use std::collections::{BTreeMap, BTreeSet};

use super::{heading, word};
use crate::codes;
use crate::draft::{BaseDraft, DoorDraft, EntryDraft, GatewayDraft, ParentDraft, ViaDraft};
use crate::gateway::{Address, Channel, ParentRef, Redirect, Routing};
use crate::limits;
use crate::names::{BackendName, DnsLabel, ZoneName};
use crate::reader::{At, Fields, Reader, shown};
use crate::shape::gateway as shapes;
use crate::yaml::{Entry, Node, Scalar, Value};
use text::{bad, host, method, path, sni, texts, value};

/// `gateways` of a zone; `None` if the list itself could not be read.
pub(super) fn gateways(reader: &mut Reader<'_>, entry: &Entry) -> Option<Vec<GatewayDraft>> {
    let items = reader.list(&entry.value, "`spec.gateways`", limits::GATEWAYS)?;
    Some(items.iter().filter_map(|item| gateway(reader, item)).collect())
}

fn gateway(reader: &mut Reader<'_>, node: &Node) -> Option<GatewayDraft> {
    let owner = heading(node);
    let fields = reader.fields(node, &shapes::ZONE_GATEWAY, &owner)?;
    let name = fields
        .get("name")
        .and_then(|entry| reader.label(&entry.value, "a gateway's `name`"));
    let channel = fields.get("channel").and_then(|entry| channel(reader, entry));
    let in_mesh = match fields.get("inMesh") {
        None => Some(false),
        Some(entry) => reader.flag(&entry.value, "`inMesh`").map(|at| at.value),
    };
    let base = match fields.get("base") {
        None => BaseDraft::Absent,
        Some(entry) => match reader.text(&entry.value, "`base`") {
            None => BaseDraft::Unreadable,
            Some(text) => BaseDraft::Named(reader.at(text.to_owned(), &entry.value.span)),
        },
    };
    let parent = match fields.get("parentRef") {
        None => ParentDraft::Absent,
        Some(entry) => parent(reader, entry).map_or(ParentDraft::Unreadable, ParentDraft::Named),
    };
    let place = reader.place(&owner);
    Some(GatewayDraft {
        place: super::named_place(&place, name.as_ref()),
        name: name.map(|at| at.map(Into::into)),
        channel,
        in_mesh,
        base,
        parent,
    })
}

fn parent(reader: &mut Reader<'_>, entry: &Entry) -> Option<At<ParentRef>> {
    let fields = reader.fields(&entry.value, &shapes::PARENT, &entry.key_span)?;
    let mut label = |name: &str| {
        let entry = fields.get(name)?;
        reader.label(&entry.value, &format!("`{name}` of a `parentRef`"))
    };
    let (namespace, name) = (label("namespace"), label("name"));
    let section = match fields.get("sectionName") {
        None => None,
        Some(_) => Some(label("sectionName")?.value),
    };
    let parent = ParentRef {
        namespace: namespace?.value,
        name: name?.value,
        section,
    };
    fields.complete.then(|| reader.at(parent, &entry.value.span))
}

fn channel(reader: &mut Reader<'_>, entry: &Entry) -> Option<Channel> {
    let read = |text: &str| match text {
        "admin-dbless" => Some(Channel::AdminDbless),
        "admin-db" => Some(Channel::AdminDb),
        "kic" => Some(Channel::Kic),
        _ => None,
    };
    let message = |text: &str| format!("there is no channel `{text}`");
    let channel = word(
        reader,
        entry,
        "`channel`",
        codes::WRONG_TYPE,
        shapes::CHANNELS,
        message,
        read,
    )?;
    Some(channel.value)
}

/// `gateways` of a split.
pub(super) fn doors(reader: &mut Reader<'_>, entry: &Entry) -> Option<Vec<DoorDraft>> {
    let items = reader.list(&entry.value, "`spec.gateways`", limits::GATEWAYS)?;
    let mut doors = Some(Vec::new());
    for item in items {
        match (door(reader, item), &mut doors) {
            (Some(door), Some(doors)) => doors.push(door),
            _ => doors = None,
        }
    }
    doors
}

fn door(reader: &mut Reader<'_>, node: &Node) -> Option<DoorDraft> {
    let owner = heading(node);
    let fields = reader.fields(node, &shapes::SPLIT_GATEWAY, &owner)?;
    let gateway = fields
        .get("gateway")
        .and_then(|entry| reader.label(&entry.value, "`gateway`"));
    let zones = match fields.get("zones") {
        None => Some(None),
        Some(entry) => zones(reader, entry).map(Some),
    };
    let before = reader.diagnostics.len();
    let routing = routing(reader, &fields);
    let routing = (reader.diagnostics.len() == before).then_some(routing);
    let entry = match (fields.get("service"), fields.get("httpRoute")) {
        (None, None) => match routing {
            Some(routing) => entry_of(reader, routing, &owner),
            None => None,
        },
        (Some(entry), _) => taken_over(reader, ("service", entry), &fields).map(EntryDraft::Service),
        (None, Some(entry)) => taken_over(reader, ("httpRoute", entry), &fields)
            .and_then(|at| route_name(reader, at, &entry.value.span))
            .map(EntryDraft::HttpRoute),
    };
    let via = match (fields.get("mesh"), fields.get("backends")) {
        _ if !fields.complete => None,
        (Some(entry), _) => address(reader, &entry.value).map(ViaDraft::Mesh),
        (None, Some(entry)) => backends(reader, entry).map(|backends| ViaDraft::Addresses {
            backends,
            place: reader.place(&entry.key_span),
        }),
        (None, None) => None,
    };
    Some(DoorDraft {
        place: reader.place(&owner),
        gateway: gateway?.map(Into::into),
        zones: zones?,
        entry: entry?,
        via: via?,
    })
}

/// A service of the base, or an HTTPRoute: then what is theirs matches, and nothing else may be said of it.
fn taken_over(
    reader: &mut Reader<'_>,
    (of, entry): (&str, &Entry),
    fields: &Fields<'_>,
) -> Option<At<String>> {
    let matching = [
        "httpRoute",
        "hosts",
        "paths",
        "methods",
        "headers",
        "snis",
        "httpsOnly",
        "httpsRedirect",
        "stripPath",
        "preserveHost",
    ];
    for name in matching.into_iter().filter(|name| *name != of) {
        if let Some(other) = fields.get(name) {
            let why = match of {
                "service" => "the base's own routes match for that service",
                _ => "the route's own rule says which requests it takes",
            };
            reader.error(
                codes::BAD_ENTRY,
                &other.key_span,
                format!("`{name}` stands beside `{of}`"),
                why,
                format!("remove `{name}`, or `{of}`"),
            );
            return None;
        }
    }
    let text = reader.text(&entry.value, &format!("`{of}`"))?;
    Some(reader.at(text.to_owned(), &entry.value.span))
}

/// The name of an HTTPRoute that is not one of Weir's own.
fn route_name(reader: &mut Reader<'_>, at: At<String>, span: &crate::diagnostic::Span) -> Option<At<String>> {
    let label = |label: &str| DnsLabel::new(label).is_ok();
    let why = match at.value.as_str() {
        name if name.len() > 253 || !name.split('.').all(label) => "not the name of an object in Kubernetes",
        name if name.starts_with("weir.") => "Weir's own routes are named so",
        _ => return Some(at),
    };
    reader.error(
        codes::BAD_ENTRY,
        span,
        format!("`httpRoute` is `{}`", at.value),
        why,
        "name an HTTPRoute of yours, without its namespace: it is the one of the backends",
    );
    None
}

fn entry_of(
    reader: &mut Reader<'_>,
    routing: Routing,
    owner: &crate::diagnostic::Span,
) -> Option<EntryDraft> {
    let nothing = routing.hosts.is_empty()
        && routing.paths.is_empty()
        && routing.methods.is_empty()
        && routing.headers.is_empty();
    if nothing {
        reader.error(
            codes::BAD_ENTRY,
            owner,
            "a split's gateway says nothing that a request could match",
            "no `hosts`, `paths`, `methods` or `headers`, and no `service` or `httpRoute`",
            "say at least which `hosts` or `paths` it is, or which `service` of the base (with `kic`: which `httpRoute`) it takes over",
        );
        return None;
    }
    Some(EntryDraft::Routes(routing))
}

fn routing(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Routing {
    let mut flag = |name: &str, otherwise: bool| match fields.get(name) {
        None => otherwise,
        Some(entry) => reader
            .flag(&entry.value, &format!("`{name}`"))
            .map_or(otherwise, |at| at.value),
    };
    let (https_only, strip_path, preserve_host) = (
        flag("httpsOnly", false),
        flag("stripPath", true),
        flag("preserveHost", false),
    );
    let https_redirect = https_redirect(reader, fields.get("httpsRedirect"));
    let of_tls = [
        (
            "snis",
            "a request by plain HTTP asks for no name, and would come past it",
        ),
        (
            "httpsRedirect",
            "plain HTTP is served here, and nobody is sent elsewhere",
        ),
    ];
    // One of another type was told of already.
    let unread = fields
        .get("httpsOnly")
        .is_some_and(|entry| !matches!(entry.value.scalar(), Some(Scalar::Bool(_))));
    for (name, why) in of_tls.into_iter().filter(|_| !https_only && !unread) {
        if let Some(entry) = fields.get(name) {
            reader.error(
                codes::TLS,
                &entry.key_span,
                format!("`{name}` stands without `httpsOnly: true`"),
                why,
                format!("add `httpsOnly: true`, or remove `{name}`"),
            );
        }
    }
    let mut headers = BTreeMap::new();
    if let Some(entry) = fields.get("headers")
        && let Some(items) = reader.list(&entry.value, "`headers`", limits::MATCHES)
    {
        for item in items {
            header(reader, item, &mut headers);
        }
    }
    Routing {
        hosts: texts(reader, fields.get("hosts"), "`hosts`", host),
        paths: texts(reader, fields.get("paths"), "`paths`", path),
        methods: texts(reader, fields.get("methods"), "`methods`", method),
        headers,
        snis: texts(reader, fields.get("snis"), "`snis`", sni),
        https_only,
        https_redirect,
        strip_path,
        preserve_host,
    }
}

fn https_redirect(reader: &mut Reader<'_>, entry: Option<&Entry>) -> Redirect {
    let Some(entry) = entry else {
        return Redirect::default();
    };
    let Some(code) = reader.whole(&entry.value, "`httpsRedirect`", 0, u32::MAX) else {
        return Redirect::default();
    };
    let found = u16::try_from(code).ok().and_then(Redirect::of_code);
    if found.is_none() {
        reader.error(
            codes::TLS,
            &entry.value.span,
            format!("`httpsRedirect` is {code}"),
            "no status that Kong answers plain HTTP with",
            "it is 301, 302, 307 or 308, which lead to the same place by HTTPS, or 426, which leads nowhere",
        );
    }
    found.unwrap_or_default()
}

fn header(reader: &mut Reader<'_>, node: &Node, headers: &mut BTreeMap<String, BTreeSet<String>>) {
    let owner = heading(node);
    let Some(fields) = reader.fields(node, &shapes::ENTRY_HEADER, &owner) else {
        return;
    };
    let values = texts(reader, fields.get("values"), "`values`", value);
    let Some(entry) = fields.get("name") else { return };
    let Some(name) = reader.text(&entry.value, "a header's `name`") else {
        return;
    };
    let name = name.to_ascii_lowercase();
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || !name.bytes().all(legal) || name == "host" {
        bad(
            reader,
            &entry.value,
            "a header here has letters, digits, `-` and `_`, and is not `host`",
        );
    } else if headers.insert(name, values).is_some() {
        bad(reader, &entry.value, "this header stands twice");
    }
}

fn zones(reader: &mut Reader<'_>, entry: &Entry) -> Option<Vec<At<ZoneName>>> {
    let items = reader.list(&entry.value, "`zones`", limits::GATEWAY_ZONES)?;
    let mut zones: Option<Vec<At<ZoneName>>> = Some(Vec::new());
    if items.is_empty() {
        reader.error(
            codes::EMPTY,
            &entry.key_span,
            "`zones` is empty",
            "no zone here",
            "remove it, which means all zones that have this gateway, or name at least one",
        );
        return None;
    }
    for item in items {
        match (reader.label(item, "a zone's name"), &mut zones) {
            (Some(name), Some(zones)) => zones.push(name.map(Into::into)),
            _ => zones = None,
        }
    }
    zones
}

fn address(reader: &mut Reader<'_>, node: &Node) -> Option<At<Address>> {
    let text = reader.text(node, "an address")?;
    match Address::new(text) {
        Ok(address) => Some(reader.at(address, &node.span)),
        Err(error) => {
            reader.error(
                codes::BAD_ADDRESS,
                &node.span,
                format!("`{}` is not an address: {error}", shown(text)),
                "not an address",
                "write `10.0.0.5:8080`, `[2001:db8::5]:8080` or `shop.example.com:80`",
            );
            None
        }
    }
}

fn backends(reader: &mut Reader<'_>, entry: &Entry) -> Option<Vec<(At<BackendName>, BTreeSet<Address>)>> {
    let entries = reader.entries(&entry.value, "`backends`")?;
    if !reader.count(&entry.value, entries.len(), "`backends`", limits::BACKENDS) {
        return None;
    }
    let mut sound = true;
    let mut found = Vec::new();
    for entry in entries {
        let name = reader.name(&entry.key, &entry.key_span, "this backend's key");
        let nodes = match &entry.value.value {
            Value::Sequence(items)
                if reader.count(
                    &entry.value,
                    items.len(),
                    "a backend's addresses",
                    limits::ADDRESSES,
                ) =>
            {
                items.iter().collect()
            }
            Value::Sequence(_) => Vec::new(),
            _ => vec![&entry.value],
        };
        let read: Vec<Option<At<Address>>> = nodes.into_iter().map(|node| address(reader, node)).collect();
        let given = read.len();
        let addresses: BTreeSet<Address> = read.into_iter().flatten().map(|at| at.value).collect();
        if given == 0 {
            reader.error(
                codes::EMPTY,
                &entry.key_span,
                "this backend has no address",
                "nothing here",
                "name at least one `host:port`",
            );
        }
        sound &= name.is_some() && given > 0 && addresses.len() == given;
        if let Some(name) = name {
            found.push((name.map(BackendName::from), addresses));
        }
    }
    sound.then_some(found)
}
