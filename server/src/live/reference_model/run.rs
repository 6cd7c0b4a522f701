//! Performs the steps of one case, and checks the state at the end.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use callscope_common::api::{CallPatch, NewCall};
use callscope_common::claims::Role;
use callscope_common::{CallData, CallId, CallStatus, Identifier, Seq, Speaker, Timestamp};
use tokio::io::duplex;
use tokio::task::yield_now;

use super::client::{Client, ClientSubscription};
use super::log::Log;
use super::schedule::{AnnounceMode, Announcing, CALLS, Name, Schedule, StartFrom, Step};
use super::world::{Commit, World};
use crate::auth::Identity;
use crate::live::Hub;
use crate::live::hub::HubSizes;
use crate::live::reconcile::reconcile;
use crate::live::session::Session;
use crate::log::{
    CallResult, Change, DedupKey, Delete, Ending, Names, Notification, Operation, Outcome, Patch, Refusal, Register,
    Turn, new_id,
};
use crate::policy::Timing;
use crate::store::events::Page;
use crate::store::testing::deliver;

/// A case fails if nothing moves for this long. It is longer than the delay after which a session repeats a read.
const MAX_STALL: Duration = Duration::from_secs(2);
const FAR: Duration = Duration::from_secs(86_400);
/// No deadline passes during a case.
const TIMING: Timing = Timing { ping_interval: FAR, pong_timeout: FAR, write_deadline: FAR, storage_deadline: FAR };

pub(super) struct Run<'w> {
    world: &'w World,
    announcing: Announcing,
    hub: Hub,
    log: Log,
    /// Makes this case's names different from those of other cases.
    case: String,
    clients: Vec<Client>,
    /// Notifications of commits that were not announced yet.
    unannounced: VecDeque<Notification>,
    /// Commits that nothing has waited for yet.
    commits_under_way: Vec<Commit>,
    step: usize,
}

impl<'w> Run<'w> {
    pub fn new(world: &'w World, announcing: Announcing, schedule: &Schedule) -> Self {
        let case = world.now().as_unix_secs().to_string();
        let mut run = Self {
            world,
            announcing,
            hub: Hub::on_tasks(),
            log: Log::default(),
            case,
            clients: Vec::new(),
            unannounced: VecDeque::new(),
            commits_under_way: Vec::new(),
            step: 1,
        };
        // An earlier case that failed may have left notifications behind.
        drop(run.world.committed());
        run.clients = schedule.pipes.iter().map(|pipe| run.connect(*pipe)).collect();
        run
    }

    pub async fn run(mut self, schedule: &Schedule) {
        for step in &schedule.steps {
            self.step += 1;
            self.take_commits();
            self.perform(step).await;
            for client in &mut self.clients {
                client.flush();
            }
        }
        self.end().await;
    }

    async fn perform(&mut self, step: &Step) {
        match *step {
            Step::Turns(call, count, len) => self.turns(call, count, len),
            Step::AnnouncedTurn(call) => {
                self.turns(call, 1, 8);
                self.hub.publish(self.unannounced.drain(..).collect());
            }
            Step::TurnsMeanwhile(call, count) => {
                self.ensure_call(call);
                let begun: Vec<Commit> = (0..count).map(|_| self.world.begin(self.turn(call, 8, true))).collect();
                self.commits_under_way.extend(begun);
            }
            Step::Partial(call) => {
                self.ensure_call(call);
                self.commit(self.turn(call, 8, false));
            }
            Step::End(call) => {
                self.ensure_call(call);
                self.commit(self.result(call));
            }
            Step::Merge(call, other) if call != other => self.merge(call, other),
            Step::Merge(..) => {}
            Step::Delete(call) => {
                // A turn that is committed after the deletion would create a call that the model does not know.
                self.settle_commits();
                if let Some(call_id) = self.call_id(call) {
                    self.commit(Operation::Delete(Delete { call_id, ended_before: None }));
                }
            }
            Step::Restore(call, back) => self.restore(call, back).await,
            Step::Announce(at, how) => self.announce(at, how),
            Step::AnnounceAll => self.hub.publish(self.unannounced.drain(..).collect()),
            Step::ReportHead(call, back) => self.report_earlier_head(call, back),
            Step::Reconcile => self.reconcile().await,
            Step::Subscribe(at, name, begin) => self.subscribe(at, name, begin),
            Step::Unsubscribe(at, name) => {
                let name = self.name(name);
                self.client(at).unsubscribe(&name);
            }
            Step::Reconnect(at, pipe) => {
                let mut client = self.connect(pipe);
                let old = self.client(at).resumptions();
                old.into_iter().for_each(|request| client.subscribe(request, self.step));
                *self.client(at) = client;
            }
            Step::Read(at, bytes) => {
                let at = at % self.clients.len();
                self.read(at, bytes);
            }
            Step::FillPipe(at) => {
                self.world.run_until_idle().await;
                let at = at % self.clients.len();
                let waiting = self.clients[at].connection.state.lock().unsent_bytes();
                self.read(at, waiting);
                self.world.run_until_idle().await;
            }
            Step::Yield(turns) => {
                for _ in 0..turns {
                    yield_now().await;
                }
            }
            Step::RunUntilIdle => self.world.run_until_idle().await,
        }
        self.take_commits();
    }

