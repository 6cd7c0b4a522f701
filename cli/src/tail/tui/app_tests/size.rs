//! A frame costs the same work for a call of any length. The work is counted; `tests/measure terminal` measures the
//! time.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use super::*;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// What one key and one frame cost in a long session: entries laid out, and allocations.
fn cost(turns: usize) -> (usize, usize) {
    let mut test = long(turns);
    let keys = [KeyCode::Up, KeyCode::PageUp, KeyCode::Home, KeyCode::PageDown, KeyCode::End, KeyCode::Char('f')];
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    // The first round allocates what later rounds use again.
    let mut round = |test: &mut Test| {
        for key in keys {
            test.key(key);
            test.turn("user", "one more");
            terminal.draw(|frame| test.app.draw(frame)).unwrap();
        }
    };
    round(&mut test);
    let layout_count = |test: &Test| test.app.tab().unwrap().transcript.layout_count();
    let before = layout_count(&test);
    let region = Region::new(ALLOCATOR);
    round(&mut test);
    (layout_count(&test) - before, region.change().allocations)
}

fn long(turns: usize) -> Test {
    let mut test = Test::new(80, 24);
    test.confirmed();
    let words = "A green hatchback. No smoke. It coughed twice and that was it.";
    for turn in 0..turns {
        test.turn(["agent", "user", "tool"][turn % 3], words);
    }
    test
}

#[test]
fn a_frame_of_200_000_turns_costs_at_most_twice_one_of_20() {
    let (few, many) = (cost(20), cost(200_000));
    assert!(few.0 > 0 && few.1 > 0, "the count counts: {few:?}");
    // Twenty turns nearly fill the screen, so following lays out few entries; scrolling lays out another page.
    assert!(many.0 <= few.0 + 6 * 24, "entries laid out: {few:?} and {many:?}");
    assert!(many.1 <= 2 * few.1 + 6 * 24 * 8, "allocations: {few:?} and {many:?}");
}

#[test]
fn memory_for_200_000_turns_stays_under_200_mb() {
    let region = Region::new(ALLOCATOR);
    let test = long(200_000);
    let change = region.change();
    let held = change.bytes_allocated - change.bytes_deallocated;
    assert!(held < 200_000_000, "{held} bytes");
    assert!(held > 20_000_000, "the count counts: {held} bytes");
    drop(test);
}
