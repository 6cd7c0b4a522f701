//! Large responses. They are streamed in pieces, or built in memory within a limit for all of them together.
//!
//! A client that does not read its response is disconnected by the TCP user timeout of the listener.

use std::io::{self, Cursor, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::Stream;
use rocket::http::{ContentType, Status};
use rocket::request::Request;
use rocket::response::{self, Responder, Response};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::http::error::ApiError;

/// Bytes that are read from the database, and passed to the connection, at a time.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// Memory for all buffered responses together, in KiB. A response that is larger than this takes all of it.
const MEMORY_KIB: u32 = 96 << 10;
/// Maximum number of responses that are built at a time. Their memory is not counted yet, because their size is
/// unknown.
const MAX_BUILDERS: usize = 2;
/// Time that a response waits to be built, and then for memory.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds the memory that buffered responses take; cheap to clone.
#[derive(Debug, Clone)]
pub struct ResponseMemory {
    builders: Arc<Semaphore>,
    /// One permit is one KiB.
    memory: Arc<Semaphore>,
}

impl Default for ResponseMemory {
    fn default() -> Self {
        Self { builders: Arc::new(Semaphore::new(MAX_BUILDERS)), memory: Arc::new(Semaphore::new(MEMORY_KIB as usize)) }
    }
}

impl ResponseMemory {
    /// Builds a response, and counts its memory until it was sent or its client is gone.
    ///
    /// # Errors
    /// Returns a 503 if clients leave too many large responses unread, or the error of `build`.
    pub async fn buffered(
        &self,
        content_type: ContentType,
        build: impl Future<Output = Result<String, ApiError>>,
    ) -> Result<BufferedResponse, ApiError> {
        let overloaded = || ApiError::unavailable("too many large answers at once");
        let builder = timeout(MEMORY_TIMEOUT, Arc::clone(&self.builders).acquire_owned()).await;
        let builder = builder.map_err(|_| overloaded())?.map_err(|_| overloaded())?;
        let body = build.await?;
        let kib = u32::try_from(body.len() >> 10).unwrap_or(u32::MAX).saturating_add(1).min(MEMORY_KIB);
        let memory = timeout(MEMORY_TIMEOUT, Arc::clone(&self.memory).acquire_many_owned(kib)).await;
        let memory = memory.map_err(|_| overloaded())?.map_err(|_| overloaded())?;
        drop(builder);
        Ok(BufferedResponse { content_type, body, memory })
    }
}

/// A response that was built in memory.
pub struct BufferedResponse {
    content_type: ContentType,
    body: String,
    memory: OwnedSemaphorePermit,
}

impl<'r> Responder<'r, 'static> for BufferedResponse {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let len = self.body.len();
        let body = BodyWithMemory { bytes: Cursor::new(self.body), _memory: self.memory };
        Response::build().header(self.content_type).sized_body(len, body).max_chunk_size(PIECE_BYTES).ok()
    }
}

/// A body that returns its memory when it is dropped.
struct BodyWithMemory {
    bytes: Cursor<String>,
    _memory: OwnedSemaphorePermit,
}

impl AsyncRead for BodyWithMemory {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(cx, buffer)
    }
}

impl AsyncSeek for BodyWithMemory {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.bytes).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.bytes).poll_complete(cx)
    }
}

type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A body that is read piece by piece while it is sent. An error closes the connection, so that the client notices it.
pub struct StreamedBody {
    pieces: Pieces,
    current: Bytes,
}

impl StreamedBody {
    /// Sends `pieces` one after the other.
    pub fn new(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self { pieces: Box::pin(pieces), current: Bytes::new() }
    }
}

impl AsyncRead for StreamedBody {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.pieces.as_mut().poll_next(cx)) {
                Some(Ok(piece)) => self.current = piece,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..len]);
        self.current.advance(len);
        Poll::Ready(Ok(()))
    }
}

/// Rocket requires this trait for a body of known length, but never seeks if the length is given.
impl AsyncSeek for StreamedBody {
    fn start_seek(self: Pin<&mut Self>, _: SeekFrom) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// A streamed body of JSON whose length is not known in advance.
pub struct StreamedJson(pub StreamedBody);

impl<'r> Responder<'r, 'static> for StreamedJson {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let mut response = Response::build();
        response.status(Status::Ok).header(ContentType::JSON).streamed_body(self.0).max_chunk_size(PIECE_BYTES).ok()
    }
}
