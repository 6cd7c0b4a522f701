//! The rules of the log compared with a model. Random webhooks and API calls name calls in all ways and are committed
//! in groups of all sizes. No event is lost, doubled or out of order, and a repeat is answered like the first delivery.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use callscope_common::api::{CallPatch, NewCall};
use callscope_common::elevenlabs::ProviderTurn;
use callscope_common::protocol::ServerMessage;
use callscope_common::{CallData, CallId, CallStatus, Identifier, Speaker, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::runtime::{Builder, Runtime};

use super::calls::CallInfo;
use super::events::Page;
use super::testing::{Scratch, deliver, render};
use super::{LogWriter, Store};
use crate::log::turn_hash;
use crate::log::{
    CallResult, Change, DedupKey, Ending, Names, Operation, Outcome, Patch, Refusal, Register, Turn, UnknownCalls,
    dedup_hash, new_id,
};

struct World {
    runtime: Runtime,
    scratch: Scratch,
    log_writer: LogWriter,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let scratch = runtime.block_on(Scratch::open());
    let _inside = runtime.enter();
    let (log_writer, _) =
        LogWriter::start(scratch.store.clone(), UnknownCalls::Create, render, Box::new(drop)).expect("a thread");
    World { runtime, scratch, log_writer }
});

static CLOCK: AtomicI64 = AtomicI64::new(1_790_000_000);

fn now() -> Timestamp {
    Timestamp::from_unix_secs(CLOCK.fetch_add(1, Ordering::Relaxed)).expect("a time")
}

/// The indexes of a sid, a conversation id and a provider's sid. There are few of each, so that operations meet.
type NameIndexes = (Option<usize>, Option<usize>, Option<usize>);

#[derive(Debug, Clone)]
enum Step {
    /// A turn with these names, and one of a few turn ids.
    Turn(NameIndexes, Option<usize>),
    /// A result with these names, whether it is a success, and its number of turns.
    Result(NameIndexes, bool, usize),
    Failure(NameIndexes),
    Register(NameIndexes),
    /// Merges the call of a sid and the call of a conversation id.
    Merge(usize, usize),
    /// Sends an earlier delivery again.
    Repeat(Index),
}

fn name_indexes() -> impl Strategy<Value = NameIndexes> {
    (
        prop::option::weighted(0.6, 0..3_usize),
        prop::option::weighted(0.6, 0..3_usize),
        prop::option::weighted(0.2, 0..2_usize),
    )
        .prop_filter("a name", |names| names.0.is_some() || names.1.is_some())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (name_indexes(), prop::option::weighted(0.3, 0..4_usize)).prop_map(|(names, id)| Step::Turn(names, id)),
        2 => (name_indexes(), any::<bool>(), 0..3_usize).prop_map(|(names, is_success, turns)| Step::Result(names, is_success, turns)),
        1 => name_indexes().prop_map(Step::Failure),
        1 => name_indexes().prop_map(Step::Register),
        1 => (0..3_usize, 0..3_usize).prop_map(|(one, other)| Step::Merge(one, other)),
        4 => any::<Index>().prop_map(Step::Repeat),
    ]
}

/// A delivery that can be sent again, with its text and its answers.
struct Sent {
    make: Box<dyn Fn() -> Operation>,
    text: Option<String>,
    turn_id: Option<usize>,
    answers: Vec<(u16, String)>,
}

struct Case {
    name: String,
    sent: Vec<Sent>,
    /// The texts of appended turns, by the sid of their record and by seq.
    appended: BTreeMap<String, BTreeMap<i64, String>>,
    /// The index in `sent` of the delivery of each turn, by `transcription_id`.
    owners: HashMap<i64, usize>,
}

impl Case {
    fn identifier(&self, kind: &str, at: usize) -> Identifier {
        Identifier::parse(&format!("{kind}{}-{at}", self.name)).expect("an identifier")
    }

    fn names(&self, (sid, conversation, provider): NameIndexes) -> Names {
        Names {
            call_sid: sid.map(|at| self.identifier("sid", at)),
            conversation_id: conversation.map(|at| self.identifier("conv", at)),
            others: provider.map(|at| self.identifier("CA", at)).into_iter().collect(),
            ..Names::default()
        }
    }

    /// Keeps a delivery; returns its index in `sent`.
    fn keep(&mut self, text: Option<String>, turn_id: Option<usize>, make: impl Fn() -> Operation + 'static) -> usize {
        self.sent.push(Sent { make: Box::new(make), text, turn_id, answers: Vec::new() });
        self.sent.len() - 1
    }

