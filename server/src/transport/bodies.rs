//! The bodies of webhooks that are arriving: the memory that they may take at one time, and who gives way when it is short.
//!
//! A body is believed only when all of it is there, so a stranger's takes as much room as a provider's until then. When there is
//! no room, the slowest body is given up: who sends at full speed never waits long for one who trickles. The same goes for
//! connections when descriptors run short ([`Budget::give_up`]).

mod speed;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::select;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

pub use speed::Due;
use speed::Meter;

/// Most bytes of bodies being read or written at one time, apart from their first chunks.
const ROOM: u64 = 512 << 20;
/// How long a body waits for room.
const WAIT: Duration = Duration::from_secs(2);
/// How often one that waits looks whether others have become slow enough.
const LOOK: Duration = Duration::from_millis(100);

/// Bounds the memory that bodies take.
#[derive(Debug, Clone)]
pub struct Budget {
    /// A permit is a KiB.
    room: Arc<Semaphore>,
    arriving: Arc<Mutex<Arriving>>,
    /// How long a body waits for room that others give up.
    wait: Duration,
}

/// The bodies that take room, or time, and are not whole yet.
#[derive(Debug, Default)]
struct Arriving {
    next: u64,
    bodies: HashMap<u64, Body>,
}

#[derive(Debug)]
struct Body {
    meter: Meter,
    /// What it has and wants, in KiB.
    has: u32,
    wants: u32,
    is_given_up: bool,
    give_up: Arc<Notify>,
}

/// There is no room, or the body had to give way.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoom;

/// A body's place among those that are arriving; given back when this goes.
#[derive(Debug)]
pub struct Place {
    budget: Budget,
    id: u64,
    give_up: Arc<Notify>,
}

impl Budget {
    /// Room for bodies in general, and in any case for one that is `largest` bytes long.
    #[must_use]
    pub fn new(largest: u64) -> Self {
        // Every chunk is rounded up to the next KiB, so a body takes a little more than its length.
        let kib = ROOM.max(largest + largest / 256 + (1 << 20)) >> 10;
        Self::of_kib(usize::try_from(kib).unwrap_or(usize::MAX), WAIT)
    }

    /// Takes so many bytes of the room away for good, so that a test can fill the rest.
    #[doc(hidden)]
    pub fn leave(&self, bytes: usize) {
        self.room.forget_permits(self.room.available_permits().saturating_sub(bytes >> 10));
    }

    fn of_kib(kib: usize, wait: Duration) -> Self {
        Self { room: Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))), arriving: Arc::default(), wait }
    }

    /// A place for a body that began to arrive at `began`.
    #[must_use]
    pub fn place(&self, began: Instant, received: u64) -> Place {
        let give_up = Arc::new(Notify::new());
        let body = Body {
            meter: Meter::new(began, received),
            has: 0,
            wants: 0,
            is_given_up: false,
            give_up: Arc::clone(&give_up),
        };
        let mut arriving = self.arriving.lock();
        let id = arriving.next;
        arriving.next += 1;
        arriving.bodies.insert(id, body);
        Place { budget: self.clone(), id, give_up }
    }

    /// Gives up bodies, the slowest first, until so many are on their way out, since their connections are needed. Says how many
    /// it gave up. One that has just begun is never among them.
    pub fn give_up(&self, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        let now = Instant::now();
        let mut arriving = self.arriving.lock();
        let count = count.saturating_sub(arriving.bodies.values().filter(|body| body.is_given_up).count());
        let left = arriving.bodies.values_mut().filter(|body| !body.is_given_up);
        let mut slow: Vec<_> = left.filter_map(|body| Some((body.meter.speed(now)?, body))).collect();
        slow.sort_by(|one, other| one.0.total_cmp(&other.0));
        slow.truncate(count);
        slow.iter_mut().for_each(|(_, body)| body.give_up());
        slow.len()
    }
}

