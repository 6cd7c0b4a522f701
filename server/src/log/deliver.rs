//! What a webhook does to the log.

use std::sync::Arc;

use callscope_common::api::ErrorBody;
use callscope_common::protocol::{ServerMessage, TranscriptionPartial};
use callscope_common::{CallData, CallId, CallStatus, Timestamp};
use serde::Serialize;

use super::identifiers::{Found, new_id};
use super::{
    Answer, ApplyError, CallFailure, CallResult, Change, DedupHash, DedupKey, Delivery, EarlierDelivery, Ending,
    Ledger, Names, NewAudio, NewDelivery, Notification, RowChange, Transcript, Turn, UnknownCalls, Verdict,
};
use crate::log::{turn_hash, turn_hash_without_speaker};

/// How a delivery was decision, and its answer.
struct Decision {
    verdict: Verdict,
    reason: Option<String>,
    call_id: Option<CallId>,
    /// Overrides the delivery's own key, where it depends on the call.
    dedup_hash: Option<DedupHash>,
    answer: Answer,
}

impl Ledger {
    pub(crate) fn deliver(&mut self, delivery: &Delivery) -> Result<Answer, ApplyError> {
        if let Some(answer) = self.committed.get(&delivery.delivery_id) {
            return Ok(answer.clone());
        }
        if let Some(earlier) = delivery.idempotency_key.and_then(|key| self.earlier.get(&key)).cloned() {
            return Ok(self.repeat(delivery, earlier, true));
        }
        if let Some(earlier) = delivery.dedup_key.hashes().find_map(|key| self.earlier.get(&key)).cloned() {
            return Ok(self.repeat(delivery, earlier, false));
        }
        if let (Change::Turn(turn), DedupKey::Turn(hash)) = (&delivery.change, &delivery.dedup_key)
            && let Found::One(call_id) = self.find_call(&turn.names)?
            && let Some(earlier) = self.earlier_turn(call_id, turn, hash, Some(&delivery.body_hash))
        {
            return Ok(self.repeat(delivery, earlier, false));
        }
        let decision = match &delivery.change {
            Change::Turn(turn) => self.turn(delivery, turn)?,
            Change::Result(result) => self.result(delivery, result)?,
            Change::Failure(failure) => self.failure(delivery, failure)?,
            Change::Audio { names, content_type, .. } => self.audio(delivery, names, content_type)?,
            Change::Ignored { names, reason } => self.ignored(names, reason),
            Change::Rejected { status, message, details } => rejected(*status, message, details.clone()),
        };
        // A refused delivery takes no key: sent again, it may be welcome.
        let dedup_hash = match (&delivery.dedup_key, decision.verdict) {
            (_, Verdict::Rejected) => None,
            (dedup_key, _) => decision.dedup_hash.or_else(|| dedup_key.hashes().next()),
        };
        let idempotency_key = delivery.idempotency_key.filter(|_| decision.verdict != Verdict::Rejected);
        for key in dedup_hash.into_iter().chain(idempotency_key) {
            let earlier = EarlierDelivery {
                delivery_id: delivery.delivery_id,
                body_hash: delivery.body_hash,
                call_id: decision.call_id,
                answer: decision.answer.clone(),
            };
            self.earlier.insert(key, earlier);
        }
        self.writes.deliveries.push(NewDelivery {
            delivery_id: delivery.delivery_id,
            verdict: decision.verdict,
            reason: decision.reason,
            dedup_hash,
            idempotency_key,
            call_id: decision.call_id,
            duplicate_of: None,
            keep_body: true,
            answer: decision.answer.clone(),
        });
        Ok(decision.answer)
    }

    /// The turn of that call that was kept under the `turn_id` of the same speaker. `body_hash`: of a turn that an earlier version
    /// kept whoever spoke, only an equal one is the same.
    fn earlier_turn(
        &self,
        call_id: CallId,
        turn: &Turn,
        hash: &DedupHash,
        body_hash: Option<&DedupHash>,
    ) -> Option<EarlierDelivery> {
        if let Some(earlier) = self.earlier.get(&DedupKey::hash_of_turn(call_id, hash)) {
            return Some(earlier.clone());
        }
        if self.calls.get(&call_id)?.created_at >= self.turn_ids_without_speaker_before {
            return None;
        }
        let alone = turn_hash_without_speaker(turn.turn_id.as_deref()?);
        let earlier = self.earlier.get(&DedupKey::hash_of_turn(call_id, &alone))?;
        body_hash.is_none_or(|hash| earlier.body_hash == *hash).then(|| earlier.clone())
    }

    /// Answers a delivery that was received before like the first. `by_sender`: the sender's own key says so, and then the body must
    /// be the same too. A repeat takes no key of its own.
    fn repeat(&mut self, delivery: &Delivery, earlier: EarlierDelivery, by_sender: bool) -> Answer {
        let same_body = earlier.body_hash == delivery.body_hash;
        let (verdict, reason, answer) = if by_sender && !same_body {
            let message = "this Idempotency-Key was used with another body";
            (Verdict::Rejected, Some(message.to_owned()), error(409, message, None, "IDEMPOTENCY_CONFLICT"))
        } else {
            (Verdict::Duplicate, None, earlier.answer)
        };
        self.writes.deliveries.push(NewDelivery {
            delivery_id: delivery.delivery_id,
            verdict,
            reason,
            dedup_hash: None,
            idempotency_key: None,
            call_id: earlier.call_id,
            duplicate_of: Some(earlier.delivery_id),
            keep_body: !same_body,
            answer: answer.clone(),
        });
        answer
    }

