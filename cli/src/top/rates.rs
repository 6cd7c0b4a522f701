//! The rates at which the counters of the server grow.

use std::collections::VecDeque;

use callscope_common::Timestamp;
use callscope_common::api::Stats;

/// How many rates are kept, which is also the widest sparkline.
const MAX_RATES: usize = 120;

/// Answers closer together than this give no useful rate.
const MIN_INTERVAL_SECS: f64 = 0.05;

#[derive(Debug, Clone, Default)]
pub(crate) struct Rate {
    history: VecDeque<f64>,
}

impl Rate {
    /// Returns the newest rate, per second.
    pub(crate) fn now(&self) -> Option<f64> {
        self.history.back().copied()
    }

    /// Returns the newest `count` rates, oldest first.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = f64> + Clone + '_ {
        self.history.iter().skip(self.history.len().saturating_sub(count)).copied()
    }

    fn push(&mut self, before: u64, now: u64, secs: f64) {
        // A counter is lower than before if the server restarted. The growth is unknown then and counts as zero.
        let grown = now.saturating_sub(before);
        self.history.push_back(grown as f64 / secs);
        if self.history.len() > MAX_RATES {
            self.history.pop_front();
        }
    }
}

/// The rates on the screen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates {
    pub(crate) events: Rate,
    /// Accepted and other verified webhooks.
    pub(crate) deliveries: Rate,
    /// Unverified and rejected webhooks.
    pub(crate) refused: Rate,
}

impl Rates {
    /// Adds the rates between two answers of the server.
    pub(crate) fn push(&mut self, (before, then): (&Stats, Timestamp), (now, at): (&Stats, Timestamp)) {
        let secs = at.secs_since(then);
        if secs < MIN_INTERVAL_SECS {
            return;
        }
        self.events.push(before.events_broadcast, now.events_broadcast, secs);
        self.deliveries.push(before.all_deliveries(), now.all_deliveries(), secs);
        self.refused.push(before.refused(), now.refused(), secs);
    }
}

/// Draws rates as bars. The tallest bar is the highest rate, and a blank is zero.
pub(crate) fn sparkline(rates: impl Iterator<Item = f64> + Clone) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = rates.clone().fold(0.0_f64, f64::max);
    let bar = |rate: f64| {
        if highest <= 0.0 || rate <= 0.0 { BARS[0] } else { BARS[((rate / highest * 8.0).ceil() as usize).clamp(1, 8)] }
    };
    rates.map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_with_rates_and_the_least_is_still_seen() {
        assert_eq!(sparkline([0.0, 0.01, 4.0, 8.0].into_iter()), " ▁▄█");
        assert_eq!(sparkline([0.0, 0.0].into_iter()), "  ");
    }

    #[test]
    fn a_restarted_server_has_no_negative_rate() {
        let at = |secs| Timestamp::from_unix_secs(secs).unwrap_or_else(|| unreachable!());
        let stats = |events| Stats { events_broadcast: events, ..Stats::default() };
        let mut rates = Rates::default();
        rates.push((&stats(100), at(10)), (&stats(120), at(14)));
        assert_eq!(rates.events.now(), Some(5.0));
        rates.push((&stats(120), at(14)), (&stats(3), at(16)));
        assert_eq!(rates.events.now(), Some(0.0));
        rates.push((&stats(3), at(16)), (&stats(9), at(16)));
        assert_eq!(rates.events.last(9).count(), 2);
    }
}
