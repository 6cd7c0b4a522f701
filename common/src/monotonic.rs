//! Makes the times of turns monotonic, because providers send odd ones.

/// Returns times that never decrease. Each of them is finite and not negative.
///
/// A single odd time (`1e12`, or 0 in the middle) must not move all that follow. So the times of a longest subsequence
/// that never decreases are kept, and each other time becomes the kept time before it.
pub(crate) fn make_monotonic(times: &[f64]) -> Vec<f64> {
    let mut is_kept = vec![false; times.len()];
    longest_subsequence(times).into_iter().for_each(|index| is_kept[index] = true);
    let mut latest = 0.0;
    let monotonic = times.iter().zip(is_kept).map(|(time, is_kept)| {
        if is_kept {
            latest = *time;
        }
        latest
    });
    monotonic.collect()
}

/// Returns the indexes, from last to first, of a longest subsequence of times that never decreases.
fn longest_subsequence(times: &[f64]) -> Vec<usize> {
    // At index `length - 1`: of all such subsequences of that length, the index of the smallest last time.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = vec![None; times.len()];
    for (index, time) in times.iter().enumerate().filter(|(_, time)| time.is_finite() && **time >= 0.0) {
        let shorter = ends.partition_point(|end| times[*end] <= *time);
        previous[index] = shorter.checked_sub(1).map(|last| ends[last]);
        if shorter == ends.len() {
            ends.push(index);
        } else {
            ends[shorter] = index;
        }
    }
    std::iter::successors(ends.last().copied(), |index| previous[*index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(times: &[f64], expected: &[f64]) {
        assert_eq!(make_monotonic(times), expected, "{times:?}");
    }

    #[test]
    fn an_odd_time_does_not_move_other_times() {
        check(&[0.0, 2.0, 1e12, 4.0, 6.0], &[0.0, 2.0, 2.0, 4.0, 6.0]);
        check(&[1e12, 2.0, 3.0], &[0.0, 2.0, 3.0]);
        check(&[0.0, 2.0, 3.0, 1e12], &[0.0, 2.0, 3.0, 1e12]);
        check(&[5.0, 6.0, 0.0, 7.0], &[5.0, 6.0, 6.0, 7.0]);
        check(&[0.0, 1e12, 1e12, 1.0, 2.0, 3.0, -1.0], &[0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0]);
    }

    #[test]
    fn a_value_that_is_not_a_time_becomes_the_time_before() {
        check(&[], &[]);
        check(&[f64::NAN, -1.0], &[0.0, 0.0]);
        check(&[3.0, f64::NAN, f64::INFINITY, 3.0, 4.0], &[3.0, 3.0, 3.0, 3.0, 4.0]);
    }
}
