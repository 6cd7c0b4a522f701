//! The rules of the log against a model: whatever webhooks and API calls name, in whatever groups they are committed,
//! no event is lost, doubled or out of order, and a repeat is answered like the first.

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
    CallFailure, CallResult, Change, DedupKey, Ending, Names, Operation, Outcome, Patch, Refusal, Register, Turn,
    UnknownCalls, dedup_hash, new_id,
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

/// Names out of a few, so that operations meet: a sid, a conversation, a provider's sid.
type Called = (Option<usize>, Option<usize>, Option<usize>);

#[derive(Debug, Clone)]
enum Asked {
    /// Names, and one of a few turn ids.
    Turn(Called, Option<usize>),
    /// Names, how it ended, how many turns the provider has.
    Result(Called, bool, usize),
    Failure(Called),
    Register(Called),
    /// Finds the second name to be one of the first's.
    Merge(usize, usize),
    /// Sends an earlier delivery again.
    Again(Index),
}

fn called() -> impl Strategy<Value = Called> {
    (
        prop::option::weighted(0.6, 0..3_usize),
        prop::option::weighted(0.6, 0..3_usize),
        prop::option::weighted(0.2, 0..2_usize),
    )
        .prop_filter("a name", |called| called.0.is_some() || called.1.is_some())
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        8 => (called(), prop::option::weighted(0.3, 0..4_usize)).prop_map(|(called, id)| Asked::Turn(called, id)),
        2 => (called(), any::<bool>(), 0..3_usize).prop_map(|(called, well, turns)| Asked::Result(called, well, turns)),
        1 => called().prop_map(Asked::Failure),
        1 => called().prop_map(Asked::Register),
        1 => (0..3_usize, 0..3_usize).prop_map(|(one, other)| Asked::Merge(one, other)),
        4 => any::<Index>().prop_map(Asked::Again),
    ]
}

/// A delivery that can be sent again: what it says, and what it was answered.
struct Sent {
    make: Box<dyn Fn() -> Operation>,
    text: Option<String>,
    turn_id: Option<usize>,
    answers: Vec<(u16, String)>,
}

struct Case {
    name: String,
    sent: Vec<Sent>,
    /// Texts of turns by the sid of the record that took them, and the seq it took them at.
    taken: BTreeMap<String, BTreeMap<i64, String>>,
    /// The delivery that each turn's id belongs to.
    owners: HashMap<i64, usize>,
}

impl Case {
    fn identifier(&self, kind: &str, at: usize) -> Identifier {
        Identifier::parse(&format!("{kind}{}-{at}", self.name)).expect("an identifier")
    }

    fn names(&self, (sid, conversation, provider): Called) -> Names {
        Names {
            call_sid: sid.map(|at| self.identifier("sid", at)),
            conversation_id: conversation.map(|at| self.identifier("conv", at)),
            others: provider.map(|at| self.identifier("CA", at)).into_iter().collect(),
            ..Names::default()
        }
    }

    /// Keeps a delivery, and says at which place.
    fn keep(&mut self, text: Option<String>, turn_id: Option<usize>, make: impl Fn() -> Operation + 'static) -> usize {
        self.sent.push(Sent { make: Box::new(make), text, turn_id, answers: Vec::new() });
        self.sent.len() - 1
    }

