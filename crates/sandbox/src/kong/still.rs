//! A node that nobody serves: whoever holds it asks it and moves its time. For tests in which time is simulated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use http::Method;
use serde_json::Value;

use super::admin::{self, Asked, Listener};
use super::database::Database;
use super::node::{Node, Options, Source};
use super::refusal::Body;

/// See the head of this file.
#[derive(Debug)]
pub struct Still(Arc<Node>);

/// What a node answers.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its status.
    pub status: u16,
    /// Its type; empty if there is no body.
    pub kind: &'static str,
    /// What it says.
    pub body: Vec<u8>,
}

/// Where requests go by one route that a node runs.
#[derive(Debug, Clone)]
pub struct Way {
    /// The route.
    pub route: Arc<Value>,
    /// Its service; none if it has none.
    pub service: Option<Arc<Value>>,
    /// What the upstream that the service leads to gives to each address, as `address:port`; none if its host is no upstream.
    pub gives: Option<BTreeMap<String, u64>>,
}

impl Still {
    /// One without a database.
    ///
    /// # Errors
    /// If there is a declared document, and it is none.
    pub fn without_database(options: Options) -> anyhow::Result<Self> {
        Self::begun(Source::Document, options)
    }

    /// A node on a database.
    ///
    /// # Errors
    /// Never; the same as of the other.
    pub fn on(database: &Database, options: Options) -> anyhow::Result<Self> {
        Self::begun(Source::Database(database.clone()), options)
    }

    fn begun(source: Source, options: Options) -> anyhow::Result<Self> {
        // Nobody would move what is on its way from one worker to the next.
        let propagation = Duration::ZERO;
        let node = Arc::new(Node::new(
            source,
            Options {
                propagation,
                ..options
            },
        ));
        node.begin()?;
        Ok(Self(node))
    }

    /// Asks its Admin API, or with `status` its status listener: for a path and query without a slash at the beginning.
    pub fn ask(&self, status: bool, method: &Method, target: &str, body: Option<(&str, &[u8])>) -> Said {
        let listener = if status { Listener::Status } else { Listener::Admin };
        let asked = Asked::new(method, target, body);
        // Nobody else loads anything, so that there is nothing to wait for.
        let answer = admin::answered(&self.0, listener, &asked).now_or_never();
        let Some(answer) = answer else {
            return Said {
                status: 503,
                kind: "",
                body: Vec::new(),
            };
        };
        let (kind, body) = match answer.body {
            Body::Empty => ("", String::new()),
            Body::Json(value) => ("application/json; charset=utf-8", value.to_string()),
            Body::Page(title) => ("text/html; charset=utf-8", title.to_owned()),
        };
        Said {
            status: answer.status,
            kind,
            body: body.into_bytes(),
        }
    }

    /// Lets its first worker fail when it is next built anew, as [`super::Kong::fail_next_build`].
    pub fn fails_next_build(&self) {
        self.0.fail_next_build(0);
    }

    /// Looks at its database, as it does now and then: targets are known from now on.
    pub fn looks(&self) {
        self.0.look(false);
    }

    /// Builds routes, services and upstreams anew of what it knows, as it does now and then.
    pub fn rebuilds(&self) {
        self.0.reroute();
    }

    /// Whoever it checks answers again, as if it had probed them: it takes nobody for dead any more. Nor whoever was a target when
    /// it took him for dead, is none now, and comes back: a Kong that probes would find out then.
    pub fn finds_all_well(&self) {
        self.0.recover();
    }

    /// `configuration_hash`.
    pub fn hash(&self) -> String {
        self.0.hash()
    }

    /// All entities of a kind (`services`), as the Admin API reads them.
    pub fn all(&self, kind: &str) -> Vec<Arc<Value>> {
        let entities = self.0.entities();
        entities.all(kind).map(|(_, one)| Arc::clone(one)).collect()
    }

    /// Where requests go, by every route that it runs.
    pub fn ways(&self) -> Vec<Way> {
        let routing = self.0.routing();
        let running = self.0.workers.first().map(super::worker::Worker::running);
        let balancers = running.as_ref().map(|running| &running.balancers);
        let routes = routing.all("routes").map(|(_, route)| {
            let service = route["service"]["id"].as_str();
            let service = service.and_then(|id| routing.by_id("services", id)).cloned();
            let host = service.as_ref().and_then(|service| service["host"].as_str());
            let balancer = host.zip(balancers).and_then(|(host, all)| all.get(host));
            Way {
                route: Arc::clone(route),
                service,
                gives: balancer.map(|balancer| balancer.gives()),
            }
        });
        routes.collect()
    }
}
