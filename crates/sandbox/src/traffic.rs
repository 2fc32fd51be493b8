//! Backends that say who they are, and callers that send real HTTP/1.1 requests on kept connections and count who answers.
//!
//! Every request is counted, also while a change is under way; one without a good answer is a failed one, and is never
//! sent again. Written on sockets, not on a client library: what counts must not be retried behind our back.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cast::Outbound;

/// The header in which a backend says who it is.
const WHO: &str = "x-backend: ";
/// Longer than Kuma's own 15 s timeout for a request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Callers of a zone, spread over its outbounds.
pub const CALLERS: usize = 4;

/// An application: answers every request with its name.
#[derive(Debug)]
pub struct Application {
    /// Where it listens.
    pub address: SocketAddr,
    /// How long it takes for each answer, in milliseconds.
    slow: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Application {
    /// Starts one on a free port of loopback.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(backend: &str) -> anyhow::Result<Self> {
        let listener = crate::ports::listener()?;
        Self::serving(backend, TcpListener::from_std(listener)?)
    }

    /// Starts one there.
    ///
    /// # Errors
    /// If the port cannot be bound.
    pub async fn start_at(backend: &str, address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await;
        Self::serving(
            backend,
            listener.with_context(|| format!("cannot listen on {address}"))?,
        )
    }

    fn serving(backend: &str, listener: TcpListener) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let body = format!("{backend}\n");
        let response = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{WHO}{backend}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let response: Arc<str> = response.into();
        let slow = Arc::new(AtomicU64::new(0));
        let time = Arc::clone(&slow);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                connections.spawn(answer(stream, Arc::clone(&response), Arc::clone(&time)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            slow,
            _tasks: tasks,
        })
    }

    /// From now on it takes so long for each answer.
    pub fn take(&self, time: Duration) {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.slow.store(time, Ordering::Relaxed);
    }
}

async fn answer(mut stream: TcpStream, response: Arc<str>, slow: Arc<AtomicU64>) {
    let mut buffer = Vec::with_capacity(1024);
    // The other side hanging up is how a connection ends.
    while let Ok(Some(length)) = head(&mut stream, &mut buffer).await {
        // Callers send no bodies.
        buffer.drain(..length);
        let time = slow.load(Ordering::Relaxed);
        if time > 0 {
            tokio::time::sleep(Duration::from_millis(time)).await;
        }
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads until a whole head is in the buffer; its length, or none at the end of the stream.
async fn head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    }
}

/// What the callers of one zone have seen so far. Only ever rises.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Sent.
    pub requests: u64,
    /// Without a good answer, by why.
    pub failed: BTreeMap<String, u64>,
    /// Good answers by backend.
    pub counted: BTreeMap<String, u64>,
}

impl Tally {
    /// All failures.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// What came after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let minus = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            let difference = now
                .iter()
                .map(|(k, n)| (k.clone(), n - then.get(k).unwrap_or(&0)));
            difference.filter(|(_, n)| *n > 0).collect()
        };
        Self {
            requests: self.requests - earlier.requests,
            failed: minus(&self.failed, &earlier.failed),
            counted: minus(&self.counted, &earlier.counted),
        }
    }
}

/// How fast callers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as answers come.
    Full,
    /// With this pause between two requests of one caller.
    Gentle(Duration),
    /// Not at all.
    Stopped,
}

/// The callers of one zone.
#[derive(Debug)]
pub struct Callers {
    tally: Arc<Mutex<Tally>>,
    pace: watch::Sender<Pace>,
    /// So many have no request under way and send none.
    resting: watch::Sender<usize>,
    all: usize,
    _tasks: JoinSet<()>,
}

impl Callers {
    /// Starts them, stopped.
    pub fn start(outbounds: &[Outbound]) -> Self {
        let (pace, _) = watch::channel(Pace::Stopped);
        let (resting, _) = watch::channel(0);
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut tasks = JoinSet::new();
        for outbound in outbounds
            .iter()
            .cycle()
            .take(if outbounds.is_empty() { 0 } else { CALLERS })
        {
            let resting = resting.clone();
            tasks.spawn(call(
                outbound.address,
                Arc::clone(&tally),
                pace.subscribe(),
                resting,
            ));
        }
        Self {
            tally,
            pace,
            resting,
            all: tasks.len(),
            _tasks: tasks,
        }
    }

    /// Sets the pace; requests under way are finished and counted.
    pub fn pace(&self, pace: Pace) {
        self.pace.send_replace(pace);
    }

