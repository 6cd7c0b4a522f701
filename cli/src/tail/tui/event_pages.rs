//! Reads events of a call from the server again.

use callscope_common::Seq;

use super::event_entries;
use super::transcript::EventMatch;
use crate::api::Client;
use crate::exit::{Failure, Result};
use crate::tail::pattern::Pattern;

/// Most events in one request. A server may send fewer.
const PAGE: Seq = 64;

/// The pages of a range of events: behind the seq `after`, up to the seq `to`.
pub(crate) struct EventPages<'c> {
    client: &'c Client,
    id: String,
    after: Seq,
    to: Seq,
}

impl<'c> EventPages<'c> {
    pub(crate) fn new(client: &'c Client, id: &str, (after, to): (Seq, Seq)) -> Self {
        Self { client, id: id.to_owned(), after, to }
    }

    /// Returns the next page; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Box<str>>>> {
        if self.after >= self.to {
            return Ok(None);
        }
        let limit = (self.to - self.after).min(PAGE);
        let page = self.client.events(&self.id, self.after, limit).await?;
        let count = Seq::try_from(page.events.len()).unwrap_or(limit).min(limit);
        if count == 0 {
            return Err(Failure::error(format!("the server sent nothing behind event {}", self.after)));
        }
        // The number of events counts and not their seqs, so that a wrong answer is never requested again and again.
        self.after += count;
        Ok(Some(page.events.into_iter().map(|event| event.get().into()).collect()))
    }
}

/// Returns the matches of `pattern` in `ranges`.
pub(crate) async fn scan(
    client: &Client,
    id: &str,
    ranges: &[(Seq, Seq)],
    pattern: &Pattern,
) -> Result<Vec<EventMatch>> {
    let mut found = Vec::new();
    for range in ranges {
        let mut pages = EventPages::new(client, id, *range);
        while let Some(page) = pages.next().await? {
            found.extend(page.iter().flat_map(|raw| matching(raw, pattern)));
        }
    }
    Ok(found)
}

/// Returns the matches of `pattern` in one event.
pub(crate) fn matching(raw: &str, pattern: &Pattern) -> Vec<EventMatch> {
    let Some((seq, entries)) = event_entries::read(raw) else { return Vec::new() };
    let matching = entries.iter().enumerate().filter(|(_, entry)| pattern.matches(&entry.text));
    matching.map(|(part, _)| (seq, part)).collect()
}
