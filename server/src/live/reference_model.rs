//! The live stream compared with a model, in random schedules: commits; notifications that are late, reordered, doubled
//! or lost; clients that connect, leave and stall, over pipes that take a few bytes at a time. Hub, feeds, sessions and
//! database are the real ones.
//!
//! - [`world`]: the database and the runtimes that all cases share
//! - [`schedule`]: the steps of a case
//! - [`run`]: performs the steps, and checks the state at the end
//! - [`log`]: the model of the committed logs
//! - [`client`]: a client that compares each message with the model

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
    // The number of cases is the default: PROPTEST_CASES, else 256.
    ProptestConfig { max_shrink_time: 60_000, ..ProptestConfig::default() }
}

fn check(announcing: Announcing, schedule: &schedule::Schedule) {
    let world = WORLD.lock();
    world.runtime.block_on(async { Run::new(&world, announcing, schedule).run(schedule).await });
}

proptest! {
    #![proptest_config(config())]

    /// A single process: each commit is announced once, in order, with any delay. Nothing is reconciled.
    #[test]
    fn every_subscription_gets_each_event_once_and_in_order(schedule in schedule()) {
        check(Announcing::Faithful, &schedule);
    }

    /// Notifications are late, reordered, doubled or lost. At the end, one reconciliation runs.
    #[test]
    fn reconciliation_makes_up_for_announcements_late_doubled_and_lost(schedule in schedule()) {
        check(Announcing::Unreliable, &schedule);
    }
}

proptest! {
    // More cases, because they are short and in few of them the notification comes at a critical moment.
    #![proptest_config(ProptestConfig { cases: config().cases * 6, ..config() })]

    /// One notification comes at a random moment while one subscription starts.
    #[test]
    fn nothing_falls_between_history_and_live(schedule in interruption()) {
        check(Announcing::Faithful, &schedule);
    }
}

/// Schedules that once went wrong, by name.
mod known {
    use super::*;
    use schedule::{Schedule, StartFrom, Step};

    /// A turn after the end of the call is committed and not announced yet, while another client still reads the end. A
    /// client that subscribes now is told a head that includes the turn, so it must get the turn.
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

    /// A call is merged while a client that follows it subscribes by a second name. The second name is refused, so the
    /// client must get no `call_merged` for it.
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
