//! A client that compares every message with the model of the log.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use callscope_common::protocol::{
    CallMerged, ErrorCode, ErrorMessage, IdentifierMessage, ServerMessage, Subscribe, SubscriptionConfirmed,
};
use callscope_common::protocol::{ClientMessage, SubscribeFrom};
use callscope_common::{CallId, Cursor, Seq};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::log::Log;
use crate::live::connection::{Connection, EndReason};

/// A request without an answer yet, and the step in which it was made.
#[derive(Debug, Clone)]
enum OpenRequest {
    Subscribe(Subscribe, usize),
    Unsubscribe,
}

/// A subscription as the client sees it.
#[derive(Debug, Clone)]
pub(super) struct ClientSubscription {
    pub names: Vec<String>,
    pub call_id: CallId,
    pub cursor: Seq,
    /// The last cursor that a message carried, with which a client resumes.
    cursor_text: String,
    /// The head in its confirmation, and whether the call was over then.
    confirmed: (Seq, bool),
    /// Whether a merge may start it again from seq 1, because it may have been over.
    may_restart: bool,
    /// Whether it may have ended, because a name was unsubscribed that two subscriptions had.
    pub may_be_gone: bool,
}

pub(super) struct Client {
    /// The server's end.
    pub connection: Arc<Connection>,
    pipe: DuplexStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    open_requests: HashMap<String, VecDeque<OpenRequest>>,
    pending: HashMap<String, Subscribe>,
    pub subscriptions: Vec<ClientSubscription>,
    /// Confirmations that are to follow `call_merged` messages.
    owed_confirmations: Vec<(String, CallId)>,
    /// Names whose cursor was refused. They are subscribed to again from the start.
    refused_names: Vec<String>,
    /// [`Log::ended_records`] when the client connected.
    ended_records_at_start: usize,
}

impl ClientSubscription {
    /// The seq that it must reach in any case.
    fn must_reach(&self, log: &Log) -> Seq {
        let record = &log.records[&self.call_id];
        match self.confirmed {
            (head, true) => head,
            (head, false) => record.end_after(head).unwrap_or(record.head()),
        }
    }

    /// Whether it may be over, because it got the call's end.
    pub fn may_be_over(&self, log: &Log) -> bool {
        log.records[&self.call_id].is_ended() && self.cursor >= self.must_reach(log)
    }

    /// Whether it has every event, once nothing more is published.
    fn is_complete(&self, log: &Log) -> bool {
        let record = &log.records[&self.call_id];
        self.may_be_gone || (self.cursor >= self.must_reach(log) && (record.end_reason.is_none() || record.is_ended()))
    }

    /// Whether the server must still count it.
    pub fn is_running(&self, log: &Log) -> bool {
        let record = &log.records[&self.call_id];
        record.end_reason.is_none() && !record.is_ended()
    }
}

impl Client {
    pub fn new(connection: Arc<Connection>, pipe: DuplexStream, log: &Log) -> Self {
        Self {
            connection,
            pipe,
            inbox: Vec::new(),
            outbox: Vec::new(),
            open_requests: HashMap::new(),
            pending: HashMap::new(),
            subscriptions: Vec::new(),
            owed_confirmations: Vec::new(),
            refused_names: Vec::new(),
            ended_records_at_start: log.ended_records,
        }
    }

    /// Sends a request to subscribe, unless an answer about the same name is still due: the client could not tell the
    /// two answers apart.
    pub fn subscribe(&mut self, request: serde_json::Value, step: usize) {
        let text = request.to_string();
        let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(&text) else { panic!("{text}") };
        let name = subscribe.identifier.to_string();
        let asked = self.open_requests.entry(name.clone()).or_default();
        if self.pending.contains_key(&name) || asked.iter().any(|asked| matches!(asked, OpenRequest::Subscribe(..))) {
            return;
        }
        asked.push_back(OpenRequest::Subscribe(subscribe, step));
        self.send(&text);
    }

    pub fn unsubscribe(&mut self, name: &str) {
        self.open_requests.entry(name.to_owned()).or_default().push_back(OpenRequest::Unsubscribe);
        self.send(&serde_json::json!({ "unsubscribe": name }).to_string());
    }

    /// The requests that this client's next connection resumes with.
    pub fn resumptions(&self) -> Vec<serde_json::Value> {
        let resume = |subscription: &ClientSubscription| {
            let name = subscription.names.first()?;
            Some(serde_json::json!({ "subscribe": name, "after": subscription.cursor_text }))
        };
        let waits = self.pending.keys().map(|name| serde_json::json!({ "subscribe": name, "wait": true }));
        self.subscriptions.iter().filter_map(resume).chain(waits).collect()
    }