    fn find_or_create(&mut self, delivery: &Delivery, names: &Names) -> Result<Option<CallId>, ApplyError> {
        Ok(match (self.find_call(names)?, self.unknown_calls) {
            (Found::One(call_id), _) => {
                self.assign_names(call_id, names);
                Some(call_id)
            }
            (Found::Nothing, UnknownCalls::Reject) => None,
            (Found::Nothing, UnknownCalls::Create) => {
                let at = delivery.received_at;
                Some(self.create_call(new_id(at), names, (None, at), CallStatus::InProgress))
            }
        })
    }

    fn turn(&mut self, delivery: &Delivery, turn: &Turn) -> Result<Decision, ApplyError> {
        let Some(call_id) = self.find_or_create(delivery, &turn.names)? else { return Ok(unknown_call()) };
        let at = turn.at.unwrap_or(delivery.received_at);
        if !turn.is_final {
            return Ok(self.partial(call_id, turn, at));
        }
        self.call(call_id).live = true;
        let (transcription_id, sequence_number, seq) =
            self.append_turn(call_id, (turn.speaker, &turn.text, at), Some(delivery.delivery_id))?;
        let answer = TurnAnswer {
            status: "success",
            message: "transcription stored",
            transcription_id,
            sequence_number,
            seq,
            call_sid: &self.call(call_id).call_sid,
        };
        let dedup_hash = match &delivery.dedup_key {
            DedupKey::Turn(hash) => Some(DedupKey::hash_of_turn(call_id, hash)),
            _ => None,
        };
        Ok(Decision {
            verdict: Verdict::Accepted,
            reason: None,
            call_id: Some(call_id),
            dedup_hash,
            answer: json(201, &answer),
        })
    }

    fn partial(&mut self, call_id: CallId, turn: &Turn, at: Timestamp) -> Decision {
        let call = self.call(call_id);
        let answer = PartialAnswer { status: "success", message: "partial broadcast", call_sid: &call.call_sid };
        let answer = json(200, &answer);
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
        let done = turn.turn_id.as_ref().is_some_and(|turn_id| {
            let hash = turn_hash(turn.speaker, turn_id);
            self.earlier_turn(call_id, turn, &hash, None).is_some()
        });
        let (verdict, reason) = if done {
            (Verdict::Ignored, Some("the turn is final already".to_owned()))
        } else {
            self.writes.notifications.push(Notification::PartialTurn { call_id, frame });
            (Verdict::Accepted, None)
        };
        Decision { verdict, reason, call_id: Some(call_id), dedup_hash: None, answer }
    }

    fn result(&mut self, delivery: &Delivery, result: &CallResult) -> Result<Decision, ApplyError> {
        let Some(call_id) = self.find_or_create(delivery, &result.names)? else { return Ok(unknown_call()) };
        let before = self.call(call_id).status;
        let status = match (before, result.ending) {
            (CallStatus::Completed, Ending::Failed) => {
                return Ok(self.post_call_taken(call_id, result.names.conversation_id.as_ref(), Verdict::Ignored));
            }
            (_, Ending::Failed) | (CallStatus::Failed, Ending::Unspecified) => CallStatus::Failed,
            _ => CallStatus::Completed,
        };
        if self.call(call_id).turns == 0 {
            let start = self.start_of(result, delivery.received_at);
            for turn in &result.turns {
                #[allow(clippy::cast_possible_truncation)]
                let at = start.plus_secs(turn.offset_secs.clamp(0.0, 1e9) as i64);
                self.append_turn(call_id, (turn.speaker, &turn.text, at), Some(delivery.delivery_id))?;
            }
        }
        let agent_id = result.agent_id.clone();
        let data = result.data.clone();
        let transcript = match &result.transcript {
            Some(json) => Transcript::Replace(Some(json.clone())),
            None => Transcript::Keep,
        };
        self.end(delivery, call_id, (status, before), agent_id, data, transcript);
        Ok(self.post_call_taken(call_id, result.names.conversation_id.as_ref(), Verdict::Accepted))
    }

    /// When the provider's turns begin: as it says, else so that the last one falls on the receipt.
    #[allow(clippy::unused_self)]
    fn start_of(&self, result: &CallResult, received_at: Timestamp) -> Timestamp {
        result.data.call_start_time.unwrap_or_else(|| {
            let length = result.turns.last().map_or(0.0, |turn| turn.offset_secs);
            #[allow(clippy::cast_possible_truncation)]
            result.data.call_end_time.unwrap_or(received_at).plus_secs(-(length.clamp(0.0, 1e9) as i64))
        })
    }

