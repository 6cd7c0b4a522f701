//! The work of a replay: its jobs, and the payloads of each job with new identifiers and edited fields.

use std::collections::HashMap;
use std::sync::OnceLock;

use callscope_common::api::WebhookRoute;

use super::Options;
use super::faults::Faults;
use super::script::{Script, ScriptOptions};
use super::source::Source;
use crate::clock;
use crate::payload::{self, Edit, FreshNames, Payload, Recorded};
use crate::webhook::Delivery;

/// One source in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Job {
    /// The job's number among all jobs, from 0.
    pub(crate) number: usize,
    /// The number of the round, from 0. Each round sends every source once.
    pub(crate) round: usize,
    /// The index of the source.
    source: usize,
}

/// Everything that a replay sends.
pub(crate) struct Work<'s> {
    sources: &'s [Source],
    pub(crate) options: Options,
    /// Changes that are made to every payload.
    pub(crate) edits: Vec<Edit>,
    /// Whether recorded headers are sent as they came.
    pub(crate) as_is: bool,
    /// Whether the target accepts live turns.
    pub(crate) takes_turns: bool,
    pub(crate) faults: Faults,
    /// The id of this replay.
    id: String,
    /// When the replay began, in Unix seconds.
    began: i64,
    /// The new identifiers of each round.
    rounds: Vec<OnceLock<FreshNames>>,
    /// The group of each source: the index of the first source that shares a call with it.
    groups: Vec<usize>,
}

impl<'s> Work<'s> {
    /// Creates the work of a new replay.
    pub(crate) fn new(sources: &'s [Source], options: Options) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let rounds = (0..options.repeat).map(|_| OnceLock::new()).collect();
        Self {
            sources,
            edits: Vec::new(),
            as_is: false,
            takes_turns: true,
            faults: Faults::default(),
            id,
            began: clock::unix_secs(),
            rounds,
            groups: groups(sources),
            options,
        }
    }

    /// Makes this the work of the replay `id`, which began at `began`.
    pub(crate) fn resuming(mut self, id: &str, began: i64) -> Self {
        id.clone_into(&mut self.id);
        self.began = began;
        self
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Returns when the replay began, in Unix seconds.
    pub(crate) fn began(&self) -> i64 {
        self.began
    }

    /// Returns the seed that is used if none is given. It is short enough to type, and the same for a resumed replay.
    pub(crate) fn default_seed(&self) -> u64 {
        payload::hash(&[&self.id]) % 1_000_000
    }

    /// Returns all jobs in the order in which they begin.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        let count = self.sources.len();
        let job = |number: usize| Job { number, round: number / count, source: number % count };
        self.faults.job_order(count * self.rounds.len()).into_iter().map(job).collect()
    }

    /// Returns the source of a job.
    pub(crate) fn source(&self, job: Job) -> &'s Source {
        &self.sources[job.source]
    }

    /// Returns the idempotency key of a delivery, which no other delivery has.
    pub(crate) fn key(&self, job: Job, index: usize) -> String {
        format!("replay-{}-{}-{index}", self.id, job.number)
    }

    /// Returns the script of a job. `began` returns when the calls of a round and group began.
    pub(crate) fn script(&self, job: Job, began: impl FnOnce(usize, usize) -> i64) -> Script {
        let payloads = self.payloads(job, began);
        let style = ScriptOptions { turns: self.options.turns && self.takes_turns, as_is: self.as_is };
        let mut script = Script::new(&payloads, style);
        if !self.takes_turns {
            script.steps.retain(|step| step.route() != WebhookRoute::Transcription);
        }
        self.faults.shuffle_webhooks(&mut script, job.number);
        script
    }

    /// Returns the number of deliveries of all jobs.
    pub(crate) fn delivery_count(&self) -> usize {
        let of_source = |source: usize| self.script(Job { source, ..Job::default() }, |_, _| self.began).steps.len();
        (0..self.sources.len()).map(of_source).sum::<usize>() * self.rounds.len()
    }

    /// Returns an identifier of each call that is sent, in the order in which the calls begin.
    pub(crate) fn call_names(&self) -> Vec<String> {
        let mut calls: Vec<String> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for job in self.jobs() {
            let names = self.payloads(job, |_, _| self.began).into_iter().filter_map(|payload| payload.identifier());
            calls.extend(names.filter(|name| seen.insert(name.clone())));
        }
        calls
    }

    /// Whether `delivery` has exactly the bytes of its payload in the file.
    pub(crate) fn sends_files(&self, delivery: &Delivery) -> bool {
        !self.options.fresh && self.edits.is_empty() && delivery.headers.is_none() && delivery.kind != "turn"
    }

    /// Returns an edit that changes no payload.
    pub(crate) fn unused_edit(&self) -> Option<&Edit> {
        let payloads = || self.sources.iter().flat_map(|source| &source.payloads);
        // Edits are applied in order, since an edit may change a member that an earlier one added.
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
            let earliest =
                self.sources_of_group(group).filter_map(|source| payload::earliest_start(&source.payloads)).min();
            self.fresh_names(job.round).rewrite_shifted(payloads, earliest.map_or(0, |earliest| now - earliest))
        } else {
            payloads.clone()
        };
        if self.edits.is_empty() { fresh } else { fresh.into_iter().map(|payload| self.apply_edits(payload)).collect() }
    }

    fn fresh_names(&self, round: usize) -> &FreshNames {
        self.rounds[round].get_or_init(|| {
            let seed = format!("{}/{round}", self.id);
            FreshNames::seeded(self.sources.iter().flat_map(|source| &source.payloads), &seed, self.began)
        })
    }

    fn sources_of_group(&self, group: usize) -> impl Iterator<Item = &Source> {
        self.sources.iter().zip(&self.groups).filter(move |(_, of)| **of == group).map(|(source, _)| source)
    }

    fn apply_edits(&self, payload: Payload) -> Payload {
        let mut body = payload.body;
        for edit in &self.edits {
            body = edit.apply(&body).unwrap_or(body);
        }
        let kind = Payload::of(&body).map_or(payload.kind, |edited| edited.kind);
        let recorded = payload.recorded.map(|recorded| Recorded { at: recorded.at, raw_request: None });
        Payload { body, kind, recorded }
    }
}

/// Returns the group of each source. Sources that name the same call are one group, so their times are shifted alike.
fn groups(sources: &[Source]) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..sources.len()).collect();
    let mut owners: HashMap<&str, usize> = HashMap::new();
    for (place, source) in sources.iter().enumerate() {
        for name in payload::identifiers(&source.payloads) {
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
