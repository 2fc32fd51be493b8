//! Asking: raw HTTP, so that an answer is seen to the last header, and targets that answer with their name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Reads status line and headers.
    pub(crate) fn head(text: &str) -> Self {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let mut words = first.splitn(3, ' ').skip(1);
        let status = words.next().and_then(|status| status.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.unwrap_or_else(|| panic!("no status line: {first}")),
            reason: words.next().unwrap_or_default().to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: String::new(),
        }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

impl Ask {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, kind: &str, body: &[u8]) -> Self {
        self.body = Some(body.to_vec());
        self.header("Content-Type", kind)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().as_bytes())
    }

    /// A form with one field, as `curl -F` sends it.
    pub(crate) fn form(self, name: &str, content: &[u8]) -> Self {
        let head = format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        let body = [head.as_bytes(), content, b"\r\n--xx--\r\n"].concat();
        self.body("multipart/form-data; boundary=xx", &body)
    }

    pub(crate) async fn to(&self, address: SocketAddr) -> Answer {
        Connection::open(address)
            .await
            .ask(self)
            .await
            .expect("an answer")
    }
}

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// None if the connection ended before the answer did.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Option<Answer> {
        let mut request = format!("{} {} HTTP/1.1\r\n", ask.method, ask.path);
        if !ask.headers.iter().any(|(name, _)| name == "Host") {
            request.push_str("Host: kong\r\n");
        }
        for (name, value) in &ask.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &ask.body {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let bytes = [request.as_bytes(), ask.body.as_deref().unwrap_or_default()].concat();
        self.stream.write_all(&bytes).await.ok()?;
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            self.read().await?;
        };
        let mut answer = Answer::head(&String::from_utf8_lossy(&self.buffer[..end]));
        assert!(!answer.headers.contains_key("transfer-encoding"), "{answer:?}");
        let length = answer
            .headers
            .get("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0_usize);
        while self.buffer.len() < end + 4 + length {
            self.read().await?;
        }
        answer.body = String::from_utf8_lossy(&self.buffer[end + 4..end + 4 + length]).into_owned();
        self.buffer.drain(..end + 4 + length);
        Some(answer)
    }

    async fn read(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }
}

/// Something behind Kong: answers every request with its name, and with what it was asked.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    status: Arc<AtomicU16>,
}

impl Target {
    pub(crate) async fn start(name: &'static str) -> Self {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(200));
        let answers = Arc::clone(&status);
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream, name, Arc::clone(&answers)));
            }
        });
        Self { address, status }
    }

    /// Lets it answer with this status from now on.
    pub(crate) fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }
}

async fn serve(mut stream: TcpStream, name: &'static str, status: Arc<AtomicU16>) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length = length.unwrap_or(0_usize);
        while buffer.len() < end + 4 + length {
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        let body = String::from_utf8_lossy(&buffer[end + 4..end + 4 + length]).into_owned();
        buffer.drain(..end + 4 + length);
        let said = format!("{name}\n{head}\n\n{body}");
        let status = status.load(Ordering::Relaxed);
        let answer = format!(
            "HTTP/1.1 {status} It\r\nContent-Length: {}\r\nX-Target: {name}\r\n\r\n{said}",
            said.len()
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    socket.local_addr().unwrap()
}

/// Asks until this holds; each look is a request, so that nobody has to be waited for in between.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
    }
}
