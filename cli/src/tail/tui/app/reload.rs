//! Requests evicted events when they come into sight, are searched or are filtered.

use super::{Effect, Origin, ReloadTarget, Request, ScanQuery, TailApp};
use crate::render::Tint;
use crate::tail::pattern::Pattern;
use crate::tail::tui::call_tab::CallTab;
use crate::tail::tui::event_entries;
use crate::tail::tui::transcript::EventMatch;

impl TailApp {
    /// Shares the memory for text among the calls. A recording has no server that could send evicted text again.
    pub(super) fn share(&mut self) {
        if matches!(self.origin, Origin::Recording { .. }) {
            return;
        }
        let limit = self.text_limit / self.tabs.len().max(1);
        self.tabs.iter_mut().for_each(|tab| tab.transcript.set_limit(limit));
    }

    /// Requests the evicted events on the screen.
    pub(super) fn load(&mut self) -> Option<Effect> {
        let tab = self.tabs.get_mut(self.current)?;
        if tab.reload.loading || tab.reload.failed {
            return None;
        }
        let missing = tab.transcript.missing_on_screen();
        let target = reload_target(tab).filter(|_| !missing.is_empty())?;
        tab.reload.loading = true;
        Some(Effect::Request(Request::Reload(target, missing)))
    }

    /// Takes in events that were read again.
    pub(super) fn loaded(&mut self, target: &ReloadTarget, events: Result<Vec<Box<str>>, String>) {
        let Some(tab) = self.tab_of(target) else { return };
        match events {
            Ok(events) if events.is_empty() => {
                tab.reload.loading = false;
                tab.transcript.restored();
                // A server that does not send the events must not be asked again at once.
                tab.reload.failed = !tab.transcript.missing_on_screen().is_empty();
            }
            Ok(events) => {
                for (seq, entries) in events.iter().filter_map(|raw| event_entries::read(raw)) {
                    tab.transcript.restore(seq, entries);
                }
                tab.transcript.evict_distant();
            }
            Err(why) => {
                (tab.reload.loading, tab.reload.failed) = (false, true);
                self.notice = Some((Tint::Bad, format!("not read again: {why}")));
            }
        }
    }

    /// Requests the matches in the evicted events of the call that is shown.
    pub(super) fn scan(&mut self, is_filter: bool, text: &str) -> Vec<Effect> {
        let Some(tab) = self.tabs.get_mut(self.current) else { return Vec::new() };
        let ranges = tab.transcript.evicted();
        let Some(target) = reload_target(tab).filter(|_| !ranges.is_empty() && !text.is_empty()) else {
            return Vec::new();
        };
        tab.reload.scans += 1;
        vec![Effect::Request(Request::Scan(target, ScanQuery { is_filter, text: text.to_owned() }, ranges))]
    }

    /// Takes in the matches, unless the user searches for something else by now.
    pub(super) fn scanned(&mut self, target: &ReloadTarget, scan: &ScanQuery, found: Result<Vec<EventMatch>, String>) {
        let Some(tab) = self.tab_of(target) else { return };
        tab.reload.scans = tab.reload.scans.saturating_sub(1);
        let transcript = &mut tab.transcript;
        let is_wanted = |pattern: Option<&Pattern>| pattern.is_some_and(|pattern| pattern.text() == scan.text);
        match found {
            Ok(found) if scan.is_filter && is_wanted(transcript.filter().0) => transcript.found_filter(&found),
            Ok(found) if !scan.is_filter && is_wanted(transcript.search()) => {
                transcript.found_search(&found);
                transcript.go_to_first_found();
                let is_found = transcript.found().0 > 0;
                self.notice = (!is_found).then(|| (Tint::Warning, format!("not found: {}", scan.text)));
            }
            Ok(_) => {}
            Err(why) => self.notice = Some((Tint::Bad, format!("not searched: {why}"))),
        }
    }

    fn tab_of(&mut self, target: &ReloadTarget) -> Option<&mut CallTab> {
        self.tabs.iter_mut().find(|tab| tab.call == target.call && tab.reload.generation == target.generation)
    }
}

fn reload_target(tab: &CallTab) -> Option<ReloadTarget> {
    let id = tab.progress.place.call_id?.to_string();
    Some(ReloadTarget { call: tab.call, id, generation: tab.reload.generation })
}
