//! Whatever else may answer at the address of an Admin API, or in its place for some questions; and how often it was written to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use weir_drivers::Fault;

/// Something at the address of an Admin API.
pub(crate) struct Something {
    pub(crate) address: SocketAddr,
    /// How many questions came by any method but GET.
    pub(crate) writes: Arc<AtomicUsize>,
}

/// What it answers to a request line. None: nothing, ever.
pub(crate) type Says = fn(&str) -> Option<Vec<u8>>;

/// A Kong, and which request lines come to it.
pub(crate) type Behind = Option<(SocketAddr, fn(&str) -> bool)>;

pub(crate) async fn something(says: Says) -> Something {
    before(None, says).await
}

/// Something that stands before a Kong, and answers itself what is not for that.
pub(crate) async fn before(behind: Behind, says: Says) -> Something {
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, writes) = (socket.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&writes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(answer(stream, behind, says, Arc::clone(&counted)));
        }
    });
    Something { address, writes }
}

async fn answer(mut stream: TcpStream, behind: Behind, says: Says, writes: Arc<AtomicUsize>) -> Option<()> {
    let mut request = Vec::new();
    let end = loop {
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        (stream.read_buf(&mut request).await.ok()? > 0).then_some(())?;
    };
    let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    while request.len() < end + length.unwrap_or(0) {
        (stream.read_buf(&mut request).await.ok()? > 0).then_some(())?;
    }
    let line = String::from_utf8_lossy(&request).lines().next()?.to_owned();
    writes.fetch_add(usize::from(!line.starts_with("GET ")), Ordering::Relaxed);
    if let Some((kong, goes_on)) = behind
        && goes_on(&line)
    {
        // One question for each connection: a driver keeps none.
        let mut kong = TcpStream::connect(kong).await.ok()?;
        kong.write_all(&request).await.ok()?;
        return copy_bidirectional(&mut stream, &mut kong).await.ok().map(drop);
    }
    match says(&line) {
        Some(bytes) => stream.write_all(&bytes).await.ok(),
        // It keeps the connection, and says nothing.
        None => stream.read_buf(&mut request).await.ok().map(drop),
    }
}

pub(crate) fn with(status: &str, headers: &str, body: &[u8]) -> Option<Vec<u8>> {
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    Some([head.as_bytes(), body].concat())
}

pub(crate) fn json(status: &str, body: &str) -> Option<Vec<u8>> {
    with(
        status,
        "Content-Type: application/json; charset=utf-8\r\n",
        body.as_bytes(),
    )
}

/// What is no answer of an Admin API: in a word, what it says, whose fault that is, and what is told of it.
pub(crate) fn table() -> [(&'static str, Says, Fault, &'static str); 11] {
    [
        (
            "HTML",
            |_| with("200 OK", "Content-Type: text/html\r\n", b"<html>Welcome</html>"),
            Fault::Setup,
            "the answer is text/html and no JSON",
        ),
        (
            "no type",
            |_| with("200 OK", "", b"{}"),
            Fault::Setup,
            "the answer is of no type",
        ),
        (
            "other JSON",
            |_| json("200 OK", r#"{"hello":"world"}"#),
            Fault::Setup,
            "neither its version nor",
        ),
        (
            "401",
            |_| json("401 Unauthorized", r#"{"message":"No API key found in request"}"#),
            Fault::Setup,
            "No API key found",
        ),
        (
            "403",
            |_| with("403 Forbidden", "Content-Type: text/html\r\n", b"no"),
            Fault::Setup,
            "403 Forbidden, text/html",
        ),
        (
            "404",
            |_| with("404 Not Found", "Content-Type: text/html\r\n", b"no"),
            Fault::Setup,
            "text/html",
        ),
        (
            "redirect",
            |_| with("302 Found", "Location: https://login.test/\r\n", b""),
            Fault::Setup,
            "sends us to https://login.test/",
        ),
        (
            "garbage",
            |_| json("200 OK", r#"{"version": "3.9"#),
            Fault::Unknown,
            "the answer is no JSON",
        ),
        (
            "50 MB",
            |_| json("200 OK", &format!("\"{}\"", "x".repeat(50 << 20))),
            Fault::Unknown,
            "an answer of more than 16777216 bytes",
        ),
        (
            "no HTTP",
            |_| Some(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
            Fault::Away,
            "",
        ),
        (
            "500",
            |_| {
                json(
                    "500 Internal Server Error",
                    r#"{"message":"An unexpected error occurred"}"#,
                )
            },
            Fault::Away,
            "An unexpected error",
        ),
    ]
}
