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

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::call::{ApiServer, Lines};
use super::listing::{Event, Kept, Key, Page, Unreadable, escape};
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

/// All objects of a kind.
pub(crate) type Objects<T> = Arc<BTreeMap<Key, T>>;

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
    asks: mpsc::Sender<Ask<T>>,
    task: AbortHandle,
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Somebody waits for a list that begins after now.
type Ask<T> = oneshot::Sender<Result<Objects<T>, DriverError>>;

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
    /// Why the last list failed, and when; none if it did not.
    unlisted: Option<(Instant, DriverError)>,
    /// Why it cannot be watched, or could not when that was last tried.
    unwatched: Option<DriverError>,
}

impl<T: Kept> Watched<T> {
    /// Begins; nothing is asked before the first [`Self::read`].
    pub(crate) fn start(server: Arc<ApiServer>, path: &str, timeout: Duration, bell: Arc<Bell>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                objects: None,
                version: String::new(),
                confirmed: Instant::now(),
                unlisted: None,
                unwatched: None,
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

    /// Why it has to be listed each time, if so.
    pub(crate) fn obstacle(&self) -> Option<DriverError> {
        self.shared.state().unwatched.clone()
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
            if let Some((at, error)) = &state.unlisted
                && at.elapsed() < SORE
            {
                return Err(error.clone());
            }
            if let Some(error) = state.forbidden() {
                return Err(error);
            }
        }
        let what = format!("GET {}", self.shared.path);
        let (tell, told) = oneshot::channel();
        let asked = async {
            self.asks.send(tell).await.ok()?;
            told.await.ok()
        };
        match tokio::time::timeout(LIST, asked).await {
            Ok(Some(answer)) => {
                let objects = answer?;
                match self.shared.state().forbidden() {
                    Some(error) => Err(error),
                    None => Ok((objects, Duration::ZERO)),
                }
            }
            Ok(None) => Err(DriverError::new(
                what,
                "nobody follows it any more",
                Fault::Unknown,
                "this is a bug, please report it; nothing is changed without it",
            )),
            Err(_) => Err(meaning::too_late(&what, self.shared.server.name(), LIST)),
        }
    }
}

impl<T> State<T> {
    /// Why it cannot be watched, where that is for a person to mend (a right that is missing): it is told as an error, for a
    /// zone that has to be listed each time is one that nobody wants for long. It is tried again all the while.
    fn forbidden(&self) -> Option<DriverError> {
        self.unwatched.clone().filter(|error| error.fault == Fault::Setup)
    }

    fn fresh(&self) -> Option<(Objects<T>, Duration)> {
        let age = self.confirmed.elapsed();
        let objects = self
            .objects
            .as_ref()
            .filter(|_| self.unlisted.is_none() && self.unwatched.is_none() && age <= TRUST)?;
        Some((Arc::clone(objects), age))
    }
}

