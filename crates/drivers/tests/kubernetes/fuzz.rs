//! Mutated answers of an API server, in their structure and in their bytes, through everything that reads them: lists,
//! watches, looks, writes, removals and errors. Seeded: the same seed gives the same run.
//!
//! `WEIR_FUZZ` says how many answers (50,000 if it is not set), `WEIR_FUZZ_SEED` which run. What is held: nothing panics; an
//! observation is made of whole lists only; every write and removal carries the guards of the very object that was looked
//! at, and that object was ours and not newer, or said to be absent.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body as Answer;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use weir_drivers::{KumaKubernetes, ZoneDriver as _};

use crate::cluster::{Cluster, HTTP, SERVICES, TCP};
use crate::plan::{self, item, mesh};

/// xorshift64*: no more is needed to choose.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(n.max(1)).unwrap()).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let at = self.below(all.len());
        &all[at]
    }

    /// Something that does not belong there.
    fn odd(&mut self) -> Value {
        let all = [
            Value::Null,
            json!(true),
            json!(0),
            json!(-1),
            json!(u64::MAX),
            json!(1e308),
            json!(0.5),
            json!(""),
            json!("\u{0}\u{202e}é\"\n"),
            json!("x".repeat(300)),
            json!("9999999999999999999999"),
            json!("2026-99-99T99:99:99Z"),
            json!("zone"),
            json!([]),
            json!({}),
            json!([[[[[[[[]]]]]]]]),
            json!({"kind": "Status", "code": 410}),
        ];
        self.of(&all).clone()
    }

    /// Changes one place somewhere in it.
    fn bend(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) if !fields.is_empty() && !self.one_in(8) => {
                let keys: Vec<_> = fields.keys().cloned().collect();
                let key = self.of(&keys).clone();
                match self.below(9) {
                    0 => drop(fields.remove(&key)),
                    1 => drop(fields.insert(key, self.odd())),
                    2 => {
                        let from = self.of(&keys).clone();
                        let other = fields[&from].clone();
                        fields.insert(key, other);
                    }
                    3 => {
                        let moved = fields.remove(&key).unwrap_or_default();
                        fields.insert(format!("{key}\u{0}"), moved);
                    }
                    _ => self.bend(fields.get_mut(&key).unwrap()),
                }
            }
            Value::Array(items) if !items.is_empty() && !self.one_in(8) => {
                let at = self.below(items.len());
                match self.below(6) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    2 => items[at] = self.odd(),
                    _ => self.bend(&mut items[at]),
                }
            }
            Value::String(text) if self.one_in(2) && !text.is_empty() => {
                let at = self.below(text.chars().count());
                *text = text.chars().take(at).collect();
            }
            other => *other = self.odd(),
        }
    }

    /// Changes some bytes.
    fn gnaw(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes.insert(at, u8::try_from(self.below(256)).unwrap()),
                3 => {
                    let end = (at + self.below(64)).min(bytes.len());
                    bytes.drain(at..end);
                }
                4 => {
                    let end = (at + self.below(64)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes[at] = *self.of(b"{}[]\",:\\\n0-eE\xff\x00"),
            }
        }
    }

    fn mutate(&mut self, value: &Value) -> Vec<u8> {
        let mut value = value.clone();
        if !self.one_in(8) {
            for _ in 0..=self.below(3) {
                self.bend(&mut value);
            }
        }
        let mut bytes = match value {
            Value::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        };
        if self.one_in(3) {
            self.gnaw(&mut bytes);
        }
        bytes
    }
}

struct Server {
    dice: Dice,
    lists: BTreeMap<&'static str, Arc<Value>>,
    objects: Vec<Value>,
    refusals: Vec<(u16, Value)>,
    served: u64,
    /// Lists of which a whole one was served since this was cleared.
    whole: BTreeSet<String>,
    /// The last answer to a look at an object.
    looked: Option<(u16, Vec<u8>)>,
    writes: u64,
    removals: u64,
    wrong: Vec<String>,
}

