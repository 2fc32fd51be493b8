//! What a node says of itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::super::VERSION;
use super::super::node::{EMPTY, Node, Source};
use super::super::refusal::Answer;

/// The shared memory of Kong and its sizes.
const MEMORY: &[(&str, &str)] = &[
    ("kong_cluster_events", "5.00 MiB"),
    ("kong_rate_limiting_counters", "12.00 MiB"),
    ("kong_core_db_cache", "128.00 MiB"),
    ("kong_core_db_cache_miss", "12.00 MiB"),
    ("kong_db_cache", "128.00 MiB"),
    ("kong_db_cache_miss", "12.00 MiB"),
    ("kong", "5.00 MiB"),
    ("kong_secrets", "5.00 MiB"),
    ("prometheus_metrics", "5.00 MiB"),
    ("kong_locks", "8.00 MiB"),
    ("kong_healthchecks", "5.00 MiB"),
];

fn pid(node: &Node, worker: usize) -> u64 {
    // A process of its own each, on the real thing.
    u64::from(std::process::id()) + worker as u64 + u64::from(node.id.as_bytes()[0])
}

pub(super) fn status(node: &Arc<Node>) -> Answer {
    let requests = node.requests.load(Ordering::Relaxed);
    let memory: Map<String, Value> = MEMORY
        .iter()
        .map(|(name, size)| {
            (
                (*name).to_owned(),
                json!({"capacity": size, "allocated_slabs": "0.04 MiB"}),
            )
        })
        .collect();
    let worker = |at| json!({"pid": pid(node, at), "http_allocated_gc": "49.19 MiB"});
    let workers: Vec<Value> = (0..node.workers.len()).map(worker).collect();
    let mut answer = json!({
        "server": {
            "connections_reading": 0, "connections_writing": 1, "connections_waiting": 0, "connections_active": 1,
            "connections_handled": requests, "connections_accepted": requests, "total_requests": requests,
        },
        "memory": {"workers_lua_vms": workers, "lua_shared_dicts": memory},
    });
    match &node.source {
        Source::Document => answer["configuration_hash"] = node.hash().into(),
        Source::Database(database) => answer["database"] = json!({"reachable": database.is_reachable()}),
    }
    Answer::json(200, answer)
}

pub(super) fn ready(node: &Arc<Node>) -> Answer {
    let all = node.workers.len();
    let built = node
        .workers
        .iter()
        .filter(|worker| worker.builds.load(Ordering::Relaxed) > 0)
        .count();
    let why = if !node.is_reachable() {
        "failed to connect to database".to_owned()
    } else if built < all {
        format!("router builds not yet complete, router ready in {built} of {all} workers")
    } else if matches!(node.source, Source::Document) && node.hash() == EMPTY {
        "no configuration available (empty configuration present)".to_owned()
    } else {
        return Answer::message(200, "ready");
    };
    Answer::message(503, &why)
}

pub(super) fn root(node: &Arc<Node>) -> Answer {
    let entities = node.entities();
    let mut enabled: Vec<&str> = Vec::new();
    for (_, plugin) in entities.all("plugins") {
        if let Some(name) = plugin["name"].as_str().filter(|name| !enabled.contains(name)) {
            enabled.push(name);
        }
    }
    let mut available = json!({});
    if node.options.logs {
        available["http-log"] = json!({"version": VERSION, "priority": 12});
    }
    let workers: Vec<u64> = (0..node.workers.len()).map(|at| pid(node, at)).collect();
    let database = if matches!(node.source, Source::Document) {
        "off"
    } else {
        "postgres"
    };
    let declared = node
        .options
        .declarative_config
        .as_ref()
        .map(|path| path.display().to_string());
    let mut answer = json!({
        "tagline": "Welcome to kong",
        "version": VERSION,
        "edition": "community",
        "hostname": "double",
        "node_id": node.id,
        "timers": {"running": 0, "pending": 0},
        "plugins": {"available_on_server": available, "enabled_in_cluster": enabled},
        "lua_version": "LuaJIT 2.1",
        "configuration": {
            "database": database, "role": "traditional", "router_flavor": "traditional_compatible",
            "db_update_frequency": node.options.db_update_frequency.as_secs_f64(),
            "worker_state_update_frequency": node.options.worker_state_update_frequency.as_secs_f64(),
        },
        "pids": {"master": std::process::id(), "workers": workers},
    });
    if let Some(declared) = declared {
        answer["configuration"]["declarative_config"] = declared.into();
    }
    Answer::json(200, answer)
}
