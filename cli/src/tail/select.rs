//! Selects the updates to show: the last N earlier turns, and the turns that match.

use std::collections::VecDeque;

use callscope_common::protocol::ServerMessage;
use callscope_common::{Seq, Timestamp};

use crate::stream::{Incoming, Progress, Update};
use crate::tail::pattern::Pattern;

#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// How many earlier turns are shown; `None` for all.
    pub(crate) last: Option<usize>,
    /// Only turns that match one of these patterns are shown, if there are any patterns.
    pub(crate) include: Vec<Pattern>,
    /// Turns that match one of these patterns are left out.
    pub(crate) exclude: Vec<Pattern>,
}

impl Selection {
    fn matches(&self, update: &Update) -> bool {
        let text = match update {
            Update::Message(Incoming { message: ServerMessage::Transcription(turn), .. }) => &turn.message_text,
            Update::Message(Incoming { message: ServerMessage::TranscriptionPartial(turn), .. }) => &turn.message_text,
            _ => return true,
        };
        (self.include.is_empty() || self.include.iter().any(|pattern| pattern.matches(text)))
            && !self.exclude.iter().any(|pattern| pattern.matches(text))
    }
}

/// Selects the updates of one call.
#[derive(Debug)]
pub(crate) struct Selector {
    selection: Selection,
    /// The updates held back until the head of the log is reached; `None` unless only the last turns are shown.
    backlog: Option<Backlog>,
    pub(crate) progress: Progress,
}

#[derive(Debug, Default)]
struct Backlog {
    head: Option<Seq>,
    turns: usize,
    held: VecDeque<Update>,
}

impl Selector {
    /// Starts with the time at which the call began, if known.
    pub(crate) fn new(selection: Selection, start: Option<Timestamp>) -> Self {
        let backlog = selection.last.filter(|last| *last > 0).map(|_| Backlog::default());
        Self { selection, backlog, progress: Progress { start, ..Progress::default() } }
    }

    /// Takes an update in and returns the updates to show now.
    pub(crate) fn take(&mut self, update: Update) -> Vec<Update> {
        self.progress.note(&update);
        if !self.selection.matches(&update) {
            return self.release_if_reached().unwrap_or_default();
        }
        if matches!(update, Update::Ended(_)) {
            let mut shown = self.release();
            shown.push(update);
            return shown;
        }
        let Some(backlog) = &mut self.backlog else { return vec![update] };
        if let Update::Message(Incoming { message: ServerMessage::SubscriptionConfirmed(confirmed), .. }) = &update {
            backlog.head = Some(confirmed.seq);
        } else if matches!(&update, Update::Message(incoming) if incoming.seq.is_some()) {
            backlog.hold(update, self.selection.last.unwrap_or(usize::MAX));
            return self.release_if_reached().unwrap_or_default();
        }
        let mut shown = vec![update];
        shown.extend(self.release_if_reached().unwrap_or_default());
        shown
    }

    fn release_if_reached(&mut self) -> Option<Vec<Update>> {
        let head = self.backlog.as_ref()?.head?;
        (self.progress.place.seq >= head).then(|| self.release())
    }

    fn release(&mut self) -> Vec<Update> {
        self.backlog.take().map(|backlog| backlog.held.into()).unwrap_or_default()
    }
}

impl Backlog {
    fn hold(&mut self, update: Update, most: usize) {
        let is_turn = |update: &Update| {
            matches!(update, Update::Message(Incoming { message: ServerMessage::Transcription(_), .. }))
        };
        self.turns += usize::from(is_turn(&update));
        self.held.push_back(update);
        if self.turns > most
            && let Some(oldest) = self.held.iter().position(is_turn)
        {
            self.held.remove(oldest);
            self.turns -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Update {
        Update::Message(Incoming::read(text.into()).unwrap())
    }

    fn confirmed(seq: Seq) -> Update {
        message(&format!(
            r#"{{"type":"subscription_confirmed","identifier":"a","call_sid":"a","conversation_id":null,
            "status":"in_progress","message":"","call_id":"00000000-0000-0000-0000-000000000007","seq":{seq}}}"#
        ))
    }

    fn turn(seq: Seq) -> Update {
        message(&format!(
            r#"{{"type":"transcription","conversation_id":null,"call_sid":"a","transcription_id":1,"sequence_number":{seq},
            "speaker_type":"user","message_text":"turn {seq}","timestamp":"2026-10-01T14:00:0{seq}Z","seq":{seq}}}"#
        ))
    }

    fn seqs(updates: &[Update]) -> Vec<Seq> {
        let seq = |update: &Update| if let Update::Message(incoming) = update { incoming.seq } else { None };
        updates.iter().filter_map(seq).collect()
    }

    fn selector(selection: Selection) -> Selector {
        Selector::new(selection, None)
    }

    #[test]
    fn the_last_turns_come_when_the_head_is_reached() {
        let mut selector = selector(Selection { last: Some(2), ..Default::default() });
        assert_eq!(selector.take(confirmed(4)).len(), 1);
        for seq in 1..=3 {
            assert!(selector.take(turn(seq)).is_empty());
        }
        assert_eq!(seqs(&selector.take(turn(4))), [3, 4]);
        assert_eq!(seqs(&selector.take(turn(5))), [5]);
        assert_eq!(selector.progress.start, Timestamp::parse_rfc3339("2026-10-01T14:00:01Z"));
    }

    #[test]
    fn an_empty_log_keeps_nothing_back() {
        let mut selector = selector(Selection { last: Some(2), ..Default::default() });
        selector.take(confirmed(0));
        assert_eq!(seqs(&selector.take(turn(1))), [1]);
    }

    #[test]
    fn turns_are_chosen_by_their_text() {
        let regex = |text: &str| vec![text.parse::<Pattern>().unwrap()];
        let selection = Selection { include: regex("turn [12]"), exclude: regex("2$"), ..Default::default() };
        let mut selector = selector(selection);
        assert_eq!(seqs(&selector.take(turn(1))), [1]);
        assert!(selector.take(turn(2)).is_empty());
        assert!(selector.take(turn(3)).is_empty());
        assert_eq!(selector.progress.place.seq, 3);
    }

    #[test]
    fn turns_are_found_however_their_letters_are_written() {
        let include = vec!["한국어 Zürich".parse::<Pattern>().unwrap()];
        let mut selector = selector(Selection { include, ..Default::default() });
        let apart = "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}\u{110b}\u{1165} Zu\u{308}rich";
        let Update::Message(incoming) = turn(1) else { panic!() };
        assert_eq!(selector.take(message(&incoming.raw.replace("turn 1", apart))).len(), 1);
        assert!(selector.take(turn(2)).is_empty());
    }

    #[test]
    fn a_head_that_does_not_match_still_releases_what_was_held() {
        let regex = vec!["turn 1".parse::<Pattern>().unwrap()];
        let mut selector = selector(Selection { last: Some(5), include: regex, ..Default::default() });
        selector.take(confirmed(2));
        assert!(selector.take(turn(1)).is_empty());
        assert_eq!(seqs(&selector.take(turn(2))), [1]);
    }
}
