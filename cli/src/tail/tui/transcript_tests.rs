//! Random walks over a [`super::Transcript`] that check the screen after each step.

use callscope_common::Timestamp;

use super::*;

/// A small random number generator with a seed, so that a failure can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn entry(chance: &mut Chance) -> Entry {
    let speakers = [Speaker::Agent, Speaker::User, Speaker::Tool];
    let text = "word ".repeat(1 + chance.below(60));
    Entry::new(EntryKind::Turn(speakers[chance.below(3)]), Timestamp::from_unix_secs(7), &text, None)
}

fn check(transcript: &Transcript, walk: &str) {
    let rows = transcript.rows();
    assert!(rows.len() <= transcript.body, "{walk}");
    let all: usize =
        (0..transcript.len()).map(|place| transcript.layout.lay_out(transcript.entry(place).unwrap()).len()).sum();
    assert_eq!(rows.len(), all.min(transcript.body), "the screen is as full as it can be: {walk}");
    for pair in rows.windows(2) {
        let next = (pair[0].position, pair[0].line + 1) == (pair[1].position, pair[1].line);
        let new = pair[1].position == pair[0].position + 1 && pair[1].line == 0;
        assert!(next || new, "rows follow each other: {walk}");
    }
    if let Some(last) = rows.last() {
        let selected = transcript.selected;
        assert!((rows[0].position..=last.position).contains(&selected), "the selection is on the screen: {walk}");
        assert!(!transcript.follow || selected + 1 == transcript.len(), "{walk}");
        assert!(transcript.seen > last.position, "what is on the screen was seen: {walk}");
    }
}

#[test]
fn whatever_is_done_the_screen_is_right() {
    for seed in 0..25 {
        let mut chance = Chance(seed);
        let mut transcript = Transcript::new();
        let mut walk = format!("seed {seed}:");
        for _ in 0..120 {
            let step = chance.below(13);
            walk.push_str(&format!(" {step}"));
            match step {
                0..=3 => transcript.push(entry(&mut chance)),
                4 => transcript.page(false),
                5 => transcript.page(true),
                6 => transcript.step(false),
                7 => transcript.step(true),
                8 => transcript.end(chance.below(2) == 0),
                9 => transcript.unfold(),
                10 => transcript.toggle(Speaker::Tool),
                11 => {
                    let layout = Layout { width: 20 + chance.below(80), ..*transcript.layout() };
                    transcript.resize(layout, 1 + chance.below(30));
                }
                _ => {
                    let mut partial = entry(&mut chance);
                    partial.kind = EntryKind::Partial(Speaker::User);
                    transcript.set_partial(None, partial);
                }
            }
            transcript.refresh();
            check(&transcript, &walk);
        }
    }
}
