//! What a proxy of the double runs: listeners with routes, clusters with endpoints; and how a request finds its route.
//!
//! Pure. `compute` makes these values, `proxy` runs them, `admin` shows them in Envoy's words.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;

/// All that a proxy runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ProxyConfig {
    /// By name: `outbound:127.0.0.1:10001`.
    pub listeners: BTreeMap<String, Listener>,
    /// By name: `default_checkout__fra_msvc_8080`.
    pub clusters: BTreeMap<String, Cluster>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it does.
    pub kind: ListenerKind,
}

/// What a listener does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerKind {
    /// Takes what is for the application beside the proxy.
    Inbound {
        /// The service that the application plays.
        service: String,
        /// The application.
        app: SocketAddr,
    },
    /// Requests to one destination.
    Http {
        /// Name of the route configuration: the destination's KRI.
        route_config: String,
        /// Name of the virtual host: the destination's cluster name.
        virtual_host: String,
        /// In the order in which they are tried.
        routes: Vec<Route>,
    },
    /// Connections to one destination.
    Tcp {
        /// The destination's KRI.
        destination: String,
        /// Prefix of its statistics.
        stat_prefix: String,
        /// Where they go.
        clusters: Vec<Weighted>,
    },
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Name: the policy's KRI.
    pub name: String,
    /// What it takes.
    pub matches: RouteMatch,
    /// Where it sends; at least one, each weight above 0.
    pub clusters: Vec<Weighted>,
}

/// A share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighted {
    /// Cluster.
    pub name: String,
    /// Relative weight.
    pub weight: u64,
}

/// One cluster. The first group with endpoints is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The service behind it.
    pub service: String,
    /// Endpoints by priority.
    pub endpoints: Vec<Vec<SocketAddr>>,
}

/// What a route takes: all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RouteMatch {
    /// Path.
    pub path: Option<PathTest>,
    /// Method.
    pub method: Option<String>,
    /// Headers.
    pub headers: Vec<(String, Test)>,
    /// Query parameters.
    pub query: Vec<(String, Test)>,
}

/// A path match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathTest {
    /// The whole path.
    Exact(String),
    /// A prefix that ends at a `/`.
    Prefix(String),
    /// A regular expression over the whole path.
    Regex(String),
}

/// A match of a header's or parameter's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// Equal.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// A regular expression over the whole value.
    Regex(String),
    /// There, whatever it says.
    Present,
    /// Not there.
    Absent,
}

/// A request as far as routing looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Method.
    pub method: &'a str,
    /// Path with query.
    pub target: &'a str,
    /// The head after its first line, as it came.
    pub headers: &'a str,
}

impl<'a> Asked<'a> {
    fn header(&self, name: &str) -> Option<&'a str> {
        let pair = |line: &'a str| line.split_once(':');
        let mut pairs = self.headers.lines().filter_map(pair);
        let (_, value) = pairs.find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }

    fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

impl Test {
    fn fits(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (Self::Absent, value) => value.is_none(),
            (_, None) => false,
            (Self::Present, Some(_)) => true,
            (Self::Exact(wanted), Some(value)) => wanted == value,
            (Self::Prefix(wanted), Some(value)) => value.starts_with(wanted.as_str()),
            (Self::Regex(wanted), Some(value)) => Pattern::new(wanted).is_some_and(|p| p.is_whole(value)),
        }
    }
}

impl RouteMatch {
    /// Whether it takes this request.
    pub fn takes(&self, asked: &Asked<'_>) -> bool {
        let path = match &self.path {
            None => true,
            Some(PathTest::Exact(wanted)) => asked.path() == wanted,
            Some(PathTest::Prefix(wanted)) if wanted == "/" => true,
            Some(PathTest::Prefix(wanted)) => asked
                .path()
                .strip_prefix(wanted.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Some(PathTest::Regex(wanted)) => Pattern::new(wanted).is_some_and(|p| p.is_whole(asked.path())),
        };
        path && self.method.as_deref().is_none_or(|m| m == asked.method)
            && self
                .headers
                .iter()
                .all(|(name, test)| test.fits(asked.header(name)))
            && self
                .query
                .iter()
                .all(|(name, test)| test.fits(asked.parameter(name)))
    }
}

/// Picks by weight; `random` is any number.
pub fn pick(clusters: &[Weighted], random: u64) -> Option<&Weighted> {
    let total: u64 = clusters.iter().map(|c| c.weight).sum();
    let mut left = random.checked_rem(total)?;
    clusters.iter().find(|c| {
        let here = left < c.weight;
        left = left.saturating_sub(c.weight);
        here
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_exact_over_a_whole_turn() {
        let clusters = [("vm", 90), ("cloud", 10)].map(|(name, weight)| Weighted {
            name: name.into(),
            weight,
        });
        let vm = (0..100).filter(|r| pick(&clusters, *r).is_some_and(|c| c.name == "vm"));
        assert_eq!(vm.count(), 90);
        assert_eq!(pick(&[], 7), None);
    }

    #[test]
    fn a_prefix_ends_at_a_slash_and_headers_are_found_in_any_case() {
        let matches = RouteMatch {
            path: Some(PathTest::Prefix("/pay".into())),
            headers: vec![("x-beta".into(), Test::Exact("true".into()))],
            ..RouteMatch::default()
        };
        let takes = |target, headers| {
            matches.takes(&Asked {
                method: "GET",
                target,
                headers,
            })
        };
        assert!(takes("/pay/1?x=2", "Host: a\r\nX-Beta: true\r\n"));
        assert!(takes("/pay", "x-beta:true"));
        assert!(!takes("/payment", "x-beta: true"));
        assert!(!takes("/pay", "x-beta: maybe"));
    }
}
