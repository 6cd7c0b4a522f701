//! The effect of a webhook on the log.

use std::sync::Arc;

use callscope_common::api::Verdict;
use callscope_common::protocol::{ServerMessage, TranscriptionPartial};
use callscope_common::{CallData, CallId, CallStatus, Identifier, Timestamp};

use super::{
    Answer, ApplyError, CallResult, CallState, Change, DedupHash, DedupKey, Delivery, EarlierDelivery, Ending, Ledger,
    Names, NewAudio, NewDelivery, Notification, Receipt, RowChange, Transcript, Turn, UnknownCalls, new_id, turn_hash,
    turn_hash_without_speaker,
};

/// Why a failure that follows a completion has no effect.
const LATE_FAILURE: &str = "a failure after the call completed changes nothing";

/// The verdict on a delivery, and its answer.
struct Decision {
    verdict: Verdict,
    reason: Option<String>,
    call_id: Option<CallId>,
    /// The hash to store if it depends on the call. With `None`, the delivery's own hash is stored.
    dedup_hash: Option<DedupHash>,
    answer: Answer,
}

impl Ledger {
    pub(super) fn deliver(&mut self, delivery: &Delivery) -> Result<Answer, ApplyError> {
        if let Some(answer) = self.committed_answers.get(&delivery.delivery_id) {
            return Ok(answer.clone());
        }
        if let Some(earlier) = delivery.idempotency_key.and_then(|key| self.earlier_deliveries.get(&key)).cloned() {
            return Ok(self.record_repeat(delivery, earlier, true));
        }
        if let Some(earlier) = delivery.dedup_key.hashes().find_map(|hash| self.earlier_deliveries.get(&hash)).cloned()
        {
            return Ok(self.record_repeat(delivery, earlier, false));
        }
        if let (Change::Turn(turn), DedupKey::Turn(hash)) = (&delivery.change, &delivery.dedup_key)
            && let Some(call_id) = self.find_call(&turn.names)?
            && let Some(earlier) = self.earlier_turn(call_id, turn, hash, Some(&delivery.body_hash))
        {
            return Ok(self.record_repeat(delivery, earlier, false));
        }
        let decision = match &delivery.change {
            Change::Turn(turn) => self.apply_turn(delivery, turn)?,
            Change::Result(result) => self.apply_result(delivery, result)?,
            Change::Audio { names, content_type, .. } => self.apply_audio(delivery, names, content_type)?,
            Change::Ignored { names, reason } => self.apply_ignored(names, reason),
            Change::Rejected { status, message, details } => {
                let receipt = Receipt::Unreadable { status: *status, message, details: details.as_deref() };
                self.decision_for(&receipt, None, None)
            }
        };
        Ok(self.store_delivery(delivery, decision))
    }

    /// Records a delivery that is not a repeat: its row, and its hashes, for repeats in the same batch.
    fn store_delivery(&mut self, delivery: &Delivery, decision: Decision) -> Answer {
        let Decision { verdict, reason, call_id, dedup_hash, answer } = decision;
        // A refused delivery stores no hash, so that the same delivery can be accepted later.
        let is_refused = verdict == Verdict::Rejected;
        let dedup_hash = dedup_hash.or_else(|| delivery.dedup_key.hashes().next()).filter(|_| !is_refused);
        let idempotency_key = delivery.idempotency_key.filter(|_| !is_refused);
        let delivery_id = delivery.delivery_id;
        for hash in dedup_hash.into_iter().chain(idempotency_key) {
            let (body_hash, answer) = (delivery.body_hash, answer.clone());
            self.earlier_deliveries.insert(hash, EarlierDelivery { delivery_id, body_hash, call_id, answer });
        }
        self.writes.deliveries.push(NewDelivery {
            delivery_id,
            verdict,
            reason,
            dedup_hash,
            idempotency_key,
            call_id,
            duplicate_of: None,
            keep_body: true,
            answer: answer.clone(),
        });
        answer
    }

    /// Returns the delivery of the call's turn with this `turn_id` and speaker. An earlier version stored hashes
    /// without the speaker. Such a turn also needs the same body; a `body_hash` of `None` leaves this check out.
    fn earlier_turn(
        &self,
        call_id: CallId,
        turn: &Turn,
        hash: &DedupHash,
        body_hash: Option<&DedupHash>,
    ) -> Option<EarlierDelivery> {
        if let Some(earlier) = self.earlier_deliveries.get(&DedupKey::turn_hash_in_call(call_id, hash)) {
            return Some(earlier.clone());
        }
        if self.calls.get(&call_id)?.created_at >= self.turn_ids_without_speaker_before {
            return None;
        }
        let without_speaker = turn_hash_without_speaker(turn.turn_id.as_deref()?);
        let earlier = self.earlier_deliveries.get(&DedupKey::turn_hash_in_call(call_id, &without_speaker))?;
        body_hash.is_none_or(|hash| earlier.body_hash == *hash).then(|| earlier.clone())
    }