    fn turn(&mut self, indexes: NameIndexes, turn_id: Option<usize>) -> usize {
        // A `turn_id` belongs to its call, so a turn with one has a single name, which always leads to the same call.
        // With two names, a repeat could lead to another call: its second name is not stored, and may later be assigned
        // to another conversation.
        let conversation = indexes.1.filter(|_| turn_id.is_none() || indexes.0.is_none());
        let names = self.names((indexes.0, conversation, None));
        let (text, at) = (format!("turn {}", self.sent.len()), now());
        let id = turn_id.map(|id| format!("t{id}"));
        let dedup_key = match &id {
            Some(id) => DedupKey::Turn(turn_hash(Speaker::User, id)),
            None => DedupKey::Content(dedup_hash(&[self.name.as_bytes(), text.as_bytes()])),
        };
        let said = text.clone();
        self.keep(Some(text), turn_id, move || {
            let turn = Turn {
                names: names.clone(),
                speaker: Speaker::User,
                text: said.clone(),
                at: None,
                turn_id: id.clone(),
                is_final: true,
            };
            deliver(Change::Turn(turn), dedup_key.clone(), at)
        })
    }

    fn result(&mut self, indexes: NameIndexes, is_success: bool, turns: usize) -> usize {
        let (names, at, place) = (self.names(indexes), now(), self.sent.len());
        let dedup_key = DedupKey::Content(dedup_hash(&[self.name.as_bytes(), &place.to_le_bytes()]));
        let said = move |turn| ProviderTurn {
            speaker: Speaker::Agent,
            text: format!("provider {place} {turn}"),
            offset_secs: 0.0,
        };
        self.keep(None, None, move || {
            let ending = if is_success { Ending::Done } else { Ending::Failed };
            let (data, turns) = (CallData::new(CallStatus::Completed), (0..turns).map(said).collect());
            let names = names.clone();
            let result = CallResult { names, agent_id: None, ending, data, turns, transcript: None };
            deliver(Change::Result(Box::new(result)), dedup_key.clone(), at)
        })
    }

    fn failure(&mut self, indexes: NameIndexes) -> usize {
        let (names, at) = (self.names(indexes), now());
        let dedup_key = DedupKey::Content(dedup_hash(&[self.name.as_bytes(), &self.sent.len().to_le_bytes()]));
        self.keep(None, None, move || {
            let data = CallData::new(CallStatus::Failed);
            let (names, turns) = (names.clone(), Vec::new());
            let failure = CallResult { names, agent_id: None, ending: Ending::Failed, data, turns, transcript: None };
            deliver(Change::Result(Box::new(failure)), dedup_key.clone(), at)
        })
    }

