//! Reads and parses answers of limited size.

use std::fmt;
use std::marker::PhantomData;

use reqwest::Response;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::exit::Failure;

/// Most items of a list. The limit of bytes is not enough: each item costs memory beside its text, and 64 MiB of JSON
/// have room for millions of empty items.
const MAX_ITEMS: usize = 1_000_000;

/// A value with the JSON text it was parsed from. The text may have fields of a newer server that the type lacks.
#[derive(Debug, Clone)]
pub(crate) struct Raw<T> {
    pub(crate) json: Box<RawValue>,
    pub(crate) value: T,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Raw<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let value = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        Ok(Self { json, value })
    }
}

impl<T> AsRef<RawValue> for Raw<T> {
    fn as_ref(&self) -> &RawValue {
        &self.json
    }
}

/// One page of a list.
#[derive(Debug, serde::Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(crate) struct Page<T> {
    /// The items of this page, in the server's order.
    #[serde(alias = "calls", alias = "connections", alias = "deliveries", alias = "subscriptions")]
    #[serde(deserialize_with = "items")]
    pub(crate) items: Vec<Raw<T>>,
    /// The cursor of the next page; `None` on the last page.
    #[serde(default)]
    pub(crate) next_cursor: Option<String>,
    /// The server processes that did not answer. Their items are missing.
    #[serde(default)]
    pub(crate) silent_nodes: Vec<String>,
}

impl<T> Page<T> {
    pub(crate) fn into_values(self) -> Vec<T> {
        self.items.into_iter().map(|item| item.value).collect()
    }
}

/// Parses a list of at most [`MAX_ITEMS`].
fn items<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Items<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == MAX_ITEMS {
                    return Err(A::Error::custom(format_args!("a list of more than {MAX_ITEMS} items")));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Items(PhantomData))
}

#[derive(Debug)]
pub(crate) enum BodyError {
    TooLong,
    /// The connection broke before the end of the body.
    Broken(reqwest::Error),
}

/// Reads a body. Never holds more than `max_bytes` of it.
pub(crate) async fn read_body(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, BodyError> {
    if response.content_length().is_some_and(|length| length > max_bytes as u64) {
        return Err(BodyError::TooLong);
    }
    let capacity = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut body = Vec::with_capacity(capacity);
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

pub(crate) fn too_long(what: &str, max_bytes: usize) -> Failure {
    let limit =
        if max_bytes >= 1 << 20 { format!("{} MiB", max_bytes >> 20) } else { format!("{} KiB", max_bytes >> 10) };
    Failure::error(format!("{what} is longer than {limit}, the most that callscope reads"))
        .hint("is that a Callscope server? if you asked for a list, ask for less with --limit N")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_too_many_items_is_refused() {
        let list = |items: usize| format!("[{}0]", "1,".repeat(items - 1));
        let read = |text: &str| items::<_, u8>(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(read(&list(1000)).unwrap().len(), 1000);
        assert!(read(&list(MAX_ITEMS + 1)).unwrap_err().to_string().contains("more than"));
        assert!(read("{}").is_err());
    }
}
