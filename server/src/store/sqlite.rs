//! What only SQLite needs: its file, the statements of the write path, and the reads that run on the calling thread.

pub mod file;
pub(super) mod inline_reads;
pub mod path;
mod sequence;
pub(super) mod write;
