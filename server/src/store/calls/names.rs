//! Looks up which calls have a name.

use callscope_common::api::CallView;
use callscope_common::{CallId, Identifier};
use serde_json::json;

use crate::store::postgres::Postgres;
use crate::store::sqlite::{Sqlite, hex_list};
use crate::store::{Engine, Store, StoreError};

impl Store {
    /// The call of `among` that `id` names. The time that this takes does not reveal whether another call has that
    /// name.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn call_among(&self, id: &Identifier, among: &[CallId]) -> Result<Option<CallView>, StoreError> {
        let named: Option<CallId> = match &self.0 {
            Engine::Sqlite(Sqlite { readers, .. }) => {
                sqlx::query_scalar(
                    "SELECT call_id FROM identifiers WHERE identifier = $1 \
                     AND call_id IN (SELECT unhex(value) FROM json_each($2))",
                )
                .bind(id.as_str())
                .bind(hex_list(among))
                .fetch_optional(readers)
                .await?
            }
            Engine::Postgres(Postgres { readers, .. }) => {
                sqlx::query_scalar("SELECT call_id FROM identifiers WHERE identifier = $1 AND call_id = ANY($2)")
                    .bind(id.as_str())
                    .bind(among)
                    .fetch_optional(readers)
                    .await?
            }
        };
        let by_id = match id.as_call_id() {
            // The id of an absorbed record leads to the call that absorbed it.
            Some(call_id) => self.row_by_id(call_id).await?.map(|row| row.call_id).filter(|id| among.contains(id)),
            None => None,
        };
        let Some(call_id) = by_id.or(named) else { return Ok(None) };
        let Some(row) = self.row_by_id(call_id).await? else { return Ok(None) };
        Ok(self.views(vec![row]).await?.pop())
    }

    /// The calls that these identifiers name.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn calls_named(&self, identifiers: &[Identifier]) -> Result<Vec<CallId>, StoreError> {
        let names: Vec<&str> = identifiers.iter().map(Identifier::as_str).collect();
        let ids: Vec<CallId> = identifiers.iter().filter_map(Identifier::as_call_id).collect();
        Ok(match &self.0 {
            Engine::Sqlite(Sqlite { readers, .. }) => {
                sqlx::query_scalar(
                    "SELECT call_id FROM identifiers WHERE identifier IN (SELECT value FROM json_each($1)) UNION \
                     SELECT COALESCE(merged_into, call_id) FROM calls WHERE call_id IN (SELECT unhex(value) FROM json_each($2))",
                )
                .bind(json!(names).to_string())
                .bind(hex_list(&ids))
                .fetch_all(readers)
                .await?
            }
            Engine::Postgres(Postgres { readers, .. }) => {
                sqlx::query_scalar(
                    "SELECT call_id FROM identifiers WHERE identifier = ANY($1) UNION \
                     SELECT COALESCE(merged_into, call_id) FROM calls WHERE call_id = ANY($2)",
                )
                .bind(&names)
                .bind(&ids)
                .fetch_all(readers)
                .await?
            }
        })
    }

    /// Those of the identifiers that name a call.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn existing_identifiers(&self, ids: &[Identifier]) -> Result<Vec<Identifier>, StoreError> {
        let names: Vec<&str> = ids.iter().map(Identifier::as_str).collect();
        let known: Vec<String> = match &self.0 {
            Engine::Sqlite(Sqlite { readers, .. }) => {
                sqlx::query_scalar(
                    "SELECT identifier FROM identifiers WHERE identifier IN (SELECT value FROM json_each($1))",
                )
                .bind(json!(names).to_string())
                .fetch_all(readers)
                .await?
            }
            Engine::Postgres(Postgres { readers: pool, .. }) => {
                sqlx::query_scalar("SELECT identifier FROM identifiers WHERE identifier = ANY($1)")
                    .bind(&names)
                    .fetch_all(pool)
                    .await?
            }
        };
        Ok(known.iter().filter_map(|name| Identifier::parse(name).ok()).collect())
    }

    /// Whether one of the names belongs to the call.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn is_named(&self, call_id: CallId, names: &[Identifier]) -> Result<bool, StoreError> {
        Ok(self.calls_named(names).await?.contains(&call_id))
    }
}
