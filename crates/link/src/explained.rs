//! A stream whose TLS errors are in words for people.
//!
//! The coordinator looks at an agent's certificate after the agent's handshake is done, so its refusal arrives as an
//! error of reading. HTTP/2 keeps only the text of such an error: so the text must say it all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connect::explain_tls;

/// Wraps a TLS stream.
#[derive(Debug)]
pub(crate) struct Explained<S>(pub(crate) S);

fn explained<T>(result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    result.map_err(|error| {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls.map(explain_tls) {
            Some(text) => io::Error::new(error.kind(), text),
            None => error,
        }
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        explained(Pin::new(&mut self.0).poll_read(cx, into))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        explained(Pin::new(&mut self.0).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        explained(Pin::new(&mut self.0).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        explained(Pin::new(&mut self.0).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        explained(Pin::new(&mut self.0).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
