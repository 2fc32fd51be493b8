//! Counting what leaves a Kong, which has no counter for each target (fact 13): a plugin on the services of a door that posts
//! each request's line to the agent. Pure; changed when another door can be counted, or counts cost a request something.
//!
//! Kong runs one plugin of a kind for a request, the most specific: beside an `http-log` of the site's that would run for the same
//! requests there is none of ours, for either would take the other's place. Such a door is not counted and says so.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use weir_model::{Entry, FederationName, SplitName, Via};
use weir_planner::GatewayPlan;

use crate::kong::base::{Found, Reading};
use crate::kong::document::{AtDoor, Prepared, mark};
use crate::kong::entities::name;

/// The plugin that is ours.
pub const PLUGIN: &str = "http-log";

/// So many lines go in one post.
const BATCH: u32 = 100;
/// So many wait in each worker, and so many bytes: then the oldest are dropped. Nobody's request waits for them.
const WAITING: (u32, u32) = (10_000, 8 << 20);
/// So long, in seconds, is a post tried again that nobody took: as long as an agent takes to be started again.
const AGAIN: u32 = 10;
/// So long, in milliseconds, may a post take.
const TIMEOUT: u32 = 2_000;

/// That requests are to be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counting {
    /// Where Kong posts their lines: the agent's listener.
    pub endpoint: String,
}

/// By split that has its weights at the gateway: whether requests by its door are counted, and if not why, in words. Empty where
/// nobody chose that they are.
pub type Counted = BTreeMap<SplitName, Result<(), String>>;

impl Counting {
    /// What the plugin is told: all of it that decides about a request, whatever Kong's defaults are.
    pub(crate) fn config(&self) -> Value {
        json!({
            "http_endpoint": self.endpoint,
            "method": "POST",
            "content_type": "application/json",
            "timeout": TIMEOUT,
            "keepalive": 60_000,
            "queue": {
                "max_batch_size": BATCH,
                "max_coalescing_delay": 1,
                "max_entries": WAITING.0,
                "max_bytes": WAITING.1,
                "max_retry_time": AGAIN,
                "initial_retry_delay": 0.1,
                "max_retry_delay": 2,
            },
        })
    }

    /// The plugin of this name.
    fn plugin(&self, name: &str, tags: Vec<String>) -> Value {
        json!({"name": PLUGIN, "instance_name": name, "enabled": true, "config": self.config(), "tags": tags})
    }
}

impl Prepared<'_> {
    /// Gives every service of a door that carries its weights a plugin: inside of one of ours, beside one that was taken over.
    pub(crate) fn count(
        &mut self,
        counting: &Counting,
        (federation, gateway): (&FederationName, &GatewayPlan),
        doors: &[AtDoor<'_>],
    ) -> Counted {
        let mut counted = Counted::new();
        let weighing = doors.iter().filter(|at| matches!(at.door.via, Via::Addresses(_)));
        let weighing = weighing.map(|at| match &at.door.entry {
            Entry::Service(service) => (at, Some(service.as_str())),
            Entry::Routes(_) | Entry::HttpRoute(_) => (at, None),
        });
        // The base is gone through once, however many doors there are.
        let rivals: Vec<_> = {
            let found = self.reading.as_ref().map(Reading::entities).unwrap_or_default();
            weighing
                .map(|(at, taken)| (at, taken, rival(&found, taken)))
                .collect()
        };
        for (at, taken, rival) in rivals {
            let split = &at.item.split;
            if let Some(why) = rival {
                counted.insert(split.clone(), Err(why));
                continue;
            }
            let mark = mark(federation, gateway, at);
            for route in &at.item.routes {
                let name = name(split, &route.name);
                let mut plugin = counting.plugin(&name, mark.tags(Some(&route.name)));
                if let Some(service) = taken {
                    // It leads to one upstream, that of the last route.
                    if at.item.routes.last().is_some_and(|last| last.name == route.name) {
                        plugin["service"] = service.into();
                        self.plugins.push(plugin);
                    }
                } else if let Some(service) = self.services.iter_mut().find(|one| one["name"] == *name) {
                    service["plugins"] = json!([plugin]);
                }
            }
            counted.insert(split.clone(), Ok(()));
        }
        self.plugins
            .sort_by_key(|plugin| plugin["instance_name"].to_string());
        counted
    }
}

/// Why a plugin of ours cannot be where these are: on a service that was taken over, or on one of ours.
fn rival(found: &[Found<'_>], taken: Option<&str>) -> Option<String> {
    let logs = found.iter().filter(|one| one.kind == "plugins");
    let mut logs = logs.filter(|one| one.entity.get("name").and_then(Value::as_str) == Some(PLUGIN));
    let one = logs.find(|one| {
        let mut above = Vec::new();
        let mut at = one.inside.and_then(|at| found.get(at));
        while let Some(parent) = at {
            above.push(parent);
            at = parent.inside.and_then(|at| found.get(at));
        }
        let service = above.iter().find(|one| one.kind == "services");
        let inside = |kind: &str| above.iter().any(|one| one.kind == kind);
        let scope = Scope {
            somebody: inside("consumers") || inside("consumer_groups"),
            route: inside("routes"),
            service: service.map(|service| named(service.entity)),
        };
        scope.and(one.entity).runs_at(taken)
    })?;
    Some(rivals(&one.called()))
}

/// What a person reads of a rival.
pub(crate) fn rivals(called: &str) -> String {
    format!(
        "{called} is there for the same requests, and Kong runs one of a kind for a request: one of Weir's would take its \
         place, or never run"
    )
}

/// For whom a plugin of a base runs.
#[derive(Debug)]
struct Scope {
    /// For some consumers alone.
    somebody: bool,
    route: bool,
    /// The name and the id of its service.
    service: Option<Vec<String>>,
}

fn named(entity: &Map<String, Value>) -> Vec<String> {
    let texts = ["name", "id"]
        .into_iter()
        .filter_map(|field| entity.get(field)?.as_str());
    texts.map(str::to_owned).collect()
}

impl Scope {
    /// With what a plugin says itself.
    fn and(mut self, plugin: &Map<String, Value>) -> Self {
        let says = |field: &str| plugin.get(field).is_some_and(|value| !value.is_null());
        self.somebody |= says("consumer") || says("consumer_group");
        self.route |= says("route");
        let service = plugin.get("service").filter(|value| !value.is_null());
        self.service = self.service.or(service.map(|value| match value {
            Value::Object(object) => named(object),
            text => text.as_str().map(str::to_owned).into_iter().collect(),
        }));
        self
    }

    /// Whether it could run for requests at a door: at the service of the site's that it takes over, or at one of ours.
    fn runs_at(&self, taken: Option<&str>) -> bool {
        match (&self.service, self.route, taken) {
            _ if self.somebody => true,
            (None, false, _) => true,
            // A route of the site's leads to no service of ours.
            (_, _, None) => false,
            (Some(service), _, Some(taken)) => service.iter().any(|name| name == taken),
            // A route that stands by itself may lead there.
            (None, true, Some(_)) => true,
        }
    }
}
