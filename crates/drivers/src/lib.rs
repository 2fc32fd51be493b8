//! Hands and eyes of an agent: observe, apply, prove and count at a zone's own control plane and proxies.
//!
//! One small interface ([`ZoneDriver`]) for Universal and Kubernetes zones and for gateways. No retry in here: the next
//! activation is the retry. No driver knows whether it talks to the real thing or to a double.

pub mod dns;
pub mod kong;
pub mod kubernetes;
pub mod kuma;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::Instant;
use weir_model::{MeshName, SplitName};
use weir_planner::{Counts, Generation, Item, Proof, SecondWriter, ServiceFact};
use weir_render::{Form, Held, Object, Step};

pub use kong::{
    Admin, AdminConfig, Became, Bringing, Brought, GatewayDriver, Kong, KongConfig, KongDb, KongDbless,
    Posted, Refused, Secret, Unposted, bring,
};
pub use kubernetes::{Cluster, KubernetesConfig, KumaKubernetes, KumaRest, Metrics};
pub use kuma::{KumaConfig, KumaUniversal, Sampled};
pub use weir_planner::Fault;

/// What time it is, by a clock that only rises. The machine's ([`Instant::now`]) in every program.
pub type Clock = fn() -> Instant;

/// Why a call failed: whose fault, and whether waiting helps.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {why}")]
pub struct DriverError {
    /// What was tried, with its object: `PUT meshes/default/meshhttproutes/weir-checkout`.
    pub what: String,
    /// What came back, in words.
    pub why: String,
    /// Whose fault.
    pub fault: Fault,
    /// What a person can do.
    pub help: String,
    /// How long it asks to be left alone, if it does.
    pub again: Option<Duration>,
}

impl DriverError {
    /// One that asks for no time. `what` was tried, `why` it failed, `help` for people.
    pub fn new(
        what: impl Into<String>,
        why: impl Into<String>,
        fault: Fault,
        help: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            fault,
            help: help.into(),
            again: None,
        }
    }

    /// All of it for people, what to do included.
    pub fn told(&self) -> String {
        if self.help.is_empty() {
            self.to_string()
        } else {
            format!("{self}; {}", self.help)
        }
    }
}

/// What the zone's control plane holds, as far as the plan is concerned.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Which of Kuma's two shapes the zone takes.
    pub form: Form,
    /// How old the oldest part of this is: zero where it was asked for just now.
    pub age: Duration,
    /// Version that the control plane says it is.
    pub kuma: Option<String>,
    /// Which process of it holds this; none where what it holds outlives every process, as in a cluster.
    pub instance: Option<String>,
    /// What it keeps its objects in, as it says itself: `memory`, `postgres`, `kubernetes`; none if it did not say.
    pub store: Option<String>,
    /// MeshServices whose display name some item's service has.
    pub services: Vec<ServiceFact>,
    /// Objects that carry our mark, whatever split they are for, with the generation of their label (0 if unreadable).
    pub ours: Vec<(Object, Generation)>,
    /// Everyone else's policies that touch a split's service, by split.
    pub second_writers: BTreeMap<SplitName, Vec<SecondWriter>>,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Written or removed.
    Done {
        /// When the control plane had answered.
        at: Timestamp,
    },
    /// Left alone: the object carries a newer generation, or lost our mark between observing and applying.
    Yielded(String),
}

/// What proxies run of a policy that is an anchor alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sighting {
    /// The least of what those run that could be looked at; none if nobody could be.
    pub held: Option<Held>,
    /// Whether all connected proxies that may call the service were looked at.
    pub complete: bool,
}

/// A zone's control plane and proxies.
pub trait ZoneDriver: Send + Sync {
    /// Which process of the control plane answers now: cheap, for noticing that it was restarted (and may have lost its
    /// store) or came back.
    fn pulse(&self) -> BoxFuture<'_, Result<String, DriverError>>;
    /// Reads what matters to these items.
    fn observe<'a>(
        &'a self,
        mesh: &'a MeshName,
        items: &'a [Arc<Item>],
    ) -> BoxFuture<'a, Result<Observed, DriverError>>;
    /// Lists the MeshServices that matter to these items, as [`ZoneDriver::observe`] would: cheap, so that one that vanishes is
    /// noticed at once. None where the driver is told of changes ([`ZoneDriver::changed`]).
    fn services<'a>(
        &'a self,
        _mesh: &'a MeshName,
        _items: &'a [Arc<Item>],
    ) -> BoxFuture<'a, Option<Result<Vec<ServiceFact>, DriverError>>> {
        Box::pin(std::future::ready(None))
    }
    /// What is remembered of the zone will not do for the next observation: it leads to a write. A driver that remembers
    /// nothing has nothing to forget.
    fn look_again(&self) {}
    /// Ends when the zone changed since it was last observed, as far as the driver is told. It carries nothing: what changed
    /// is for the next observation to see. May be dropped at any time without losing a change.
    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
    /// Does one step, after looking again that nobody newer wrote the object.
    fn apply<'a>(&'a self, step: &'a Step) -> BoxFuture<'a, Result<Outcome, DriverError>>;
    /// Reads back what the proxies run, one proof for each item, in the order given. Never fails: not knowing is a proof
    /// with verdict unknown. Only active listeners count, never routes that are draining (`kuma.md` R3).
    fn prove<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Proof>>;
    /// Looks at what proxies run of policies that are an anchor alone, one sighting for each, in the order given. Never
    /// fails: not knowing is a sighting of nobody.
    fn sight<'a>(&'a self, anchors: &'a [Object]) -> BoxFuture<'a, Vec<Sighting>>;
    /// Counts requests for each item, in the order given; none where nothing can be counted.
    fn count<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Option<Counts>>>;
    /// How often counters may be read while a share is ready to go elsewhere: each time they are asked of every Envoy.
    fn watch_every(&self) -> Duration {
        Duration::from_millis(250)
    }
    /// What a person should know and no proof says: dead admin sockets, proxies that cannot be read.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
