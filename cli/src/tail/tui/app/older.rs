//! What is not held of a call: asked for when it comes into sight, is searched or is filtered.

use super::{App, Asked, Effect, Origin, Request, Scan};
use crate::tail::pattern::Pattern;
use crate::tail::tui::entry::Tone;
use crate::tail::tui::events;
use crate::tail::tui::tab::Tab;
use crate::tail::tui::transcript::Found;

impl App {
    /// Shares what may be held among the calls. A recording has no server to be read from again.
    pub(super) fn share(&mut self) {
        if matches!(self.origin, Origin::Recording { .. }) {
            return;
        }
        let limit = self.held / self.tabs.len().max(1);
        self.tabs.iter_mut().for_each(|tab| tab.transcript.set_limit(limit));
    }

    /// Asks for what is on the screen and is not held.
    pub(super) fn load(&mut self) -> Option<Effect> {
        let tab = self.tabs.get_mut(self.current)?;
        if tab.older.loading || tab.older.failed {
            return None;
        }
        let missing = tab.transcript.missing();
        let asked = asked(tab).filter(|_| !missing.is_empty())?;
        tab.older.loading = true;
        Some(Effect::Request(Request::Load(asked, missing)))
    }

    /// Takes in what was read again.
    pub(super) fn loaded(&mut self, asked: &Asked, events: Result<Vec<Box<str>>, String>) {
        let Some(tab) = self.asked_tab(asked) else { return };
        match events {
            Ok(events) if events.is_empty() => {
                tab.older.loading = false;
                tab.transcript.restored();
                // Asked again at once, a server that does not send it would be asked for ever.
                tab.older.failed = !tab.transcript.missing().is_empty();
            }
            Ok(events) => {
                for (seq, entries) in events.iter().filter_map(|raw| events::read(raw)) {
                    tab.transcript.restore(seq, entries);
                }
                tab.transcript.drop_far();
            }
            Err(why) => {
                (tab.older.loading, tab.older.failed) = (false, true);
                self.notice = Some((Tone::Bad, format!("not read again: {why}")));
            }
        }
    }

    /// Asks for the matches in what is not held of the call that is shown.
    pub(super) fn scan(&mut self, filters: bool, text: &str) -> Vec<Effect> {
        let Some(tab) = self.tabs.get_mut(self.current) else { return Vec::new() };
        let ranges = tab.transcript.gone();
        let Some(asked) = asked(tab).filter(|_| !ranges.is_empty() && !text.is_empty()) else { return Vec::new() };
        tab.older.scans += 1;
        vec![Effect::Request(Request::Scan(asked, Scan { filters, text: text.to_owned() }, ranges))]
    }

    /// Takes in the matches, unless something else is searched for by now.
    pub(super) fn scanned(&mut self, asked: &Asked, scan: &Scan, found: Result<Vec<Found>, String>) {
        let Some(tab) = self.asked_tab(asked) else { return };
        tab.older.scans = tab.older.scans.saturating_sub(1);
        let transcript = &mut tab.transcript;
        let is_wanted = |pattern: Option<&Pattern>| pattern.is_some_and(|pattern| pattern.text() == scan.text);
        match found {
            Ok(found) if scan.filters && is_wanted(transcript.filter().0) => transcript.found_filter(&found),
            Ok(found) if !scan.filters && is_wanted(transcript.search()) => {
                transcript.found_search(&found);
                transcript.go_to_first_found();
                let is_found = transcript.found().0 > 0;
                self.notice = (!is_found).then(|| (Tone::Warn, format!("not found: {}", scan.text)));
            }
            Ok(_) => {}
            Err(why) => self.notice = Some((Tone::Bad, format!("not searched: {why}"))),
        }
    }

    fn asked_tab(&mut self, asked: &Asked) -> Option<&mut Tab> {
        self.tabs.iter_mut().find(|tab| tab.call == asked.call && tab.older.life == asked.life)
    }
}

fn asked(tab: &Tab) -> Option<Asked> {
    let id = tab.place.call_id?.to_string();
    Some(Asked { call: tab.call, id, life: tab.older.life })
}
