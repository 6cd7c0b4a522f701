//! The rules of the log, without a database: what an operation does to the calls it names.

mod ledger;
mod operation;

pub use ledger::*;
pub use operation::*;
