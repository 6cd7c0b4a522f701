//! PostgreSQL and Redis as processes of a test's own, which it may stop, pause and bring back.

pub mod postgres;
pub mod redis;

pub use postgres::Postgres;
pub use redis::Redis;
