//! What answers are read into, within bounds.

use std::fmt;
use std::marker::PhantomData;

use reqwest::Response;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::exit::Failure;

/// Most items of one list: each costs memory beside its text, and a text of 64 MiB has room for millions of empty ones.
const MOST_ITEMS: usize = 1_000_000;

/// A value, and the JSON text from which it was read: a newer server may have sent more than the type knows.
#[derive(Debug, Clone)]
pub(crate) struct Raw<T> {
    /// The text as it came.
    pub(crate) json: Box<RawValue>,
    /// What it says.
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

/// One answer of a route that lists something.
#[derive(Debug, serde::Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(crate) struct Page<T> {
    /// The items of this page, in the server's order.
    #[serde(alias = "calls", alias = "connections", alias = "deliveries", alias = "subscriptions")]
    #[serde(deserialize_with = "items")]
    pub(crate) items: Vec<Raw<T>>,
    /// Asks for the next page; `None` on the last one.
    #[serde(default)]
    pub(crate) next_cursor: Option<String>,
    /// Server processes that did not answer, so that their items are missing.
    #[serde(default)]
    pub(crate) silent_nodes: Vec<String>,
}

impl<T> Page<T> {
    /// The items without their texts.
    pub(crate) fn into_values(self) -> Vec<T> {
        self.items.into_iter().map(|item| item.value).collect()
    }
}

/// Reads a list of at most [`MOST_ITEMS`].
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
                if items.len() == MOST_ITEMS {
                    return Err(A::Error::custom(format_args!("a list of more than {MOST_ITEMS} items")));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Items(PhantomData))
}

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It is longer than was allowed.
    TooLong,
    /// The connection broke.
    Broken(reqwest::Error),
}

/// Reads a body of at most `longest` bytes; of a longer one no more than that is ever held.
pub(crate) async fn body(mut response: Response, longest: usize) -> Result<Vec<u8>, Unread> {
    if response.content_length().is_some_and(|length| length > longest as u64) {
        return Err(Unread::TooLong);
    }
    let expected = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut body = Vec::with_capacity(expected);
    while let Some(chunk) = response.chunk().await.map_err(Unread::Broken)? {
        if body.len() + chunk.len() > longest {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An answer is longer than is taken.
pub(crate) fn too_long(what: &str, longest: usize) -> Failure {
    let limit = if longest >= 1 << 20 { format!("{} MiB", longest >> 20) } else { format!("{} KiB", longest >> 10) };
    Failure::error(format!("{what} is longer than {limit}, which is the most that is taken"))
        .hint("is that a Callscope server? of a list, ask for less: --limit N")
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
        assert!(read(&list(MOST_ITEMS + 1)).unwrap_err().to_string().contains("more than"));
        assert!(read("{}").is_err());
    }
}