    /// Answers a repeat like the earlier delivery, and stores no hash for it. If the sender's `Idempotency-Key` makes
    /// it a repeat (`is_keyed_by_sender`), it is refused unless its body is equal.
    fn record_repeat(&mut self, delivery: &Delivery, earlier: EarlierDelivery, is_keyed_by_sender: bool) -> Answer {
        let is_same_body = earlier.body_hash == delivery.body_hash;
        let Decision { verdict, reason, answer, .. } = if is_keyed_by_sender && !is_same_body {
            self.decision_for(&Receipt::IdempotencyKeyReused, None, None)
        } else {
            let (verdict, reason) = (Verdict::Duplicate, None);
            Decision { verdict, reason, call_id: None, dedup_hash: None, answer: earlier.answer }
        };
        self.writes.deliveries.push(NewDelivery {
            delivery_id: delivery.delivery_id,
            verdict,
            reason,
            dedup_hash: None,
            idempotency_key: None,
            call_id: earlier.call_id,
            duplicate_of: Some(earlier.delivery_id),
            keep_body: !is_same_body,
            answer: answer.clone(),
        });
        answer
    }

    fn decision_for(&self, receipt: &Receipt<'_>, call_id: Option<CallId>, dedup_hash: Option<DedupHash>) -> Decision {
        let reason = receipt.reason().map(ToOwned::to_owned);
        Decision { verdict: receipt.verdict(), reason, call_id, dedup_hash, answer: self.render(receipt) }
    }

    fn find_or_create(&mut self, delivery: &Delivery, names: &Names) -> Result<Option<CallId>, ApplyError> {
        Ok(match (self.find_call(names)?, self.unknown_calls) {
            (Some(call_id), _) => {
                self.assign_names(call_id, names);
                Some(call_id)
            }
            (None, UnknownCalls::Reject) => None,
            (None, UnknownCalls::Create) => {
                let at = delivery.received_at;
                Some(self.create_call(new_id(at), names, (None, at), CallStatus::InProgress))
            }
        })
    }

    fn apply_turn(&mut self, delivery: &Delivery, turn: &Turn) -> Result<Decision, ApplyError> {
        let Some(call_id) = self.find_or_create(delivery, &turn.names)? else { return Ok(self.unknown_call()) };
        let at = turn.at.unwrap_or(delivery.received_at);
        if !turn.is_final {
            return Ok(self.announce_partial(call_id, turn, at));
        }
        self.call(call_id).live = true;
        let (transcription_id, sequence_number, seq) =
            self.append_turn(call_id, (turn.speaker, &turn.text, at), Some(delivery.delivery_id))?;
        let hash = delivery.turn_hash().map(|hash| DedupKey::turn_hash_in_call(call_id, hash));
        let call_sid = &self.calls[&call_id].call_sid;
        let receipt = Receipt::TurnAppended { transcription_id, sequence_number, seq, call_sid };
        Ok(self.decision_for(&receipt, Some(call_id), hash))
    }

    fn announce_partial(&mut self, call_id: CallId, turn: &Turn, at: Timestamp) -> Decision {
        let is_late = turn.turn_id.as_ref().is_some_and(|turn_id| {
            let hash = turn_hash(turn.speaker, turn_id);
            self.earlier_turn(call_id, turn, &hash, None).is_some()
        });
        let call = self.call(call_id);
        if !is_late {
            let message = ServerMessage::TranscriptionPartial(TranscriptionPartial {
                conversation_id: call.conversation_id.clone(),
                call_sid: call.call_sid.clone(),
                speaker_type: turn.speaker,
                message_text: turn.text.clone(),
                timestamp: at,
                turn_id: turn.turn_id.clone(),
                call_id: Some(call_id),
            });
            let frame: Arc<str> = serde_json::to_string(&message).expect("a message is JSON").into();
            self.writes.notifications.push(Notification::PartialTurn { call_id, frame });
        }
        let call_sid = &self.calls[&call_id].call_sid;
        self.decision_for(&Receipt::PartialTurn { call_sid, is_late }, Some(call_id), None)
    }

