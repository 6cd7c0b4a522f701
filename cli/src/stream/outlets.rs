//! The queue between the streams and the view. Its length and its bytes are bounded.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Update;

/// Most updates in the queue. While it is full, the sockets are not read, so a slow view slows the server down instead
/// of using memory.
const MAX_UPDATES: usize = 256;
/// Most memory of the updates in the queue. A larger update waits until the queue is empty.
const MAX_KIB: u32 = 16 << 10;

pub(crate) fn queue() -> (Outlets, Inlet) {
    let (sender, receiver) = mpsc::channel(MAX_UPDATES);
    (Outlets { sender, room: Arc::new(Semaphore::new(MAX_KIB as usize)) }, Inlet(receiver))
}

/// The sending half, shared by all streams.
#[derive(Debug, Clone)]
pub(crate) struct Outlets {
    pub(super) sender: mpsc::Sender<(usize, Update, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
}

impl Outlets {
    /// Sends an update of the stream `call` once there is room. Returns `false` if the receiver is gone.
    pub(crate) async fn send(&self, call: usize, update: Update) -> bool {
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(kib(&update)) => room.ok(),
            () = self.sender.closed() => return false,
        };
        self.sender.send((call, update, room)).await.is_ok()
    }
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Inlet(mpsc::Receiver<(usize, Update, Option<OwnedSemaphorePermit>)>);

impl Inlet {
    /// Returns the next update, or `None` if all streams have ended. It is cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<(usize, Update)> {
        self.0.recv().await.map(|(call, update, _)| (call, update))
    }

    /// Returns an update if one is in the queue.
    pub(crate) fn ready(&mut self) -> Option<(usize, Update)> {
        self.0.try_recv().ok().map(|(call, update, _)| (call, update))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Estimates the memory of an update: twice its text, for the text and the parsed message.
fn kib(update: &Update) -> u32 {
    let Update::Message(incoming) = update else { return 1 };
    u32::try_from(incoming.raw.len() / 512 + 1).unwrap_or(MAX_KIB).min(MAX_KIB)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::stream::Incoming;

    #[tokio::test]
    async fn the_queue_is_bounded_in_bytes_too() {
        let (outlets, mut inlet) = queue();
        let text = "x".repeat(1 << 20);
        let large = Incoming::read(format!(r#"{{"type":"new","text":"{text}"}}"#)).unwrap();
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            while sent < 100 && outlets.send(sent, Update::Message(large.clone())).await {
                sent += 1;
            }
            sent
        });
        while inlet.0.len() < 7 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(inlet.0.len() <= 8, "{} MiB wait", inlet.0.len());
        for expected in 0..100 {
            assert_eq!(inlet.next().await.unwrap().0, expected);
        }
        assert_eq!(sending.await.unwrap(), 100);
    }
}
