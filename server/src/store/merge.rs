//! Two records that turn out to be one call become one log.

use callscope_common::protocol::ServerMessage;
use callscope_common::{CallData, CallId, CallStatus, Identifier};

use uuid::Uuid;

use super::ledger::{Absorbed, Call, Ledger, Merge, Stop, Touched, Wake};

impl Ledger {
    /// Of several records, which one survives: the one with more events, of equals the older.
    pub(super) fn survivor(&self, records: &[CallId]) -> Option<CallId> {
        let rank = |call: &&Call| (-call.head, call.created_at, call.call_id);
        records.iter().filter_map(|id| self.calls.get(id)).min_by_key(rank).map(|call| call.call_id)
    }

    /// Appends the absorbed record's events to the survivor's log as new events and moves its names.
    ///
    /// Status and result of the whole are the better of the two: completed, failed, in progress, initiated. Where the
    /// appended events end on another status, the right one is said once more, so that whoever reads the log to its end
    /// ends on it.
    pub(super) fn absorb(&mut self, into: CallId, absorbed: Absorbed) -> Result<(), Stop> {
        let Some(other) = self.calls.remove(&absorbed.call_id) else { return Ok(()) };
        self.names.retain(|_, named| *named != absorbed.call_id);
        // Whoever named the record by its own id means the survivor from now on.
        if let Ok(signpost) = Identifier::parse(&absorbed.call_id.to_string()) {
            self.names.insert(signpost, into);
        }
        for name in &absorbed.names {
            self.names.insert(name.clone(), into);
            // Whoever waits for a name may find its call only now.
            self.writes.wakes.push(Wake::Named { identifier: name.clone() });
        }
        self.writes.wakes.push(Wake::Merged { from: absorbed.call_id, into });
        let mine = self.call(into);
        let (status, result) = better(mine, &other);
        let before = mine.status;
        mine.conversation_id = mine.conversation_id.take().or(other.conversation_id);
        mine.subject = mine.subject.take().or(other.subject);
        mine.agent_id = mine.agent_id.take().or(other.agent_id);
        mine.metadata = mine.metadata.take().or(other.metadata);
        mine.end_time = mine.end_time.or(other.end_time);
        mine.live |= other.live;
        mine.touched = Touched::All;
        let moves_audio = other.has_audio && !mine.has_audio;
        mine.has_audio |= other.has_audio;
        let transcript = absorbed.transcript.as_deref();
        let last = self.append_all(into, before, absorbed.events, transcript)?;
        self.call(into).status = status;
        let result = result.and_then(|json| serde_json::from_str::<CallData>(&json).ok());
        if status.is_ended() && last != status {
            self.push_status(into, status, None);
            let data = result.unwrap_or_else(|| CallData::new(status));
            self.push_completed(into, data, transcript, None);
        }
        self.writes.merges.push(Merge { from: absorbed.call_id, into, moves_audio });
        Ok(())
    }

    /// Appends the messages as new events; returns the status that the log ends on.
    fn append_all(
        &mut self,
        into: CallId,
        mut last: CallStatus,
        events: Vec<(ServerMessage, Option<Uuid>)>,
        transcript: Option<&str>,
    ) -> Result<CallStatus, Stop> {
        for (message, delivery_id) in events {
            match message {
                ServerMessage::Transcription(turn) => {
                    self.push_turn(into, (turn.speaker_type, &turn.message_text, turn.timestamp), delivery_id)?;
                }
                ServerMessage::CallStatus(changed) => {
                    last = changed.status;
                    let end_time = self.call(into).end_time;
                    self.call(into).end_time = changed.call_end_time.or(end_time);
                    self.push_status(into, changed.status, delivery_id);
                }
                ServerMessage::CallCompleted(completed) => {
                    last = completed.call_data.status;
                    self.push_completed(into, completed.call_data, transcript, delivery_id);
                }
                _ => {}
            }
        }
        Ok(last)
    }
}

/// The status of the whole, and the result that goes with it.
fn better(mine: &Call, other: &Call) -> (CallStatus, Option<std::sync::Arc<str>>) {
    let rank = |call: &Call| match call.status {
        CallStatus::Initiated => 0,
        CallStatus::InProgress => 1,
        CallStatus::Failed => 2,
        CallStatus::Completed => 3,
    };
    let better = if rank(other) > rank(mine) { other } else { mine };
    (better.status, better.result.clone())
}
