//! Which route a request takes: the order and the matches of Kong's `traditional_compatible` router for hosts, paths,
//! methods and headers.

use std::sync::Arc;

use http::request::Parts;
use serde_json::Value;

use super::store::Entities;
use super::texts;

/// The routes in the order in which they are asked.
#[derive(Debug, Default)]
pub(super) struct Router(Vec<Route>);

#[derive(Debug)]
struct Route {
    priority: u64,
    entity: Arc<Value>,
    service: Option<Arc<Value>>,
    methods: Vec<String>,
    hosts: Vec<Host>,
    paths: Vec<Path>,
    headers: Vec<(String, Vec<Wanted>)>,
}

#[derive(Debug)]
struct Host {
    port: Option<u16>,
    name: HostName,
}

#[derive(Debug)]
enum HostName {
    Exactly(String),
    EndsWith(String),
    BeginsWith(String),
}

#[derive(Debug)]
enum Path {
    Prefix(String),
    Expression(regex::Regex),
}

#[derive(Debug)]
enum Wanted {
    Exactly(String),
    Expression(regex::Regex),
}

/// The route that a request takes.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    /// The route.
    pub(super) route: &'a Value,
    /// Its service.
    pub(super) service: Option<&'a Value>,
    /// How much of the path it matched.
    pub(super) matched: usize,
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn host(text: &str) -> Host {
    let (name, port) = match text.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name, Some(port)),
        _ => (text, None),
    };
    let name = name.to_ascii_lowercase();
    let name = match (name.strip_prefix('*'), name.strip_suffix('*')) {
        (Some(end), _) => HostName::EndsWith(end.to_owned()),
        (_, Some(begin)) => HostName::BeginsWith(begin.to_owned()),
        _ => HostName::Exactly(name),
    };
    Host { port, name }
}

impl Route {
    /// One route with paths of one length, or of expressions only.
    fn new(entity: &Arc<Value>, service: Option<Arc<Value>>, paths: Vec<&str>) -> Self {
        let headers: Vec<(String, Vec<Wanted>)> = match entity["headers"].as_object() {
            None => Vec::new(),
            Some(all) => all
                .iter()
                .map(|(name, values)| (header_name(name), wanted(values)))
                .collect(),
        };
        let hosts: Vec<&str> = strings(&entity["hosts"]).collect();
        let methods: Vec<String> = strings(&entity["methods"]).map(str::to_owned).collect();
        let has = |field: &str| entity[field].as_array().is_some_and(|all| !all.is_empty());
        let attributes = [
            !methods.is_empty(),
            !hosts.is_empty(),
            !headers.is_empty(),
            has("snis"),
            !paths.is_empty(),
        ];
        let count = attributes.into_iter().filter(|there| *there).count() as u64;
        let plain = entity["hosts"].is_array() && !hosts.iter().any(|host| host.contains('*'));
        let expression = paths.first().is_some_and(|path| path.starts_with('~'));
        let length = if expression {
            0
        } else {
            paths.first().map_or(0, |path| path.len()) as u64
        };
        let regex_priority = entity["regex_priority"]
            .as_u64()
            .filter(|_| expression)
            .unwrap_or(0);
        let priority = count << 61
            | u64::from(plain) << 60
            | (headers.len() as u64).min(255) << 52
            | u64::from(expression) << 51
            | regex_priority << 19
            | length & 0x7_ffff;
        let path = |path: &str| match path.strip_prefix('~') {
            None => Some(Path::Prefix(path.to_owned())),
            Some(text) => regex::Regex::new(&format!("^(?:{text})"))
                .ok()
                .map(Path::Expression),
        };
        Self {
            priority,
            entity: Arc::clone(entity),
            service,
            methods,
            hosts: hosts.into_iter().map(host).collect(),
            paths: paths.into_iter().filter_map(path).collect(),
            headers,
        }
    }

    fn takes(&self, request: &Asked<'_>) -> Option<usize> {
        if !self.methods.is_empty() && !self.methods.iter().any(|method| method == request.method) {
            return None;
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|host| host.takes(request)) {
            return None;
        }
        let there = |(name, wanted): &(String, Vec<Wanted>)| {
            let mut given = request
                .headers
                .iter()
                .filter(|(have, _)| header_name(have.as_str()) == *name);
            given.any(|(_, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).to_lowercase();
                wanted.iter().any(|wanted| wanted.takes(&value))
            })
        };
        if !self.headers.iter().all(there) {
            return None;
        }
        if self.paths.is_empty() {
            return Some(0);
        }
        self.paths.iter().find_map(|path| match path {
            Path::Prefix(prefix) => request.path.starts_with(prefix.as_str()).then_some(prefix.len()),
            Path::Expression(expression) => expression.find(request.path).map(|found| found.end()),
        })
    }
}

