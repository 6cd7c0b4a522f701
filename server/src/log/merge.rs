//! Merges two records that turn out to be one call.

use callscope_common::protocol::ServerMessage;
use callscope_common::{CallData, CallId, CallStatus, Identifier};
use uuid::Uuid;

use super::{ApplyError, Call, Ledger, Merge, Notification, RowChange, Transcript};

/// A record to be absorbed, with what was loaded of it.
#[derive(Debug)]
pub(crate) struct AbsorbedCall {
    pub call_id: CallId,
    /// The messages of its log, and the delivery that caused each.
    pub events: Vec<(ServerMessage, Option<Uuid>)>,
    pub names: Vec<Identifier>,
    /// The provider's transcripts of the record that remains and of the absorbed one.
    pub transcripts: (Option<String>, Option<String>),
}

impl Ledger {
    /// The record that absorbs the others: the one with the most events, and the oldest of equals.
    pub fn survivor(&self, records: &[CallId]) -> Option<CallId> {
        let rank = |call: &&Call| (-call.head, call.created_at, call.call_id);
        records.iter().filter_map(|id| self.calls.get(id)).min_by_key(rank).map(|call| call.call_id)
    }

    /// Appends the absorbed record's events to the survivor's log as new events, and moves its names. Returns the
    /// provider's transcript of the merged call.
    ///
    /// The merged call has the result and the transcript of one of the two records: see [`keeps_its_result`]. If the
    /// appended events end with another status or result, the valid ones are appended once more, so that the log ends
    /// with them.
    ///
    /// # Errors
    /// Returns [`ApplyError::OutOfTurnIds`] if fewer ids were drawn than turns are appended.
    pub fn absorb(&mut self, into: CallId, absorbed: AbsorbedCall) -> Result<Option<String>, ApplyError> {
        let (mine_transcript, other_transcript) = absorbed.transcripts;
        let Some(other) = self.calls.remove(&absorbed.call_id) else { return Ok(mine_transcript) };
        self.move_names(absorbed.call_id, into, &absorbed.names);
        self.writes.notifications.push(Notification::Merged { from: absorbed.call_id, into });
        let mine = self.call(into);
        let before = mine.status;
        let keeps = keeps_its_result(mine, &other);
        let valid = if keeps { &*mine } else { &other };
        let (status, result, end_time) = (status_of_both(valid, mine, &other), valid.result.clone(), valid.end_time);
        mine.conversation_id = mine.conversation_id.take().or(other.conversation_id);
        mine.subject = mine.subject.take().or(other.subject);
        mine.agent_id = mine.agent_id.take().or(other.agent_id);
        mine.metadata = mine.metadata.take().or(other.metadata);
        mine.live |= other.live;
        mine.row_change = RowChange::All;
        let moves_audio = other.has_audio && !mine.has_audio;
        mine.has_audio |= other.has_audio;
        let transcript = if keeps { mine_transcript } else { other_transcript };
        let (last, has_completed) = self.append_all(into, before, absorbed.events, &transcript)?;
        let mine = self.call(into);
        (mine.status, mine.end_time) = (status, end_time);
        if status.is_ended() && (last != status || (keeps && has_completed)) {
            if last != status {
                self.append_status(into, status, None);
            }
            let data = result.and_then(|json| serde_json::from_str::<CallData>(&json).ok());
            let data = data.unwrap_or_else(|| CallData::new(status));
            self.append_completed(into, data, Transcript::Replace(transcript.clone()), None);
        }
        self.writes.merges.push(Merge { from: absorbed.call_id, into, moves_audio });
        Ok(transcript)
    }

    fn move_names(&mut self, from: CallId, into: CallId, names: &[Identifier]) {
        self.names.retain(|_, named| *named != from);
        // The id of the absorbed record names the survivor from now on.
        if let Ok(signpost) = Identifier::parse(&from.to_string()) {
            self.names.insert(signpost, into);
        }
        for name in names {
            self.names.insert(name.clone(), into);
            // A connection that waits for this name may find its call only now.
            self.writes.notifications.push(Notification::IdentifierAssigned { identifier: name.clone() });
        }
    }

    /// Appends the messages as new events. Returns the status that the log ends with, and whether a `call_completed`
    /// was among them.
    fn append_all(
        &mut self,
        into: CallId,
        mut last: CallStatus,
        events: Vec<(ServerMessage, Option<Uuid>)>,
        transcript: &Option<String>,
    ) -> Result<(CallStatus, bool), ApplyError> {
        let mut has_completed = false;
        for (message, delivery_id) in events {
            match message {
                ServerMessage::Transcription(turn) => {
                    self.append_turn(into, (turn.speaker_type, &turn.message_text, turn.timestamp), delivery_id)?;
                }
                ServerMessage::CallStatus(changed) => {
                    last = changed.status;
                    let end_time = self.call(into).end_time;
                    self.call(into).end_time = changed.call_end_time.or(end_time);
                    self.append_status(into, changed.status, delivery_id);
                }
                ServerMessage::CallCompleted(completed) => {
                    (last, has_completed) = (completed.call_data.status, true);
                    self.append_completed(
                        into,
                        completed.call_data,
                        Transcript::Replace(transcript.clone()),
                        delivery_id,
                    );
                }
                _ => {}
            }
        }
        Ok((last, has_completed))
    }
}

/// Whether the survivor keeps its own result: it does unless only the absorbed record ended, or that one ended later. A
/// failure never replaces a completion.
fn keeps_its_result(mine: &Call, other: &Call) -> bool {
    match (mine.status.is_ended(), other.status.is_ended()) {
        (_, false) => true,
        (false, true) => false,
        (true, true) => {
            let replaces_completion = mine.status == CallStatus::Completed && other.status == CallStatus::Failed;
            other.end_time <= mine.end_time || replaces_completion
        }
    }
}

/// The status of the merged call: that of the record whose result is valid, or in progress if either record is.
fn status_of_both(valid: &Call, mine: &Call, other: &Call) -> CallStatus {
    let has_begun = [mine.status, other.status].contains(&CallStatus::InProgress);
    match valid.status {
        CallStatus::Initiated if has_begun => CallStatus::InProgress,
        status => status,
    }
}
