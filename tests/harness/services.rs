//! PostgreSQL and Redis as processes of a test, which may stop, pause and restart them.

pub mod postgres;
pub mod redis;

pub use postgres::Postgres;
pub use redis::Redis;