    // --- calls ---

    fn name(&self, (call, other): Name) -> String {
        format!("{}{}-{call}", if other { "conv" } else { "sid" }, self.case)
    }

    fn identifier(&self, name: Name) -> Identifier {
        Identifier::parse(&self.name(name)).expect("an identifier")
    }

    fn call_id(&self, call: usize) -> Option<CallId> {
        self.log.named(&self.name((call, false)))
    }

    fn commit(&mut self, op: Operation) {
        let outcome = self.world.commit(op);
        assert!(!matches!(outcome, Outcome::Refused(Refusal::IdentifierTaken(_) | Refusal::Ended)), "{outcome:?}");
        self.take_commits();
    }

    /// Creates the call if it does not exist.
    fn ensure_call(&mut self, call: usize) {
        if self.call_id(call).is_some() {
            return;
        }
        let at = self.world.now();
        let call_id = new_id(at);
        let (sid, conversation) = (self.identifier((call, false)), self.identifier((call, true)));
        let new = NewCall { call_sid: Some(sid), conversation_id: Some(conversation), ..NewCall::default() };
        self.log.create(call_id, &[self.name((call, false)), self.name((call, true))], self.step);
        self.commit(Operation::Register(Box::new(Register { call_id, at, call: new })));
    }

    fn turn(&self, call: usize, len: usize, is_final: bool) -> Operation {
        let names = Names { call_sid: Some(self.identifier((call, false))), ..Names::default() };
        let (text, turn_id) = ("x".repeat(len), None);
        let turn = Turn { names, speaker: Speaker::User, text, at: None, turn_id, is_final };
        deliver(Change::Turn(turn), DedupKey::None, self.world.now())
    }

    fn turns(&mut self, call: usize, count: usize, len: usize) {
        self.ensure_call(call);
        let begun: Vec<Commit> = (0..count).map(|_| self.world.begin(self.turn(call, len, true))).collect();
        begun.into_iter().for_each(|commit| drop(commit.wait()));
        self.take_commits();
    }

    fn result(&self, call: usize) -> Operation {
        let names = Names { conversation_id: Some(self.identifier((call, true))), ..Names::default() };
        let data = CallData::new(CallStatus::Completed);
        let (agent_id, ending, transcript) = (None, Ending::Done, None);
        let result = CallResult { names, agent_id, ending, data, turns: Vec::new(), transcript };
        deliver(Change::Result(Box::new(result)), DedupKey::None, self.world.now())
    }

    fn merge(&mut self, call: usize, other: usize) {
        self.ensure_call(call);
        self.ensure_call(other);
        let patch =
            CallPatch { identifiers: vec![self.identifier((other, false))], merge: true, ..CallPatch::default() };
        self.commit(Operation::Patch(Box::new(Patch { id: self.identifier((call, false)), patch })));
        assert_eq!(self.call_id(call), self.call_id(other), "two names of one call");
    }

