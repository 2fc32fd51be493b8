//! HTTP/1.1 on a socket, as far as the proxy needs it.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// An HTTP/1.1 message: its head, and where in the buffer it ends.
pub(super) struct Message {
    pub(super) head: usize,
    pub(super) length: usize,
    pub(super) close: bool,
}

/// Reads one message whole into `buffer`; none at the end of the stream.
pub(super) async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Message>> {
    let mut searched = 0;
    let head = loop {
        let from = searched.max(3) - 3;
        if let Some(at) = buffer[from..].windows(4).position(|w| w == b"\r\n\r\n") {
            break from + at + 4;
        }
        searched = buffer.len();
        if searched > 64 * 1024 {
            return Err(io::Error::other("a head of more than 64 KiB"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return if searched == 0 {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    };
    let text = std::str::from_utf8(&buffer[..head]).map_err(io::Error::other)?;
    let (mut length, mut close) = (0_usize, false);
    for line in text.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.trim().eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::Error::other("chunked bodies are not played"));
        }
    }
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(Message { head, length, close }))
}

pub(super) fn with_close(response: &[u8]) -> Vec<u8> {
    let Some(at) = response.windows(2).position(|w| w == b"\r\n") else {
        return response.to_vec();
    };
    let (first, rest) = response.split_at(at + 2);
    [first, b"connection: close\r\n", rest].concat()
}

pub(super) fn local_reply(status: u16, body: &str) -> (u16, Vec<u8>) {
    let reason = if status == 404 {
        "Not Found"
    } else {
        "Service Unavailable"
    };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-length: {}\r\nserver: envoy\r\n\r\n{body}",
        body.len()
    );
    (status, head.into_bytes())
}
