//! A PostgreSQL and a Redis for the shapes that need them, started at the first use.

use std::cell::OnceCell;

use callscope_tests::database::create_on;
use callscope_tests::{Postgres, Redis};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub struct Services {
    runtime: Runtime,
    dir: TempDir,
    postgres: OnceCell<Postgres>,
    redis: OnceCell<Redis>,
}

impl Services {
    pub fn new() -> std::io::Result<Self> {
        let dir = tempfile::tempdir()?;
        // PostgreSQL runs as another user, who has to enter the folder.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let (postgres, redis) = (OnceCell::new(), OnceCell::new());
        Ok(Self { runtime: Runtime::new()?, dir, postgres, redis })
    }

    fn postgres(&self) -> &Postgres {
        self.postgres.get_or_init(|| {
            let (data, log) = (self.dir.path().join("postgres"), self.dir.path().join("postgres.log"));
            self.runtime.block_on(Postgres::start(data, log, Vec::new()))
        })
    }

    /// Creates a database and returns its URL.
    pub fn create_database(&self) -> String {
        let postgres = self.postgres();
        self.runtime.block_on(create_on(&format!("postgres://postgres@{}/postgres", postgres.address)))
    }

    /// Returns the process id of PostgreSQL's main process.
    pub fn postgres_pid(&self) -> Option<u32> {
        self.runtime.block_on(self.postgres().pid())
    }

    pub fn redis_url(&self) -> String {
        let redis = self.redis.get_or_init(|| self.runtime.block_on(Redis::start()));
        format!("redis://{}", redis.address)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if let Some(postgres) = self.postgres.get() {
            self.runtime.block_on(postgres.end());
        }
    }
}
