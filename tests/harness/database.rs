//! A database for one test.

use callscope_server::store::Store;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// The engines on which a test of the store runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    /// A new database on the PostgreSQL of the test run.
    Postgres,
}

impl Engine {
    pub const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];
}

/// A database of one test, and a folder for the files beside it.
#[derive(Debug)]
pub struct Database {
    pub url: String,
    /// The folder of the SQLite file, which is deleted with this handle.
    pub dir: TempDir,
}

impl Database {
    pub async fn new(engine: Engine) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = match engine {
            Engine::Sqlite => format!("sqlite://{}", dir.path().join("callscope.db").display()),
            Engine::Postgres => {
                let server = std::env::var("CALLSCOPE_TEST_POSTGRES")
                    .expect("CALLSCOPE_TEST_POSTGRES names no PostgreSQL; tests/run starts one and sets it");
                create_on(&server).await
            }
        };
        Self { url, dir }
    }

    /// Runs SQL statements. An SQLite file is created if it does not exist.
    pub async fn execute(&self, sql: String) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        if self.url.starts_with("sqlite:") {
            let mut connection = SqliteConnection::connect(&format!("{}?mode=rwc", self.url)).await.unwrap();
            sql.execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        } else {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sql.execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }
}

/// Creates a database on the PostgreSQL at this URL, and returns the URL of the new one.
pub async fn create_on(server: &str) -> String {
    let name = format!("test_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(server).await.expect("PostgreSQL answers");
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    connection.close().await.unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}
