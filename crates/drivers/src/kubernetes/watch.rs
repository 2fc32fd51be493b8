//! What a cluster holds of one kind, in all namespaces: listed once, kept by a watch, and never without its age.
//!
//! * Nothing is filtered by the server: of a filtered watch an object that loses its label seems to be gone (`kubernetes.md`
//!   fact 13).
//! * A watch that is silent for [`SILENCE`] is not believed (fact 14): everything is listed anew. So it is after a 410, an
//!   ERROR, and an event that cannot be read.
//! * What is older than [`TRUST`], or could not be confirmed when it was last tried, is not handed out. There is no way to
//!   get an empty list from here but from a list that was read whole and is empty.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::call::{ApiServer, Lines};
use super::meaning;
use crate::{DriverError, Fault};

/// A watch is ended by the server after so long, with a bookmark: then everything is known to be current. Many servers
/// send no bookmark before that.
const WATCH: Duration = Duration::from_secs(25);
/// A watch that says nothing for so long is not believed.
const SILENCE: Duration = Duration::from_secs(30);
/// What was not confirmed for so long is not handed out.
pub(crate) const TRUST: Duration = Duration::from_secs(40);
/// For so long a failure is not tried again, unless a write waits for it.
const SORE: Duration = Duration::from_secs(1);
/// Between two tries of a watch that fails.
const WAITS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// Objects in a page of a list.
const PAGE: usize = 500;
/// The most objects of one kind; far above any cluster that holds together.
const MOST: usize = 200_000;
/// The longest that a list may take in all.
const LIST: Duration = Duration::from_secs(30);

/// Namespace and name.
pub(crate) type Key = (String, String);
/// All objects of a kind.
pub(crate) type Objects<T> = Arc<BTreeMap<Key, T>>;

/// What is kept of an object.
pub(crate) trait Kept: Clone + Send + Sync + 'static {
    /// The kind of one object, as it comes in lists and events.
    const KIND: &'static str;
    /// From the object itself.
    fn of(document: Value) -> Self;
    /// Whether the change from one to the other is worth looking.
    fn matters(&self, before: &Self) -> bool;
}

/// Rings when something changed that is worth looking.
#[derive(Debug)]
pub(crate) struct Bell(watch::Sender<u64>);

impl Bell {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    fn ring(&self) {
        self.0.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// One kind of object, kept.
pub(crate) struct Watched<T> {
    shared: Arc<Shared<T>>,
    asks: mpsc::Sender<Ask>,
    task: AbortHandle,
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Somebody waits for a list that begins after now.
type Ask = oneshot::Sender<()>;

struct Shared<T> {
    state: Mutex<State<T>>,
    bell: Arc<Bell>,
    path: String,
    server: Arc<ApiServer>,
    timeout: Duration,
}

struct State<T> {
    /// None until a list was read whole.
    objects: Option<Objects<T>>,
    version: String,
    /// When all of it was last known to be current.
    confirmed: Instant,
    /// Why the last list or watch failed, and when; none if it did not.
    failed: Option<(Instant, DriverError)>,
}

impl<T: Kept> Watched<T> {
    /// Begins; nothing is asked before the first [`Self::read`].
    pub(crate) fn start(server: Arc<ApiServer>, path: &str, timeout: Duration, bell: Arc<Bell>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                objects: None,
                version: String::new(),
                confirmed: Instant::now(),
                failed: None,
            }),
            bell,
            path: path.to_owned(),
            server,
            timeout,
        });
        let (asks, asked) = mpsc::channel(16);
        let task = tokio::spawn(keep(Arc::clone(&shared), asked)).abort_handle();
        Self { shared, asks, task }
    }

    /// Whether what is held may be handed out without asking.
    pub(crate) fn is_fresh(&self) -> bool {
        self.shared.state().fresh().is_some()
    }

    /// All objects, and how long ago they were last known to be these. With `anew` they are listed now, and the age is zero.
    ///
    /// # Errors
    /// If they cannot be had, or what is held is too old to be believed.
    pub(crate) async fn read(&self, anew: bool) -> Result<(Objects<T>, Duration), DriverError> {
        if !anew {
            let state = self.shared.state();
            if let Some(fresh) = state.fresh() {
                return Ok(fresh);
            }
            if let Some((at, error)) = &state.failed
                && at.elapsed() < SORE
            {
                return Err(error.clone());
            }
        }
        let what = format!("GET {}", self.shared.path);
        let (tell, told) = oneshot::channel();
        let asked = async {
            if self.asks.send(tell).await.is_ok() {
                // An answer is in the state; a task that ended is seen there too, for nothing is confirmed then.
                drop(told.await);
            }
        };
        if tokio::time::timeout(LIST, asked).await.is_err() {
            return Err(meaning::too_late(&what, self.shared.server.name(), LIST));
        }
        let state = self.shared.state();
        match (&state.failed, &state.objects) {
            (Some((_, error)), _) => Err(error.clone()),
            (None, Some(objects)) => Ok((Arc::clone(objects), Duration::ZERO)),
            (None, None) => Err(DriverError {
                what,
                why: "the watch of it ended".to_owned(),
                fault: Fault::Unknown,
                help: "this is a bug, please report it; nothing is changed without it".to_owned(),
            }),
        }
    }
}

