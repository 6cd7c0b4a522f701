//! What `top` shows, and what it knows.

use std::cmp::Ordering;

use callscope_common::Timestamp;
use callscope_common::api::Stats;
use uuid::Uuid;

use super::data::{AdminAction, Errors, List};
use super::rates::Rates;
use super::rows::{SortKey, TableRow, columns, rows};
use super::tab::Tab;
use crate::term::text_input::TextInput;

/// Rows that are not the list's: three of header, the tabs, the columns' names, the footer.
pub const FRAME_ROWS: u16 = 6;

/// Everything `top` shows.
#[derive(Debug)]
pub struct TopApp {
    /// The server's address.
    pub server: String,
    /// The context that named it.
    pub context: Option<String>,
    /// Whether to use colours.
    pub color: bool,
    /// Whether nothing may be changed at the server.
    pub read_only: bool,
    /// Seconds between two looks at the server.
    pub interval: u64,
    /// Columns and rows of the screen.
    pub size: (u16, u16),
    /// The time.
    pub now: Timestamp,
    /// How the server answers.
    pub server_state: ServerState,
    /// What it counts, and when it said so.
    pub stats: Option<(Stats, Timestamp)>,
    /// How fast that grows.
    pub rates: Rates,
    /// The tab that is shown.
    pub tab: Tab,
    /// What lies over the list.
    pub overlay: Overlay,
    /// What was last done, in words, and when.
    pub notice: Option<Notice>,
    tab_states: [TabState; 5],
}

/// How the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerState {
    /// It was not heard yet.
    Connecting,
    /// It answered last at this time.
    Live(Timestamp),
    /// It does not answer, since this time.
    Lost(Timestamp, String),
}

/// What lies over the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    /// Nothing.
    None,
    /// The keys, from this line on.
    Help(usize),
    /// The filter is being typed.
    Filter {
        /// As far as it was typed.
        line: TextInput,
        /// What it was before.
        before: String,
    },
    /// All there is of a row.
    Detail(DetailView),
    /// Is this really to be done?
    Confirm(AdminAction),
}

/// All there is of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetailView {
    /// The row's key.
    pub key: String,
    /// Names and texts; `None` until the server has answered.
    pub lines: Option<Vec<(String, String)>>,
    /// The first line that is shown.
    pub top: usize,
}

/// What was last done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// In words.
    pub text: String,
    /// Whether it went well.
    pub is_good: bool,
    /// When.
    pub at: Timestamp,
}

/// A tab's list, and how it is looked at.
#[derive(Debug, Default)]
pub struct TabState {
    /// What the server said.
    pub list: Option<List>,
    /// The key of the selected row. `None`: the first, whichever it is.
    pub selected: Option<String>,
    /// Where the selected row was last, for when it goes.
    pub place: usize,
    /// The first row on the screen.
    pub offset: usize,
    /// The column that is sorted by.
    pub sort: usize,
    /// Whether the other way round.
    pub is_reversed: bool,
    /// Only rows in which this occurs.
    pub filter: String,
}

impl TopApp {
    /// Before the server said anything.
    pub fn new(server: String, context: Option<String>, tab: Tab, now: Timestamp) -> Self {
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

    /// The tab that is shown.
    pub fn tab_state(&self) -> &TabState {
        &self.tab_states[self.tab.index()]
    }

    /// The tab that is shown, to change it.
    pub fn tab_state_mut(&mut self) -> &mut TabState {
        &mut self.tab_states[self.tab.index()]
    }

    /// Another tab, to change it.
    pub fn tab_state_of(&mut self, tab: Tab) -> &mut TabState {
        &mut self.tab_states[tab.index()]
    }

    /// Rows of the list on the screen.
    pub fn body(&self) -> usize {
        usize::from(self.size.1.saturating_sub(FRAME_ROWS))
    }

    /// The rows of the shown tab: those that the filter lets through, in order.
    pub fn rows(&self) -> Vec<TableRow> {
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
            // Rows that are equal stay where they are from one look to the next.
            order.then_with(|| a.key.cmp(&b.key))
        });
        rows
    }

    /// Where the selected row stands among `rows`: its own place, else, when it is gone, the nearest to where it was.
    pub fn selection(&self, rows: &[TableRow]) -> usize {
        let page = self.tab_state();
        let found = page.selected.as_ref().map(|key| rows.iter().position(|row| row.key == *key));
        match found {
            None => 0,
            Some(Some(place)) => place,
            Some(None) => page.place.min(rows.len().saturating_sub(1)),
        }
    }

    /// What the upper-case key of this tab would do to the selected row.
    pub fn admin_action(&self) -> Option<AdminAction> {
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
                let kind = view.kind.as_deref().unwrap_or(&view.route);
                Some(AdminAction::Replay {
                    delivery: view.delivery_id,
                    what: format!("{kind} ({})", short(view.delivery_id)),
                })
            }
            _ => None,
        }
    }
}

/// The beginning of an id, enough for people to tell it by.
pub fn short(id: Uuid) -> String {
    let id = id.to_string();
    // The end: ids made close to each other begin alike.
    format!("…{}", &id[id.len() - 8..])
}

/// Numbers from the largest, texts by the alphabet with the empty ones last.
fn compare(a: &SortKey, b: &SortKey) -> Ordering {
    match (a, b) {
        (SortKey::Number(a), SortKey::Number(b)) => b.total_cmp(a),
        (SortKey::Text(a), SortKey::Text(b)) => (a.is_empty(), a).cmp(&(b.is_empty(), b)),
        (SortKey::Number(_), SortKey::Text(_)) => Ordering::Less,
        (SortKey::Text(_), SortKey::Number(_)) => Ordering::Greater,
    }
}