    fn turn(&mut self, called: Called, turn_id: Option<usize>) -> usize {
        // A turn's id counts within its call, so these turns name it by one name, which always leads there. With two,
        // the call could become another: the second name of a repeat is not kept, and may later belong to another
        // conversation.
        let conversation = called.1.filter(|_| turn_id.is_none() || called.0.is_none());
        let names = self.names((called.0, conversation, None));
        let (text, at) = (format!("turn {}", self.sent.len()), now());
        let id = turn_id.map(|id| format!("t{id}"));
        let same = match &id {
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
            deliver(Change::Turn(turn), same.clone(), at)
        })
    }

    fn result(&mut self, called: Called, well: bool, turns: usize) -> usize {
        let (names, at, place) = (self.names(called), now(), self.sent.len());
        let same = DedupKey::Content(dedup_hash(&[self.name.as_bytes(), &place.to_le_bytes()]));
        let said = move |turn| ProviderTurn {
            speaker: Speaker::Agent,
            text: format!("provider {place} {turn}"),
            offset_secs: 0.0,
        };
        self.keep(None, None, move || {
            let ending = if well { Ending::Done } else { Ending::Failed };
            let (data, turns) = (CallData::new(CallStatus::Completed), (0..turns).map(said).collect());
            let names = names.clone();
            let result = CallResult { names, agent_id: None, ending, data, turns, transcript: None };
            deliver(Change::Result(Box::new(result)), same.clone(), at)
        })
    }

    fn failure(&mut self, called: Called) -> usize {
        let (names, at) = (self.names(called), now());
        let same = DedupKey::Content(dedup_hash(&[self.name.as_bytes(), &self.sent.len().to_le_bytes()]));
        self.keep(None, None, move || {
            let data = CallData::new(CallStatus::Failed);
            let failure = CallFailure { names: names.clone(), agent_id: None, data };
            deliver(Change::Failure(Box::new(failure)), same.clone(), at)
        })
    }

    /// Commits a group, in one transaction if possible, and checks the answers in their order.
    async fn commit(&mut self, group: Vec<Asked>) {
        let mut submitted = Vec::new();
        for asked in group {
            let (place, op) = match asked {
                Asked::Turn(called, turn_id) => self.delivery(|case| case.turn(called, turn_id)),
                Asked::Result(called, well, turns) => self.delivery(|case| case.result(called, well, turns)),
                Asked::Failure(called) => self.delivery(|case| case.failure(called)),
                Asked::Again(_) if self.sent.is_empty() => continue,
                Asked::Again(at) => {
                    let at = at.index(self.sent.len());
                    self.delivery(|_| at)
                }
                Asked::Register(called) => (None, self.register(called)),
                Asked::Merge(one, other) => (None, self.merge(one, other)),
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

    fn register(&self, called: Called) -> Operation {
        let (at, names) = (now(), self.names(called));
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
        // A turn's id may meet its like in another record that is merged: then either answer is the first one's.
        let alike = |other: &&Sent| turn_id.is_some() && other.turn_id == turn_id;
        let mut earlier =
            self.sent[place].answers.iter().chain(self.sent.iter().filter(alike).flat_map(|s| &s.answers));
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
                let before = self.taken.entry(sid.to_owned()).or_default().insert(seq, text);
                assert_eq!(before, None, "one seq for two turns");
            }
        }
        self.sent[place].answers.push(answer);
    }

    /// Nothing lost, nothing twice, no holes, and every name means one call.
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
        let mut said: HashMap<String, (CallId, usize)> = HashMap::new();
        let mut ids = HashSet::new();
        for call in calls.values() {
            for (at, (text, id)) in turns(call).await.into_iter().enumerate() {
                assert!(ids.insert(id), "two turns have the id {id}");
                assert_eq!(said.insert(text.clone(), (call.call_id, at)), None, "{text} was taken twice");
            }
        }
        for (record, texts) in &self.taken {
            // Wherever the record's turns went, they went together and in their order.
            let places: Vec<_> = texts.values().map(|text| said.get(text).copied()).collect();
            assert!(places.iter().all(Option::is_some), "{record} took {texts:?}, found {places:?}");
            assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{record} took {texts:?}, found {places:?}");
            let whole = info(record).await.map(|call| call.call_id);
            assert_eq!(places[0].map(|(call_id, _)| call_id), whole, "the record's sid leads elsewhere");
        }
        let taken: HashSet<&String> = self.taken.values().flat_map(BTreeMap::values).collect();
        let made_up = said.keys().find(|text| !text.starts_with("provider") && !taken.contains(text));
        assert_eq!(made_up, None, "a repeat took effect");
    }
}

fn store() -> &'static Store {
    &WORLD.scratch.store
}

async fn info(name: &str) -> Option<CallInfo> {
    store().resolve(&Identifier::parse(name).expect("an identifier")).await.expect("a read")
}

/// A log's turns and their ids; checks what every log must hold to.
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
    assert_eq!(last, Some(call.status).filter(|status| status.is_ended()), "the log ends on another status");
    found
}

proptest! {
    #[test]
    fn no_event_is_lost_doubled_or_out_of_order(groups in vec(vec(asked(), 1..6), 1..12)) {
        let name = now().as_unix_secs().to_string();
        let mut case = Case { name, sent: Vec::new(), taken: BTreeMap::new(), owners: HashMap::new() };
        WORLD.runtime.block_on(async {
            for group in groups {
                case.commit(group).await;
            }
            // Everything once more: nothing changes.
            for place in 0..case.sent.len() {
                let again = (case.sent[place].make)();
                let Ok(Outcome::Answered(answer)) = WORLD.log_writer.submit(again).await else { panic!("no answer") };
                case.answered(place, (answer.status, answer.body.to_string()));
            }
            case.check().await;
        });
    }
}