impl Place {
    /// Takes room for so many bytes more. Waits no longer than two seconds, during which slower bodies are given up for it.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, NoRoom> {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).saturating_add(1);
        let room = &self.budget.room;
        let permit = match Arc::clone(room).try_acquire_many_owned(kib) {
            Ok(permit) => permit,
            Err(_) => {
                let wants = |kib: u32| {
                    self.with(|body| {
                        body.wants = kib;
                        body.meter.wait(kib > 0, Instant::now());
                    });
                };
                wants(kib);
                let permit = self.wait(kib).await;
                wants(0);
                permit?
            }
        };
        self.with(|body| body.has = body.has.saturating_add(kib));
        Ok(permit)
    }

    async fn wait(&self, kib: u32) -> Result<OwnedSemaphorePermit, NoRoom> {
        let until = Instant::now() + self.budget.wait;
        let mut permit = pin!(Arc::clone(&self.budget.room).acquire_many_owned(kib));
        loop {
            self.budget.arriving.lock().make_room(self.id, self.budget.room.available_permits(), Instant::now());
            select! {
                biased;
                permit = &mut permit => return permit.map_err(|_| NoRoom),
                () = self.give_up.notified() => return Err(NoRoom),
                () = sleep(LOOK) => {}
            }
            if Instant::now() >= until {
                return Err(NoRoom);
            }
        }
    }

    /// What it had was let go.
    pub fn let_go(&self) {
        self.with(|body| body.has = 0);
    }

    /// Resolves when the body has to give way to faster ones.
    pub async fn given_up(&self) {
        self.give_up.notified().await;
    }

    /// So many bytes of the body have arrived.
    pub fn received(&self, bytes: u64) {
        self.with(|body| body.meter.received(bytes, Instant::now()));
    }

    /// For how long it waited for room so far.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.budget.arriving.lock().bodies.get(&self.id).map(|body| body.meter.waited()).unwrap_or_default()
    }

    fn with(&self, change: impl FnOnce(&mut Body)) {
        if let Some(body) = self.budget.arriving.lock().bodies.get_mut(&self.id) {
            change(body);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.arriving.lock().bodies.remove(&self.id);
    }
}

impl Arriving {
    /// Gives up the slowest bodies until what they have is enough for those that wait; the one that asks, if it is the slowest.
    fn make_room(&mut self, asks: u64, free: usize, now: Instant) {
        let kib = |count: u32| count as usize;
        let wanted: usize = self.bodies.values().filter(|body| !body.is_given_up).map(|body| kib(body.wants)).sum();
        let given_up = self.bodies.values().filter(|body| body.is_given_up);
        let mut room = free + given_up.map(|body| kib(body.has)).sum::<usize>();
        while room < wanted {
            let known = self.bodies.iter_mut().filter(|(_, body)| !body.is_given_up && body.has > 0);
            let slow = known.filter_map(|(id, body)| Some((body.meter.speed(now)?, *id, body)));
            let Some((_, id, body)) = slow.min_by(|one, other| one.0.total_cmp(&other.0)) else { return };
            room += kib(body.has);
            body.give_up();
            if id == asks {
                return;
            }
        }
    }
}

