//! What the statements of both engines take and return.

use callscope_common::{CallId, Identifier};
use uuid::Uuid;

use super::StoreError;
use crate::log::{Answer, DedupHash, NameKind};

pub(super) type Result<T> = std::result::Result<T, StoreError>;

/// A delivery that took effect.
pub(super) struct PriorRow {
    pub delivery_id: Uuid,
    pub key: DedupHash,
    pub body_hash: DedupHash,
    pub call_id: Option<CallId>,
    pub answer: Answer,
}

/// A name to insert.
pub(super) type NewName = (Identifier, CallId, NameKind);

/// A parameter of a statement for both engines, which write it as `$1`, `$2`…
#[derive(Debug, Clone, Copy)]
pub(super) enum Bind<'b> {
    Id(Uuid),
    Int(i64),
    Bytes(&'b [u8]),
    Text(&'b str),
    MaybeText(Option<&'b str>),
}

/// Reads a stored answer.
pub(super) fn answer(status: i64, body: String) -> Result<Answer> {
    let status = u16::try_from(status).map_err(|_| StoreError::Damaged("delivery"))?;
    Ok(Answer { status, body: body.into() })
}
