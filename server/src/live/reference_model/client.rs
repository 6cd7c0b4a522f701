//! A subscriber that compares every message with the log.

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

/// A request that is not answered yet, and the step it was made in.
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
    /// The last cursor that a message carried: what a client goes on with.
    place: String,
    /// The head when it was confirmed, and whether the call was over then.
    confirmed: (Seq, bool),
    /// A merge may have restarted it, if it was over before.
    may_restart: bool,
    /// Two subscriptions had the name that was unsubscribed, and either may have ended.
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
    /// Confirmations that a merge still owes.
    owed_confirmations: Vec<(String, CallId)>,
    /// Names whose cursor was refused: to be subscribed from the start.
    refused_names: Vec<String>,
    ended_records: usize,
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

    /// Whether it may be over: it saw the call's end.
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
            ended_records: log.ended_records,
        }
    }

    /// Asks to follow a call, unless an answer about that name is still due: then the answers could not be told apart.
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

    /// What a client that lost its connection asks for on the next one.
    pub fn resumptions(&self) -> Vec<serde_json::Value> {
        let follow = |follow: &ClientSubscription| {
            let name = follow.names.first()?;
            Some(serde_json::json!({ "subscribe": name, "after": follow.place }))
        };
        let waits = self.pending.keys().map(|name| serde_json::json!({ "subscribe": name, "wait": true }));
        self.subscriptions.iter().filter_map(follow).chain(waits).collect()
    }

    /// A text frame with an empty mask.
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
            // Repeated if the call came and went meanwhile.
            ServerMessage::SubscriptionPending(IdentifierMessage { identifier, .. })
                if self.pending.contains_key(&identifier) => {}
            ServerMessage::SubscriptionPending(IdentifierMessage { identifier, .. }) => {
                let (request, step) = self.answered(&identifier);
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

    /// Takes the oldest request to follow `name`, which is answered now.
    fn answered(&mut self, name: &str) -> (Subscribe, usize) {
        match self.open_requests.get_mut(name).and_then(VecDeque::pop_front) {
            Some(OpenRequest::Subscribe(request, step)) => (request, step),
            other => panic!("an answer about {name} to {other:?}"),
        }
    }

    fn on_confirmed(&mut self, confirmed: &SubscriptionConfirmed, log: &Log) {
        let (name, call_id) = (&confirmed.identifier, confirmed.call_id);
        let place = confirmed.cursor.clone().expect("a confirmation carries a cursor");
        let begin =
            log.place(call_id, &place).unwrap_or_else(|| panic!("a place that is not in the log: {confirmed:?}"));
        if confirmed.message == "subscribed after a merge" {
            let owed =
                self.owed_confirmations.iter().position(|owed| owed == &(name.clone(), call_id)).expect("a merge");
            self.owed_confirmations.swap_remove(owed);
        } else {
            let is_asked =
                matches!(self.open_requests.get(name).and_then(VecDeque::front), Some(OpenRequest::Subscribe(..)));
            let (request, has_waited) = match self.pending.remove(name) {
                Some(pending) if !is_asked => (pending, true),
                _ => (self.answered(name).0, false),
            };
            let is_running = confirmed.message.starts_with("already");
            match request.from {
                _ if is_running => {}
                SubscribeFrom::Start => assert_eq!(begin, 0, "{confirmed:?}"),
                SubscribeFrom::After(after) => assert_eq!(begin, after, "{confirmed:?}"),
                // Everything that came after the request: the call itself did.
                SubscribeFrom::Live if has_waited => assert_eq!(begin, 0, "{confirmed:?}"),
                SubscribeFrom::Live => assert!(begin <= confirmed.seq, "{confirmed:?}"),
                SubscribeFrom::Behind(cursor) => assert_eq!(cursor, place, "{confirmed:?}"),
            }
            self.release(name, call_id);
        }
        let confirmed_at = (confirmed.seq, confirmed.status.is_ended());
        let fresh = ClientSubscription {
            names: vec![name.clone()],
            call_id,
            cursor: begin,
            place,
            confirmed: confirmed_at,
            may_restart: false,
            may_be_gone: false,
        };
        let stands = self.subscriptions.iter_mut().find(|follow| follow.call_id == call_id);
        let Some(follow) = stands else {
            assert!(
                !confirmed.message.starts_with("already"),
                "a running subscription that the client does not have: {confirmed:?}"
            );
            return self.subscriptions.push(fresh);
        };
        match confirmed.message.as_str() {
            "subscribed" => {
                assert!(follow.may_be_over(log) || follow.may_be_gone, "one more subscription to a call: {follow:?}");
                *follow = fresh;
            }
            "subscribed after a merge" => {
                follow.may_restart = follow.may_be_over(log) || follow.may_be_gone;
            }
            _ => {}
        }
        if !follow.names.contains(name) {
            follow.names.push(name.clone());
        }
    }

    /// A name belongs to one subscription. If it leads to another call by now, the subscription that had it loses it.
    fn release(&mut self, name: &String, call_id: CallId) {
        self.subscriptions
            .iter_mut()
            .filter(|follow| follow.call_id != call_id)
            .for_each(|f| f.names.retain(|own| own != name));
        self.subscriptions.retain(|follow| !follow.names.is_empty());
    }

    fn on_unsubscribed(&mut self, unsubscribed: &IdentifierMessage, log: &Log) {
        let IdentifierMessage { identifier, message, call_id } = unsubscribed;
        let asked = self.open_requests.get_mut(identifier).and_then(VecDeque::pop_front);
        assert!(matches!(asked, Some(OpenRequest::Unsubscribe)), "unsubscribed from {identifier}, asked {asked:?}");
        let was_pending = self.pending.remove(identifier).is_some();
        let is_named = |follow: &ClientSubscription| follow.names.contains(identifier);
        // When it was read, the name may have meant a record that is a part of another one by now.
        let is_meant =
            |follow: &ClientSubscription| is_named(follow) || log.named(identifier) == log.survivor(follow.call_id);
        if was_pending && call_id.is_none() {
            assert_eq!(message, "unsubscribed", "{identifier} was waited for");
        } else if message == "unsubscribed" {
            let found: Vec<usize> =
                (0..self.subscriptions.len()).filter(|at| is_meant(&self.subscriptions[*at])).collect();
            match found[..] {
                [one] => drop(self.subscriptions.swap_remove(one)),
                [] => {
                    // The name meant a record that is gone.
                    let mut lost = self
                        .subscriptions
                        .iter_mut()
                        .filter(|f| log.records[&f.call_id].end_reason.is_some())
                        .peekable();
                    assert!(lost.peek().is_some(), "{identifier} was not followed");
                    lost.for_each(|follow| follow.may_be_gone = true);
                }
                _ => found.iter().for_each(|at| self.subscriptions[*at].may_be_gone = true),
            }
        } else {
            let lost = self
                .subscriptions
                .iter()
                .find(|f| is_named(f) && f.is_running(log) && !f.may_be_gone && !f.may_be_over(log));
            assert!(lost.is_none(), "{identifier} was followed: {lost:?}");
            self.subscriptions.retain(|follow| !(is_named(follow) && follow.may_be_over(log)));
        }
    }

    fn on_merged(&mut self, merged: &CallMerged, log: &Log) {
        let end_reason = log.records[&merged.from_call_id].end_reason;
        assert!(matches!(end_reason, Some(EndReason::Merged(_))), "{merged:?} of a record that is {end_reason:?}");
        let at = self.subscriptions.iter().position(|follow| follow.call_id == merged.from_call_id);
        let at = at.unwrap_or_else(|| panic!("{merged:?} of a record that is not followed"));
        let follow = &mut self.subscriptions[at];
        let name = follow.names.iter().position(|name| *name == merged.identifier);
        follow.names.swap_remove(name.unwrap_or_else(|| panic!("{merged:?} under a name it was not followed by")));
        if follow.names.is_empty() {
            self.subscriptions.swap_remove(at);
        }
        self.owed_confirmations.push((merged.identifier.clone(), merged.call_id));
    }

    fn on_error(&mut self, error: &ErrorMessage, log: &Log) {
        let name = error.identifier.clone().unwrap_or_else(|| panic!("{error:?}"));
        if error.message == "the call was deleted" {
            let is_gone =
                |f: &ClientSubscription| log.records[&f.call_id].end_reason.is_some() && f.names.contains(&name);
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
            _ => self.answered(&name),
        };
        let has_lost_records = log.ended_records > self.ended_records;
        let is_justified = match error.code {
            ErrorCode::CallNotFound => !log.was_known(&name, step),
            ErrorCode::CursorInvalid => {
                self.refused_names.push(name);
                has_lost_records || !log.may_fit(&request)
            }
            ErrorCode::SubscriptionFailed => has_lost_records,
            _ => false,
        };
        assert!(is_justified, "{error:?} to {request:?}");
    }

    fn on_event(&mut self, text: &str, log: &Log) {
        let (call_id, seq) = log.owner(text).unwrap_or_else(|| panic!("this was never committed: {text}"));
        let follow = self.subscriptions.iter_mut().find(|follow| follow.call_id == call_id);
        let follow = follow.unwrap_or_else(|| panic!("an event of a call that is not followed: {text}"));
        if follow.may_restart && seq == 1 {
            follow.cursor = 0;
        }
        assert_eq!(seq, follow.cursor + 1, "out of order: {text}\n{follow:?}");
        follow.cursor = seq;
        Cursor::of_message(text).expect("an event carries a cursor").clone_into(&mut follow.place);
        follow.may_restart = false;
    }

    /// What is still missing; `None` if nothing more is to come.
    pub fn misses(&self, log: &Log) -> Option<String> {
        if let Some(follow) = self.subscriptions.iter().find(|follow| !follow.is_complete(log)) {
            let record = &log.records[&follow.call_id];
            return Some(format!("{follow:?} of a log that ends at {} {:?}", record.head(), record.end_reason));
        }
        let unanswered: Vec<_> = self.open_requests.iter().filter(|(_, asked)| !asked.is_empty()).collect();
        let named: Vec<_> = self.pending.keys().filter(|name| log.named(name).is_some()).collect();
        let is_silent =
            unanswered.is_empty() && named.is_empty() && self.owed_confirmations.is_empty() && self.outbox.is_empty();
        (!is_silent).then(|| {
            format!("answers to {unanswered:?}, waits for {named:?}, confirmations {:?}", self.owed_confirmations)
        })
    }

    /// Names that are waited for.
    pub fn awaited_names(&self) -> impl Iterator<Item = &String> {
        self.pending.keys()
    }
}