impl<T> State<T> {
    fn fresh(&self) -> Option<(Objects<T>, Duration)> {
        let age = self.confirmed.elapsed();
        let objects = self
            .objects
            .as_ref()
            .filter(|_| self.failed.is_none() && age <= TRUST)?;
        Some((Arc::clone(objects), age))
    }
}

impl<T: Kept> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Each change is whole before anything can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: DriverError) {
        let mut state = self.state();
        if state.failed.is_none() {
            tracing::warn!(%error, help = error.help, "cannot be followed");
        }
        state.failed = Some((Instant::now(), error));
    }

    fn listed(&self, objects: BTreeMap<Key, T>, version: String) {
        let mut state = self.state();
        let same = state.objects.as_ref().is_some_and(|before| {
            before.len() == objects.len()
                && before
                    .iter()
                    .zip(&objects)
                    .all(|((k, a), (l, b))| k == l && !b.matters(a))
        });
        *state = State {
            objects: Some(Arc::new(objects)),
            version,
            confirmed: Instant::now(),
            failed: None,
        };
        drop(state);
        if !same {
            self.bell.ring();
        }
    }

    /// Takes one event, or tells that everything has to be listed anew.
    fn take(&self, line: &[u8]) -> Taken {
        let event = match Event::<T>::read(line) {
            Ok(event) => event,
            Err(why) => {
                let what = format!("the watch of {}", self.path);
                self.failed(match why {
                    // No fault of anybody's: a list puts it right.
                    Unreadable::Refused(refusal) if refusal.is_too_old() => return Taken::TooOld,
                    Unreadable::Refused(refusal) => refusal.meaning(&what, self.server.name()),
                    Unreadable::Strange(why) => meaning::strange(&what, self.server.name(), why),
                });
                return Taken::Not;
            }
        };
        let mut state = self.state();
        let State { objects, version, .. } = &mut *state;
        let Some(objects) = objects else {
            return Taken::Not;
        };
        let (matters, now) = match event {
            Event::Is(key, object, now) => {
                let before = objects.get(&key);
                let matters = before.is_none_or(|before| object.matters(before));
                Arc::make_mut(objects).insert(key, object);
                (matters, now)
            }
            Event::Gone(key, now) => (Arc::make_mut(objects).remove(&key).is_some(), now),
            Event::Bookmark(now) => (false, now),
        };
        *version = now;
        state.confirmed = Instant::now();
        state.failed = None;
        drop(state);
        if matters {
            self.bell.ring();
        }
        Taken::Yes
    }

    /// The whole list.
    async fn list(&self) -> Result<(BTreeMap<Key, T>, String), DriverError> {
        let mut objects = BTreeMap::new();
        let mut from = String::new();
        loop {
            let path = match from.as_str() {
                "" => format!("{}?limit={PAGE}", self.path),
                from => format!("{}?limit={PAGE}&continue={}", self.path, escape(from)),
            };
            let page = self.server.get(&path, self.timeout).await?;
            let what = format!("GET {}", self.path);
            let page =
                Page::<T>::read(page).map_err(|why| meaning::strange(&what, self.server.name(), &why))?;
            for (key, object) in page.objects {
                if objects.insert(key, object).is_some() {
                    let why = "the list names an object twice";
                    return Err(meaning::strange(&what, self.server.name(), why));
                }
            }
            if objects.len() > MOST {
                let why = format!("more than {MOST} objects");
                return Err(meaning::strange(&what, self.server.name(), &why));
            }
            match page.more {
                Some(more) if more == from => {
                    return Err(meaning::strange(
                        &what,
                        self.server.name(),
                        "the list does not end",
                    ));
                }
                Some(more) => from = more,
                None => return Ok((objects, page.version)),
            }
        }
    }
}