impl Host {
    fn takes(&self, request: &Asked<'_>) -> bool {
        if self.port.is_some_and(|port| port != request.port) {
            return false;
        }
        match &self.name {
            HostName::Exactly(name) => request.host == *name,
            HostName::EndsWith(end) => request.host.ends_with(end.as_str()),
            HostName::BeginsWith(begin) => request.host.starts_with(begin.as_str()),
        }
    }
}

impl Wanted {
    fn takes(&self, value: &str) -> bool {
        match self {
            Self::Exactly(wanted) => value == wanted,
            Self::Expression(wanted) => wanted.is_match(value),
        }
    }
}

/// Dashes and underscores are one to the router.
fn header_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

fn wanted(values: &Value) -> Vec<Wanted> {
    let one = |value: &str| match value.strip_prefix("~*") {
        None => Some(Wanted::Exactly(value.to_lowercase())),
        Some(text) => regex::Regex::new(&text.to_lowercase())
            .ok()
            .map(Wanted::Expression),
    };
    strings(values).filter_map(one).collect()
}

/// What the router looks at.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    method: &'a str,
    host: String,
    /// The path in its normal form.
    pub(super) path: &'a str,
    port: u16,
    headers: &'a http::HeaderMap,
}

impl<'a> Asked<'a> {
    /// Of a request that came to this port.
    pub(super) fn new(head: &'a Parts, path: &'a str, port: u16) -> Self {
        let given = head
            .headers
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok());
        let given = given
            .or_else(|| head.uri.authority().map(http::uri::Authority::as_str))
            .unwrap_or_default();
        let bare = match given.rsplit_once(':') {
            Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) => bare,
            _ => given,
        };
        Self {
            method: head.method.as_str(),
            host: bare.to_ascii_lowercase(),
            path,
            port,
            headers: &head.headers,
        }
    }
}

impl Router {
    /// The routes of these entities; those of a disabled service are none.
    pub(super) fn new(entities: &Entities) -> Self {
        let mut all = Vec::new();
        for (_, entity) in entities.all("routes") {
            let id = entity["service"]["id"].as_str();
            let service = id.and_then(|id| entities.by_id("services", id)).cloned();
            let http = strings(&entity["protocols"]).any(|p| matches!(p, "http" | "https"));
            if !http
                || service
                    .as_ref()
                    .is_some_and(|service| service["enabled"] == false)
            {
                continue;
            }
            // A route with several paths is as many routes as its paths have lengths; expressions are one more.
            let mut groups: Vec<(usize, Vec<&str>)> = Vec::new();
            for path in strings(&entity["paths"]) {
                let length = if path.starts_with('~') { 0 } else { path.len() };
                match groups.iter_mut().find(|(of, _)| *of == length) {
                    Some((_, group)) => group.push(path),
                    None => groups.push((length, vec![path])),
                }
            }
            if groups.is_empty() {
                groups.push((0, Vec::new()));
            }
            all.extend(
                groups
                    .into_iter()
                    .map(|(_, paths)| Route::new(entity, service.clone(), paths)),
            );
        }
        let id = |route: &Route| route.entity["id"].as_str().unwrap_or_default().to_owned();
        all.sort_by_key(|route| std::cmp::Reverse((route.priority, id(route))));
        Self(all)
    }

    /// The route that a request takes.
    pub(super) fn route(&self, request: &Asked<'_>) -> Option<Taken<'_>> {
        self.0.iter().find_map(|route| {
            let matched = route.takes(request)?;
            Some(Taken {
                route: &route.entity,
                service: route.service.as_deref(),
                matched,
            })
        })
    }
}

/// The path that the upstream is asked for.
pub(super) fn upstream_path(taken: &Taken<'_>, path: &str) -> String {
    let base = taken
        .service
        .and_then(|service| service["path"].as_str())
        .unwrap_or("/");
    let slashed = base.ends_with('/');
    if taken.route["strip_path"] == false {
        return match (slashed, path) {
            (true, path) => format!("{base}{}", path.trim_start_matches('/')),
            (false, "/") => base.to_owned(),
            (false, path) => format!("{base}{path}"),
        };
    }
    let rest = path
        .get(taken.matched.max(usize::from(taken.matched == 0))..)
        .unwrap_or_default();
    let bare = base.trim_end_matches('/');
    match (slashed, rest) {
        (true, "") if base == "/" => "/".to_owned(),
        (true, "") if path.ends_with('/') => base.to_owned(),
        (true, "") => bare.to_owned(),
        (false, "") if path.len() > 1 && path.ends_with('/') => format!("{base}/"),
        (false, "") => base.to_owned(),
        (_, rest) => format!("{bare}/{}", rest.strip_prefix('/').unwrap_or(rest)),
    }
}

/// The path of a request in its normal form.
pub(super) fn path_of(head: &Parts) -> String {
    texts::normal_path(head.uri.path())
}
