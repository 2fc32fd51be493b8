//! What Kong's router can do: whether a split's matches mean at a door what they mean in the mesh, and how they are said.
//!
//! In terms of declarations alone. Kong orders routes by how many kinds of conditions they have (methods, hosts, headers,
//! paths), then by the number of headers, then expressions before prefixes, then by the length of the path; Gateway API by
//! path, method, headers. So any two routes that one request could match are compared in both orders, and what would be
//! taken otherwise by Kong is refused. Kong compares header values without regard to case, and prefixes as texts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use weir_model::{Door, Entry, Match, PathMatch, RouteName, Routing, ValueMatch, Via};

/// Whether these routes, in the order of their precedence, can stand behind this door.
///
/// # Errors
/// Every reason why not, in words.
pub fn fits(routes: &[(&RouteName, &Match)], door: &Door) -> Result<(), Vec<String>> {
    // The mesh tells the routes apart, whatever they match.
    let Via::Addresses(_) = &door.via else {
        return Ok(());
    };
    match &door.entry {
        Entry::Routes(routing) => shapes(routes, routing).map(drop),
        Entry::Service(_) | Entry::HttpRoute(_) => {
            let matching = routes.iter().filter(|(_, matches)| !matches.is_any());
            let matching: Vec<String> = matching.map(|(name, _)| name.to_string()).collect();
            if matching.is_empty() {
                return Ok(());
            }
            Err(vec![format!(
                "what is taken over has one way for all of its requests, so that it cannot have route {} besides",
                matching.join(", ")
            )])
        }
    }
}

/// One route as Kong is told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) paths: Vec<String>,
    pub(crate) methods: BTreeSet<String>,
    pub(crate) headers: BTreeMap<String, BTreeSet<String>>,
    pub(crate) strip_path: bool,
}

/// What a door without weights of its own takes.
pub(crate) fn plain(routing: &Routing) -> Shape {
    Shape {
        paths: routing.paths.iter().cloned().collect(),
        methods: routing.methods.clone(),
        headers: routing.headers.clone(),
        strip_path: routing.strip_path,
    }
}

