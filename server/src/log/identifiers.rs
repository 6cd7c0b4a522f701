//! The names of calls: finds the call that names lead to, and gives names to calls.

use callscope_common::{CallId, CallStatus, Identifier, Timestamp};

use super::{ApplyError, Call, Ledger, NameKind, Names, Notification, RowChange, sid_prefix};

impl Ledger {
    /// The call that an identifier leads to. An identifier that spells a `call_id` leads to that call, or to the call
    /// that absorbed it, whatever else it names, as in [`Store::resolve`](crate::store::Store::resolve).
    pub fn call_named(&self, id: &Identifier) -> Option<CallId> {
        let by_id = id.as_call_id().filter(|call_id| self.calls.contains_key(call_id));
        let by_name = || self.names.get(id).copied();
        // The signpost of an absorbed record is in lower case, and a sender may write an id in upper case.
        let by_signpost = || {
            let canonical = Identifier::parse(&id.as_call_id()?.to_string()).ok()?;
            self.names.get(&canonical).copied()
        };
        by_id.or_else(by_name).or_else(by_signpost)
    }

    /// Finds the call that the names lead to, strongest name first.
    ///
    /// Two records are one call if a webhook names both, unless they have different conversation ids. Two conversations
    /// of one phone call may share a provider's sid, and stay two calls. Then the conversation id decides.
    ///
    /// # Errors
    /// Returns [`ApplyError::NeedsMerge`] if the names lead to several records of one call.
    pub(super) fn find_call(&self, names: &Names) -> Result<Option<CallId>, ApplyError> {
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
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(ApplyError::NeedsMerge(found)),
        }
    }

    /// Creates a call, `at` the time when it was first named. A generated sid contains the `subject`.
    pub(super) fn create_call(
        &mut self,
        call_id: CallId,
        names: &Names,
        (subject, at): (Option<&str>, Timestamp),
        status: CallStatus,
    ) -> CallId {
        let is_free = |sid: &&Identifier| self.call_named(sid).is_none();
        let given = names.call_sid.iter().find(is_free).or_else(|| names.others.iter().find(is_free)).cloned();
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

    /// Gives a call those of the `names` that no call has yet.
    pub(super) fn assign_names(&mut self, call_id: CallId, names: &Names) {
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

    /// Gives a call a name, unless the name leads to a call already. So the id of a call is never stored as a name.
    pub(super) fn assign_name(&mut self, call_id: CallId, name: &Identifier, kind: NameKind) {
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
            // A sid that a sender states replaces a generated one.
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
        let is_taken = |sid: &str, ledger: &Self| {
            ledger.taken_sids.contains(sid) || Identifier::parse(sid).is_ok_and(|sid| ledger.names.contains_key(&sid))
        };
        let mut sid = prefix.clone();
        let mut suffix = 2_u64;
        while is_taken(&sid, self) {
            sid = format!("{prefix}_{suffix}");
            suffix += 1;
        }
        self.taken_sids.insert(sid.clone());
        Identifier::parse(&sid).expect("a subject and a number are visible ASCII")
    }
}
