//! Opens the connections to PostgreSQL and migrates the database.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use callscope_common::text::one_line;
use sqlx::migrate::{MigrateDatabase, MigrateError};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{Connection as _, PgPool};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::Postgres;
use crate::store::open::{ACQUIRE_TIMEOUT, OpenError, allow_newer_schema};

/// Timeout of the ping of a connection that is released to its pool.
const RELEASE_PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a starting server tries to connect, and the time between two attempts.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(15);
const STARTUP_RETRY_INTERVAL: Duration = Duration::from_millis(200);
const READER_CONNECTIONS: u32 = 12;
/// One transaction at a time writes. The second connection is used when the first one breaks.
const WRITER_CONNECTIONS: u32 = 2;

impl Postgres {
    /// Opens the database. If the connection breaks, tries again until [`STARTUP_TIMEOUT`], so that the server can
    /// start while PostgreSQL restarts.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let began = Instant::now();
        loop {
            match Self::try_open(url).await {
                Err(error) if is_broken_connection(&error) && began.elapsed() < STARTUP_TIMEOUT => {
                    warn!(%error, "the connection to the database broke; trying again");
                    sleep(STARTUP_RETRY_INTERVAL).await;
                }
                opened => return opened.map_err(recognise_pooler),
            }
        }
    }

    async fn try_open(url: &str) -> Result<Self, OpenError> {
        let options = connect_options(url)?.options([
            ("synchronous_commit", "on"),
            // After this time an operation whose row is locked elsewhere is parked (writer/parked.rs), and all others
            // go on.
            ("lock_timeout", "250ms"),
            ("statement_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "10s"),
        ]);
        if !sqlx::Postgres::database_exists(url).await.unwrap_or(true)
            && let Err(error) = sqlx::Postgres::create_database(url).await
            // Another server that starts at the same time may have created it.
            && !sqlx::Postgres::database_exists(url).await.unwrap_or(false)
        {
            return Err(error.into());
        }
        migrate(url).await?;
        // Without a test, because the write path tries again if its connection turns out to be broken.
        let writer = pool_options(WRITER_CONNECTIONS).test_before_acquire(false).connect_with(options.clone()).await?;
        require_durable_commits(&writer).await?;
        let readers = pool_options(READER_CONNECTIONS).connect_with(options).await?;
        Ok(Self { writer, readers })
    }
}

fn connect_options(url: &str) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| OpenError::BadUrl)?;
    Ok(options.application_name("callscope-server"))
}

fn pool_options(max_connections: u32) -> PgPoolOptions {
    let options = PgPoolOptions::new().max_connections(max_connections).acquire_timeout(ACQUIRE_TIMEOUT);
    options.after_release(|connection, _| {
        Box::pin(async {
            // The pool itself pings a released connection without a timeout, so a connection whose server is gone would
            // keep its place in the pool for ever. An error closes it at once.
            let answer = timeout(RELEASE_PING_TIMEOUT, connection.ping()).await;
            answer.map_or(Err(sqlx::Error::PoolTimedOut), |answer| answer.map(|()| true))
        })
    })
}

/// Migrates on a connection without timeouts, because a server may have to wait for the migration of another one.
async fn migrate(url: &str) -> Result<(), OpenError> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
    let pool = pool.connect_with(connect_options(url)?).await?;
    allow_newer_schema(sqlx::migrate!("../migrations/postgres")).run(&pool).await?;
    reset_tx_order_after_restore(&pool).await?;
    pool.close().await;
    Ok(())
}

/// Resets the order of deliveries after a dump was restored into another PostgreSQL, where the transaction numbers of
/// the dump may not have been reached yet. The database then gets a new cluster id, so that cursors of the old order
/// are refused.
async fn reset_tx_order_after_restore(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    // One server at a time does this.
    sqlx::query("SELECT 1 FROM cluster FOR UPDATE").execute(&mut *tx).await?;
    let is_ahead = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE tx >= txid_snapshot_xmax(txid_current_snapshot()))";
    if sqlx::query_scalar(is_ahead).fetch_one(&mut *tx).await? {
        warn!("the database was restored from another PostgreSQL; the order of its deliveries starts again");
        sqlx::query("UPDATE deliveries SET tx = 0 WHERE tx > 0").execute(&mut *tx).await?;
        sqlx::query("UPDATE cluster SET cluster_id = gen_random_uuid()").execute(&mut *tx).await?;
    }
    tx.commit().await
}

async fn require_durable_commits(pool: &PgPool) -> Result<(), OpenError> {
    let commit: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(pool).await?;
    if commit == "off" {
        return Err(OpenError::NotDurable);
    }
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(pool).await?;
    if fsync == "off" {
        warn!("PostgreSQL runs with fsync = off; a power failure may lose acknowledged writes");
    }
    Ok(())
}

/// Whether a connection broke. A refused one does not count, so that a wrong address or password is reported at once.
fn is_broken_connection(error: &OpenError) -> bool {
    let (OpenError::Sqlx(error)
    | OpenError::Migrate(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))) = error
    else {
        return false;
    };
    match error {
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::ConnectionRefused,
        // sqlx reports a connection that ends within a message as a protocol error.
        sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P0")),
        _ => false,
    }
}

/// Replaces an error that a pooler in transaction mode causes by [`OpenError::Pooler`].
fn recognise_pooler(error: OpenError) -> OpenError {
    let text = error.to_string();
    let signs = ["unsupported startup parameter", "prepared statement \"sqlx_s_"];
    match signs.iter().any(|sign| text.contains(sign)) {
        true => OpenError::Pooler(one_line(&text).chars().take(200).collect()),
        false => error,
    }
}

/// Returns a warning if the URL leads to a PostgreSQL across a network whose certificate is not verified.
#[must_use]
pub fn transport_warning(url: &str) -> Option<String> {
    if url.starts_with("sqlite:") {
        return None;
    }
    let options = PgConnectOptions::from_str(url).ok()?;
    let host = options.get_host().trim_matches(['[', ']']);
    let is_here = options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    (!is_here && !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull)).then(|| {
        "the connection to PostgreSQL is not verified: others on the network can read the password and every call; \
         add sslmode=verify-full to the URL, and sslrootcert=FILE where its certificate is not of a public authority"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unverified_connection_across_a_network_causes_a_warning() {
        for url in [
            "postgres://u:p@db.internal/x",
            "postgres://u:p@db.internal/x?sslmode=require",
            "postgres://u:p@10.0.0.7/x?sslmode=verify-ca",
            "postgres://u:p@[2001:db8::1]/x?sslmode=disable",
        ] {
            let warning = transport_warning(url).expect(url);
            assert!(warning.contains("sslmode=verify-full") && warning.contains("sslrootcert"), "{warning}");
            assert!(!warning.contains("u:p"), "{warning}");
        }
        for url in [
            "postgres://u:p@db.internal/x?sslmode=verify-full",
            "postgres://u:p@127.0.0.1/x",
            "postgres://u:p@[::1]/x",
            "postgres://u:p@localhost/x",
            "postgres://u:p@%2Fvar%2Frun%2Fpostgresql/x",
            "sqlite://x.db",
        ] {
            assert_eq!(transport_warning(url), None, "{url}");
        }
    }

    #[test]
    fn a_pooler_in_transaction_mode_is_recognised() {
        for text in ["unsupported startup parameter: options", "prepared statement \"sqlx_s_1\" already exists"] {
            let error = recognise_pooler(OpenError::Sqlx(sqlx::Error::Protocol(text.into())));
            assert!(error.is_setting() && error.to_string().contains("PgBouncer"), "{error}");
        }
    }
}