    /// Restores the database to a state in which the call's log was shorter, while the server is down. Then every
    /// client resumes with its last cursor.
    async fn restore(&mut self, call: usize, back: usize) {
        self.settle_commits();
        let Some(call_id) = self.call_id(call) else { return };
        let head = self.log.records[&call_id].head();
        let left = head - Seq::try_from(back).expect("a seq").min(head);
        if self.log.records[&call_id].end_after(left).is_some() {
            // The call's status would have to be restored too, which this model cannot do.
            return;
        }
        self.world.store().truncate_log(call_id, left).await;
        self.log.truncate(call_id, left);
        self.unannounced.clear();
        let resumptions: Vec<_> = self.clients.iter().map(Client::resumptions).collect();
        self.clients.clear();
        self.hub = Hub::on_tasks();
        for requests in resumptions {
            let mut client = self.connect(1 << 16);
            requests.into_iter().for_each(|request| client.subscribe(request, self.step));
            self.clients.push(client);
        }
    }

    // --- announcements ---

    fn take_commits(&mut self) {
        for notification in self.world.committed() {
            self.log.apply(&notification);
            self.unannounced.push_back(notification);
        }
    }

    fn settle_commits(&mut self) {
        for commit in self.commits_under_way.drain(..) {
            commit.wait();
        }
        self.take_commits();
    }

    fn announce(&mut self, at: usize, how: AnnounceMode) {
        if self.unannounced.is_empty() {
            return;
        }
        if self.announcing == Announcing::Faithful {
            return self.hub.publish(self.unannounced.pop_front().into_iter().collect());
        }
        let notification = self.unannounced.remove(at % self.unannounced.len()).expect("a notification");
        let notifications = match how {
            AnnounceMode::Once => vec![notification],
            AnnounceMode::Twice => vec![notification.clone(), notification],
            AnnounceMode::Never => Vec::new(),
            AnnounceMode::InPieces => pieces(notification),
            AnnounceMode::Backwards => pieces(notification).into_iter().rev().collect(),
            AnnounceMode::HeadFirst => {
                if let Notification::EventsAppended { call_id, first, events } = &notification {
                    self.report_head(*call_id, first + Seq::try_from(events.len()).expect("a seq") - 1);
                }
                vec![notification]
            }
        };
        self.hub.publish(notifications);
    }

    fn report_earlier_head(&mut self, call: usize, back: usize) {
        let Some(call_id) = self.call_id(call) else { return };
        let head = self.log.records[&call_id].head() - Seq::try_from(back).expect("a seq");
        self.report_head(call_id, head.max(0));
    }

    /// Reports a head to the feeds, as a session does that has read it, perhaps a while ago.
    fn report_head(&self, call_id: CallId, head: Seq) {
        let ended = self.log.records[&call_id].end_after(0).is_some_and(|end| end <= head);
        self.hub.publish(vec![Notification::HeadMoved { call_id, head, ended }]);
    }

    async fn reconcile(&self) {
        reconcile(self.world.store(), &self.hub).await.expect("a reconciliation");
    }

    // --- clients ---

    fn client(&mut self, at: usize) -> &mut Client {
        let at = at % self.clients.len();
        &mut self.clients[at]
    }

    fn connect(&self, pipe: usize) -> Client {
        let (near, far) = duplex(pipe);
        let expires = Timestamp::from_unix_secs(250_000_000_000).expect("a time");
        let identity = Identity { username: "model".into(), uid: None, role: Role::Viewer, calls: None, expires };
        let earlier = self.hub.connections();
        let _inside = self.world.runtime.enter();
        let session = Session::new(far, identity, None, self.hub.clone(), self.world.store().clone(), Arc::new(TIMING));
        self.world.runtime.spawn(Box::new(session).run());
        let mut new = self.hub.connections();
        new.retain(|connection| earlier.iter().all(|other| other.connection_id != connection.connection_id));
        Client::new(new.pop().expect("a connection"), near, &self.log)
    }

    fn subscribe(&mut self, at: usize, name: Name, begin: StartFrom) {
        let (name, step) = (self.name(name), self.step);
        let log = &self.log;
        let request = match begin {
            StartFrom::Start => serde_json::json!({ "subscribe": name }),
            StartFrom::Live => serde_json::json!({ "subscribe": name, "history": false }),
            StartFrom::Wait => serde_json::json!({ "subscribe": name, "wait": true }),
            StartFrom::WaitLive => serde_json::json!({ "subscribe": name, "wait": true, "history": false }),
            StartFrom::After(after) => {
                let Some(call_id) = log.named(&name) else { return };
                let after = log.records[&call_id].head().min(Seq::try_from(after).expect("a seq"));
                serde_json::json!({ "subscribe": name, "after": after, "call_id": call_id })
            }
            StartFrom::Number(after) => serde_json::json!({ "subscribe": name, "after": after }),
            StartFrom::Cursor(call, at) => {
                let Some(cursor) = log.pick_cursor(call, at) else { return };
                serde_json::json!({ "subscribe": name, "after": cursor })
            }
        };
        self.client(at).subscribe(request, step);
    }

