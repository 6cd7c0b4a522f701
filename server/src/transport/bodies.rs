//! The bodies of webhooks that are arriving: the memory that they may take together, and which are evicted when it is
//! short.
//!
//! A signature can be verified only over a whole body, so until then the body of a stranger takes as much memory as
//! that of a provider. When memory is short, the slowest body is evicted, so a sender at full speed never waits long
//! for one that trickles. Bodies are also evicted when descriptors run short ([`BodyBudget::evict`]).

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
/// Interval at which a waiting body checks whether others have become slow enough to be evicted.
const RECHECK: Duration = Duration::from_millis(100);

/// Bounds the memory that arriving bodies take; cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyBudget {
    /// One permit is one KiB.
    memory: Arc<Semaphore>,
    arriving: Arc<Mutex<Bodies>>,
    /// Time for which a body waits for memory that others release.
    wait: Duration,
}

/// The bodies that take memory or time and are not complete yet.
#[derive(Debug, Default)]
struct Bodies {
    next: u64,
    bodies: HashMap<u64, BodyState>,
}

#[derive(Debug)]
struct BodyState {
    meter: SpeedMeter,
    /// Memory that the body holds, in KiB.
    holds: u32,
    /// Memory that the body waits for, in KiB.
    wants: u32,
    is_evicted: bool,
    evict: Arc<Notify>,
}

/// There is no memory for the body, or it was evicted.
#[derive(Debug, PartialEq, Eq)]
pub struct NoBudget;

/// A body that is arriving. It is forgotten when this is dropped.
#[derive(Debug)]
pub struct ArrivingBody {
    budget: BodyBudget,
    id: u64,
    evict: Arc<Notify>,
}

impl BodyBudget {
    /// Allows `memory` bytes for all bodies together, and in any case enough for one that is `largest` bytes long.
    #[must_use]
    pub fn new(memory: u64, largest: u64) -> Self {
        // Each chunk is rounded up to the next KiB, so a body takes a little more than its length.
        let kib = memory.max(largest + largest / 256 + (1 << 20)) >> 10;
        Self::of_kib(usize::try_from(kib).unwrap_or(usize::MAX), MEMORY_TIMEOUT)
    }

    fn of_kib(kib: usize, wait: Duration) -> Self {
        Self { memory: Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))), arriving: Arc::default(), wait }
    }

    /// Registers a body that began to arrive at `began` and of which `received` bytes have arrived.
    #[must_use]
    pub fn arriving(&self, began: Instant, received: u64) -> ArrivingBody {
        let evict = Arc::new(Notify::new());
        let body = BodyState {
            meter: SpeedMeter::new(began, received),
            holds: 0,
            wants: 0,
            is_evicted: false,
            evict: Arc::clone(&evict),
        };
        let mut arriving = self.arriving.lock();
        let id = arriving.next;
        arriving.next += 1;
        arriving.bodies.insert(id, body);
        ArrivingBody { budget: self.clone(), id, evict }
    }

    /// Evicts bodies, the slowest first, until `count` bodies are on their way out, because their connections are
    /// needed. Returns how many it evicted. A body that has just begun is never evicted.
    pub fn evict(&self, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        let now = Instant::now();
        let mut arriving = self.arriving.lock();
        let count = count.saturating_sub(arriving.bodies.values().filter(|body| body.is_evicted).count());
        let left = arriving.bodies.values_mut().filter(|body| !body.is_evicted);
        let mut slow: Vec<_> = left.filter_map(|body| Some((body.meter.speed(now)?, body))).collect();
        slow.sort_by(|one, other| one.0.total_cmp(&other.0));
        slow.truncate(count);
        slow.iter_mut().for_each(|(_, body)| body.evict());
        slow.len()
    }
}

impl ArrivingBody {
    /// Takes memory for `bytes` more bytes. Waits for at most two seconds, in which slower bodies are evicted for it.
    ///
    /// # Errors
    /// Returns [`NoBudget`] if no memory becomes free in time, or if this body is evicted.
    pub async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, NoBudget> {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).saturating_add(1);
        let memory = &self.budget.memory;
        let permit = match Arc::clone(memory).try_acquire_many_owned(kib) {
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
        self.with(|body| body.holds = body.holds.saturating_add(kib));
        Ok(permit)
    }

    async fn wait(&self, kib: u32) -> Result<OwnedSemaphorePermit, NoBudget> {
        let until = Instant::now() + self.budget.wait;
        let mut permit = pin!(Arc::clone(&self.budget.memory).acquire_many_owned(kib));
        loop {
            self.budget.arriving.lock().evict_for(self.id, self.budget.memory.available_permits(), Instant::now());
            select! {
                biased;
                permit = &mut permit => return permit.map_err(|_| NoBudget),
                () = self.evict.notified() => return Err(NoBudget),
                () = sleep(RECHECK) => {}
            }
            if Instant::now() >= until {
                return Err(NoBudget);
            }
        }
    }

    /// Notes that the memory of the body was released.
    pub fn release_memory(&self) {
        self.with(|body| body.holds = 0);
    }

    /// Resolves when the body is evicted.
    pub async fn evicted(&self) {
        self.evict.notified().await;
    }

