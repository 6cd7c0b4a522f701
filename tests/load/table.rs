//! Medians of paired rounds, as Markdown.

use crate::peer::Peer;

/// The figures of one server in one round.
#[derive(Debug, Clone)]
pub struct Sample {
    pub peer: Peer,
    /// The column and the value of each measurement.
    pub figures: Vec<(&'static str, f64)>,
}

impl Sample {
    fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(column, _)| *column == name).map(|(_, value)| *value)
    }
}

/// The samples of one shape.
#[derive(Debug)]
pub struct Table {
    /// The name of the shape.
    pub title: String,
    /// The columns for which a further column shows the first server's figure divided by the peer's.
    pub ratios: &'static [&'static str],
    /// One sample of each server in each round.
    pub rounds: Vec<Vec<Sample>>,
}

impl Table {
    /// Returns a Markdown table of the medians over the rounds, and of the medians, minima and maxima of the ratios.
    #[must_use]
    pub fn markdown(&self) -> String {
        let Some(first) = self.rounds.first() else { return String::new() };
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in first.iter().flat_map(|sample| &sample.figures) {
            if !names.contains(name) {
                names.push(name);
            }
        }
        let mut text = format!("\n### {}\n\n|  |", self.title);
        for name in &names {
            text += &format!(" {name} |");
        }
        for name in self.ratios {
            text += &format!(" Callscope ÷ it, {name} |");
        }
        text += "\n|---|";
        text += &"--:|".repeat(names.len() + self.ratios.len());
        for sample in first {
            text += &format!("\n| {} |", sample.peer.name());
            for name in &names {
                let mut values = self.values(sample.peer, name);
                text += &format!(" {} |", median(&mut values).map_or(String::from("–"), number));
            }
            for name in self.ratios {
                let mut values = self.ratios_to(sample.peer, name);
                let shown = match median(&mut values) {
                    Some(_) if sample.peer.is_callscope() && sample.peer == first[0].peer => String::from("1"),
                    Some(median) => format!("**{median:.2}** ({:.2}–{:.2})", values[0], values[values.len() - 1]),
                    None => String::from("–"),
                };
                text += &format!(" {shown} |");
            }
        }
        text + "\n"
    }

    fn values(&self, peer: Peer, name: &str) -> Vec<f64> {
        let samples = self.rounds.iter().filter_map(|round| round.iter().find(|sample| sample.peer == peer));
        samples.filter_map(|sample| sample.get(name)).collect()
    }

    /// Returns the first server's figure divided by that of `peer`, for each round.
    fn ratios_to(&self, peer: Peer, name: &str) -> Vec<f64> {
        let ratio = |round: &Vec<Sample>| {
            let other = round.iter().find(|sample| sample.peer == peer)?.get(name)?;
            Some(round.first()?.get(name)? / other)
        };
        self.rounds.iter().filter_map(ratio).collect()
    }
}

/// Sorts `values` and returns their median.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Formats a number with three significant digits or more.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
