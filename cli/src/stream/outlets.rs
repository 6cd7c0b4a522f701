//! The queue between the streams and who shows them: bounded in updates and in bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Update;

/// How many updates may wait. While it is full the sockets are not read, so that a reader that stopped slows the
/// server's sending and costs no memory.
const UPDATES: usize = 256;
/// How much they may take together, in KiB; one alone may be larger.
const ROOM: u32 = 16 << 10;

pub(crate) fn queue() -> (Outlets, Inlet) {
    let (sender, receiver) = mpsc::channel(UPDATES);
    (Outlets { sender, room: Arc::new(Semaphore::new(ROOM as usize)) }, Inlet(receiver))
}

/// Where streams put their updates.
#[derive(Debug, Clone)]
pub(crate) struct Outlets {
    pub(super) sender: mpsc::Sender<(usize, Update, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
}

impl Outlets {
    /// Puts an update of a call in once there is room. Returns whether anyone still listens.
    pub(crate) async fn send(&self, call: usize, update: Update) -> bool {
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(kib(&update)) => room.ok(),
            () = self.sender.closed() => return false,
        };
        self.sender.send((call, update, room)).await.is_ok()
    }
}

/// Where they are taken out.
#[derive(Debug)]
pub(crate) struct Inlet(mpsc::Receiver<(usize, Update, Option<OwnedSemaphorePermit>)>);

impl Inlet {
    /// The next update; `None` where there are no streams. Loses nothing where it is dropped.
    pub(crate) async fn next(&mut self) -> Option<(usize, Update)> {
        self.0.recv().await.map(|(call, update, _)| (call, update))
    }

    /// One that waits.
    pub(crate) fn ready(&mut self) -> Option<(usize, Update)> {
        self.0.try_recv().ok().map(|(call, update, _)| (call, update))
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What an update takes, with what was read of it.
fn kib(update: &Update) -> u32 {
    let Update::Message(incoming) = update else { return 1 };
    u32::try_from(incoming.raw.len() / 512 + 1).unwrap_or(ROOM).min(ROOM)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::stream::Incoming;

    #[tokio::test]
    async fn large_messages_fill_it_before_their_number_does() {
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
