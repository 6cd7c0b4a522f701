//! The live stream compared with a model: random schedules of commits, notifications that are late, reordered, doubled
//! or lost, subscribers that come, go and stall, over pipes that take a few bytes at a time. Hub, feeds, sessions and
//! database are the real ones.
//!
//! - [`world`]: the database, and the thread on which everything takes turns
//! - [`schedule`]: what may happen
//! - [`run`]: how it happens, and what must be true when all is over
//! - [`log`]: what was committed
//! - [`client`]: a subscriber that checks each message it gets

mod client;
mod log;
mod run;
mod schedule;
mod world;

use std::sync::LazyLock;

use parking_lot::Mutex;
use proptest::prelude::*;

use run::Run;
use schedule::{Announcing, interruption, schedule};
use world::World;

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| Mutex::new(World::new()));

fn config() -> ProptestConfig {
    // As many cases as PROPTEST_CASES says, else 256.
    ProptestConfig { max_shrink_time: 60_000, ..ProptestConfig::default() }
}

fn check(announcing: Announcing, schedule: &schedule::Schedule) {
    let world = WORLD.lock();
    world.runtime.block_on(async { Run::new(&world, announcing, schedule).run(schedule).await });
}

proptest! {
    #![proptest_config(config())]

    /// One process as it runs: each commit is announced once, in order, sooner or later. Nothing is reconciled.
    #[test]
    fn every_subscription_gets_each_event_once_and_in_order(schedule in schedule()) {
        check(Announcing::Faithful, &schedule);
    }

    /// Whatever happens to notifications; one reconciliation at the end.
    #[test]
    fn reconciliation_makes_up_for_announcements_late_doubled_and_lost(schedule in schedule()) {
        check(Announcing::Unreliable, &schedule);
    }
}

proptest! {
    // Short cases, of which few meet the moment.
    #![proptest_config(ProptestConfig { cases: config().cases * 6, ..config() })]

    /// The one notification comes at any moment of the one subscription.
    #[test]
    fn nothing_falls_between_history_and_live(schedule in interruption()) {
        check(Announcing::Faithful, &schedule);
    }
}

/// Schedules that once went wrong, by name.
mod known {
    use super::*;
    use schedule::{Schedule, StartFrom, Step};

    /// A turn that comes after the end is committed and not announced yet, while another subscriber still reads the
    /// end. A client that subscribes now has been told of that turn's seq, and must get it.
    #[test]
    fn a_replay_of_an_ended_call_ends_where_the_log_did() {
        let steps = vec![
            Step::Partial(0),
            Step::Subscribe(0, (0, false), StartFrom::Start),
            Step::RunUntilIdle,
            Step::Turns(0, 1, 8),
            Step::End(0),
            Step::AnnounceAll,
            Step::RunUntilIdle,
            Step::Turns(0, 1, 8),
            Step::Subscribe(1, (0, false), StartFrom::Start),
            Step::RunUntilIdle,
        ];
        check(Announcing::Faithful, &Schedule { pipes: vec![64, 1 << 20], steps });
    }

    /// A call is merged while a client that follows it asks for it under a second name. The second name is refused, so
    /// it must get no `call_merged`.
    #[test]
    fn a_second_name_that_was_refused_is_not_followed() {
        let steps = vec![
            Step::Subscribe(0, (0, false), StartFrom::Start),
            Step::AnnouncedTurn(0),
            Step::FillPipe(0),
            Step::Subscribe(0, (0, true), StartFrom::Start),
            Step::Turns(1, 2, 1),
            Step::Yield(2),
            Step::Merge(0, 1),
        ];
        check(Announcing::Unreliable, &Schedule { pipes: vec![1 << 20; 3], steps });
    }
}