impl Body {
    fn give_up(&mut self) {
        self.is_given_up = true;
        self.give_up.notify_one();
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    /// A body that has `kib` KiB and sent `received` bytes in so many seconds.
    async fn body(budget: &Budget, secs: u64, received: u64, kib: usize) -> (Place, OwnedSemaphorePermit) {
        let place = budget.place(Instant::now() - Duration::from_secs(secs), received);
        let permit = place.take(kib * 1024 - 1).await.expect("room");
        (place, permit)
    }

    fn is_given_up(budget: &Budget, place: &Place) -> bool {
        budget.arriving.lock().bodies[&place.id].is_given_up
    }

    #[tokio::test]
    async fn the_slowest_gives_way_at_once() {
        let budget = Budget::of_kib(100, SHORT);
        let (fast, _held) = body(&budget, 10, 10_000_000, 50).await;
        let (slow, held) = body(&budget, 10, 1_000, 50).await;
        let asks = budget.place(Instant::now(), 4_096);
        let taken = tokio::join!(asks.take(20 * 1024), async {
            slow.given_up().await;
            drop((slow, held));
        });
        assert!(taken.0.is_ok());
        assert!(!is_given_up(&budget, &fast));
    }

    #[tokio::test]
    async fn no_more_give_way_than_are_needed() {
        let budget = Budget::of_kib(100, SHORT);
        let (slowest, _one) = body(&budget, 10, 1_000, 50).await;
        let (slow, _two) = body(&budget, 10, 2_000, 50).await;
        let first = budget.place(Instant::now(), 4_096);
        first.with(|body| body.wants = 40);
        for _ in 0..3 {
            budget.arriving.lock().make_room(first.id, 0, Instant::now());
        }
        assert!(is_given_up(&budget, &slowest) && !is_given_up(&budget, &slow));
    }

    #[tokio::test]
    async fn one_that_let_its_room_go_is_not_given_up_for_it() {
        let budget = Budget::of_kib(100, SHORT);
        let (slow, _held) = body(&budget, 10, 2_000, 50).await;
        let (slowest, room) = body(&budget, 10, 1_000, 50).await;
        slowest.let_go();
        drop(room);
        let asks = budget.place(Instant::now(), 4_096);
        asks.with(|body| body.wants = 80);
        budget.arriving.lock().make_room(asks.id, 50, Instant::now());
        assert!(is_given_up(&budget, &slow) && !is_given_up(&budget, &slowest));
    }

    #[tokio::test]
    async fn one_that_is_slowest_itself_gets_no_room() {
        let budget = Budget::of_kib(100, SHORT);
        let (_fast, _held) = body(&budget, 10, 10_000_000, 90).await;
        let (slow, _room) = body(&budget, 10, 1_000, 10).await;
        assert_eq!(slow.take(1024).await.map(drop), Err(NoRoom));
    }

    #[tokio::test]
    async fn waiting_for_room_is_no_slowness_and_has_an_end() {
        let budget = Budget::of_kib(100, SHORT);
        let all = Arc::clone(&budget.room).acquire_many_owned(100).await.expect("room");
        let waits = budget.place(Instant::now() - Duration::from_secs(1), 1_000_000);
        assert_eq!(waits.take(1024).await.map(drop), Err(NoRoom));
        assert!(waits.waited() >= SHORT);
        drop(all);
        assert!(waits.take(1024).await.is_ok());
    }

    #[tokio::test]
    async fn connections_are_given_up_from_the_slowest_and_the_new_ones_never() {
        let budget = Budget::of_kib(100, SHORT);
        let began = Instant::now() - Duration::from_secs(10);
        let [fast, slow, slower] = [3_000, 2_000, 1_000].map(|received| budget.place(began, received));
        let new = budget.place(Instant::now(), 0);
        assert_eq!(budget.give_up(2), 2);
        assert_eq!([&fast, &slow, &slower, &new].map(|place| is_given_up(&budget, place)), [false, true, true, false]);
        slower.given_up().await;
        assert_eq!(budget.give_up(2), 0, "two are on their way out");
        drop(slower);
        assert_eq!(budget.give_up(2), 1);
        assert!(is_given_up(&budget, &fast) && !is_given_up(&budget, &new));
    }

    #[test]
    fn the_largest_body_always_fits() {
        for largest in [1 << 20, 128 << 20, 2_000 << 20] {
            let kib = Budget::new(largest).room.available_permits() as u64;
            let chunks = largest / (1 << 20) + 20;
            assert!(kib >= (512 << 10) && kib >= (largest >> 10) + chunks, "{largest}");
        }
    }
}
