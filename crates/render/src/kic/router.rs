//! Which requests Kong takes for a route of ours, by its own routes: what the controller says is of the spec alone, and of nobody
//! else's routes. Annotations move no generation, and an Ingress is no HTTPRoute.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;
use weir_model::GatewayName;

use super::route::HttpRoute;

/// One kind of request that is taken, and what becomes of it: a host, a path as Kong writes it, a method, a value for each of some
/// headers. Empty is any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    host: String,
    path: String,
    method: String,
    headers: BTreeSet<(String, String)>,
    strip_path: bool,
    preserve_host: bool,
    https_only: bool,
    /// What plain HTTP is answered with where it is not taken.
    redirect: u64,
    snis: BTreeSet<String>,
}

/// Kong's answer where nothing is said.
const REDIRECT: u64 = 426;

fn texts<'a>(of: &'a Value, at: &str) -> impl Iterator<Item = &'a str> {
    let list = of.get(at).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// All of a list in lower or upper case as it is, or "any".
fn or_any(found: impl Iterator<Item = String>) -> BTreeSet<String> {
    let found: BTreeSet<String> = found.collect();
    match found.is_empty() {
        true => BTreeSet::from([String::new()]),
        false => found,
    }
}

/// What a route of ours takes.
fn requests(route: &HttpRoute) -> BTreeSet<Request> {
    let spec = route.document.get("spec").unwrap_or(&Value::Null);
    let annotation = |key: &str| {
        let annotations = route.document.pointer("/metadata/annotations");
        annotations.and_then(|all| all.get(key)).and_then(Value::as_str)
    };
    let https_only = annotation("konghq.com/protocols") == Some("https");
    let redirect = annotation("konghq.com/https-redirect-status-code").and_then(|code| code.parse().ok());
    let snis = annotation("konghq.com/snis").into_iter();
    let snis: BTreeSet<String> = snis.flat_map(|all| all.split(',')).map(str::to_owned).collect();
    let hosts = or_any(texts(spec, "hostnames").map(str::to_ascii_lowercase));
    let rules = spec.get("rules").and_then(Value::as_array);
    let matches = rules
        .into_iter()
        .flatten()
        .filter_map(|rule| rule.get("matches").and_then(Value::as_array))
        .flatten();
    let mut all = BTreeSet::new();
    for one in matches {
        let text = |at: &str| one.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let headers = one.get("headers").and_then(Value::as_array).into_iter().flatten();
        let header = |of: &Value| {
            let text = |at: &str| of.get(at).and_then(Value::as_str).unwrap_or_default();
            (text("name").to_ascii_lowercase(), text("value").to_owned())
        };
        let headers: BTreeSet<(String, String)> = headers.map(header).collect();
        for host in &hosts {
            for path in in_kong(text("/path/value")) {
                all.insert(Request {
                    host: host.clone(),
                    path,
                    method: text("/method").to_owned(),
                    headers: headers.clone(),
                    strip_path: annotation("konghq.com/strip-path") == Some("true"),
                    preserve_host: annotation("konghq.com/preserve-host") != Some("false"),
                    https_only,
                    redirect: redirect.unwrap_or(REDIRECT),
                    snis: snis.clone(),
                });
            }
        }
    }
    all
}

/// Whether all that a route matches is what a [`Request`] can say: prefixes, methods and exact headers.
pub fn is_plain(route: &HttpRoute) -> bool {
    let rules = route.document.pointer("/spec/rules").and_then(Value::as_array);
    let matches = rules
        .into_iter()
        .flatten()
        .map(|rule| rule.get("matches").and_then(Value::as_array));
    let one = |of: &Value| {
        let kind = |of: &Value, otherwise: &str| {
            of.get("type")
                .and_then(Value::as_str)
                .unwrap_or(otherwise)
                .to_owned()
        };
        let headers = of.get("headers").and_then(Value::as_array);
        of.get("path")
            .is_none_or(|path| kind(path, "PathPrefix") == "PathPrefix")
            && of.get("queryParams").is_none()
            && headers
                .into_iter()
                .flatten()
                .all(|header| kind(header, "Exact") == "Exact")
    };
    let mut matches = matches.peekable();
    matches.peek().is_some() && matches.all(|of| of.is_some_and(|of| !of.is_empty() && of.iter().all(one)))
}

