//! The changes of the HTTP API to the log.

use callscope_common::api::CallPatch;
use callscope_common::{CallData, CallId, CallStatus, Identifier, Timestamp};

use super::{
    ApplyError, Delete, Ledger, NameKind, Names, Notification, Outcome, Patch, Refusal, Register, RowChange, Transcript,
};

impl Ledger {
    pub(super) fn register(&mut self, register: &Register) -> Outcome {
        if self.calls.contains_key(&register.call_id) {
            // An earlier attempt at this operation was committed, and its acknowledgement was lost.
            return Outcome::Done(register.call_id);
        }
        let new = &register.call;
        for name in new.call_sid.iter().chain(&new.conversation_id) {
            if self.call_named(name).is_some() {
                return Outcome::Refused(Refusal::IdentifierTaken(name.clone()));
            }
        }
        let names =
            Names { call_sid: new.call_sid.clone(), conversation_id: new.conversation_id.clone(), ..Names::default() };
        self.create_call(register.call_id, &names, (new.subject.as_deref(), register.at), CallStatus::Initiated);
        let call = self.call(register.call_id);
        call.subject.clone_from(&new.subject);
        call.agent_id.clone_from(&new.agent_id);
        call.metadata = new.metadata.as_ref().map(|json| json.get().to_owned());
        Outcome::Done(register.call_id)
    }

    pub(super) fn patch(&mut self, Patch { id, patch }: &Patch) -> Result<Outcome, ApplyError> {
        let Some(call_id) = self.call_named(id) else { return Ok(Outcome::Refused(Refusal::NotFound)) };
        let given = || patch.call_sid.iter().chain(&patch.conversation_id).chain(&patch.identifiers);
        let mut others = Vec::new();
        for name in given() {
            match self.call_named(name) {
                Some(other) if other != call_id && !patch.merge => {
                    return Ok(Outcome::Refused(Refusal::IdentifierTaken(name.clone())));
                }
                Some(other) if other != call_id && !others.contains(&other) => others.push(other),
                _ => {}
            }
        }
        if !others.is_empty() {
            others.insert(0, call_id);
            return Err(ApplyError::NeedsMerge(others));
        }
        let status_before = self.call(call_id).status;
        if status_before.is_ended() && patch.status.is_some_and(|status| !status.is_ended()) {
            return Ok(Outcome::Refused(Refusal::Ended));
        }
        self.apply_patch(call_id, patch);
        if let Some(status) = patch.status.filter(|status| *status != status_before) {
            self.set_status(call_id, status);
        }
        Ok(Outcome::Done(call_id))
    }

    fn apply_patch(&mut self, call_id: CallId, patch: &CallPatch) {
        // An identifier that spells the call's own id leads to the call already and is not stored.
        let is_name = |id: &&Identifier| id.as_call_id() != Some(call_id);
        if let Some(sid) = patch.call_sid.as_ref().filter(is_name) {
            self.assign_name(call_id, sid, NameKind::CallSid);
            sid.as_str().clone_into(&mut self.call(call_id).call_sid);
            self.call(call_id).sid_made_up = false;
        }
        if let Some(id) = patch.conversation_id.as_ref().filter(is_name) {
            self.assign_name(call_id, id, NameKind::ConversationId);
            self.call(call_id).conversation_id = Some(id.as_str().to_owned());
        }
        for id in &patch.identifiers {
            self.assign_name(call_id, id, NameKind::Provider);
        }
        let now = self.now;
        let call = self.call(call_id);
        if patch.subject.is_some() {
            call.subject.clone_from(&patch.subject);
        }
        if patch.agent_id.is_some() {
            call.agent_id.clone_from(&patch.agent_id);
        }
        if let Some(json) = &patch.metadata {
            call.metadata = Some(json.get().to_owned());
        }
        call.updated_at = now;
        call.row_change = RowChange::All;
    }

    /// Sets a status that the API states. If it ends the call, `call_completed` is appended too, because followers wait
    /// for it.
    fn set_status(&mut self, call_id: CallId, status: CallStatus) {
        let now = self.now;
        let call = self.call(call_id);
        if !status.is_ended() {
            self.append_status(call_id, status, None);
            return;
        }
        call.end_time = call.end_time.or(Some(now));
        let mut data: CallData = call
            .result
            .as_deref()
            .and_then(|result| serde_json::from_str(result).ok())
            .unwrap_or_else(|| CallData::new(status));
        data.status = status;
        data.subject = call.subject.clone();
        data.call_end_time = data.call_end_time.or(call.end_time);
        self.append_status(call_id, status, None);
        self.append_completed(call_id, data, Transcript::Keep, None);
    }

    pub(super) fn delete(&mut self, Delete { call_id, ended_before }: &Delete) -> Outcome {
        let call_id = *call_id;
        let Some(call) = self.calls.get(&call_id) else {
            let signpost = Identifier::parse(&call_id.to_string()).ok().and_then(|id| self.names.get(&id).copied());
            return match signpost {
                Some(into) => Outcome::Refused(Refusal::Absorbed(into)),
                // An earlier attempt at this operation was committed, and its acknowledgement was lost.
                None if self.may_be_committed => Outcome::Done(call_id),
                None => Outcome::Refused(Refusal::NotFound),
            };
        };
        let has_ended_before = |time: &Timestamp| {
            call.status.is_ended() && call.updated_at < *time && call.end_time.is_some_and(|end| end < *time)
        };
        if ended_before.as_ref().is_some_and(|time| !has_ended_before(time)) {
            return Outcome::Refused(Refusal::Changed);
        }
        self.calls.remove(&call_id);
        self.names.retain(|_, named| *named != call_id);
        self.writes.deleted.push(call_id);
        self.writes.notifications.push(Notification::Deleted { call_id });
        Outcome::Done(call_id)
    }
}
