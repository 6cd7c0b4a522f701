//! Lengths of time, as they are typed and as they are shown.

/// Reads a length of time such as `30m` or `1h30m`, in seconds.
pub(crate) fn parse_secs(text: &str) -> Option<i64> {
    const UNITS: [(char, i64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
    let (mut rest, mut total, mut smallest) = (text, 0_i64, i64::MAX);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit = rest[end..].chars().next()?;
        let (_, secs) = UNITS.iter().find(|(known, _)| *known == unit)?;
        // Each unit once, the largest first.
        if *secs >= smallest {
            return None;
        }
        smallest = *secs;
        total = total.checked_add(rest[..end].parse::<i64>().ok()?.checked_mul(*secs)?)?;
        rest = &rest[end + 1..];
    }
    (smallest < i64::MAX).then_some(total)
}

/// A span of time for people, in its two largest units: `2d 3h`.
pub(crate) fn in_words(secs: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let secs = secs.max(0.0).round() as u64;
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(size, _)| secs >= *size).unwrap_or(3);
    let mut left = secs;
    let parts: Vec<String> = units
        .iter()
        .skip(first)
        .take(2)
        .filter_map(|(size, unit)| {
            let count = left / size;
            left %= size;
            (count > 0).then(|| format!("{count}{unit}"))
        })
        .collect();
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (secs, words) in [(0.0, "0s"), (59.6, "1m"), (61.0, "1m 1s"), (3600.0, "1h"), (90_061.0, "1d 1h")] {
            assert_eq!(in_words(secs), words);
        }
    }
}
