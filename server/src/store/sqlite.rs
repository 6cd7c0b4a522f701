//! What only SQLite needs: its file, the statements of the write path, and the reads that run on the calling thread.

mod counters;
pub mod file;
pub(super) mod inline_reads;
pub(super) mod write;
