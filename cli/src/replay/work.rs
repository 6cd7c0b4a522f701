//! What is to be sent: every source, as often as asked for, under new names and with other fields.

use std::collections::HashMap;
use std::sync::OnceLock;

use callscope_common::api::WebhookRoute;

use super::Options;
use super::chance::Mischief;
use super::script::{Script, Style};
use super::source::Source;
use crate::clock;
use crate::payload::{self, Edit, Fresh, Payload, Recorded};
use crate::webhook::Delivery;

/// One source, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Job {
    /// Counts all jobs.
    pub(crate) number: usize,
    /// Counts the repeats.
    pub(crate) round: usize,
    /// Which of the sources.
    source: usize,
}

/// Everything that is to be sent.
pub(crate) struct Work<'s> {
    sources: &'s [Source],
    pub(crate) options: Options,
    /// Fields that are to be others.
    pub(crate) edits: Vec<Edit>,
    /// Whether recorded bytes and headers are sent as they came.
    pub(crate) as_is: bool,
    /// Whether the target takes turns.
    pub(crate) takes_turns: bool,
    /// What goes wrong on the way.
    pub(crate) mischief: Mischief,
    /// Names this replay.
    id: String,
    /// When it began, in Unix seconds.
    began: i64,
    /// New names, for each round.
    rounds: Vec<OnceLock<Fresh>>,
    /// For each source the first one that shares a call with it.
    groups: Vec<usize>,
}

impl<'s> Work<'s> {
    /// `sources` as `options` say, as a replay of its own.
    pub(crate) fn new(sources: &'s [Source], options: Options) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let rounds = (0..options.repeat).map(|_| OnceLock::new()).collect();
        Self {
            sources,
            edits: Vec::new(),
            as_is: false,
            takes_turns: true,
            mischief: Mischief::default(),
            id,
            began: clock::unix_secs(),
            rounds,
            groups: groups(sources),
            options,
        }
    }

    /// The same as the replay called `id`, which began then.
    pub(crate) fn named(mut self, id: &str, began: i64) -> Self {
        id.clone_into(&mut self.id);
        self.began = began;
        self
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// When it began, in Unix seconds.
    pub(crate) fn began(&self) -> i64 {
        self.began
    }

    /// A seed for those who named none: short enough to be typed, and the same when it goes on.
    pub(crate) fn seed(&self) -> u64 {
        payload::hash(&[&self.id]) % 1_000_000
    }

    /// Everything, in the order in which it begins.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        let count = self.sources.len();
        let job = |number: usize| Job { number, round: number / count, source: number % count };
        self.mischief.order(count * self.rounds.len()).into_iter().map(job).collect()
    }

    /// What a job is made of.
    pub(crate) fn source(&self, job: Job) -> &'s Source {
        &self.sources[job.source]
    }

    /// What tells a delivery from all others.
    pub(crate) fn key(&self, job: Job, index: usize) -> String {
        format!("replay-{}-{}-{index}", self.id, job.number)
    }

    /// What is sent for a job. `began` says when the calls of a round and group began.
    pub(crate) fn script(&self, job: Job, began: impl FnOnce(usize, usize) -> i64) -> Script {
        let payloads = self.payloads(job, began);
        let style = Style { turns: self.options.turns && self.takes_turns, as_is: self.as_is };
        let mut script = Script::new(&payloads, style);
        if !self.takes_turns {
            script.steps.retain(|step| step.route() != WebhookRoute::Transcription);
        }
        self.mischief.mix(&mut script, job.number);
        script
    }

    /// How many deliveries there are in all.
    pub(crate) fn total(&self) -> usize {
        let of_source = |source: usize| self.script(Job { source, ..Job::default() }, |_, _| self.began).steps.len();
        (0..self.sources.len()).map(of_source).sum::<usize>() * self.rounds.len()
    }

    /// A name of every call that is sent, in the order in which they begin.
    pub(crate) fn calls(&self) -> Vec<String> {
        let mut calls: Vec<String> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for job in self.jobs() {
            let names = self.payloads(job, |_, _| self.began).into_iter().filter_map(|payload| payload.identifier());
            calls.extend(names.filter(|name| seen.insert(name.clone())));
        }
        calls
    }

    /// Whether `delivery` is a payload byte for byte, as its file has it.
    pub(crate) fn sends_files(&self, delivery: &Delivery) -> bool {
        !self.options.fresh && self.edits.is_empty() && delivery.headers.is_none() && delivery.kind != "turn"
    }

    /// An edit that has no place in any payload.
    pub(crate) fn idle_edit(&self) -> Option<&Edit> {
        let payloads = || self.sources.iter().flat_map(|source| &source.payloads);
        // An edit may go where another one made a place.
        let mut bodies: Vec<String> = payloads().map(|payload| payload.body.clone()).collect();
        self.edits.iter().find(|edit| {
            let mut hit = false;
            for body in &mut bodies {
                if let Some(changed) = edit.apply(body) {
                    *body = changed;
                    hit = true;
                }
            }
            !hit
        })
    }

    fn payloads(&self, job: Job, began: impl FnOnce(usize, usize) -> i64) -> Vec<Payload> {
        let payloads = &self.source(job).payloads;
        let fresh = if self.options.fresh {
            let group = self.groups[job.source];
            let now = began(job.round, group);
            let earliest = self.of_group(group).filter_map(|source| payload::began(&source.payloads)).min();
            self.round(job.round).shifted(payloads, earliest.map_or(0, |earliest| now - earliest))
        } else {
            payloads.clone()
        };
        if self.edits.is_empty() { fresh } else { fresh.into_iter().map(|payload| self.edited(payload)).collect() }
    }

    fn round(&self, round: usize) -> &Fresh {
        self.rounds[round].get_or_init(|| {
            let seed = format!("{}/{round}", self.id);
            Fresh::seeded(self.sources.iter().flat_map(|source| &source.payloads), &seed, self.began)
        })
    }

    fn of_group(&self, group: usize) -> impl Iterator<Item = &Source> {
        self.sources.iter().zip(&self.groups).filter(move |(_, of)| **of == group).map(|(source, _)| source)
    }

    fn edited(&self, payload: Payload) -> Payload {
        let mut body = payload.body;
        for edit in &self.edits {
            body = edit.apply(&body).unwrap_or(body);
        }
        let kind = Payload::of(&body).map_or(payload.kind, |edited| edited.kind);
        let recorded = payload.recorded.map(|recorded| Recorded { at: recorded.at, exact: None });
        Payload { body, kind, recorded }
    }
}

/// Sources that name the same call are one group: their times move together.
fn groups(sources: &[Source]) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..sources.len()).collect();
    let mut owners: HashMap<&str, usize> = HashMap::new();
    for (place, source) in sources.iter().enumerate() {
        for name in payload::names(&source.payloads) {
            let owner = *owners.entry(name).or_insert(place);
            let (mine, theirs) = (groups[place], groups[owner]);
            if mine != theirs {
                let (first, later) = (mine.min(theirs), mine.max(theirs));
                groups.iter_mut().filter(|group| **group == later).for_each(|group| *group = first);
            }
        }
    }
    groups
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