    fn apply_result(&mut self, delivery: &Delivery, result: &CallResult) -> Result<Decision, ApplyError> {
        let Some(call_id) = self.find_or_create(delivery, &result.names)? else { return Ok(self.unknown_call()) };
        let conversation_id = result.names.conversation_id.as_ref();
        let status_before = self.call(call_id).status;
        let status = match (status_before, result.ending) {
            (CallStatus::Completed, Ending::Failed) => {
                return Ok(self.no_effect(call_id, conversation_id, LATE_FAILURE));
            }
            (_, Ending::Failed) | (CallStatus::Failed, Ending::Unspecified) => CallStatus::Failed,
            _ => CallStatus::Completed,
        };
        // The result repeats the live turns, so its turns are appended only if none arrived.
        if self.call(call_id).turns == 0 {
            let start = start_time(result, delivery.received_at);
            for turn in &result.turns {
                #[allow(clippy::cast_possible_truncation)]
                let at = start.plus_secs(turn.offset_secs.clamp(0.0, 1e9) as i64);
                self.append_turn(call_id, (turn.speaker, &turn.text, at), Some(delivery.delivery_id))?;
            }
        }
        let transcript = match &result.transcript {
            Some(json) => Transcript::Replace(Some(json.clone())),
            None => Transcript::Keep,
        };
        let (agent_id, data) = (result.agent_id.clone(), result.data.clone());
        self.end_call(delivery, call_id, (status, status_before), agent_id, data, transcript);
        Ok(self.processed(call_id, conversation_id))
    }

    /// Ends a call, or replaces the result of an ended call: appends `call_status` if the status changes, then
    /// `call_completed`.
    fn end_call(
        &mut self,
        delivery: &Delivery,
        call_id: CallId,
        (status, status_before): (CallStatus, CallStatus),
        agent_id: Option<String>,
        mut data: CallData,
        transcript: Transcript,
    ) {
        let call = self.call(call_id);
        if agent_id.is_some() {
            call.agent_id = agent_id;
        }
        data.call_end_time = data.call_end_time.or(Some(delivery.received_at));
        data.status = status;
        data.subject = call.subject.clone();
        call.end_time = data.call_end_time;
        if status != status_before {
            self.append_status(call_id, status, Some(delivery.delivery_id));
        }
        self.append_completed(call_id, data, transcript, Some(delivery.delivery_id));
    }

    fn apply_audio(
        &mut self,
        delivery: &Delivery,
        names: &Names,
        content_type: &'static str,
    ) -> Result<Decision, ApplyError> {
        let Some(call_id) = self.find_or_create(delivery, names)? else { return Ok(self.unknown_call()) };
        let now = self.now;
        let call = self.call(call_id);
        call.has_audio = true;
        call.updated_at = now;
        call.row_change = RowChange::All;
        self.writes.audio.push(NewAudio { call_id, content_type, delivery_id: delivery.delivery_id });
        Ok(self.processed(call_id, names.conversation_id.as_ref()))
    }

    fn apply_ignored(&mut self, names: &Names, reason: &str) -> Decision {
        let conversation_id = names.conversation_id.as_ref();
        if let Some(call_id) = names.iter().find_map(|name| self.call_named(name)) {
            return self.no_effect(call_id, conversation_id, reason);
        }
        let conversation_id = conversation_id.map(Identifier::as_str);
        let call = CallState { conversation_id, call_sid: None, status: None };
        self.decision_for(&Receipt::Ignored { call, reason }, None, None)
    }

    fn processed(&self, call_id: CallId, conversation_id: Option<&Identifier>) -> Decision {
        self.decision_for(&Receipt::Processed(self.call_state(call_id, conversation_id)), Some(call_id), None)
    }

    fn no_effect(&self, call_id: CallId, conversation_id: Option<&Identifier>, reason: &str) -> Decision {
        let call = self.call_state(call_id, conversation_id);
        self.decision_for(&Receipt::Ignored { call, reason }, Some(call_id), None)
    }

    fn unknown_call(&self) -> Decision {
        self.decision_for(&Receipt::UnknownCall, None, None)
    }

    /// The state of a call for its receipt. The `conversation_id` that the delivery states replaces the call's own.
    fn call_state<'a>(&'a self, call_id: CallId, conversation_id: Option<&'a Identifier>) -> CallState<'a> {
        let call = &self.calls[&call_id];
        CallState {
            conversation_id: conversation_id.map(Identifier::as_str).or(call.conversation_id.as_deref()),
            call_sid: Some(&call.call_sid),
            status: Some(call.status),
        }
    }
}

/// The time of offset 0 of the provider's turns: the stated start of the call. If there is none, the last turn is
/// placed at the stated end of the call, or at the time when the webhook was received.
fn start_time(result: &CallResult, received_at: Timestamp) -> Timestamp {
    result.data.call_start_time.unwrap_or_else(|| {
        let length = result.turns.last().map_or(0.0, |turn| turn.offset_secs);
        #[allow(clippy::cast_possible_truncation)]
        result.data.call_end_time.unwrap_or(received_at).plus_secs(-(length.clamp(0.0, 1e9) as i64))
    })
}
