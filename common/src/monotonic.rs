//! Times of turns that never go back, whatever a provider sends.

/// Returns `times` in an order that never goes back. None is negative, and each is a number.
///
/// A single odd time (`1e12`, or 0 in the middle) must not move all that follow. So a longest run of times that never
/// go back counts as sound, and each other time becomes the sound time before it.
pub(crate) fn make_monotonic(times: &[f64]) -> Vec<f64> {
    let mut is_sound = vec![false; times.len()];
    longest_run(times).into_iter().for_each(|place| is_sound[place] = true);
    let mut latest = 0.0;
    let monotonic = times.iter().zip(is_sound).map(|(at, is_sound)| {
        if is_sound {
            latest = *at;
        }
        latest
    });
    monotonic.collect()
}

/// Returns the indexes of a longest run of times that never go back. They need not be neighbours.
fn longest_run(times: &[f64]) -> Vec<usize> {
    // At index `length - 1`: the index at which the run of that length with the smallest last time ends.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; times.len()];
    for (place, at) in times.iter().enumerate().filter(|(_, at)| at.is_finite() && **at >= 0.0) {
        let shorter = ends.partition_point(|end| times[*end] <= *at);
        before[place] = shorter.checked_sub(1).map(|last| ends[last]);
        if shorter == ends.len() {
            ends.push(place);
        } else {
            ends[shorter] = place;
        }
    }
    std::iter::successors(ends.last().copied(), |place| before[*place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(times: &[f64], expected: &[f64]) {
        assert_eq!(make_monotonic(times), expected, "{times:?}");
    }

    #[test]
    fn one_odd_time_is_its_own() {
        check(&[0.0, 2.0, 1e12, 4.0, 6.0], &[0.0, 2.0, 2.0, 4.0, 6.0]);
        check(&[1e12, 2.0, 3.0], &[0.0, 2.0, 3.0]);
        check(&[0.0, 2.0, 3.0, 1e12], &[0.0, 2.0, 3.0, 1e12]);
        check(&[5.0, 6.0, 0.0, 7.0], &[5.0, 6.0, 6.0, 7.0]);
        check(&[0.0, 1e12, 1e12, 1.0, 2.0, 3.0, -1.0], &[0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0]);
    }

    #[test]
    fn what_is_no_time_stands_still() {
        check(&[], &[]);
        check(&[f64::NAN, -1.0], &[0.0, 0.0]);
        check(&[3.0, f64::NAN, f64::INFINITY, 3.0, 4.0], &[3.0, 3.0, 3.0, 3.0, 4.0]);
    }
}