/// The routes in the same order.
pub(crate) fn shapes(routes: &[(&RouteName, &Match)], routing: &Routing) -> Result<Vec<Shape>, Vec<String>> {
    let mut wrong = Vec::new();
    let mut all: Vec<(Shape, Vec<Piece>)> = Vec::new();
    for (name, matches) in routes {
        match one(matches, routing) {
            Ok(found) => all.push(found),
            Err(why) => wrong.extend(why.into_iter().map(|why| format!("route {name}: {why}"))),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    for (at, ((first, _), (_, before))) in routes.iter().zip(&all).enumerate() {
        for ((second, _), (_, after)) in routes.iter().zip(&all).skip(at + 1) {
            let otherwise = |piece: &Piece| {
                let both = after.iter().filter(|other| piece.overlaps(other));
                both.map(Piece::rank).any(|rank| rank <= piece.rank())
            };
            if before.iter().any(otherwise) {
                wrong.push(format!(
                    "a request that matches both routes {first} and {second} is {first}'s in the mesh, and Kong's router \
                     would not give it to {first} for certain"
                ));
            }
        }
    }
    if wrong.is_empty() {
        Ok(all.into_iter().map(|(shape, _)| shape).collect())
    } else {
        Err(wrong)
    }
}

/// One entry of Kong's router: a route has one for each length of its paths, and one for its expressions.
#[derive(Debug)]
struct Piece {
    hosts: bool,
    path: Option<Path>,
    methods: BTreeSet<String>,
    /// In the form in which Kong compares names and values.
    headers: BTreeMap<String, BTreeSet<String>>,
}

/// A condition on the path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Path {
    /// Exactly this.
    Whole(String),
    /// Whatever begins with this text.
    Begins(String),
}

impl Piece {
    /// What Kong sorts by, the first first. Hosts are the same for all routes of a door.
    fn rank(&self) -> impl Ord + use<> {
        let kinds = [
            self.hosts,
            self.path.is_some(),
            !self.methods.is_empty(),
            !self.headers.is_empty(),
        ];
        let (whole, length) = match &self.path {
            None => (false, 0),
            Some(Path::Whole(_)) => (true, 0),
            Some(Path::Begins(path)) => (false, path.len()),
        };
        Reverse((
            kinds.into_iter().filter(|there| *there).count(),
            self.headers.len(),
            whole,
            length,
        ))
    }

    /// Whether one request could match both. Never says no wrongly.
    fn overlaps(&self, other: &Self) -> bool {
        let methods =
            self.methods.is_empty() || other.methods.is_empty() || !self.methods.is_disjoint(&other.methods);
        let headers = self.headers.iter().all(|(name, values)| {
            let theirs = other.headers.get(name);
            theirs.is_none_or(|theirs| !theirs.is_disjoint(values))
        });
        let paths = match (&self.path, &other.path) {
            (None, _) | (_, None) => true,
            (Some(Path::Whole(a)), Some(Path::Whole(b))) => a == b,
            (Some(Path::Whole(whole)), Some(Path::Begins(with)))
            | (Some(Path::Begins(with)), Some(Path::Whole(whole))) => whole.starts_with(with),
            (Some(Path::Begins(a)), Some(Path::Begins(b))) => a.starts_with(b) || b.starts_with(a),
        };
        methods && headers && paths
    }
}

/// The form in which Kong compares names of headers.
pub(crate) fn header_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

fn one(matches: &Match, routing: &Routing) -> Result<(Shape, Vec<Piece>), Vec<String>> {
    let mut wrong = Vec::new();
    if !matches.query.is_empty() {
        wrong.push("Kong's router does not see query parameters".to_owned());
    }
    let paths = paths(matches.path.as_ref(), routing).unwrap_or_else(|why| {
        wrong.push(why);
        BTreeSet::new()
    });
    let methods = methods(matches.method.as_ref(), routing).unwrap_or_else(|why| {
        wrong.push(why);
        BTreeSet::new()
    });
    let mut headers = routing.headers.clone();
    for header in &matches.headers {
        let values = values(&header.name, &header.value).unwrap_or_else(|why| {
            wrong.push(why);
            BTreeSet::new()
        });
        if headers.insert(header.name.clone(), values).is_some() {
            wrong.push(format!(
                "header {} is the door's own condition already",
                header.name
            ));
        }
    }
    let seen: BTreeMap<String, BTreeSet<String>> = headers
        .iter()
        .map(|(name, values)| {
            let values = values.iter().map(|value| value.to_ascii_lowercase());
            (header_name(name), values.collect())
        })
        .collect();
    if seen.len() < headers.len() {
        let why =
            "two of its headers, the door's included, differ in `-` and `_` alone, which are one to Kong";
        wrong.push(why.to_owned());
    }
    let own = paths.iter().all(|path| is_of(routing, path));
    let strips = routing.strip_path && routing.paths.iter().any(|path| path != "/");
    if let (Some(path), true, false) = (&matches.path, strips, own) {
        wrong.push(format!(
            "the door strips its path, and Kong would strip {} in its place; say `stripPath: false`",
            text(path)
        ));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let entries = if paths.is_empty() {
        vec![None]
    } else {
        paths.iter().cloned().map(Some).collect()
    };
    let pieces = entries.into_iter().map(|path| Piece {
        hosts: !routing.hosts.is_empty(),
        path,
        methods: methods.clone(),
        headers: seen.clone(),
    });
    let pieces = pieces.collect();
    let shape = Shape {
        paths: paths.iter().map(in_kong).collect(),
        methods,
        headers,
        strip_path: routing.strip_path && own,
    };
    Ok((shape, pieces))
}

fn text(path: &PathMatch) -> &str {
    match path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) | PathMatch::Regex(path) => path,
    }
}

