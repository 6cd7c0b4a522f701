//! Bounds the memory of webhook bodies that are arriving, and evicts the slowest bodies when memory is short.
//!
//! A signature can be verified only over a whole body. Until then a stranger's body takes as much memory as a
//! provider's. Because the slowest body is evicted, a sender at full speed never waits long for one that trickles.
//! Bodies are also evicted when descriptors run short ([`BodyBudget::evict`]).

mod speed;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::select;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

pub use speed::ReadDeadline;
use speed::SpeedMeter;

/// Time for which a body waits for memory.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval at which a body that waits for memory checks again whether slower bodies can be evicted.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Bounds the memory that arriving bodies take; cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyBudget {
    /// One permit is one KiB.
    memory: Arc<Semaphore>,
    arriving: Arc<Mutex<RegisteredBodies>>,
    memory_timeout: Duration,
}

#[derive(Debug, Default)]
struct RegisteredBodies {
    next_id: u64,
    by_id: HashMap<u64, BodyState>,
}

#[derive(Debug)]
struct BodyState {
    meter: SpeedMeter,
    held_kib: u32,
    awaited_kib: u32,
    is_evicted: bool,
    eviction: Arc<Notify>,
}

/// No memory became free for a body in time, or the body was evicted.
#[derive(Debug, PartialEq, Eq)]
pub struct NoBudget;

/// A registered body that is arriving. Dropping it ends the registration.
#[derive(Debug)]
pub struct ArrivingBody {
    budget: BodyBudget,
    id: u64,
    eviction: Arc<Notify>,
}

impl BodyBudget {
    /// Allows `memory` bytes for all bodies together, but at least enough for one body of `largest` bytes.
    #[must_use]
    pub fn new(memory: u64, largest: u64) -> Self {
        // Each chunk counts up to one KiB more than its length, so a body takes a little more than `largest`.
        let kib = memory.max(largest + largest / 256 + (1 << 20)) >> 10;
        Self::of_kib(usize::try_from(kib).unwrap_or(usize::MAX), MEMORY_TIMEOUT)
    }

    fn of_kib(kib: usize, memory_timeout: Duration) -> Self {
        let memory = Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)));
        Self { memory, arriving: Arc::default(), memory_timeout }
    }

    /// Registers a body that began to arrive at `began` and of which `received` bytes have arrived.
    #[must_use]
    pub fn register(&self, began: Instant, received: u64) -> ArrivingBody {
        let eviction = Arc::new(Notify::new());
        let body = BodyState {
            meter: SpeedMeter::new(began, received),
            held_kib: 0,
            awaited_kib: 0,
            is_evicted: false,
            eviction: Arc::clone(&eviction),
        };
        let mut arriving = self.arriving.lock();
        let id = arriving.next_id;
        arriving.next_id += 1;
        arriving.by_id.insert(id, body);
        ArrivingBody { budget: self.clone(), id, eviction }
    }

    /// Evicts the slowest bodies to free their connections, until `count` evicted bodies, old and new, have yet to end.
    /// Returns how many it evicted. A body that began less than a second ago is never evicted.
    pub fn evict(&self, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        let now = Instant::now();
        let mut arriving = self.arriving.lock();
        let count = count.saturating_sub(arriving.by_id.values().filter(|body| body.is_evicted).count());
        let remaining = arriving.by_id.values_mut().filter(|body| !body.is_evicted);
        let mut slowest: Vec<_> = remaining.filter_map(|body| Some((body.meter.speed(now)?, body))).collect();
        slowest.sort_by(|one, other| one.0.total_cmp(&other.0));
        slowest.truncate(count);
        slowest.iter_mut().for_each(|(_, body)| body.evict());
        slowest.len()
    }
}

