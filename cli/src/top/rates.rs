//! How fast the server's counters grow.

use std::collections::VecDeque;

use callscope_common::Timestamp;
use callscope_common::api::Stats;

/// How many rates are kept: as many as the widest sparkline shows.
const MAX_RATES: usize = 120;

/// The rates of one counter, newest last.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    history: VecDeque<f64>,
}

impl Rate {
    /// The newest, a second.
    pub fn now(&self) -> Option<f64> {
        self.history.back().copied()
    }

    /// The newest `count`, oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = f64> + Clone + '_ {
        self.history.iter().skip(self.history.len().saturating_sub(count)).copied()
    }

    #[allow(clippy::cast_precision_loss)]
    fn push(&mut self, before: u64, now: u64, secs: f64) {
        // A counter that went back is one of a server that was started again: what it did before that is not known.
        let grown = now.saturating_sub(before);
        self.history.push_back(grown as f64 / secs);
        if self.history.len() > MAX_RATES {
            self.history.pop_front();
        }
    }
}

/// The rates that are shown.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    /// Events broadcast a second.
    pub events: Rate,
    /// Webhooks taken in a second.
    pub deliveries: Rate,
    /// Webhooks refused a second.
    pub refused: Rate,
}

impl Rates {
    /// Takes in what was counted at two times.
    pub fn push(&mut self, (before, then): (&Stats, Timestamp), (now, at): (&Stats, Timestamp)) {
        let secs = at.secs_since(then);
        // Two answers at once say nothing of a rate.
        if secs < 0.05 {
            return;
        }
        self.events.push(before.events_broadcast, now.events_broadcast, secs);
        self.deliveries.push(before.all_deliveries(), now.all_deliveries(), secs);
        self.refused.push(before.refused(), now.refused(), secs);
    }
}

/// A sparkline: the highest bar stands for the highest rate, and nothing for nothing.
pub fn sparkline(rates: impl Iterator<Item = f64> + Clone) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = rates.clone().fold(0.0_f64, f64::max);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
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
    fn a_server_that_was_started_again_has_no_rate_below_zero() {
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
