//! What goes wrong on purpose: order, copies, losses. A seed repeats it.

use super::script::Script;
use crate::payload::hash;

/// What is done to the deliveries on their way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mischief {
    /// Calls begin in any order, and what comes after a call does as well.
    pub(crate) shuffle: bool,
    /// Everything is sent twice, both at the same time.
    pub(crate) duplicate: bool,
    /// How likely a delivery, or its answer, is lost on the way and sent again.
    pub(crate) drop: f64,
    /// Repeats the decisions.
    pub(crate) seed: u64,
}

impl Mischief {
    /// Whether anything is left to chance.
    pub(crate) fn is_random(&self) -> bool {
        self.shuffle || self.drop > 0.0
    }

    /// The order in which `count` jobs begin.
    pub(crate) fn order(&self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        if self.shuffle {
            self.chance(&["order"]).shuffle(&mut order);
        }
        order
    }

    /// Puts the post-call webhooks of a job into any order, each to the time of another. Turns keep theirs: who
    /// sends them waits for each answer, and their order is what they mean.
    pub(crate) fn mix(&self, script: &mut Script, job: usize) {
        if self.shuffle {
            let mut chance = self.chance(&["mix", &job.to_string()]);
            script.mix(|places| chance.shuffle(places));
        }
    }

    /// The decisions about one delivery: they depend on nothing that another run would do differently.
    pub(crate) fn losses(&self, job: usize, step: usize) -> Losses {
        Losses { chance: self.chance(&["loss", &job.to_string(), &step.to_string()]), likely: self.drop }
    }

    fn chance(&self, what: &[&str]) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ hash(what))
    }
}

/// Decides what is lost of one delivery.
#[derive(Debug)]
pub(crate) struct Losses {
    chance: fastrand::Rng,
    likely: f64,
}

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It never arrives.
    Request,
    /// It arrives, and the sender never hears of it.
    Answer,
}

impl Losses {
    /// What is lost of the next attempt.
    pub(crate) fn next(&mut self) -> Option<Loss> {
        let lost = self.likely > 0.0 && self.chance.f64() < self.likely;
        lost.then(|| if self.chance.bool() { Loss::Request } else { Loss::Answer })
    }
}

/// A text that is no share, or too large a one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a share is from 0 to 0.9, or 0% to 90%: what is lost is sent again, so something has to arrive")]
pub(crate) struct InvalidShare;

/// Reads a share: `2%` or `0.02`.
pub(crate) fn share(text: &str) -> Result<f64, InvalidShare> {
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
        let mischief = |seed| Mischief { shuffle: true, duplicate: false, drop: 0.3, seed };
        let losses = |seed| {
            let mischief = mischief(seed);
            (0..100).map(|step| mischief.losses(3, step).next()).collect::<Vec<_>>()
        };
        assert_eq!(mischief(7).order(50), mischief(7).order(50));
        assert_ne!(mischief(7).order(50), mischief(8).order(50));
        assert_eq!(losses(7), losses(7));
        assert_ne!(losses(7), losses(8));
        let lost = losses(7).iter().flatten().count();
        assert!((15..=45).contains(&lost), "{lost} of 100 at 30 %");
    }

    #[test]
    fn without_mischief_nothing_is_touched() {
        let none = Mischief::default();
        assert_eq!(none.order(3), [0, 1, 2]);
        assert_eq!(none.losses(0, 0).next(), None);
        assert!(!none.is_random());
    }

    #[test]
    fn shares_are_read() {
        assert_eq!(share("2%"), Ok(0.02));
        assert_eq!(share("0.5"), Ok(0.5));
        for wrong in ["100%", "1", "-1%", "x", ""] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
