//! The state of `top`.

use std::cmp::Ordering;

use callscope_common::Timestamp;
use callscope_common::api::Stats;
use uuid::Uuid;

use super::message::{AdminAction, Errors, List};
use super::rates::Rates;
use super::rows::{SortKey, TableRow, columns, rows};
use super::tab::Tab;
use crate::term::text_input::TextInput;

/// Screen rows that are not rows of the list: three of the header, the tabs, the column titles and the footer.
pub(crate) const FRAME_ROWS: u16 = 6;

#[derive(Debug)]
pub(crate) struct TopApp {
    /// The address of the server.
    pub(crate) server: String,
    /// The context that names the server.
    pub(crate) context: Option<String>,
    pub(crate) color: bool,
    /// Whether actions are disabled.
    pub(crate) read_only: bool,
    /// Seconds between two polls.
    pub(crate) interval: u64,
    /// The columns and rows of the screen.
    pub(crate) size: (u16, u16),
    pub(crate) now: Timestamp,
    pub(crate) server_state: ServerState,
    /// The statistics, and when they were received.
    pub(crate) stats: Option<(Stats, Timestamp)>,
    /// How fast the counters of the statistics grow.
    pub(crate) rates: Rates,
    pub(crate) tab: Tab,
    pub(crate) overlay: Overlay,
    pub(crate) notice: Option<Notice>,
    tab_states: [TabState; 5],
}

/// Whether the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// The server has not answered yet.
    Connecting,
    /// The last answer came at this time.
    Live(Timestamp),
    /// There has been no answer since this time, for this reason.
    Lost(Timestamp, String),
}

/// What is shown instead of the list, or over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Overlay {
    None,
    /// The keys, from this row on.
    Help(usize),
    /// The filter is being typed.
    Filter {
        line: TextInput,
        /// The filter that Esc restores.
        before: String,
    },
    /// The details of a row.
    Detail(DetailView),
    /// The question whether to execute an action.
    Confirm(AdminAction),
}

/// The details of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetailView {
    /// The key of the row.
    pub(crate) key: String,
    /// Names and texts; `None` until the server has answered.
    pub(crate) lines: Option<Vec<(String, String)>>,
    /// The first line on the screen.
    pub(crate) top: usize,
}

/// The outcome of the last action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) is_good: bool,
    pub(crate) at: Timestamp,
}

/// The list of a tab, and how it is shown.
#[derive(Debug, Default)]
pub(crate) struct TabState {
    pub(crate) list: Option<List>,
    /// The key of the selected row; `None` for the first row, whichever that is.
    pub(crate) selected: Option<String>,
    /// The last index of the selected row. If that row disappears, the row that is now at this index is selected.
    pub(crate) place: usize,
    /// The first row on the screen.
    pub(crate) offset: usize,
    /// The index of the column that the rows are sorted by.
    pub(crate) sort: usize,
    pub(crate) is_reversed: bool,
    /// The text that a row has to contain.
    pub(crate) filter: String,
}

impl TopApp {
    /// Makes the state before the first answer of the server.
    pub(crate) fn new(server: String, context: Option<String>, tab: Tab, now: Timestamp) -> Self {
        Self {
            server,
            context,
            color: false,
            read_only: false,
            interval: 2,
            size: (80, 24),
            now,
            server_state: ServerState::Connecting,
            stats: None,
            rates: Rates::default(),
            tab,
            overlay: Overlay::None,
            notice: None,
            tab_states: Default::default(),
        }
    }

    /// Returns the state of the tab that is shown.
    pub(crate) fn tab_state(&self) -> &TabState {
        &self.tab_states[self.tab.index()]
    }

    pub(crate) fn tab_state_mut(&mut self) -> &mut TabState {
        &mut self.tab_states[self.tab.index()]
    }

    pub(crate) fn tab_state_of(&mut self, tab: Tab) -> &mut TabState {
        &mut self.tab_states[tab.index()]
    }

    /// Returns how many rows of the list fit on the screen.
    pub(crate) fn body_rows(&self) -> usize {
        usize::from(self.size.1.saturating_sub(FRAME_ROWS))
    }

    /// Returns the rows of the tab that is shown, filtered and sorted.
    pub(crate) fn rows(&self) -> Vec<TableRow> {
        let page = self.tab_state();
        let Some(list) = &page.list else { return Vec::new() };
        let needle = page.filter.to_lowercase();
        let mut rows = rows(list, self.stats.as_ref().map(|(stats, _)| stats), self.now);
        rows.retain(|row| {
            needle.is_empty()
                || row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&needle))
                || row.key == needle
        });
        let sort = page.sort.min(columns(self.tab).len() - 1);
        rows.sort_by(|a, b| {
            let order = compare(&a.cells[sort].value, &b.cells[sort].value);
            let order = if page.is_reversed { order.reverse() } else { order };
            // Rows with equal values are ordered by key, so that they keep their order from one poll to the next.
            order.then_with(|| a.key.cmp(&b.key))
        });
        rows
    }

    /// Returns the index of the selected row in `rows`, or the last known index if that row has disappeared.
    pub(crate) fn selection(&self, rows: &[TableRow]) -> usize {
        let page = self.tab_state();
        let found = page.selected.as_ref().map(|key| rows.iter().position(|row| row.key == *key));
        match found {
            None => 0,
            Some(Some(place)) => place,
            Some(None) => page.place.min(rows.len().saturating_sub(1)),
        }
    }

    /// Returns what `K` or `R` does to the selected row: kick a connection, or replay a delivery.
    pub(crate) fn admin_action(&self) -> Option<AdminAction> {
        if self.read_only {
            return None;
        }
        let rows = self.rows();
        let key = &rows.get(self.selection(&rows))?.key;
        match (&self.tab_state().list, self.tab) {
            (Some(List::Connections(views)), Tab::Connections) => {
                let view = views.iter().find(|view| view.connection_id.to_string() == *key)?;
                let who = format!("{} ({})", view.username, view.remote_addr);
                Some(AdminAction::Kick { connection: view.connection_id, who })
            }
            (Some(List::Deliveries(views) | List::Errors(Errors { rejected: views, .. })), _) => {
                let view = views.iter().find(|view| view.delivery_id.to_string() == *key)?;
                let kind = view.kind.as_deref().unwrap_or(view.route.as_str());
                Some(AdminAction::Replay {
                    delivery: view.delivery_id,
                    what: format!("{kind} ({})", short_id(view.delivery_id)),
                })
            }
            _ => None,
        }
    }
}

/// Returns the end of an id, which is enough for people to recognize it.
pub(crate) fn short_id(id: Uuid) -> String {
    let id = id.to_string();
    // Ids that are made shortly after each other begin with the same digits.
    format!("…{}", &id[id.len() - 8..])
}

/// Orders numbers from the largest, and texts by the alphabet with empty ones last.
fn compare(a: &SortKey, b: &SortKey) -> Ordering {
    match (a, b) {
        (SortKey::Number(a), SortKey::Number(b)) => b.total_cmp(a),
        (SortKey::Text(a), SortKey::Text(b)) => (a.is_empty(), a).cmp(&(b.is_empty(), b)),
        (SortKey::Number(_), SortKey::Text(_)) => Ordering::Less,
        (SortKey::Text(_), SortKey::Number(_)) => Ordering::Greater,
    }
}
