//! Finding the call that a set of names means, and making it where there is none.

use std::sync::Mutex;

use callscope_common::{CallId, CallStatus, Identifier, Timestamp};
use uuid::{ContextV7, Timestamp as UuidTime, Uuid};

use super::{ApplyError, Call, Ledger, NameKind, Names, Notification, RowChange};

/// What a set of names means.
pub(crate) enum Found {
    Nothing,
    One(CallId),
}

impl Ledger {
    /// Finds the call that `names` mean, strongest name first.
    ///
    /// Two records are one call if a webhook names both, unless both already have different conversation ids: a provider's
    /// sid may be shared by two conversations of one phone call, and those stay two calls. The conversation then wins.
    pub(crate) fn find_call(&self, names: &Names) -> Result<Found, ApplyError> {
        let mut found: Vec<CallId> = Vec::new();
        let mut conversation = names.conversation_id.as_ref().map(Identifier::as_str);
        if let Some(named) = names.conversation_id.as_ref().and_then(|id| self.call_named(id)) {
            conversation = self.calls[&named].conversation_id.as_deref().or(conversation);
        }
        for call_id in names.iter().filter_map(|name| self.call_named(name)) {
            let other = self.calls[&call_id].conversation_id.as_deref();
            let conflicts = other.is_some() && conversation.is_some() && other != conversation;
            if !found.contains(&call_id) && !conflicts {
                conversation = conversation.or(other);
                found.push(call_id);
            }
        }
        match found[..] {
            [] => Ok(Found::Nothing),
            [one] => Ok(Found::One(one)),
            _ => Err(ApplyError::NeedsMerge(found)),
        }
    }

    /// Makes a call that was first heard of `at` that time. `subject` goes into a made-up sid.
    pub(crate) fn create_call(
        &mut self,
        call_id: CallId,
        names: &Names,
        (subject, at): (Option<&str>, Timestamp),
        status: CallStatus,
    ) -> CallId {
        let free = |sid: &&Identifier| self.call_named(sid).is_none();
        let given = names.call_sid.iter().find(free).or_else(|| names.others.iter().find(free)).cloned();
        let sid_made_up = given.is_none();
        let call_sid = given.unwrap_or_else(|| self.generate_sid(sid_prefix(subject, at)));
        self.calls.insert(
            call_id,
            Call {
                call_id,
                call_sid: call_sid.as_str().to_owned(),
                sid_made_up,
                conversation_id: None,
                status,
                subject: None,
                agent_id: None,
                metadata: None,
                head: 0,
                turns: 0,
                live: false,
                has_audio: false,
                created_at: at,
                updated_at: self.now,
                end_time: None,
                result: None,
                is_new: true,
                row_change: RowChange::All,
            },
        );
        self.assign_name(call_id, &call_sid, NameKind::CallSid);
        self.assign_names(call_id, names);
        call_id
    }

    /// Gives a call those of `names` that no call has yet.
    pub(crate) fn assign_names(&mut self, call_id: CallId, names: &Names) {
        if let Some(id) = &names.conversation_id {
            self.assign_name(call_id, id, NameKind::ConversationId);
        }
        if let Some(sid) = &names.call_sid {
            self.assign_name(call_id, sid, NameKind::CallSid);
        }
        for sid in &names.others {
            self.assign_name(call_id, sid, NameKind::Provider);
        }
    }

    /// Gives a call one name, unless a call has it already. The id of a call is never stored as a name, not even as its own.
    pub(crate) fn assign_name(&mut self, call_id: CallId, name: &Identifier, kind: NameKind) {
        if self.call_named(name).is_some() {
            return;
        }
        self.names.insert(name.clone(), call_id);
        let now = self.now;
        let call = self.call(call_id);
        match kind {
            NameKind::ConversationId if call.conversation_id.is_none() => {
                call.conversation_id = Some(name.as_str().to_owned());
            }
            // A sid that somebody chose says more than one the server made up.
            NameKind::CallSid if call.sid_made_up && call.call_sid != name.as_str() => {
                name.as_str().clone_into(&mut call.call_sid);
                call.sid_made_up = false;
            }
            _ => {}
        }
        call.row_change = RowChange::All;
        call.updated_at = now;
        self.writes.names.push((name.clone(), call_id, kind));
        self.writes.notifications.push(Notification::IdentifierAssigned { identifier: name.clone() });
    }

    fn generate_sid(&mut self, prefix: String) -> Identifier {
        let taken = |sid: &str, ledger: &Self| {
            ledger.taken_sids.contains(sid) || Identifier::parse(sid).is_ok_and(|sid| ledger.names.contains_key(&sid))
        };
        let mut sid = prefix.clone();
        let mut suffix = 2_u64;
        while taken(&sid, self) {
            sid = format!("{prefix}_{suffix}");
            suffix += 1;
        }
        self.taken_sids.insert(sid.clone());
        Identifier::parse(&sid).expect("a subject and a number are visible ASCII")
    }
}

/// How a made-up sid begins: `EL_{subject}_{unix secs}`; `_2`, `_3`… follow where it is taken.
pub(crate) fn sid_prefix(subject: Option<&str>, at: Timestamp) -> String {
    format!("{}{}_{}", Identifier::OWN_PREFIX, subject.unwrap_or("call"), at.as_unix_secs())
}

/// Counts the ids of one millisecond, so that they sort in the order they were made.
static CONTEXT: Mutex<ContextV7> = Mutex::new(ContextV7::new());

/// A new id that sorts by time.
#[must_use]
pub fn new_id(at: Timestamp) -> Uuid {
    let micros = u64::try_from(at.as_micros()).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0);
    Uuid::new_v7(UuidTime::from_unix(&CONTEXT, micros / 1_000_000, nanos))
}