impl ArrivingBody {
    /// Acquires memory for `bytes` more bytes. If there is none, slower bodies are evicted, and this waits for their
    /// memory for at most two seconds.
    ///
    /// # Errors
    /// Returns [`NoBudget`] if no memory becomes free in time, or if this body is evicted.
    pub async fn acquire(&self, bytes: usize) -> Result<OwnedSemaphorePermit, NoBudget> {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).saturating_add(1);
        let memory = &self.budget.memory;
        let permit = match Arc::clone(memory).try_acquire_many_owned(kib) {
            Ok(permit) => permit,
            Err(_) => {
                let set_awaited = |kib: u32| {
                    self.update(|body| {
                        body.awaited_kib = kib;
                        body.meter.set_waiting(kib > 0, Instant::now());
                    });
                };
                set_awaited(kib);
                let permit = self.wait_for_memory(kib).await;
                set_awaited(0);
                permit?
            }
        };
        self.update(|body| body.held_kib = body.held_kib.saturating_add(kib));
        Ok(permit)
    }

    async fn wait_for_memory(&self, kib: u32) -> Result<OwnedSemaphorePermit, NoBudget> {
        let deadline = Instant::now() + self.budget.memory_timeout;
        let mut permit = pin!(Arc::clone(&self.budget.memory).acquire_many_owned(kib));
        loop {
            let free_kib = self.budget.memory.available_permits();
            self.budget.arriving.lock().evict_for_memory(self.id, free_kib, Instant::now());
            select! {
                biased;
                permit = &mut permit => return permit.map_err(|_| NoBudget),
                () = self.eviction.notified() => return Err(NoBudget),
                () = sleep(RECHECK_INTERVAL) => {}
            }
            if Instant::now() >= deadline {
                return Err(NoBudget);
            }
        }
    }

    /// Notes that the caller has dropped all permits of the body.
    pub fn memory_was_released(&self) {
        self.update(|body| body.held_kib = 0);
    }

    /// Waits until the body is evicted.
    pub async fn evicted(&self) {
        self.eviction.notified().await;
    }

    /// Notes how many bytes of the body have arrived in all.
    pub fn set_received(&self, bytes: u64) {
        self.update(|body| body.meter.set_received(bytes, Instant::now()));
    }

    /// Returns how long the body has waited for memory so far, in all.
    #[must_use]
    pub fn total_wait(&self) -> Duration {
        self.budget.arriving.lock().by_id.get(&self.id).map(|body| body.meter.total_wait()).unwrap_or_default()
    }

    fn update(&self, change: impl FnOnce(&mut BodyState)) {
        if let Some(body) = self.budget.arriving.lock().by_id.get_mut(&self.id) {
            change(body);
        }
    }
}

impl Drop for ArrivingBody {
    fn drop(&mut self) {
        self.budget.arriving.lock().by_id.remove(&self.id);
    }
}

impl RegisteredBodies {
    /// Evicts the slowest bodies until free memory and the memory of all evicted bodies are enough for those that wait.
    /// Stops if it evicts the body `requester`, which then waits no longer.
    fn evict_for_memory(&mut self, requester: u64, free_kib: usize, now: Instant) {
        let remaining = self.by_id.values().filter(|body| !body.is_evicted);
        let awaited_kib: usize = remaining.map(|body| body.awaited_kib as usize).sum();
        let evicted = self.by_id.values().filter(|body| body.is_evicted);
        let mut available_kib = free_kib + evicted.map(|body| body.held_kib as usize).sum::<usize>();
        while available_kib < awaited_kib {
            let evictable = self.by_id.iter_mut().filter(|(_, body)| !body.is_evicted && body.held_kib > 0);
            let by_speed = evictable.filter_map(|(id, body)| Some((body.meter.speed(now)?, *id, body)));
            let Some((_, id, body)) = by_speed.min_by(|one, other| one.0.total_cmp(&other.0)) else { return };
            available_kib += body.held_kib as usize;
            body.evict();
            if id == requester {
                return;
            }
        }
    }
}