    fn failure(&mut self, delivery: &Delivery, failure: &CallFailure) -> Result<Decision, ApplyError> {
        let Some(call_id) = self.find_or_create(delivery, &failure.names)? else { return Ok(unknown_call()) };
        let conversation_id = failure.names.conversation_id.as_ref();
        let before = self.call(call_id).status;
        if before == CallStatus::Completed {
            return Ok(self.post_call_taken(call_id, conversation_id, Verdict::Ignored));
        }
        let agent_id = failure.agent_id.clone();
        self.end(delivery, call_id, (CallStatus::Failed, before), agent_id, failure.data.clone(), Transcript::Keep);
        Ok(self.post_call_taken(call_id, conversation_id, Verdict::Accepted))
    }

    /// Ends a call, or replaces an ended call's result: `call_status` where the status changes, then `call_completed`.
    fn end(
        &mut self,
        delivery: &Delivery,
        call_id: CallId,
        (status, before): (CallStatus, CallStatus),
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
        if status != before {
            self.append_status(call_id, status, Some(delivery.delivery_id));
        }
        self.append_completed(call_id, data, transcript, Some(delivery.delivery_id));
    }

    fn audio(
        &mut self,
        delivery: &Delivery,
        names: &Names,
        content_type: &'static str,
    ) -> Result<Decision, ApplyError> {
        let Some(call_id) = self.find_or_create(delivery, names)? else { return Ok(unknown_call()) };
        let now = self.now;
        let call = self.call(call_id);
        call.has_audio = true;
        call.updated_at = now;
        call.row_change = RowChange::All;
        self.writes.audio.push(NewAudio { call_id, content_type, delivery_id: delivery.delivery_id });
        Ok(self.post_call_taken(call_id, names.conversation_id.as_ref(), Verdict::Accepted))
    }

    fn ignored(&mut self, names: &Names, reason: &str) -> Decision {
        let call_id = names.iter().find_map(|name| self.call_named(name));
        let mut decision = match call_id {
            Some(call_id) => self.post_call_taken(call_id, names.conversation_id.as_ref(), Verdict::Ignored),
            None => {
                let answer = PostCallAnswer {
                    status: "success",
                    message: "kept as received",
                    conversation_id: names.conversation_id.as_ref().map(AsRef::as_ref),
                    call_sid: None,
                    call_status: None,
                };
                Decision {
                    verdict: Verdict::Ignored,
                    reason: None,
                    call_id,
                    dedup_hash: None,
                    answer: json(200, &answer),
                }
            }
        };
        decision.reason = Some(reason.to_owned());
        decision
    }

    fn post_call_taken(
        &mut self,
        call_id: CallId,
        conversation_id: Option<&callscope_common::Identifier>,
        verdict: Verdict,
    ) -> Decision {
        let call = self.call(call_id);
        let (message, reason) = match verdict {
            Verdict::Accepted => ("webhook processed", None),
            _ => ("kept as received", Some("a failure after the call completed changes nothing".to_owned())),
        };
        let answer = json(
            200,
            &PostCallAnswer {
                status: "success",
                message,
                conversation_id: conversation_id.map(AsRef::as_ref).or(call.conversation_id.as_deref()),
                call_sid: Some(&call.call_sid),
                call_status: Some(call.status.as_str()),
            },
        );
        Decision { verdict, reason, call_id: Some(call_id), dedup_hash: None, answer }
    }
}

#[derive(Serialize)]
struct TurnAnswer<'a> {
    status: &'a str,
    message: &'a str,
    transcription_id: i64,
    sequence_number: i64,
    seq: i64,
    call_sid: &'a str,
}

#[derive(Serialize)]
struct PartialAnswer<'a> {
    status: &'a str,
    message: &'a str,
    call_sid: &'a str,
}

#[derive(Serialize)]
struct PostCallAnswer<'a> {
    status: &'a str,
    message: &'a str,
    conversation_id: Option<&'a str>,
    call_sid: Option<&'a str>,
    call_status: Option<&'a str>,
}

fn json(status: u16, body: &impl Serialize) -> Answer {
    Answer { status, body: serde_json::to_string(body).expect("an answer is JSON").into() }
}

fn error(status: u16, message: &str, details: Option<String>, code: &str) -> Answer {
    let (message, code) = (message.to_owned(), code.to_owned());
    json(status, &ErrorBody { status: "error".into(), message, details, code })
}

fn rejected(status: u16, message: &str, details: Option<String>) -> Decision {
    let code = if status == 413 { "PAYLOAD_TOO_LARGE" } else { "INVALID_PAYLOAD" };
    let reason = Some(message.to_owned());
    let answer = error(status, message, details, code);
    Decision { verdict: Verdict::Rejected, reason, call_id: None, dedup_hash: None, answer }
}

fn unknown_call() -> Decision {
    let message = "no such call, and calls nobody registered are rejected here";
    let answer = error(404, message, Some("register it with POST /api/v1/calls".into()), "CALL_NOT_FOUND");
    Decision { verdict: Verdict::Rejected, reason: Some(message.into()), call_id: None, dedup_hash: None, answer }
}
