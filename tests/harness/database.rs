//! A database for one test.

use callscope_server::store::Store;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// The database engines that tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    /// A new database on the PostgreSQL of the test run.
    Postgres,
}

impl Engine {
    pub const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];
}

/// A new database, and a folder for the server's other files.
#[derive(Debug)]
pub struct Database {
    pub url: String,
    /// A folder for the server's files, with the SQLite file if there is one. It is deleted with this handle.
    pub dir: TempDir,
}

impl Database {
    pub async fn new(engine: Engine) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = match engine {
            Engine::Sqlite => format!("sqlite://{}", dir.path().join("callscope.db").display()),
            Engine::Postgres => {
                let server_url = std::env::var("CALLSCOPE_TEST_POSTGRES")
                    .expect("CALLSCOPE_TEST_POSTGRES names no PostgreSQL; tests/run starts one and sets it");
                create_on(&server_url).await
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

/// Creates a database on the PostgreSQL of `server_url`, and returns the URL of the new database.
pub async fn create_on(server_url: &str) -> String {
    let name = format!("test_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(server_url).await.expect("PostgreSQL answers");
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    connection.close().await.unwrap();
    let (base, _) = server_url.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}
