//! The names by which a webhook refers to a call, and their kinds.

use callscope_common::Identifier;

/// The names by which a webhook refers to a call. The provider's platform states them; the caller's client cannot set
/// them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The `call_id` of a registered call, proved by the link that its registration returned.
    pub linked: Option<Identifier>,
    /// The call's sid, which Callscope generated or a turn states.
    pub call_sid: Option<Identifier>,
    /// The provider's conversation id.
    pub conversation_id: Option<Identifier>,
    /// The provider's other sids (`CA…`, `SCL_…`).
    pub others: Vec<Identifier>,
}

impl Names {
    /// All names, strongest first: the linked call, a sid that Callscope generated, the conversation id, any other sid,
    /// the rest.
    pub fn iter(&self) -> impl Iterator<Item = &Identifier> {
        let own = self.call_sid.iter().filter(|sid| sid.is_own_sid());
        let foreign = self.call_sid.iter().filter(|sid| !sid.is_own_sid());
        self.linked.iter().chain(own).chain(&self.conversation_id).chain(foreign).chain(&self.others)
    }
}

/// The kind of a stored identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameKind {
    CallSid,
    ConversationId,
    Provider,
}

impl NameKind {
    /// The text that is stored for the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallSid => "call_sid",
            Self::ConversationId => "conversation_id",
            Self::Provider => "provider",
        }
    }
}
