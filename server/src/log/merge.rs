//! Merges two call records that turn out to be one call.

use callscope_common::protocol::ServerMessage;
use callscope_common::{CallData, CallId, CallStatus, Identifier};
use uuid::Uuid;

use super::{ApplyError, Call, Ledger, Merge, Notification, RowChange, Transcript};

/// A record to be absorbed, with its stored log, names and transcripts.
#[derive(Debug)]
pub(crate) struct AbsorbedCall {
    pub call_id: CallId,
    /// The messages of its log, each with the delivery that caused it.
    pub events: Vec<(ServerMessage, Option<Uuid>)>,
    pub names: Vec<Identifier>,
    /// The provider's transcripts of the surviving record and of the absorbed one.
    pub transcripts: (Option<String>, Option<String>),
}

impl Ledger {
    /// The record that absorbs the others: the one with the most events. Of several such, it is the oldest.
    pub fn survivor(&self, records: &[CallId]) -> Option<CallId> {
        let rank = |call: &&Call| (-call.head, call.created_at, call.call_id);
        records.iter().filter_map(|id| self.calls.get(id)).min_by_key(rank).map(|call| call.call_id)
    }

    /// Appends the absorbed record's events to the survivor's log as new events, and moves its names. Returns the
    /// provider's transcript of the merged call.
    ///
    /// The merged call has the result and the transcript of one of the two records: see [`keeps_its_result`]. If the
    /// appended events end with another status or result, that record's status and result are appended once more, so
    /// that the log ends with them.
    ///
    /// # Errors
    /// Returns [`ApplyError::OutOfTranscriptionIds`] if more turns are appended than there are `transcription_ids`.
    pub fn absorb(&mut self, into: CallId, absorbed: AbsorbedCall) -> Result<Option<String>, ApplyError> {
        let (survivor_transcript, other_transcript) = absorbed.transcripts;
        let Some(other) = self.calls.remove(&absorbed.call_id) else { return Ok(survivor_transcript) };
        self.move_names(absorbed.call_id, into, &absorbed.names);
        self.writes.notifications.push(Notification::Merged { from: absorbed.call_id, into });
        let survivor = self.call(into);
        let status_before = survivor.status;
        let keeps_result = keeps_its_result(survivor, &other);
        let source = if keeps_result { &*survivor } else { &other };
        let (status, result, end_time) =
            (status_of_both(source, survivor, &other), source.result.clone(), source.end_time);
        survivor.conversation_id = survivor.conversation_id.take().or(other.conversation_id);
        survivor.subject = survivor.subject.take().or(other.subject);
        survivor.agent_id = survivor.agent_id.take().or(other.agent_id);
        survivor.metadata = survivor.metadata.take().or(other.metadata);
        survivor.live |= other.live;
        survivor.row_change = RowChange::All;
        let moves_audio = other.has_audio && !survivor.has_audio;
        survivor.has_audio |= other.has_audio;
        let transcript = if keeps_result { survivor_transcript } else { other_transcript };
        let (last_status, has_completed) = self.append_all(into, status_before, absorbed.events, &transcript)?;
        let survivor = self.call(into);
        (survivor.status, survivor.end_time) = (status, end_time);
        if status.is_ended() && (last_status != status || (keeps_result && has_completed)) {
            if last_status != status {
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
        // The id of the absorbed record leads to the survivor from now on.
        if let Ok(signpost) = Identifier::parse(&from.to_string()) {
            self.names.insert(signpost, into);
        }
        for name in names {
            self.names.insert(name.clone(), into);
            // A connection may still wait for this name, if the notification of its assignment was lost.
            self.writes.notifications.push(Notification::IdentifierAssigned { identifier: name.clone() });
        }
    }

    /// Appends the messages as new events. Returns the status that the log ends with, and whether a `call_completed`
    /// was among them.
    fn append_all(
        &mut self,
        into: CallId,
        mut last_status: CallStatus,
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
                    last_status = changed.status;
                    let end_time = self.call(into).end_time;
                    self.call(into).end_time = changed.call_end_time.or(end_time);
                    self.append_status(into, changed.status, delivery_id);
                }
                ServerMessage::CallCompleted(completed) => {
                    (last_status, has_completed) = (completed.call_data.status, true);
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
        Ok((last_status, has_completed))
    }
}

/// Whether the survivor keeps its own result: it does unless only the `other` record has ended, or ended later. A
/// failure never replaces a completion.
fn keeps_its_result(survivor: &Call, other: &Call) -> bool {
    match (survivor.status.is_ended(), other.status.is_ended()) {
        (_, false) => true,
        (false, true) => false,
        (true, true) => {
            let replaces_completion = survivor.status == CallStatus::Completed && other.status == CallStatus::Failed;
            other.end_time <= survivor.end_time || replaces_completion
        }
    }
}

/// The status of the merged call: that of the `source` of its result, or in progress instead of initiated if either
/// record is in progress.
fn status_of_both(source: &Call, survivor: &Call, other: &Call) -> CallStatus {
    let has_begun = [survivor.status, other.status].contains(&CallStatus::InProgress);
    match source.status {
        CallStatus::Initiated if has_begun => CallStatus::InProgress,
        status => status,
    }
}