impl BodyState {
    fn evict(&mut self) {
        self.is_evicted = true;
        self.eviction.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    /// A body that holds `kib` KiB and brought `received` bytes in `secs` seconds.
    async fn body(budget: &BodyBudget, secs: u64, received: u64, kib: usize) -> (ArrivingBody, OwnedSemaphorePermit) {
        let arriving = budget.register(Instant::now() - Duration::from_secs(secs), received);
        let permit = arriving.acquire(kib * 1024 - 1).await.expect("memory");
        (arriving, permit)
    }

    fn is_evicted(budget: &BodyBudget, arriving: &ArrivingBody) -> bool {
        budget.arriving.lock().by_id[&arriving.id].is_evicted
    }

    #[tokio::test]
    async fn the_slowest_body_is_evicted_at_once() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let (fast, _held) = body(&budget, 10, 10_000_000, 50).await;
        let (slow, held) = body(&budget, 10, 1_000, 50).await;
        let requester = budget.register(Instant::now(), 4_096);
        let (acquired, ()) = tokio::join!(requester.acquire(20 * 1024), async {
            slow.evicted().await;
            drop((slow, held));
        });
        assert!(acquired.is_ok());
        assert!(!is_evicted(&budget, &fast));
    }

    #[tokio::test]
    async fn no_more_bodies_are_evicted_than_needed() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let (slowest, _one) = body(&budget, 10, 1_000, 50).await;
        let (slow, _two) = body(&budget, 10, 2_000, 50).await;
        let requester = budget.register(Instant::now(), 4_096);
        requester.update(|body| body.awaited_kib = 40);
        for _ in 0..3 {
            budget.arriving.lock().evict_for_memory(requester.id, 0, Instant::now());
        }
        assert!(is_evicted(&budget, &slowest) && !is_evicted(&budget, &slow));
    }

    #[tokio::test]
    async fn a_body_that_released_its_memory_is_not_evicted_for_memory() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let (slow, _held) = body(&budget, 10, 2_000, 50).await;
        let (slowest, held) = body(&budget, 10, 1_000, 50).await;
        slowest.memory_was_released();
        drop(held);
        let requester = budget.register(Instant::now(), 4_096);
        requester.update(|body| body.awaited_kib = 80);
        budget.arriving.lock().evict_for_memory(requester.id, 50, Instant::now());
        assert!(is_evicted(&budget, &slow) && !is_evicted(&budget, &slowest));
    }

    #[tokio::test]
    async fn the_slowest_body_gets_no_further_memory() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let (_fast, _held) = body(&budget, 10, 10_000_000, 90).await;
        let (slow, _memory) = body(&budget, 10, 1_000, 10).await;
        assert_eq!(slow.acquire(1024).await.map(drop), Err(NoBudget));
    }

    #[tokio::test]
    async fn waiting_for_memory_has_a_timeout_and_does_not_count_as_slowness() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let all = Arc::clone(&budget.memory).acquire_many_owned(100).await.expect("memory");
        let waiting = budget.register(Instant::now() - Duration::from_secs(1), 1_000_000);
        assert_eq!(waiting.acquire(1024).await.map(drop), Err(NoBudget));
        assert!(waiting.total_wait() >= SHORT);
        drop(all);
        assert!(waiting.acquire(1024).await.is_ok());
    }

    #[tokio::test]
    async fn the_slowest_bodies_give_up_their_connections_and_new_ones_never_do() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let began = Instant::now() - Duration::from_secs(10);
        let [fast, slow, slower] = [3_000, 2_000, 1_000].map(|received| budget.register(began, received));
        let new = budget.register(Instant::now(), 0);
        assert_eq!(budget.evict(2), 2);
        assert_eq!(
            [&fast, &slow, &slower, &new].map(|arriving| is_evicted(&budget, arriving)),
            [false, true, true, false]
        );
        slower.evicted().await;
        assert_eq!(budget.evict(2), 0, "two are leaving already");
        drop(slower);
        assert_eq!(budget.evict(2), 1);
        assert!(is_evicted(&budget, &fast) && !is_evicted(&budget, &new));
    }

    #[test]
    fn the_largest_body_always_fits() {
        for largest in [1 << 20, 128 << 20, 2_000 << 20] {
            let kib = BodyBudget::new(512 << 20, largest).memory.available_permits() as u64;
            let chunks = largest / (1 << 20) + 20;
            assert!(kib >= (512 << 10) && kib >= (largest >> 10) + chunks, "{largest}");
        }
    }
}
