//! Sockets of connections.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rocket::data::IoStream;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// The transport of a connection.
pub enum Socket {
    /// The stream that Rocket hands over at the upgrade.
    Network(IoStream),
    /// A pipe within the process, for the follower of the readiness probe and for tests.
    Pipe(DuplexStream),
}

impl From<IoStream> for Socket {
    fn from(stream: IoStream) -> Self {
        Self::Network(stream)
    }
}

impl From<DuplexStream> for Socket {
    fn from(pipe: DuplexStream) -> Self {
        Self::Pipe(pipe)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Network(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Pipe(pipe) => Pin::new(pipe).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Network(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Pipe(pipe) => Pin::new(pipe).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Network(stream) => Pin::new(stream).poll_flush(cx),
            Self::Pipe(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Network(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Pipe(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}
