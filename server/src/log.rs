//! The rules of the log: the effect of an operation on the calls that it names.
//!
//! The log writer (`store::writer`) loads the rows that a batch of operations names into a `Ledger`, applies the
//! operations in their order, and writes the changes that the ledger then holds. The ledger depends only on the loaded
//! rows, the given time and the random ids that it generates. So one set of rules holds for both database engines, and
//! a test needs no database.

mod answer;
mod call;
mod dedup;
mod deliver;
mod delivery;
mod edit;
mod identifiers;
mod ledger;
mod merge;
mod names;
mod new_ids;
mod notification;
mod operation;
mod receipt;
mod writes;

pub use answer::Answer;
pub(crate) use call::{Call, RowChange};
pub use dedup::DedupKey;
pub(crate) use dedup::{DedupHash, dedup_hash, dedup_hash_at, turn_hash, turn_hash_without_speaker};
pub use delivery::{CallResult, Change, Delivery, EarlierDelivery, Ending, Turn};
pub use ledger::UnknownCalls;
pub(crate) use ledger::{ApplyError, Ledger};
pub(crate) use merge::AbsorbedCall;
pub(crate) use names::NameKind;
pub use names::Names;
pub(crate) use new_ids::{new_id, sid_prefix};
pub use notification::Notification;
pub use operation::{Delete, Operation, Outcome, Patch, Refusal, Register};
pub use receipt::{CallState, Receipt, RenderReceipt};
pub(crate) use writes::{Merge, NewAudio, NewDelivery, NewEvent, NewName, NewResult, Transcript, Writes};