/// What became of an event.
enum Taken {
    Yes,
    TooOld,
    Not,
}

/// One page of a list.
struct Page<T> {
    objects: Vec<(Key, T)>,
    version: String,
    more: Option<String>,
}

impl<T: Kept> Page<T> {
    /// Whole or not at all: an object that cannot be read is no reason to go on without it.
    fn read(mut page: Value) -> Result<Self, String> {
        let kind = page.get("kind").and_then(Value::as_str).unwrap_or_default();
        if kind != format!("{}List", T::KIND) {
            return Err(format!("the answer is a `{kind}` and no list of {}", T::KIND));
        }
        let text = |key: &str| {
            page.pointer(key)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let version = text("/metadata/resourceVersion")
            .ok_or("the list has no resourceVersion")?
            .to_owned();
        let more = text("/metadata/continue").map(str::to_owned);
        let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else {
            return Err("the list has no items".to_owned());
        };
        let objects: Option<Vec<_>> = items
            .into_iter()
            .map(|item| Some((key(&item)?, T::of(item))))
            .collect();
        Ok(Self {
            objects: objects.ok_or("the list has an object without a name")?,
            version,
            more,
        })
    }
}

/// A namespaced or a cluster's object by name.
fn key(document: &Value) -> Option<Key> {
    let text = |key: &str| document.pointer(key).and_then(Value::as_str);
    let name = text("/metadata/name").filter(|name| !name.is_empty())?;
    Some((
        text("/metadata/namespace").unwrap_or_default().to_owned(),
        name.to_owned(),
    ))
}

/// One event of a watch.
enum Event<T> {
    Is(Key, T, String),
    Gone(Key, String),
    Bookmark(String),
}

enum Unreadable {
    Refused(meaning::Refusal),
    Strange(&'static str),
}

impl<T: Kept> Event<T> {
    fn read(line: &[u8]) -> Result<Self, Unreadable> {
        let mut event: Value =
            serde_json::from_slice(line).map_err(|_| Unreadable::Strange("an event that is not JSON"))?;
        let object = event.get_mut("object").map(Value::take).unwrap_or_default();
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind == "ERROR" {
            return Err(Unreadable::Refused(meaning::Refusal::of_event(&object)));
        }
        let version = object
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
            .filter(|version| !version.is_empty())
            .ok_or(Unreadable::Strange("an event without a resourceVersion"))?
            .to_owned();
        if kind == "BOOKMARK" {
            return Ok(Self::Bookmark(version));
        }
        if object.get("kind").and_then(Value::as_str) != Some(T::KIND) {
            return Err(Unreadable::Strange("an event of another kind of object"));
        }
        let key = key(&object).ok_or(Unreadable::Strange("an event of an object without a name"))?;
        match kind {
            "ADDED" | "MODIFIED" => Ok(Self::Is(key, T::of(object), version)),
            "DELETED" => Ok(Self::Gone(key, version)),
            _ => Err(Unreadable::Strange("an event of an unknown type")),
        }
    }
}

/// A `continue` token in a query: it is base64, whose `+`, `/` and `=` are not for queries.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Lists, watches, and lists again, for as long as somebody may read.
async fn keep<T: Kept>(shared: Arc<Shared<T>>, mut asks: mpsc::Receiver<Ask>) {
    // The first reader starts it.
    let Some(first) = asks.recv().await else { return };
    let mut waiting = vec![first];
    let mut failures = 0;
    loop {
        while let Ok(ask) = asks.try_recv() {
            waiting.push(ask);
        }
        let mut listed = tokio::time::timeout(LIST, shared.list()).await;
        // Something was removed from under a list of several pages: once more from its beginning.
        if matches!(&listed, Ok(Err(error)) if error.fault == Fault::NotYet) {
            listed = tokio::time::timeout(LIST, shared.list()).await;
        }
        let followable = match listed {
            Ok(Ok((objects, version))) => {
                shared.listed(objects, version);
                true
            }
            Ok(Err(error)) => {
                shared.failed(error);
                false
            }
            Err(_) => {
                let what = format!("GET {}", shared.path);
                shared.failed(meaning::too_late(&what, shared.server.name(), LIST));
                false
            }
        };
        for ask in waiting.drain(..) {
            // Whoever asked may have gone.
            let _gone = ask.send(());
        }
        let ask = if followable {
            failures = 0;
            follow(&shared, &mut asks).await
        } else {
            failures += 1;
            pause(failures, &mut asks).await
        };
        match ask {
            Next::List(ask) => waiting.extend(ask),
            Next::End => return,
        }
    }
}

enum Next {
    /// List anew; somebody may wait for it.
    List(Option<Ask>),
    /// Nobody can read any more.
    End,
}

impl From<Option<Ask>> for Next {
    fn from(asked: Option<Ask>) -> Self {
        asked.map_or(Self::End, |ask| Self::List(Some(ask)))
    }
}

/// Waits after a failure, or until somebody asks.
async fn pause(failures: usize, asks: &mut mpsc::Receiver<Ask>) -> Next {
    let wait = WAITS
        .get(failures.saturating_sub(1))
        .unwrap_or(&WAITS[WAITS.len() - 1]);
    tokio::select! {
        ask = asks.recv() => ask.into(),
        () = tokio::time::sleep(*wait) => Next::List(None),
    }
}

/// Watches from what was listed, until that will not do.
async fn follow<T: Kept>(shared: &Shared<T>, asks: &mut mpsc::Receiver<Ask>) -> Next {
    let mut failures = 0;
    loop {
        let version = shared.state().version.clone();
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}",
            shared.path,
            WATCH.as_secs(),
            escape(&version)
        );
        let began = Instant::now();
        let opened = tokio::select! {
            ask = asks.recv() => return ask.into(),
            opened = shared.server.watch(&path, shared.timeout) => opened,
        };
        match opened {
            Ok(Ok(lines)) => match drain(shared, lines, asks).await {
                Drained::Ended { heard: true } => {}
                Drained::Ended { heard: false } => {
                    // It tells nothing of what it did not say.
                    if began.elapsed() < SORE {
                        failures += 1;
                        let next = pause(failures, asks).await;
                        return next;
                    }
                    return Next::List(None);
                }
                Drained::Next(next) => return next,
            },
            Ok(Err(refusal)) if refusal.is_too_old() => return Next::List(None),
            Ok(Err(refusal)) => {
                shared.failed(refusal.meaning(&format!("GET {path}"), shared.server.name()));
                return pause(1, asks).await;
            }
            Err(error) => {
                shared.failed(error);
                return pause(1, asks).await;
            }
        }
        if began.elapsed() < SORE {
            // It talks and ends at once: not a reason to ask a hundred times a second.
            failures += 1;
            if let Next::List(Some(ask)) = pause(failures, asks).await {
                return Next::List(Some(ask));
            }
        } else {
            failures = 0;
        }
    }
}

