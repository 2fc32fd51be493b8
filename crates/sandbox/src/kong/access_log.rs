//! The `http-log` plugin: which one runs for a request, what it says of it, and the queue by which that is posted.
//!
//! A line is queued and the request is done with it: whatever becomes of the post, nobody waits. Each worker has a queue for each
//! place to post to; a batch that nobody takes is posted again, and what finds no room drives out the oldest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::store::Entities;

/// The name of the plugin.
pub(super) const NAME: &str = "http-log";

/// Plugins that log, as a worker has them.
#[derive(Debug, Default)]
pub(super) struct Logs(Vec<Arc<Value>>);

impl Logs {
    pub(super) fn new(entities: &Entities) -> Self {
        let all = entities.all("plugins").map(|(_, plugin)| plugin);
        let logs = all.filter(|plugin| plugin["name"] == NAME);
        Self(logs.cloned().collect())
    }

    /// The one that runs for a request: the most specific that is on. Nobody is a consumer here.
    pub(super) fn of(&self, route: &Value, service: Option<&Value>) -> Option<&Arc<Value>> {
        let fits = |plugin: &Value, field: &str, one: Option<&Value>| {
            let wanted = &plugin[field]["id"];
            wanted.is_null() || one.is_some_and(|one| one["id"] == *wanted)
        };
        let here = self.0.iter().filter(|plugin| {
            plugin["enabled"] == true
                && plugin["consumer"].is_null()
                && fits(plugin, "route", Some(route))
                && fits(plugin, "service", service)
        });
        here.max_by_key(|plugin| (!plugin["route"].is_null(), !plugin["service"].is_null()))
    }
}

/// One try of a request.
#[derive(Debug, Clone)]
pub(super) struct Try {
    pub(super) ip: String,
    pub(super) port: u16,
    /// Why it was not the last, as a status; none if it was.
    pub(super) failed: Option<u16>,
}

/// What becomes known of a request while it is served.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) plugin: Option<Arc<Value>>,
    pub(super) route: Value,
    pub(super) service: Value,
    pub(super) request: Value,
    pub(super) upstream_uri: String,
    pub(super) upstream_status: Vec<u16>,
    pub(super) tries: Vec<Try>,
    pub(super) from: String,
    pub(super) started_at: i64,
}

impl Told {
    /// The line of it.
    fn line(&self, status: u16, headers: Value, spent: Duration) -> Value {
        let tries = self.tries.iter().map(|one| {
            let mut told = json!({
                "ip": one.ip, "port": one.port, "balancer_start": self.started_at, "balancer_latency": 0,
                "balancer_start_ns": self.started_at as f64 * 1e6, "balancer_latency_ns": 0,
            });
            if let Some(code) = one.failed {
                (told["state"], told["code"]) = ("failed".into(), code.into());
            }
            told
        });
        let tries: Vec<Value> = tries.collect();
        let statuses: Vec<String> = self.upstream_status.iter().map(u16::to_string).collect();
        let millis = spent.as_millis();
        json!({
            "request": self.request,
            "upstream_uri": self.upstream_uri,
            "upstream_status": statuses.join(", "),
            "response": {"status": status, "headers": headers, "size": 0},
            "latencies": {"kong": 0, "proxy": millis, "request": millis, "receive": 0},
            // An empty list of Lua is an object.
            "tries": if tries.is_empty() { json!({}) } else { tries.into() },
            "route": self.route,
            "service": self.service,
            "client_ip": self.from,
            "started_at": self.started_at,
            "source": if self.tries.is_empty() { "kong" } else { "upstream" },
            "workspace_name": "default",
        })
    }
}

/// The queues of one worker, by where they post to and how.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<BTreeMap<String, Arc<Queue>>>);

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    bytes: u64,
    /// What the plugin is told, as it was last seen.
    config: Value,
}

