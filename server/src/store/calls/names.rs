//! Looks up which calls have a name.

use callscope_common::api::CallView;
use callscope_common::{CallId, Identifier};

use crate::store::{Store, StoreError};

impl Store {
    /// The call of `among` that `id` names. The time that this takes does not reveal whether another call has that
    /// name.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn call_among(&self, id: &Identifier, among: &[CallId]) -> Result<Option<CallView>, StoreError> {
        const NAMED: &str = "SELECT call_id FROM identifiers WHERE identifier = $1 AND call_id = ANY($2)";
        let named: Option<CallId> = self.values(NAMED, &[id.as_str().into(), among.into()]).await?.pop();
        let by_id = match id.as_call_id() {
            // The id of an absorbed record leads to the call that absorbed it.
            Some(call_id) => self.call_info(call_id).await?.map(|info| info.call_id).filter(|id| among.contains(id)),
            None => None,
        };
        let Some(call_id) = by_id.or(named) else { return Ok(None) };
        let Some(resolved) = self.resolved_id(call_id).await? else { return Ok(None) };
        Ok(self.views(vec![resolved.row]).await?.pop())
    }

    /// The calls that these identifiers name.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn calls_named(&self, identifiers: &[Identifier]) -> Result<Vec<CallId>, StoreError> {
        let names: Vec<&str> = identifiers.iter().map(Identifier::as_str).collect();
        let ids: Vec<CallId> = identifiers.iter().filter_map(Identifier::as_call_id).collect();
        const SQL: &str = "SELECT call_id FROM identifiers WHERE identifier = ANY($1) UNION \
             SELECT COALESCE(merged_into, call_id) FROM calls WHERE call_id = ANY($2)";
        self.values(SQL, &[names.as_slice().into(), ids.as_slice().into()]).await
    }

    /// Those of the identifiers that name a call.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn existing_identifiers(&self, ids: &[Identifier]) -> Result<Vec<Identifier>, StoreError> {
        let names: Vec<&str> = ids.iter().map(Identifier::as_str).collect();
        const SQL: &str = "SELECT identifier FROM identifiers WHERE identifier = ANY($1)";
        let known: Vec<String> = self.values(SQL, &[names.as_slice().into()]).await?;
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
