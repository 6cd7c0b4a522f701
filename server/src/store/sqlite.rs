//! What is particular to SQLite: the file, the write path, and the reads that run on the calling thread.

mod connection;
pub mod file;
pub(super) mod inline_reads;
pub(super) mod open;
mod sequence;
pub(super) mod write;

use sqlx::SqlitePool;

use file::FileGuard;
use inline_reads::InlineReaders;
use write::SqliteWriter;

/// An SQLite file, which serves one process.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    /// The only connection that writes.
    pub writer: SqliteWriter,
    pub readers: SqlitePool,
    /// For reads that run on the calling thread.
    pub inline: InlineReaders,
    pub guard: FileGuard,
}

impl Sqlite {
    pub async fn close(&self) {
        self.inline.close();
        self.readers.close().await;
        // The last connection that is closed moves the write-ahead log into the file.
        let last = self.writer.lock().await.take();
        if self.guard.check().is_err() {
            // SQLite would delete the write-ahead log by its path, where another database may be by now.
            std::mem::forget(last);
        }
        self.guard.release();
    }
}