/// Whether it is a path of the door itself.
fn is_of(routing: &Routing, path: &Path) -> bool {
    match path {
        Path::Whole(_) => false,
        Path::Begins(path) => routing.paths.contains(path),
    }
}

/// What both the route and the door take. None for whatever: then Kong is told no path at all.
fn paths(of: Option<&PathMatch>, routing: &Routing) -> Result<BTreeSet<Path>, String> {
    let door = || routing.paths.iter().cloned().map(Path::Begins);
    let wanted = match of {
        None => return Ok(door().collect()),
        Some(PathMatch::Prefix(path)) if path == "/" => return Ok(door().collect()),
        Some(PathMatch::Regex(_)) => {
            return Err("a regular expression for the path is not said to Kong".to_owned());
        }
        Some(PathMatch::Prefix(path)) => {
            // Prefixes go by segments in the mesh, by characters in Kong.
            vec![Path::Whole(path.clone()), Path::Begins(format!("{path}/"))]
        }
        Some(PathMatch::Exact(path)) => vec![Path::Whole(path.clone())],
    };
    let path = of.map(text).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@!&',;=+".contains(&byte);
    let dotted = path.split('/').any(|segment| matches!(segment, "." | ".."));
    if !path.starts_with('/') || path.contains("//") || dotted || !path.bytes().all(plain) {
        return Err(format!(
            "the path {path} has characters or segments that Kong rewrites"
        ));
    }
    let mut both = BTreeSet::new();
    for wanted in wanted {
        if routing.paths.is_empty() {
            both.insert(wanted);
            continue;
        }
        for door in &routing.paths {
            match &wanted {
                Path::Whole(path) if path.starts_with(door) => drop(both.insert(wanted.clone())),
                Path::Whole(_) => {}
                Path::Begins(path) if path.starts_with(door) => drop(both.insert(wanted.clone())),
                Path::Begins(path) if door.starts_with(path) => {
                    both.insert(Path::Begins(door.clone()));
                }
                Path::Begins(_) => {}
            }
        }
    }
    if both.is_empty() {
        return Err(format!("no request to this door has the path {path}"));
    }
    Ok(both)
}

fn in_kong(path: &Path) -> String {
    match path {
        Path::Begins(path) => path.clone(),
        Path::Whole(path) => {
            let mut expression = "~".to_owned();
            for character in path.chars() {
                if ".+".contains(character) {
                    expression.push('\\');
                }
                expression.push(character);
            }
            expression.push('$');
            expression
        }
    }
}

fn methods(of: Option<&String>, routing: &Routing) -> Result<BTreeSet<String>, String> {
    match of {
        None => Ok(routing.methods.clone()),
        Some(method) if routing.methods.is_empty() || routing.methods.contains(method) => {
            Ok(BTreeSet::from([method.clone()]))
        }
        Some(method) => Err(format!("no request to this door has the method {method}")),
    }
}

/// The values of a header of which one is enough.
fn values(name: &str, value: &ValueMatch) -> Result<BTreeSet<String>, String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.bytes().all(known) || name.eq_ignore_ascii_case("host") {
        return Err(format!("Kong takes no condition on a header {name}"));
    }
    match value {
        ValueMatch::Exact(value) if value.is_empty() || value.starts_with("~*") || !value.is_ascii() => Err(
            format!("the value `{value}` of header {name} is another thing to Kong"),
        ),
        ValueMatch::Exact(value) => Ok(BTreeSet::from([value.clone()])),
        // An alternative of plain words is the same said otherwise; all else Kong would read in lower case and unanchored.
        ValueMatch::Regex(expression) => {
            let word = |word: &str| !word.is_empty() && word.bytes().all(known);
            if expression.split('|').all(word) {
                return Ok(expression.split('|').map(str::to_owned).collect());
            }
            Err(format!(
                "the regular expression `{expression}` of header {name} cannot be said to Kong exactly: write values, or \
                 plain words with `|` between them"
            ))
        }
    }
}