impl Server {
    fn new(seed: u64) -> Self {
        let recorded: Value = serde_json::from_str(include_str!("objects.json")).unwrap();
        let answers: Vec<Value> = serde_json::from_str(include_str!("answers.json")).unwrap();
        let all = |name: &str| recorded[name].as_array().unwrap().clone();
        let list = |kind: &str, items: Vec<Value>| json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1231", "continue": ""}, "items": items});
        let mut services = all("meshservices-remote");
        services.truncate(1);
        services.push(plan::service("use1", Some("shop")));
        let named = |mut object: Value, uid: &str, version: &str| {
            object["metadata"]["uid"] = json!(uid);
            object["metadata"]["resourceVersion"] = json!(version);
            object
        };
        let mut foreign = named(plan::live([100, 9900], 7), "uid-2", "51");
        foreign["metadata"]["managedFields"] = plan::managed("kubectl", "Apply", "2026-11-23T15:40:00Z");
        let objects = vec![
            named(plan::live([9000, 1000], 7), "uid-1", "50"),
            named(plan::live([5000, 5000], 6), "uid-1", "49"),
            named(plan::live([5000, 5000], 9), "uid-1", "52"),
            foreign,
        ];
        let mut routes = all("meshhttproutes-all-namespaces");
        routes[0] = objects[0].clone();
        let namespaces = ["kuma-system", "shop"].map(
            |name| json!({"metadata": {"name": name, "labels": {"kuma.io/sidecar-injection": "enabled"}}}),
        );
        Self {
            // Whatever the seed, it is not 0.
            dice: Dice(seed.wrapping_mul(2).wrapping_add(1)),
            lists: BTreeMap::from(
                [
                    (SERVICES, list("MeshServiceList", services)),
                    (HTTP, list("MeshHTTPRouteList", routes)),
                    (TCP, list("MeshTCPRouteList", Vec::new())),
                    ("/api/v1/namespaces", list("NamespaceList", namespaces.to_vec())),
                ]
                .map(|(path, list)| (path, Arc::new(list))),
            ),
            objects,
            refusals: answers
                .iter()
                .map(|a| {
                    (
                        u16::try_from(a["code"].as_u64().unwrap()).unwrap(),
                        a["body"].clone(),
                    )
                })
                .collect(),
            served: 0,
            whole: BTreeSet::new(),
            looked: None,
            writes: 0,
            removals: 0,
            wrong: Vec::new(),
        }
    }

    fn refusal(&mut self) -> (u16, Vec<u8>) {
        let (code, body) = self.dice.of(&self.refusals).clone();
        let code = match self.dice.one_in(4) {
            true => *self.dice.of(&[
                201, 204, 301, 400, 403, 404, 409, 410, 422, 429, 500, 503, 504, 599,
            ]),
            false => code,
        };
        (code, self.dice.mutate(&body))
    }

    fn answer(&mut self, method: &str, path: &str, query: &str, sent: &Value) -> (u16, Vec<u8>) {
        self.served += 1;
        if self.dice.one_in(6) {
            let refusal = self.refusal();
            if method == "GET" && !self.lists.contains_key(path) {
                self.looked = Some(refusal.clone());
            }
            if method == "PATCH" || method == "DELETE" {
                self.check(method, sent);
            }
            return refusal;
        }
        match (method, self.lists.get(path).cloned()) {
            ("GET", Some(list)) if query.contains("watch=") => (200, self.events(&list)),
            ("GET", Some(list)) => {
                let bytes = match self.dice.one_in(3) {
                    true => list.to_string().into_bytes(),
                    false => self.dice.mutate(&list),
                };
                if serde_json::from_slice::<Value>(&bytes).is_ok_and(|is| {
                    is["kind"] == list["kind"]
                        && is["items"].is_array()
                        && is["metadata"]["resourceVersion"]
                            .as_str()
                            .is_some_and(|v| !v.is_empty())
                }) {
                    self.whole.insert(path.to_owned());
                }
                (200, bytes)
            }
            ("GET", None) => {
                let object = self.dice.of(&self.objects).clone();
                let bytes = match self.dice.one_in(3) {
                    true => object.to_string().into_bytes(),
                    false => self.dice.mutate(&object),
                };
                self.looked = Some((200, bytes.clone()));
                (200, bytes)
            }
            _ => {
                self.check(method, sent);
                let object = self.dice.of(&self.objects).clone();
                (200, self.dice.mutate(&object))
            }
        }
    }

