//! The rules of the log, without a database: what an operation does to the calls it names.

mod deliver;
mod edit;
mod identifiers;
mod ledger;
mod merge;
mod operation;

pub use identifiers::new_id;
pub(crate) use identifiers::sid_prefix;
pub use ledger::*;
pub use operation::*;
