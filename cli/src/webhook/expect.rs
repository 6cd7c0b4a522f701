//! `--expect`: the statuses that count as success.

use std::fmt;
use std::str::FromStr;

/// Ranges of HTTP statuses, written as statuses and classes: `2xx`, `401,413`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expect(Vec<(u16, u16)>);

impl Default for Expect {
    fn default() -> Self {
        Self(vec![(200, 299)])
    }
}

impl Expect {
    /// Any 4xx: the right answer to a delivery that was tampered with.
    pub(crate) fn client_errors() -> Self {
        Self(vec![(400, 499)])
    }

    pub(crate) fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (low, high)) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match (low, high) {
                (low, high) if low == high => write!(f, "{low}")?,
                (low, _) => write!(f, "{}xx", low / 100)?,
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected answers are statuses from 100 to 599 and classes such as 2xx, with commas between")]
pub(crate) struct InvalidExpect;

impl FromStr for Expect {
    type Err = InvalidExpect;

    fn from_str(text: &str) -> Result<Self, InvalidExpect> {
        text.split(',').map(|part| range(part.trim())).collect::<Option<Vec<_>>>().map(Self).ok_or(InvalidExpect)
    }
}

fn range(part: &str) -> Option<(u16, u16)> {
    let (low, high) = match part.strip_suffix("xx") {
        Some(class) => {
            let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
            (class * 100, class * 100 + 99)
        }
        None => part.parse().ok().map(|status| (status, status))?,
    };
    (100..=599).contains(&low).then_some((low, high))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_classes() {
        let expect: Expect = "2xx, 413".parse().unwrap();
        assert!(expect.contains(201) && expect.contains(413) && !expect.contains(400) && !expect.contains(300));
        assert_eq!(expect.to_string(), "2xx,413");
        for wrong in ["", "xx", "9xx", "2xx,", "99", "600", "ok"] {
            assert!(wrong.parse::<Expect>().is_err(), "{wrong}");
        }
    }
}