/// A prefix of Gateway API, as the controller writes it: the very path, and what is below it. It makes two of every prefix, of `/` as
/// well, and adds a slash where there is none. A match that names no path is of `/`: the API server says so in its place.
fn in_kong(prefix: &str) -> [String; 2] {
    let prefix = if prefix.is_empty() { "/" } else { prefix };
    let below = if prefix.ends_with('/') { "" } else { "/" };
    [format!("~{prefix}$"), format!("{prefix}{below}")]
}

/// What one of Kong's routes takes, as its Admin API has it.
fn taken(route: &Value) -> BTreeSet<Request> {
    let hosts = or_any(texts(route, "hosts").map(str::to_ascii_lowercase));
    let paths = or_any(texts(route, "paths").map(str::to_owned));
    let methods = or_any(texts(route, "methods").map(str::to_owned));
    let mut headers: Vec<BTreeSet<(String, String)>> = vec![BTreeSet::new()];
    for (name, values) in route
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
        let values: Vec<(String, String)> = values
            .map(|value| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let with = |before: &BTreeSet<(String, String)>| {
            let each = values
                .iter()
                .map(|value| before.iter().cloned().chain([value.clone()]).collect());
            each.collect::<Vec<BTreeSet<_>>>()
        };
        headers = headers.iter().flat_map(with).collect();
    }
    let flag = |at: &str| route.get(at).and_then(Value::as_bool).unwrap_or_default();
    let protocols: BTreeSet<&str> = texts(route, "protocols").collect();
    let redirect = route.get("https_redirect_status_code").and_then(Value::as_u64);
    let snis: BTreeSet<String> = texts(route, "snis").map(str::to_ascii_lowercase).collect();
    let mut all = BTreeSet::new();
    for host in &hosts {
        for path in &paths {
            for method in &methods {
                for headers in &headers {
                    all.insert(Request {
                        host: host.clone(),
                        path: path.clone(),
                        method: method.clone(),
                        headers: headers.clone(),
                        strip_path: flag("strip_path"),
                        preserve_host: flag("preserve_host"),
                        https_only: !protocols.contains("http"),
                        redirect: redirect.unwrap_or(REDIRECT),
                        snis: snis.clone(),
                    });
                }
            }
        }
    }
    all
}

/// The routes of one Kong, read once for all splits.
#[derive(Debug, Clone, Default)]
pub struct Router {
    /// By name: of routes without one, by id.
    routes: BTreeMap<String, BTreeSet<Request>>,
    /// Names, by each path without what Kong's forms of it add.
    paths: BTreeMap<String, BTreeSet<String>>,
}

impl Router {
    /// From the routes as its Admin API has them.
    pub fn of(routes: &[Value]) -> Self {
        let mut router = Self::default();
        for route in routes {
            let name = route.get("name").and_then(Value::as_str);
            let name = name
                .or(route.get("id").and_then(Value::as_str))
                .unwrap_or("without a name");
            let taken = taken(route);
            for request in &taken {
                let of = router.paths.entry(plain(&request.path).to_owned()).or_default();
                of.insert(name.to_owned());
            }
            router.routes.entry(name.to_owned()).or_default().extend(taken);
        }
        router
    }