    /// Notes how many bytes of the body have arrived in all.
    pub fn received(&self, bytes: u64) {
        self.with(|body| body.meter.received(bytes, Instant::now()));
    }

    /// Returns how long the body has waited for memory so far.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.budget.arriving.lock().bodies.get(&self.id).map(|body| body.meter.waited()).unwrap_or_default()
    }

    fn with(&self, change: impl FnOnce(&mut BodyState)) {
        if let Some(body) = self.budget.arriving.lock().bodies.get_mut(&self.id) {
            change(body);
        }
    }
}

impl Drop for ArrivingBody {
    fn drop(&mut self) {
        self.budget.arriving.lock().bodies.remove(&self.id);
    }
}

impl Bodies {
    /// Evicts the slowest bodies until the memory that they hold is enough for those that wait. The body that asks is
    /// evicted if it is the slowest.
    fn evict_for(&mut self, asks: u64, free: usize, now: Instant) {
        let kib = |count: u32| count as usize;
        let wanted: usize = self.bodies.values().filter(|body| !body.is_evicted).map(|body| kib(body.wants)).sum();
        let evicted = self.bodies.values().filter(|body| body.is_evicted);
        let mut available = free + evicted.map(|body| kib(body.holds)).sum::<usize>();
        while available < wanted {
            let known = self.bodies.iter_mut().filter(|(_, body)| !body.is_evicted && body.holds > 0);
            let slow = known.filter_map(|(id, body)| Some((body.meter.speed(now)?, *id, body)));
            let Some((_, id, body)) = slow.min_by(|one, other| one.0.total_cmp(&other.0)) else { return };
            available += kib(body.holds);
            body.evict();
            if id == asks {
                return;
            }
        }
    }
}

impl BodyState {
    fn evict(&mut self) {
        self.is_evicted = true;
        self.evict.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    /// A body that holds `kib` KiB and brought `received` bytes in `secs` seconds.
    async fn body(budget: &BodyBudget, secs: u64, received: u64, kib: usize) -> (ArrivingBody, OwnedSemaphorePermit) {
        let arriving = budget.arriving(Instant::now() - Duration::from_secs(secs), received);
        let permit = arriving.take(kib * 1024 - 1).await.expect("memory");
        (arriving, permit)
    }

    fn is_evicted(budget: &BodyBudget, arriving: &ArrivingBody) -> bool {
        budget.arriving.lock().bodies[&arriving.id].is_evicted
    }

    #[tokio::test]
    async fn the_slowest_is_evicted_at_once() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let (fast, _held) = body(&budget, 10, 10_000_000, 50).await;
        let (slow, held) = body(&budget, 10, 1_000, 50).await;
        let asks = budget.arriving(Instant::now(), 4_096);
        let taken = tokio::join!(asks.take(20 * 1024), async {
            slow.evicted().await;
            drop((slow, held));
        });
        assert!(taken.0.is_ok());
        assert!(!is_evicted(&budget, &fast));
    }

    #[tokio::test]
    async fn no_more_are_evicted_than_needed() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let (slowest, _one) = body(&budget, 10, 1_000, 50).await;
        let (slow, _two) = body(&budget, 10, 2_000, 50).await;
        let first = budget.arriving(Instant::now(), 4_096);
        first.with(|body| body.wants = 40);
        for _ in 0..3 {
            budget.arriving.lock().evict_for(first.id, 0, Instant::now());
        }
        assert!(is_evicted(&budget, &slowest) && !is_evicted(&budget, &slow));
    }

    #[tokio::test]
    async fn one_that_released_its_memory_is_not_evicted_for_it() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let (slow, _held) = body(&budget, 10, 2_000, 50).await;
        let (slowest, held) = body(&budget, 10, 1_000, 50).await;
        slowest.release_memory();
        drop(held);
        let asks = budget.arriving(Instant::now(), 4_096);
        asks.with(|body| body.wants = 80);
        budget.arriving.lock().evict_for(asks.id, 50, Instant::now());
        assert!(is_evicted(&budget, &slow) && !is_evicted(&budget, &slowest));
    }

    #[tokio::test]
    async fn one_that_is_the_slowest_itself_gets_no_memory() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let (_fast, _held) = body(&budget, 10, 10_000_000, 90).await;
        let (slow, _memory) = body(&budget, 10, 1_000, 10).await;
        assert_eq!(slow.take(1024).await.map(drop), Err(NoBudget));
    }

    #[tokio::test]
    async fn waiting_for_memory_is_no_slowness_and_has_an_end() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let all = Arc::clone(&budget.memory).acquire_many_owned(100).await.expect("memory");
        let waits = budget.arriving(Instant::now() - Duration::from_secs(1), 1_000_000);
        assert_eq!(waits.take(1024).await.map(drop), Err(NoBudget));
        assert!(waits.waited() >= SHORT);
        drop(all);
        assert!(waits.take(1024).await.is_ok());
    }

    #[tokio::test]
    async fn connections_are_evicted_from_the_slowest_and_new_ones_never() {
        let budget = BodyBudget::of_kib(100, SHORT);
        let began = Instant::now() - Duration::from_secs(10);
        let [fast, slow, slower] = [3_000, 2_000, 1_000].map(|received| budget.arriving(began, received));
        let new = budget.arriving(Instant::now(), 0);
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