    fn read(&mut self, at: usize, bytes: usize) -> bool {
        // The model must know every commit that the session may have read, before it checks the messages.
        self.settle_commits();
        self.clients[at].read(bytes, &self.log, self.step)
    }

    // --- the end ---

    async fn end(mut self) {
        self.settle_commits();
        match self.announcing {
            Announcing::Faithful => self.hub.publish(self.unannounced.drain(..).collect()),
            Announcing::Unreliable => self.reconcile().await,
        }
        self.run_until_none(Self::missing).await;
        // Once more, to check that no client gets a message after everything has arrived.
        self.world.run_until_idle().await;
        self.run_until_none(Self::missing).await;
        self.check_log().await;
        self.clients.clear();
        self.run_until_none(|run| match run.hub.sizes() {
            sizes if sizes == HubSizes::default() => None,
            sizes => Some(format!("connections, feeds and names that no one waits for: {sizes:?}")),
        })
        .await;
    }

    fn read_all(&mut self) -> bool {
        let mut moved = false;
        for at in 0..self.clients.len() {
            moved |= self.clients[at].flush();
            moved |= self.read(at, 1 << 20);
        }
        moved
    }

    /// Runs everything and lets every client read, until `missing` returns `None`.
    ///
    /// # Panics
    /// Panics if something is still missing and nothing has moved for [`MAX_STALL`].
    async fn run_until_none(&mut self, missing: impl Fn(&Self) -> Option<String>) {
        let mut moved_at = Instant::now();
        loop {
            let moved = self.read_all();
            let Some(what) = missing(self) else { return };
            if moved {
                moved_at = Instant::now();
            }
            assert!(moved_at.elapsed() < MAX_STALL, "still missing: {what}");
            self.world.run_until_idle().await;
        }
    }

    fn missing(&self) -> Option<String> {
        if let Some(missing) = self.clients.iter().find_map(|client| client.missing(&self.log)) {
            return Some(missing);
        }
        let follows = || self.clients.iter().flat_map(|client| &client.subscriptions);
        let views: Vec<_> = self.hub.connections().iter().map(|connection| connection.progress()).collect();
        if views.len() != self.clients.len() {
            return Some(format!("{} connections of {}", views.len(), self.clients.len()));
        }
        if follows().any(|follow| follow.may_be_gone) {
            return None;
        }
        let standing: Vec<&ClientSubscription> = follows().filter(|follow| follow.is_running(&self.log)).collect();
        let calls: HashSet<CallId> = standing.iter().map(|follow| follow.call_id).collect();
        let names: HashSet<&String> = self.clients.iter().flat_map(Client::awaited_names).collect();
        let counted: usize = views.iter().map(|view| view.call_sids.len()).sum();
        let lag: u64 = views.iter().map(|view| view.lag).sum();
        let found = (counted, lag, self.hub.sizes());
        let sizes =
            HubSizes { connections: self.clients.len(), followed_calls: calls.len(), awaited_identifiers: names.len() };
        let expected = (standing.len(), 0, sizes);
        (found != expected).then(|| format!("subscriptions, lag and sizes are {found:?}, not {expected:?}"))
    }

    /// Compares the stored events of every remaining record with the model.
    async fn check_log(&self) {
        for (call_id, record) in self.log.records.iter().filter(|(_, record)| record.end_reason.is_none()) {
            let stored = self.world.store().events(*call_id, 0, Page::ALL).await.expect("events");
            let stored: Vec<_> = stored.into_iter().map(|event| (event.kind, event.frame)).collect();
            assert!(stored == record.events, "the log of {call_id} is another one");
        }
        assert!(self.log.records.len() <= CALLS * (self.log.ended_records + 1));
    }
}

/// Splits a notification into one for each event.
fn pieces(notification: Notification) -> Vec<Notification> {
    match notification {
        Notification::EventsAppended { call_id, first, events } => (first..)
            .zip(events)
            .map(|(first, event)| Notification::EventsAppended { call_id, first, events: vec![event] })
            .collect(),
        other => vec![other],
    }
}