    /// Stops them; returns when every request that was under way has ended.
    pub async fn rest(&self) {
        self.pace(Pace::Stopped);
        // They are there for as long as this is.
        let _ = self
            .resting
            .subscribe()
            .wait_for(|resting| *resting == self.all)
            .await;
    }

    /// What they have seen so far.
    pub fn tally(&self) -> Tally {
        self.eye().tally()
    }

    /// For whoever looks at it while somebody else has them.
    pub fn eye(&self) -> Eye {
        Eye(Arc::clone(&self.tally))
    }
}

/// Sees what the callers of one zone have seen.
#[derive(Debug, Clone)]
pub struct Eye(Arc<Mutex<Tally>>);

impl Eye {
    /// So far.
    pub fn tally(&self) -> Tally {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn call(
    address: SocketAddr,
    tally: Arc<Mutex<Tally>>,
    mut pace: watch::Receiver<Pace>,
    resting: watch::Sender<usize>,
) {
    let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\nuser-agent: weir-sandbox\r\n\r\n");
    let mut connection: Option<TcpStream> = None;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        let now = *pace.borrow_and_update();
        match now {
            Pace::Full => {}
            Pace::Gentle(pause) => {
                let changed = tokio::time::timeout(pause, pace.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    return;
                }
            }
            Pace::Stopped => {
                // Whoever was called may close what nobody uses: that is no failed request.
                connection = None;
                resting.send_modify(|resting| *resting += 1);
                if pace.changed().await.is_err() {
                    return;
                }
                resting.send_modify(|resting| *resting -= 1);
                continue;
            }
        }
        buffer.clear();
        let asked = tokio::time::timeout(TIMEOUT, ask(address, &mut connection, &request, &mut buffer)).await;
        let seen = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
        let failed = {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.requests += 1;
            let failed = seen.is_err();
            let (map, key) = match seen {
                Ok(backend) => (&mut tally.counted, backend),
                Err(why) => (&mut tally.failed, why),
            };
            *map.entry(key).or_insert(0) += 1;
            failed
        };
        if failed {
            connection = None;
            // Refused connections fail at once: do not turn that into a busy loop.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// One request: the backend that answered, or why that is a failure.
async fn ask(
    address: SocketAddr,
    connection: &mut Option<TcpStream>,
    request: &str,
    buffer: &mut Vec<u8>,
) -> Result<String, String> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await;
            let stream = stream.map_err(|error| format!("connect: {}", error.kind()))?;
            let _ = stream.set_nodelay(true);
            stream
        }
    };
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(|error| format!("send: {}", error.kind()))?;
    let length = head(&mut stream, buffer).await;
    let length = length.map_err(|error| format!("receive: {}", error.kind()))?;
    let length = length.ok_or("closed before an answer")?;
    let text = std::str::from_utf8(&buffer[..length]).map_err(|_| "an answer that is not text")?;
    let status = text.get(9..12).unwrap_or("???").to_owned();
    let (mut who, mut body, mut close) = (None, 0_usize, false);
    for line in text.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case(WHO.trim_end_matches(": ")) {
            who = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("content-length") {
            body = value.parse().map_err(|_| "a content-length that is no number")?;
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            // Nobody here sends such a body with a good status; the rest of the connection would be unreadable.
            close = true;
        }
    }
    while buffer.len() < length + body {
        let read = stream.read_buf(buffer).await;
        if read.map_err(|error| format!("receive: {}", error.kind()))? == 0 {
            return Err("closed inside an answer".into());
        }
    }
    if !close {
        *connection = Some(stream);
    }
    match who {
        Some(who) if status == "200" => Ok(who),
        _ => Err(status),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn every_request_is_counted_once_whoever_answers() {
        let vm = Application::start("vm").await.expect("a free port");
        let cloud = Application::start("cloud").await.expect("a free port");
        let to = |address| Outbound {
            address,
            target: String::new(),
        };
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let callers = Callers::start(&[to(vm.address), to(cloud.address), to(nobody)]);
        callers.pace(Pace::Full);
        while callers.tally().requests < 500 {
            tokio::task::yield_now().await;
        }
        callers.rest().await;
        let tally = callers.tally();
        let backends: Vec<_> = tally.counted.keys().map(String::as_str).collect();
        assert_eq!(backends, ["cloud", "vm"]);
        let failed: Vec<_> = tally.failed.keys().map(String::as_str).collect();
        assert_eq!(failed, ["connect: connection refused"]);
        assert_eq!(
            tally.requests,
            tally.counted.values().sum::<u64>() + tally.failures()
        );
        assert_eq!(tally.since(&tally), Tally::default());
    }
}
