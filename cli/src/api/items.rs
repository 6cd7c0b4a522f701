//! Lists in a server's answers, kept as they came.

use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Most items of one list: each costs memory beside its text, and a text of 64 MiB has room for millions of empty ones.
const MOST: usize = 1_000_000;

/// Reads a list of anything, as long as it has not too many items.
pub fn items<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<RawValue>>, D::Error> {
    struct Items;
    impl<'de> Visitor<'de> for Items {
        type Value = Vec<Box<RawValue>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == MOST {
                    return Err(A::Error::custom(format_args!("a list of more than {MOST} items")));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Items)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_too_many_items_is_refused() {
        let list = |items: usize| format!("[{}0]", "1,".repeat(items - 1));
        let read = |text: &str| items(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(read(&list(1000)).unwrap().len(), 1000);
        assert!(read(&list(MOST + 1)).unwrap_err().to_string().contains("more than"));
        assert!(read("{}").is_err());
    }
}