impl Queue {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So long a worker looks at the most whether more has come.
const LOOKS: Duration = Duration::from_secs(1);
/// With less time left than this a batch goes as it is.
const SHORT: Duration = Duration::from_millis(50);

impl Queues {
    /// Queues the line of a request, if one is to be written of it.
    pub(super) fn log(self: &Arc<Self>, told: &Told, status: u16, headers: Value, spent: Duration) {
        let Some(plugin) = &told.plugin else { return };
        let config = &plugin["config"];
        let line = told.line(status, headers, spent).to_string();
        let named = [
            "http_endpoint",
            "method",
            "content_type",
            "timeout",
            "keepalive",
            "retry_count",
            "queue_size",
            "flush_timeout",
        ];
        let name = named.map(|field| config[field].to_string()).join(":");
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&name).cloned();
        let queue = known.clone().unwrap_or_else(|| {
            let queue = Queue {
                waiting: Mutex::default(),
                more: Notify::new(),
            };
            Arc::clone(all.entry(name.clone()).or_insert(Arc::new(queue)))
        });
        {
            let mut waiting = queue.waiting();
            waiting.config = config.clone();
            waiting.push(line);
        }
        queue.more.notify_one();
        drop(all);
        if known.is_none() {
            tokio::spawn(Arc::clone(self).work(name, queue));
        }
    }

    /// Posts what is there, until nothing is.
    async fn work(self: Arc<Self>, name: String, queue: Arc<Queue>) {
        loop {
            let (batch, config) = batch(&queue).await;
            if !batch.is_empty() {
                post(&batch, &config).await;
            }
            // Nobody can come between: whoever queues holds the same lock.
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.waiting().lines.is_empty() {
                all.remove(&name);
                return;
            }
        }
    }
}

impl Waiting {
    fn limit(&self, name: &str) -> Option<u64> {
        self.config["queue"][name].as_u64()
    }

    /// Puts a line at the end; the oldest go if there is no room.
    fn push(&mut self, line: String) {
        let size = line.len() as u64;
        let (entries, bytes) = (
            self.limit("max_entries").unwrap_or(10_000),
            self.limit("max_bytes"),
        );
        if bytes.is_some_and(|bytes| size > bytes) {
            return;
        }
        while self.lines.len() as u64 >= entries || bytes.is_some_and(|bytes| self.bytes + size > bytes) {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.len() as u64;
        }
        self.bytes += size;
        self.lines.push_back(line);
    }
}

/// Waits for as many lines as go together, but not for long, and takes them.
async fn batch(queue: &Queue) -> (Vec<String>, Value) {
    let begun = Instant::now();
    loop {
        let left = {
            let mut waiting = queue.waiting();
            let config = waiting.config.clone();
            let most = config["queue"]["max_batch_size"].as_u64().unwrap_or(1) as usize;
            let delay = config["queue"]["max_coalescing_delay"].as_f64().unwrap_or(1.0);
            let left = Duration::from_secs_f64(delay).saturating_sub(begun.elapsed());
            if waiting.lines.len() >= most || left < SHORT {
                let most = most.min(waiting.lines.len());
                let batch: Vec<String> = waiting.lines.drain(..most).collect();
                waiting.bytes -= batch.iter().map(|line| line.len() as u64).sum::<u64>();
                return (batch, config);
            }
            left.min(LOOKS)
        };
        // Whether more came or not, it is looked at again.
        let _ = tokio::time::timeout(left, queue.more.notified()).await;
    }
}

/// Posts a batch, again and again if nobody takes it, until its time is over.
async fn post(batch: &[String], config: &Value) {
    let queue = &config["queue"];
    let seconds = |name: &str, otherwise: f64| {
        Duration::from_secs_f64(queue[name].as_f64().unwrap_or(otherwise).max(0.0))
    };
    let body = match queue["max_batch_size"].as_u64() {
        None | Some(1) => batch.concat(),
        Some(_) => format!("[{}]", batch.join(",")),
    };
    let text = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
    let method = text("method").parse().unwrap_or(reqwest::Method::POST);
    let begun = Instant::now();
    for tried in 0_i32.. {
        let asked = crate::http_client()
            .request(method.clone(), text("http_endpoint"))
            .header("content-type", text("content_type"))
            .timeout(Duration::from_secs_f64(
                config["timeout"].as_f64().unwrap_or(10_000.0) / 1_000.0,
            ))
            .body(body.clone());
        if let Ok(answer) = asked.send().await
            && answer.status().as_u16() < 300
        {
            return;
        }
        if begun.elapsed() > seconds("max_retry_time", 60.0) {
            tracing::debug!(
                lines = batch.len(),
                "nobody took these lines in time: they are lost"
            );
            return;
        }
        let pause = seconds("initial_retry_delay", 0.01) * 2_u32.saturating_pow(tried.min(30) as u32);
        tokio::time::sleep(pause.min(seconds("max_retry_delay", 60.0))).await;
    }
}
