//! The header: the server, its state and its statistics, and the tabs.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr as _;

use super::super::rates::{Rate, sparkline};
use super::super::state::{ServerState, TopApp};
use super::super::tab::Tab;
use super::{palette, put};
use crate::duration;
use crate::term::drawable::drawable;
use crate::term::put_ends;

/// The state is `STALE` if the last answer is older than the poll interval and this many seconds.
const STALE_MARGIN_SECS: f64 = 10.0;

/// Draws the server, the counts and the rates, a row each, and the tabs below them.
pub(crate) fn draw(top: &TopApp, area: Rect, buffer: &mut Buffer) {
    let row = |index: u16| Rect { y: area.y + index, height: 1, ..area };
    let context = top.context.as_ref().map_or(String::new(), |context| format!("  ({context})"));
    let (state, style) = state(top);
    let server = format!("{}{context}", top.server);
    put_ends(buffer, row(0), (&drawable(&server), palette(top).strong()), (&state, style.add_modifier(Modifier::BOLD)));
    let about = if top.read_only { "read-only" } else { "" };
    put_ends(buffer, row(1), (&drawable(&counts(top)), Style::new()), (about, palette(top).dim()));
    draw_rates(top, row(2), buffer);
    draw_tabs(top, row(3), buffer);
}

/// Returns the state of the server in words.
fn state(top: &TopApp) -> (String, Style) {
    match &top.server_state {
        ServerState::Connecting => ("CONNECTING".into(), palette(top).warn()),
        ServerState::Live(at) if top.now.secs_since(*at) > top.interval as f64 + STALE_MARGIN_SECS => {
            (format!("STALE {}", duration::in_words(top.now.secs_since(*at))), palette(top).warn())
        }
        ServerState::Live(_) => ("LIVE".into(), palette(top).good()),
        ServerState::Lost(since, _) => {
            (format!("NO ANSWER {}", duration::in_words(top.now.secs_since(*since))), palette(top).bad())
        }
    }
}

fn counts(top: &TopApp) -> String {
    let Some((stats, _)) = &top.stats else { return String::new() };
    let live = format!("{} live of {} calls", stats.live_calls(), stats.all_calls());
    let rest = [
        format!("{} connected", stats.connections),
        format!("{} followed", stats.followed_calls),
        format!("{} deliveries", stats.all_deliveries()),
        format!("{} refused", stats.refused()),
        format!("up {}", uptime(stats.uptime_seconds)),
        format!("v{}", stats.version),
    ];
    // A number that is cut reads as another number, so a part that does not fit is left out.
    // The other end of the row says `read-only`.
    let room = usize::from(top.size.0).saturating_sub(if top.read_only { 10 } else { 0 });
    let mut line = live;
    for part in rest {
        if line.width() + 2 + part.width() > room {
            break;
        }
        line = format!("{line}  {part}");
    }
    line
}

fn uptime(secs: u64) -> String {
    duration::in_words(secs as f64)
}

fn draw_rates(top: &TopApp, row: Rect, buffer: &mut Buffer) {
    let rates = [
        ("events/s", &top.rates.events, Color::Cyan),
        ("deliveries/s", &top.rates.deliveries, Color::Green),
        ("refused/s", &top.rates.refused, Color::Red),
    ];
    let width = usize::from(row.width);
    // A narrow screen has room for one rate.
    let shown = if width < 60 { &rates[..1] } else { &rates[..] };
    let rate_width = width / shown.len();
    for (place, (name, rate, color)) in shown.iter().enumerate() {
        let label = format!("{name} {} ", rate_text(rate));
        let bars = rate_width.saturating_sub(label.width() + 1);
        put(buffer, row, place * rate_width, rate_width, &label, palette(top).dim());
        put(
            buffer,
            row,
            place * rate_width + label.width(),
            bars,
            &sparkline(rate.last(bars)),
            palette(top).fg(*color),
        );
    }
}

fn rate_text(rate: &Rate) -> String {
    match rate.now() {
        None => "-".into(),
        Some(rate) if rate >= 100.0 => format!("{rate:.0}"),
        Some(rate) => format!("{rate:.1}"),
    }
}

fn draw_tabs(top: &TopApp, row: Rect, buffer: &mut Buffer) {
    let is_narrow = row.width < 70;
    let mut x = 0;
    for (number, tab) in (1..).zip(Tab::all()) {
        let name = tab.name();
        let name = if is_narrow { &name[..3.min(name.len())] } else { name };
        let label = format!(" {number} {name} ");
        let style = if *tab == top.tab {
            Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
        } else {
            palette(top).dim()
        };
        put(buffer, row, x, label.width(), &label, style);
        x += label.width() + usize::from(!is_narrow);
    }
}