    /// Queues a text frame with a mask of zeros.
    fn send(&mut self, text: &str) {
        let len = text.len();
        self.outbox.push(0x81);
        match u8::try_from(len) {
            Ok(len @ ..126) => self.outbox.push(0x80 | len),
            _ => {
                self.outbox.push(0x80 | 126);
                self.outbox.extend(u16::try_from(len).expect("a short request").to_be_bytes());
            }
        }
        self.outbox.extend([0; 4]);
        self.outbox.extend(text.as_bytes());
    }

    /// Writes what the pipe takes; returns whether it took anything.
    pub fn flush(&mut self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        let before = self.outbox.len();
        while !self.outbox.is_empty() {
            match Pin::new(&mut self.pipe).poll_write(cx, &self.outbox) {
                Poll::Ready(written) => drop(self.outbox.drain(..written.expect("a connection"))),
                Poll::Pending => break,
            }
        }
        self.outbox.len() < before
    }

    /// Reads up to `most` bytes and checks their messages; returns whether there were any.
    pub fn read(&mut self, most: usize, log: &Log, step: usize) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut bytes = vec![0; most];
        let mut buffer = ReadBuf::new(&mut bytes);
        while buffer.remaining() > 0 {
            let before = buffer.filled().len();
            match Pin::new(&mut self.pipe).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => read.expect("a connection"),
                Poll::Pending => break,
            }
            assert!(buffer.filled().len() > before, "the server ended the connection");
        }
        let read = buffer.filled().len();
        self.inbox.extend(&bytes[..read]);
        while let Some(text) = self.next_text() {
            self.on_message(&text, log);
        }
        for name in std::mem::take(&mut self.refused_names) {
            self.subscribe(serde_json::json!({ "subscribe": name }), step);
        }
        read > 0
    }

    fn next_text(&mut self) -> Option<String> {
        let inbox = &self.inbox;
        assert!(inbox.first().is_none_or(|first| *first == 0x81), "not a text frame: {inbox:?}");
        let (head, len) = match *inbox.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes(inbox.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(inbox.get(2..10)?.try_into().ok()?)).ok()?),
            len => (2, usize::from(len)),
        };
        let text = String::from_utf8(inbox.get(head..head + len)?.to_vec()).expect("UTF-8");
        self.inbox.drain(..head + len);
        Some(text)
    }

    fn on_message(&mut self, text: &str, log: &Log) {
        match ServerMessage::parse(text).expect("a message") {
            ServerMessage::SubscriptionConfirmed(confirmed) => self.on_confirmed(&confirmed, log),
            // Repeated if the call was created and deleted meanwhile.
            ServerMessage::SubscriptionPending(IdentifierMessage { identifier, .. })
                if self.pending.contains_key(&identifier) => {}
            ServerMessage::SubscriptionPending(IdentifierMessage { identifier, .. }) => {
                let (request, step) = self.take_subscribe(&identifier);
                assert!(request.wait && !log.was_known(&identifier, step), "waits for a known call: {identifier}");
                self.pending.insert(identifier, request);
            }
            ServerMessage::UnsubscribeConfirmed(named) => self.on_unsubscribed(&named, log),
            ServerMessage::CallMerged(merged) => self.on_merged(&merged, log),
            ServerMessage::Error(error) => self.on_error(&error, log),
            ServerMessage::TranscriptionPartial(_) => {}
            message if message.seq().is_some() => self.on_event(text, log),
            message => panic!("not expected: {message:?}"),
        }
    }

    /// Removes and returns the oldest open request about `name`, which has to be a subscribe.
    fn take_subscribe(&mut self, name: &str) -> (Subscribe, usize) {
        match self.open_requests.get_mut(name).and_then(VecDeque::pop_front) {
            Some(OpenRequest::Subscribe(request, step)) => (request, step),
            other => panic!("an answer about {name} to {other:?}"),
        }
    }

    fn on_confirmed(&mut self, confirmed: &SubscriptionConfirmed, log: &Log) {
        let (name, call_id) = (&confirmed.identifier, confirmed.call_id);
        let cursor_text = confirmed.cursor.clone().expect("a confirmation carries a cursor");
        let begin = log
            .seq_of(call_id, &cursor_text)
            .unwrap_or_else(|| panic!("a cursor that is not in the log: {confirmed:?}"));
        if confirmed.message == "subscribed after a merge" {
            let owed =
                self.owed_confirmations.iter().position(|owed| owed == &(name.clone(), call_id)).expect("a merge");
            self.owed_confirmations.swap_remove(owed);
        } else {
            let is_asked =
                matches!(self.open_requests.get(name).and_then(VecDeque::front), Some(OpenRequest::Subscribe(..)));
            let (request, has_waited) = match self.pending.remove(name) {
                Some(pending) if !is_asked => (pending, true),
                _ => (self.take_subscribe(name).0, false),
            };
            let is_running = confirmed.message.starts_with("already");
            match request.from {
                _ if is_running => {}
                SubscribeFrom::Start => assert_eq!(begin, 0, "{confirmed:?}"),
                SubscribeFrom::After(after) => assert_eq!(begin, after, "{confirmed:?}"),
                // The call was created after the request, so all its events are newer than the request.
                SubscribeFrom::Live if has_waited => assert_eq!(begin, 0, "{confirmed:?}"),
                SubscribeFrom::Live => assert!(begin <= confirmed.seq, "{confirmed:?}"),
                SubscribeFrom::Behind(cursor) => assert_eq!(cursor, cursor_text, "{confirmed:?}"),
            }
            self.release(name, call_id);
        }
        let confirmed_at = (confirmed.seq, confirmed.status.is_ended());
        let new = ClientSubscription {
            names: vec![name.clone()],
            call_id,
            cursor: begin,
            cursor_text,
            confirmed: confirmed_at,
            may_restart: false,
            may_be_gone: false,
        };
        let running = self.subscriptions.iter_mut().find(|s| s.call_id == call_id);
        let Some(subscription) = running else {
            assert!(
                !confirmed.message.starts_with("already"),
                "a running subscription that the client does not have: {confirmed:?}"
            );
            return self.subscriptions.push(new);
        };
        match confirmed.message.as_str() {
            "subscribed" => {
                assert!(
                    subscription.may_be_over(log) || subscription.may_be_gone,
                    "one more subscription to a call: {subscription:?}"
                );
                *subscription = new;
            }
            "subscribed after a merge" => {
                subscription.may_restart = subscription.may_be_over(log) || subscription.may_be_gone;
            }
            _ => {}
        }
        if !subscription.names.contains(name) {
            subscription.names.push(name.clone());
        }
    }

    /// Takes a name away from the subscriptions to other calls, because a name belongs to one subscription.
    fn release(&mut self, name: &String, call_id: CallId) {
        self.subscriptions.iter_mut().filter(|s| s.call_id != call_id).for_each(|s| s.names.retain(|own| own != name));
        self.subscriptions.retain(|s| !s.names.is_empty());
    }

    fn on_unsubscribed(&mut self, unsubscribed: &IdentifierMessage, log: &Log) {
        let IdentifierMessage { identifier, message, call_id } = unsubscribed;
        let asked = self.open_requests.get_mut(identifier).and_then(VecDeque::pop_front);
        assert!(matches!(asked, Some(OpenRequest::Unsubscribe)), "unsubscribed from {identifier}, asked {asked:?}");
        let was_pending = self.pending.remove(identifier).is_some();
        let is_named = |s: &ClientSubscription| s.names.contains(identifier);
        // When the server read the name, it may have led to a record that is absorbed by now.
        let is_meant = |s: &ClientSubscription| is_named(s) || log.named(identifier) == log.survivor(s.call_id);
        if was_pending && call_id.is_none() {
            assert_eq!(message, "unsubscribed", "{identifier} was waited for");
        } else if message == "unsubscribed" {
            let found: Vec<usize> =
                (0..self.subscriptions.len()).filter(|at| is_meant(&self.subscriptions[*at])).collect();
            match found[..] {
                [one] => drop(self.subscriptions.swap_remove(one)),
                [] => {
                    // The name led to a record that was merged or deleted.
                    let mut lost = self
                        .subscriptions
                        .iter_mut()
                        .filter(|s| log.records[&s.call_id].end_reason.is_some())
                        .peekable();
                    assert!(lost.peek().is_some(), "{identifier} was not followed");
                    lost.for_each(|s| s.may_be_gone = true);
                }
                _ => found.iter().for_each(|at| self.subscriptions[*at].may_be_gone = true),
            }
        } else {
            let lost = self
                .subscriptions
                .iter()
                .find(|s| is_named(s) && s.is_running(log) && !s.may_be_gone && !s.may_be_over(log));
            assert!(lost.is_none(), "{identifier} was followed: {lost:?}");
            self.subscriptions.retain(|s| !(is_named(s) && s.may_be_over(log)));
        }
    }

    fn on_merged(&mut self, merged: &CallMerged, log: &Log) {
        let end_reason = log.records[&merged.from_call_id].end_reason;
        assert!(matches!(end_reason, Some(EndReason::Merged(_))), "{merged:?} of a record that is {end_reason:?}");
        let at = self.subscriptions.iter().position(|s| s.call_id == merged.from_call_id);
        let at = at.unwrap_or_else(|| panic!("{merged:?} of a record that is not followed"));
        let subscription = &mut self.subscriptions[at];
        let name = subscription.names.iter().position(|name| *name == merged.identifier);
        subscription
            .names
            .swap_remove(name.unwrap_or_else(|| panic!("{merged:?} under a name it was not followed by")));
        if subscription.names.is_empty() {
            self.subscriptions.swap_remove(at);
        }
        self.owed_confirmations.push((merged.identifier.clone(), merged.call_id));
    }

    fn on_error(&mut self, error: &ErrorMessage, log: &Log) {
        let name = error.identifier.clone().unwrap_or_else(|| panic!("{error:?}"));
        if error.message == "the call was deleted" {
            let is_gone =
                |s: &ClientSubscription| log.records[&s.call_id].end_reason.is_some() && s.names.contains(&name);
            let at = self.subscriptions.iter().position(is_gone).unwrap_or_else(|| panic!("{error:?} of no such call"));
            self.subscriptions[at].names.retain(|own| *own != name);
            if self.subscriptions[at].names.is_empty() {
                self.subscriptions.swap_remove(at);
            }
            return;
        }
        let is_asked =
            matches!(self.open_requests.get(&name).and_then(VecDeque::front), Some(OpenRequest::Subscribe(..)));
        let (request, step) = match self.pending.remove(&name) {
            Some(pending) if !is_asked => (pending, 0),
            _ => self.take_subscribe(&name),
        };
        let has_lost_records = log.ended_records > self.ended_records_at_start;
        let is_justified = match error.code.known() {
            Some(ErrorCode::CallNotFound) => !log.was_known(&name, step),
            Some(ErrorCode::CursorInvalid) => {
                self.refused_names.push(name);
                has_lost_records || !log.may_fit(&request)
            }
            Some(ErrorCode::SubscriptionFailed) => has_lost_records,
            _ => false,
        };
        assert!(is_justified, "{error:?} to {request:?}");
    }

    fn on_event(&mut self, text: &str, log: &Log) {
        let (call_id, seq) = log.owner(text).unwrap_or_else(|| panic!("this was never committed: {text}"));
        let subscription = self.subscriptions.iter_mut().find(|s| s.call_id == call_id);
        let subscription = subscription.unwrap_or_else(|| panic!("an event of a call that is not followed: {text}"));
        if subscription.may_restart && seq == 1 {
            subscription.cursor = 0;
        }
        assert_eq!(seq, subscription.cursor + 1, "out of order: {text}\n{subscription:?}");
        subscription.cursor = seq;
        Cursor::of_message(text).expect("an event carries a cursor").clone_into(&mut subscription.cursor_text);
        subscription.may_restart = false;
    }

    /// Describes what the client still has to get; `None` if it has everything.
    pub fn missing(&self, log: &Log) -> Option<String> {
        if let Some(subscription) = self.subscriptions.iter().find(|s| !s.is_complete(log)) {
            let record = &log.records[&subscription.call_id];
            return Some(format!("{subscription:?} of a log that ends at {} {:?}", record.head(), record.end_reason));
        }
        let unanswered: Vec<_> = self.open_requests.iter().filter(|(_, asked)| !asked.is_empty()).collect();
        let named: Vec<_> = self.pending.keys().filter(|name| log.named(name).is_some()).collect();
        let is_silent =
            unanswered.is_empty() && named.is_empty() && self.owed_confirmations.is_empty() && self.outbox.is_empty();
        (!is_silent).then(|| {
            format!("answers to {unanswered:?}, waits for {named:?}, confirmations {:?}", self.owed_confirmations)
        })
    }

    /// The names that the client waits for.
    pub fn awaited_names(&self) -> impl Iterator<Item = &String> {
        self.pending.keys()
    }
}