impl<T: Kept> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Each change is whole before anything can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlisted(&self, error: DriverError) {
        let mut state = self.state();
        if state.unlisted.is_none() {
            tracing::warn!(%error, help = error.help, "cannot be listed");
        }
        state.unlisted = Some((Instant::now(), error));
    }

    fn unwatched(&self, error: DriverError) {
        let mut state = self.state();
        if state.unwatched.is_none() {
            tracing::warn!(%error, help = error.help, "cannot be watched: it is listed each time");
        }
        state.unwatched = Some(error);
    }

    fn listed(&self, objects: BTreeMap<Key, T>, version: String) -> Objects<T> {
        let mut state = self.state();
        let same = state.objects.as_ref().is_some_and(|before| {
            before.len() == objects.len()
                && before
                    .iter()
                    .zip(&objects)
                    .all(|((k, a), (l, b))| k == l && !b.matters(a))
        });
        let objects = Arc::new(objects);
        state.objects = Some(Arc::clone(&objects));
        state.version = version;
        state.confirmed = Instant::now();
        state.unlisted = None;
        drop(state);
        if !same {
            self.bell.ring();
        }
        objects
    }

    /// Takes one event, or tells that everything has to be listed anew.
    fn take(&self, line: &[u8]) -> Taken {
        let event = match Event::<T>::read(line) {
            Ok(event) => event,
            Err(why) => {
                let what = format!("the watch of {}", self.path);
                self.unwatched(match why {
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
        state.unwatched = None;
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

/// Lists, watches, and lists again, for as long as somebody may read.
async fn keep<T: Kept>(shared: Arc<Shared<T>>, mut asks: mpsc::Receiver<Ask<T>>) {
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
        let answer = match listed {
            Ok(Ok((objects, version))) => Ok(shared.listed(objects, version)),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let what = format!("GET {}", shared.path);
                Err(meaning::too_late(&what, shared.server.name(), LIST))
            }
        };
        for ask in waiting.drain(..) {
            // Whoever asked may have gone.
            let _gone = ask.send(answer.clone());
        }
        let next = match answer {
            Ok(_) => follow(&shared, &mut asks, &mut failures).await,
            Err(error) => {
                shared.unlisted(error);
                pause(&mut failures, &mut asks).await
            }
        };
        match next {
            Next::List(ask) => waiting.extend(ask),
            Next::End => return,
        }
    }
}

enum Next<T> {
    /// List anew; somebody may wait for it.
    List(Option<Ask<T>>),
    /// Nobody can read any more.
    End,
}

impl<T> From<Option<Ask<T>>> for Next<T> {
    fn from(asked: Option<Ask<T>>) -> Self {
        asked.map_or(Self::End, |ask| Self::List(Some(ask)))
    }
}

/// Waits after a failure, longer after each, or until somebody asks.
async fn pause<T>(failures: &mut usize, asks: &mut mpsc::Receiver<Ask<T>>) -> Next<T> {
    let wait = WAITS.get(*failures).unwrap_or(&WAITS[WAITS.len() - 1]);
    *failures += 1;
    tokio::select! {
        ask = asks.recv() => ask.into(),
        () = tokio::time::sleep(*wait) => Next::List(None),
    }
}

/// What was listed was too old at once. Once that is nobody's fault; again and again it is not worth a storm.
async fn anew<T>(failures: &mut usize, asks: &mut mpsc::Receiver<Ask<T>>) -> Next<T> {
    if *failures == 0 {
        *failures = 1;
        return Next::List(None);
    }
    pause(failures, asks).await
}

/// Watches from what was listed, until that will not do. `failures` since anything was heard for a while.
async fn follow<T: Kept>(
    shared: &Shared<T>,
    asks: &mut mpsc::Receiver<Ask<T>>,
    failures: &mut usize,
) -> Next<T> {
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
        let heard = match opened {
            Ok(Ok(lines)) => {
                shared.state().unwatched = None;
                match drain(shared, lines, asks, failures).await {
                    Drained::Ended { heard } => heard,
                    Drained::Next(next) => return next,
                }
            }
            Ok(Err(refusal)) if refusal.is_too_old() => return anew(failures, asks).await,
            Ok(Err(refusal)) => {
                shared.unwatched(refusal.meaning(&format!("GET {path}"), shared.server.name()));
                return pause(failures, asks).await;
            }
            Err(error) => {
                shared.unwatched(error);
                return pause(failures, asks).await;
            }
        };
        // What ends at once is not asked for a hundred times a second.
        if began.elapsed() < SORE
            && let Next::List(Some(ask)) = pause(failures, asks).await
        {
            return Next::List(Some(ask));
        }
        if !heard {
            // It tells nothing of what it did not say.
            return Next::List(None);
        }
    }
}

enum Drained<T> {
    /// The stream ended; whether it said anything.
    Ended {
        heard: bool,
    },
    Next(Next<T>),
}

async fn drain<T: Kept>(
    shared: &Shared<T>,
    mut lines: Lines,
    asks: &mut mpsc::Receiver<Ask<T>>,
    failures: &mut usize,
) -> Drained<T> {
    let mut heard = false;
    let began = Instant::now();
    loop {
        let line = tokio::select! {
            ask = asks.recv() => return Drained::Next(ask.into()),
            line = tokio::time::timeout(SILENCE, lines.next()) => line,
        };
        if began.elapsed() >= SORE {
            *failures = 0;
        }
        match line {
            Ok(Ok(Some(line))) => match shared.take(&line) {
                Taken::Yes => heard = true,
                Taken::TooOld => return Drained::Next(anew(failures, asks).await),
                Taken::Not => return Drained::Next(pause(failures, asks).await),
            },
            Ok(Ok(None)) => return Drained::Ended { heard },
            Ok(Err(why)) => {
                tracing::debug!(path = shared.path, why, "a watch broke");
                return Drained::Ended { heard };
            }
            Err(_) => {
                shared.unwatched(DriverError::new(
                    format!("the watch of {}", shared.path),
                    format!("it is open and has said nothing for {} s", SILENCE.as_secs()),
                    Fault::Away,
                    "an API server that is about to stop falls silent; everything is listed anew",
                ));
                return Drained::Next(Next::List(None));
            }
        }
    }
}
