//! A PostgreSQL and a Redis for the shapes that need them, started at the first use.

use std::cell::{Cell, OnceCell};

use callscope_tests::{Postgres, Redis};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub struct Services {
    runtime: Runtime,
    dir: TempDir,
    postgres: OnceCell<Postgres>,
    redis: OnceCell<Redis>,
    /// Number of databases created so far.
    database_count: Cell<u32>,
}

impl Services {
    pub fn new() -> std::io::Result<Self> {
        let dir = tempfile::tempdir()?;
        // PostgreSQL runs as another user, who has to enter the folder.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let (postgres, redis) = (OnceCell::new(), OnceCell::new());
        Ok(Self { runtime: Runtime::new()?, dir, postgres, redis, database_count: Cell::new(0) })
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
        let name = format!("load_{}", self.database_count.replace(self.database_count.get() + 1));
        self.runtime.block_on(async {
            let url = format!("postgres://postgres@{}/postgres", postgres.address);
            let mut connection = PgConnection::connect(&url).await.expect("PostgreSQL answers");
            let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
            connection.execute(create).await.expect("the database is created");
        });
        format!("postgres://postgres@{}/{name}", postgres.address)
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