    /// Whether what the controller makes of a route takes its very requests.
    ///
    /// # Errors
    /// What is different, in words.
    pub fn served(&self, route: &HttpRoute) -> Result<(), String> {
        let wanted = requests(route);
        let ours = self.routes.iter().filter(|(name, _)| made_of(route, name));
        let mut found: BTreeSet<Request> = ours.flat_map(|(_, taken)| taken.iter().cloned()).collect();
        if wanted.iter().all(|of| !of.https_only) {
            // Which protocols there are is for the listeners of the Gateway to say.
            let any = found.into_iter().map(|of| Request {
                https_only: false,
                redirect: REDIRECT,
                ..of
            });
            found = any.collect();
        }
        if wanted == found {
            return Ok(());
        }
        let lacks = wanted.difference(&found).next();
        let lacks = lacks.map(|of| format!("it does not take {of}"));
        let more = found.difference(&wanted).next();
        let more = more.map(|of| format!("it takes {of}"));
        let both: Vec<String> = lacks.into_iter().chain(more).collect();
        Err(both.join(", but "))
    }

    /// Whether the controller made any route of this one.
    pub fn has(&self, route: &HttpRoute) -> bool {
        self.routes.keys().any(|name| made_of(route, name))
    }

    /// Other routes that may take requests of a route of ours, by name: of the same host and path, or of one of its hosts where ours
    /// takes all, and not told apart by other headers.
    pub fn at_odds(&self, route: &HttpRoute) -> BTreeSet<&str> {
        let mut odd = BTreeSet::new();
        for ours in requests(route) {
            let names = self.paths.get(plain(&ours.path)).into_iter().flatten();
            for name in names.filter(|name| !made_of(route, name)) {
                let theirs = self.routes.get(name).into_iter().flatten();
                if theirs.into_iter().any(|theirs| clash(&ours, theirs)) {
                    odd.insert(name.as_str());
                }
            }
        }
        odd
    }
}

/// Whether the controller made a route of Kong's, by its name, of a route of ours at this gateway:
/// `httproute.<namespace>.weir.<gateway>.<split>.<rule>.<match>`, of which no part has a dot.
pub fn is_of(gateway: &GatewayName, name: &str) -> bool {
    let mut parts = name.split('.');
    parts.next() == Some("httproute")
        && parts.next().is_some()
        && parts.next() == Some("weir")
        && parts.next() == Some(gateway.as_str())
}

/// Whether it made it of this one.
pub fn made_of(of: &HttpRoute, name: &str) -> bool {
    let rest = name
        .strip_prefix("httproute.")
        .and_then(|rest| rest.strip_prefix(of.namespace.as_str()));
    let rest = rest.and_then(|rest| {
        rest.strip_prefix('.')?
            .strip_prefix(of.name.as_str())?
            .strip_prefix('.')
    });
    // The number of a rule and that of a match: a name may go on after a dot.
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    rest.is_some_and(|rest| rest.split('.').count() == 2 && rest.split('.').all(number))
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = |text: &str| {
            if text.is_empty() {
                "any".to_owned()
            } else {
                text.to_owned()
            }
        };
        write!(
            f,
            "host {}, path {}, method {}, headers {:?}, strip-path {}, preserve-host {}, https only {}{}{}",
            any(&self.host),
            any(&self.path),
            any(&self.method),
            self.headers,
            self.strip_path,
            self.preserve_host,
            self.https_only,
            match (self.https_only, self.redirect) {
                (false, _) | (true, REDIRECT) => String::new(),
                (true, code) => format!(" (else {code})"),
            },
            match self.snis.is_empty() {
                true => String::new(),
                false => format!(", snis {:?}", self.snis),
            }
        )
    }
}

fn clash(ours: &Request, theirs: &Request) -> bool {
    // A route with a host comes before one without.
    let hosts = theirs.host == ours.host || (ours.host.is_empty() && !theirs.host.is_empty());
    let methods = ours.method.is_empty() || theirs.method.is_empty() || ours.method == theirs.method;
    // More conditions are another, more special kind of request, which somebody meant.
    let headers = theirs.headers == ours.headers;
    hosts && methods && headers && plain(&ours.path) == plain(&theirs.path)
}

/// A path without what Kong's forms of it add.
fn plain(path: &str) -> &str {
    let path = path.strip_prefix('~').unwrap_or(path);
    let path = path.strip_suffix('$').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() { "/" } else { path }
}