    /// Commits a group, in one transaction if possible, and checks the answers in their order.
    async fn commit(&mut self, group: Vec<Step>) {
        let mut submitted = Vec::new();
        for step in group {
            let (place, op) = match step {
                Step::Turn(names, turn_id) => self.delivery(|case| case.turn(names, turn_id)),
                Step::Result(names, is_success, turns) => self.delivery(|case| case.result(names, is_success, turns)),
                Step::Failure(names) => self.delivery(|case| case.failure(names)),
                Step::Repeat(_) if self.sent.is_empty() => continue,
                Step::Repeat(at) => {
                    let at = at.index(self.sent.len());
                    self.delivery(|_| at)
                }
                Step::Register(names) => (None, self.register(names)),
                Step::Merge(one, other) => (None, self.merge(one, other)),
            };
            submitted.push((place, WORLD.runtime.spawn(async move { WORLD.log_writer.submit(op).await })));
        }
        for (place, outcome) in submitted {
            let outcome = outcome.await.expect("an answer").expect("a commit");
            match (place, outcome) {
                (Some(place), Outcome::Answered(answer)) => {
                    self.answered(place, (answer.status, answer.body.to_string()));
                }
                (None, Outcome::Done(_) | Outcome::Refused(Refusal::IdentifierTaken(_) | Refusal::NotFound)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn delivery(&mut self, make: impl FnOnce(&mut Self) -> usize) -> (Option<usize>, Operation) {
        let place = make(self);
        (Some(place), (self.sent[place].make)())
    }

    fn register(&self, indexes: NameIndexes) -> Operation {
        let (at, names) = (now(), self.names(indexes));
        let new = NewCall { call_sid: names.call_sid, conversation_id: names.conversation_id, ..NewCall::default() };
        Operation::Register(Box::new(Register { call_id: new_id(at), at, call: new }))
    }

    fn merge(&self, one: usize, other: usize) -> Operation {
        let identifiers = vec![self.identifier("conv", other)];
        let patch = CallPatch { identifiers, merge: true, ..CallPatch::default() };
        Operation::Patch(Box::new(Patch { id: self.identifier("sid", one), patch }))
    }

    fn answered(&mut self, place: usize, answer: (u16, String)) {
        let json: serde_json::Value = serde_json::from_str(&answer.1).expect("JSON");
        let turn_id = self.sent[place].turn_id;
        // Two merged records may both have a turn with this id. Then a repeat may get the answer of either.
        let has_same_id = |other: &&Sent| turn_id.is_some() && other.turn_id == turn_id;
        let mut earlier =
            self.sent[place].answers.iter().chain(self.sent.iter().filter(has_same_id).flat_map(|s| &s.answers));
        assert!(
            self.sent[place].answers.is_empty() || earlier.any(|earlier| *earlier == answer),
            "{:?} was answered {:?} before and {answer:?} now",
            self.sent[place].text,
            self.sent[place].answers
        );
        if let Some(id) = json["transcription_id"].as_i64() {
            let owner = *self.owners.entry(id).or_insert(place);
            let is_repeat = owner != place;
            assert!(!is_repeat || (turn_id.is_some() && self.sent[owner].turn_id == turn_id), "one id for two turns");
            if !is_repeat && self.sent[place].answers.is_empty() {
                let sid = json["call_sid"].as_str().expect("a sid");
                let text = self.sent[place].text.clone().expect("a text");
                let seq = json["seq"].as_i64().expect("a seq");
                let before = self.appended.entry(sid.to_owned()).or_default().insert(seq, text);
                assert_eq!(before, None, "one seq for two turns");
            }
        }
        self.sent[place].answers.push(answer);
    }

    /// Checks that no turn is lost or doubled, that no log has a hole, and that every name leads to one call.
    async fn check(&self) {
        let mut calls: HashMap<CallId, CallInfo> = HashMap::new();
        let kinds = [("sid", 3), ("conv", 3), ("CA", 2)];
        let names = kinds.into_iter().flat_map(|(kind, count)| (0..count).map(move |at| self.identifier(kind, at)));
        for name in names {
            let Some(call) = info(name.as_str()).await else { continue };
            let view = store().call(&name).await.expect("a read").expect("a call");
            assert!(view.identifiers.iter().any(|known| known == name.as_str()), "{name} is not among {view:?}");
            calls.insert(call.call_id, call);
        }
        let mut found: HashMap<String, (CallId, usize)> = HashMap::new();
        let mut ids = HashSet::new();
        for call in calls.values() {
            for (at, (text, id)) in turns(call).await.into_iter().enumerate() {
                assert!(ids.insert(id), "two turns have the id {id}");
                assert_eq!(found.insert(text.clone(), (call.call_id, at)), None, "{text} was appended twice");
            }
        }
        for (record, texts) in &self.appended {
            // After merges, the turns of a record are in one log and in their order.
            let places: Vec<_> = texts.values().map(|text| found.get(text).copied()).collect();
            assert!(places.iter().all(Option::is_some), "{record} had {texts:?}, found {places:?}");
            assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{record} had {texts:?}, found {places:?}");
            let survivor = info(record).await.map(|call| call.call_id);
            assert_eq!(places[0].map(|(call_id, _)| call_id), survivor, "the record's sid leads elsewhere");
        }
        let appended: HashSet<&String> = self.appended.values().flat_map(BTreeMap::values).collect();
        let unexpected = found.keys().find(|text| !text.starts_with("provider") && !appended.contains(text));
        assert_eq!(unexpected, None, "a repeat took effect");
    }
}

fn store() -> &'static Store {
    &WORLD.scratch.store
}

async fn info(name: &str) -> Option<CallInfo> {
    store().resolve(&Identifier::parse(name).expect("an identifier")).await.expect("a read")
}

/// Returns the turns of a log with their ids, and checks the invariants of the log.
async fn turns(call: &CallInfo) -> Vec<(String, i64)> {
    let events = store().events(call.call_id, 0, Page::ALL).await.expect("a read");
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=call.head).collect::<Vec<_>>());
    let mut found = Vec::new();
    let mut last = None;
    for event in events {
        let message = ServerMessage::parse(&event.frame).expect("a message");
        assert_eq!(message.seq(), Some(event.seq));
        match message {
            ServerMessage::Transcription(turn) => {
                found.push((turn.message_text, turn.transcription_id));
                assert_eq!(turn.sequence_number, i64::try_from(found.len()).expect("a count"));
            }
            ServerMessage::CallStatus(changed) => last = Some(changed.status),
            ServerMessage::CallCompleted(completed) => last = Some(completed.call_data.status),
            other => panic!("not an event: {other:?}"),
        }
    }
    assert_eq!(last, Some(call.status).filter(|status| status.is_ended()), "the log ends with another status");
    found
}

proptest! {
    #[test]
    fn no_event_is_lost_doubled_or_out_of_order(groups in vec(vec(step(), 1..6), 1..12)) {
        let name = now().as_unix_secs().to_string();
        let mut case = Case { name, sent: Vec::new(), appended: BTreeMap::new(), owners: HashMap::new() };
        WORLD.runtime.block_on(async {
            for group in groups {
                case.commit(group).await;
            }
            // A repeat of every delivery changes nothing.
            for place in 0..case.sent.len() {
                let again = (case.sent[place].make)();
                let Ok(Outcome::Answered(answer)) = WORLD.log_writer.submit(again).await else { panic!("no answer") };
                case.answered(place, (answer.status, answer.body.to_string()));
            }
            case.check().await;
        });
    }
}