enum Drained {
    /// The stream ended; whether it said anything.
    Ended {
        heard: bool,
    },
    Next(Next),
}

async fn drain<T: Kept>(shared: &Shared<T>, mut lines: Lines, asks: &mut mpsc::Receiver<Ask>) -> Drained {
    let mut heard = false;
    loop {
        let line = tokio::select! {
            ask = asks.recv() => return Drained::Next(ask.into()),
            line = tokio::time::timeout(SILENCE, lines.next()) => line,
        };
        match line {
            Ok(Ok(Some(line))) => match shared.take(&line) {
                Taken::Yes => heard = true,
                Taken::TooOld => return Drained::Next(Next::List(None)),
                Taken::Not => return Drained::Next(pause(1, asks).await),
            },
            Ok(Ok(None)) => return Drained::Ended { heard },
            Ok(Err(why)) => {
                tracing::debug!(path = shared.path, why, "a watch broke");
                return Drained::Ended { heard };
            }
            Err(_) => {
                shared.failed(DriverError {
                    what: format!("the watch of {}", shared.path),
                    why: format!("it is open and has said nothing for {} s", SILENCE.as_secs()),
                    fault: Fault::Away,
                    help: "an API server that is about to stop falls silent; everything is listed anew"
                        .to_owned(),
                });
                return Drained::Next(Next::List(None));
            }
        }
    }
}
