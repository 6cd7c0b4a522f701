//! Fault injection: deliveries are reordered, duplicated or lost on purpose. The same seed gives the same faults.

use super::script::Script;
use crate::payload::hash;

/// The faults that are injected into a replay.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Whether calls begin in random order, and the post-call webhooks of each call come in random order.
    pub(crate) shuffle: bool,
    /// Whether each delivery is sent twice at the same time.
    pub(crate) duplicate: bool,
    /// Probability, from 0 to 0.9, that an attempt loses its request or its answer and is sent again.
    pub(crate) drop: f64,
    /// The seed of all random decisions.
    pub(crate) seed: u64,
}

impl Faults {
    /// Whether a fault depends on the seed.
    pub(crate) fn is_random(&self) -> bool {
        self.shuffle || self.drop > 0.0
    }

    /// Returns the order in which `count` jobs begin.
    pub(crate) fn job_order(&self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        if self.shuffle {
            self.random(&["order"]).shuffle(&mut order);
        }
        order
    }

    /// Shuffles the post-call webhooks of a job: each takes the time of another. Turns keep their places, because a
    /// sender waits for the answer to each turn before it sends the next one.
    pub(crate) fn shuffle_webhooks(&self, script: &mut Script, job: usize) {
        if self.shuffle {
            let mut random = self.random(&["mix", &job.to_string()]);
            script.shuffle_post_calls(|places| random.shuffle(places));
        }
    }

    /// Returns the losses of one delivery. They depend only on the seed and these numbers, so a resumed replay repeats
    /// them.
    pub(crate) fn losses(&self, job: usize, step: usize) -> Losses {
        Losses { random: self.random(&["loss", &job.to_string(), &step.to_string()]), probability: self.drop }
    }

    fn random(&self, what: &[&str]) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ hash(what))
    }
}

/// Decides for each attempt of one delivery what is lost.
#[derive(Debug)]
pub(crate) struct Losses {
    random: fastrand::Rng,
    probability: f64,
}

/// What an attempt loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The request never arrives.
    Request,
    /// The request arrives, but its answer does not.
    Answer,
}

impl Losses {
    /// Returns what the next attempt loses; `None` if the attempt succeeds.
    pub(crate) fn next(&mut self) -> Option<Loss> {
        let lost = self.probability > 0.0 && self.random.f64() < self.probability;
        lost.then(|| if self.random.bool() { Loss::Request } else { Loss::Answer })
    }
}

/// A text that is not a share, or a share that is too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a share is from 0 to 0.9, or 0% to 90%: lost deliveries are sent again, so some of them have to arrive")]
pub(crate) struct InvalidShare;

/// Parses a share, such as `2%` or `0.02`.
pub(crate) fn parse_share(text: &str) -> Result<f64, InvalidShare> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    share.ok().filter(|share| (0.0..=0.9).contains(share)).ok_or(InvalidShare)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_every_decision() {
        let faults = |seed| Faults { shuffle: true, duplicate: false, drop: 0.3, seed };
        let losses = |seed| {
            let faults = faults(seed);
            (0..100).map(|step| faults.losses(3, step).next()).collect::<Vec<_>>()
        };
        assert_eq!(faults(7).job_order(50), faults(7).job_order(50));
        assert_ne!(faults(7).job_order(50), faults(8).job_order(50));
        assert_eq!(losses(7), losses(7));
        assert_ne!(losses(7), losses(8));
        let lost = losses(7).iter().flatten().count();
        assert!((15..=45).contains(&lost), "{lost} of 100 at 30 %");
    }

    #[test]
    fn without_faults_nothing_changes() {
        let none = Faults::default();
        assert_eq!(none.job_order(3), [0, 1, 2]);
        assert_eq!(none.losses(0, 0).next(), None);
        assert!(!none.is_random());
    }

    #[test]
    fn shares_are_read() {
        assert_eq!(parse_share("2%"), Ok(0.02));
        assert_eq!(parse_share("0.5"), Ok(0.5));
        for wrong in ["100%", "1", "-1%", "x", ""] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }
}
