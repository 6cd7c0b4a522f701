//! Which answers are right.

use std::fmt;
use std::str::FromStr;

/// A list of HTTP statuses and classes: `2xx`, `401,413`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expect(Vec<(u16, u16)>);

impl Default for Expect {
    fn default() -> Self {
        Self(vec![(200, 299)])
    }
}

impl Expect {
    /// What is to be refused is to be answered so.
    pub(crate) fn refusals() -> Self {
        Self(vec![(400, 499)])
    }

    /// Whether `status` is one of them.
    pub(crate) fn takes(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (low, high)) in self.0.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "," })?;
            match (low, high) {
                (low, high) if low == high => write!(f, "{low}")?,
                (low, _) => write!(f, "{}xx", low / 100)?,
            }
        }
        Ok(())
    }
}

/// A text that is no list of statuses.
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
        assert!(expect.takes(201) && expect.takes(413) && !expect.takes(400) && !expect.takes(300));
        assert_eq!(expect.to_string(), "2xx,413");
        for wrong in ["", "xx", "9xx", "2xx,", "99", "600", "ok"] {
            assert!(wrong.parse::<Expect>().is_err(), "{wrong}");
        }
    }
}