    fn events(&mut self, list: &Value) -> Vec<u8> {
        let mut lines = Vec::new();
        let kind = list["kind"].as_str().unwrap().trim_end_matches("List");
        for _ in 0..self.dice.below(4) {
            self.served += 1;
            let items = list["items"].as_array().unwrap();
            let mut object = match items.is_empty() || self.dice.one_in(4) {
                true => json!({"metadata": {"resourceVersion": "1300"}}),
                false => self.dice.of(items).clone(),
            };
            object["kind"] = json!(kind);
            let what = *self
                .dice
                .of(&["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]);
            let mut event = json!({"type": what, "object": object});
            if self.dice.one_in(8) {
                event["object"] =
                    json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
            }
            lines.extend(self.dice.mutate(&event));
            lines.push(b'\n');
        }
        lines
    }

    /// Whether a write or a removal is one that may be made, after what was looked at last.
    fn check(&mut self, method: &str, sent: &Value) {
        let Some((code, bytes)) = self.looked.clone() else {
            self.wrong.push(format!("{method} without a look"));
            return;
        };
        let live: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let guards = match method {
            "DELETE" => {
                self.removals += 1;
                &sent["preconditions"]
            }
            _ => {
                self.writes += 1;
                &sent["metadata"]
            }
        };
        let mut wrong = |what: &str| {
            self.wrong.push(format!(
                "{method}: {what}: {sent} after {code} {}",
                String::from_utf8_lossy(&bytes)
            ));
        };
        if guards["resourceVersion"].as_str().is_none_or(str::is_empty) {
            return wrong("no resourceVersion");
        }
        if method == "PATCH" && guards.get("uid").is_none() {
            if code != 404 || live["kind"] != "Status" {
                wrong("made what was not said to be absent");
            }
            return;
        }
        let metadata = &live["metadata"];
        if !(200..300).contains(&code)
            || guards["uid"] != metadata["uid"]
            || guards["resourceVersion"] != metadata["resourceVersion"]
        {
            wrong("guards of another object");
        }
        let labels = &metadata["labels"];
        let generation = labels["weir.dev/generation"]
            .as_str()
            .and_then(|g| g.parse::<u64>().ok());
        if labels["weir.dev/federation"] != "shop" || generation.is_some_and(|g| g > 8) {
            wrong("not ours, or newer");
        }
        let managers = metadata["managedFields"].as_array().cloned().unwrap_or_default();
        if !managers
            .iter()
            .any(|m| m["manager"] == "weir" && m["operation"] == "Apply")
        {
            wrong("not written by us");
        }
    }
}

fn client(server: &Arc<Mutex<Server>>) -> Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, sent) = request.into_parts();
            let sent = sent.collect().await.unwrap().to_bytes();
            let sent: Value = serde_json::from_slice(&sent).unwrap_or_default();
            let query = parts.uri.query().unwrap_or_default();
            let mut server = server.lock().unwrap();
            let (code, bytes) = server.answer(parts.method.as_str(), parts.uri.path(), query, &sent);
            let mut answer = Response::builder().status(code);
            if server.dice.one_in(10) {
                let wait = *server
                    .dice
                    .of(&["1", "-1", "soon", "99999999999999999999", "\u{e9}"]);
                answer = answer.header("retry-after", wait);
            }
            // In pieces, as networks have it.
            let at = server.dice.below(bytes.len());
            let (a, b) = bytes.split_at(at);
            let pieces = [Bytes::copy_from_slice(a), Bytes::copy_from_slice(b)].map(Ok::<_, Infallible>);
            let body = Answer::from_stream(futures::stream::iter(pieces));
            Ok::<_, Infallible>(answer.body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => otherwise,
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_makes_it_panic_or_write_what_it_may_not() {
    let wanted = number("WEIR_FUZZ", 50_000);
    let server = Arc::new(Mutex::new(Server::new(number("WEIR_FUZZ_SEED", 20_261_125))));
    // Tasks of this test run on this thread, and what they do there is seen by nobody else.
    let panics = Arc::new(AtomicU64::new(0));
    let (here, seen) = (std::thread::current().id(), Arc::clone(&panics));
    let before = Arc::new(std::panic::take_hook());
    let told = Arc::clone(&before);
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() == here {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        told(panic);
    }));
    let items = [Arc::new(item([9000, 1000], 7))];
    let mut observed = 0_u64;
    while server.lock().unwrap().served < wanted {
        let driver = KumaKubernetes::over(Cluster::new().config(), client(&server)).unwrap();
        for turn in 0..64 {
            driver.look_again();
            server.lock().unwrap().whole.clear();
            if driver.observe(&mesh(), &items).await.is_ok() {
                observed += 1;
                let server = server.lock().unwrap();
                for path in [SERVICES, HTTP, TCP] {
                    assert!(
                        server.whole.contains(path),
                        "an observation without a whole list of {path}"
                    );
                }
            }
            let step = match turn % 3 {
                0 => plan::delete(),
                1 => plan::put([9000, 1000], 7),
                _ => plan::put([8000, 2000], 8),
            };
            server.lock().unwrap().looked = None;
            drop(driver.apply(&step).await);
            drop(driver.pulse().await);
            // Past whatever rest the server asked for.
            tokio::time::advance(Duration::from_secs(61)).await;
        }
        drop(driver);
        tokio::task::yield_now().await;
        let server = server.lock().unwrap();
        assert_eq!(server.wrong, Vec::<String>::new());
        assert_eq!(
            panics.load(Ordering::Relaxed),
            0,
            "a panic after {} answers",
            server.served
        );
    }
    let server = server.lock().unwrap();
    // So that it cannot hold by never getting anywhere.
    tell(&server, observed);
    assert!(observed > wanted / 2000 && server.writes > wanted / 2000 && server.removals > wanted / 20_000);
}

#[expect(
    clippy::print_stderr,
    reason = "the figures of the run, for whoever asks with --nocapture"
)]
fn tell(server: &Server, observed: u64) {
    eprintln!(
        "{} answers: {observed} observations, {} writes, {} removals",
        server.served, server.writes, server.removals
    );
}
