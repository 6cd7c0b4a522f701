//! The pictures in the documentation: `callscope` in a terminal, following a call of a running server, drawn as SVG.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use callscope_tests::process::program;
use callscope_tests::pty::key;
use callscope_tests::server::{admin_token, http, post_webhook, unix_secs};
use callscope_tests::{Database, Engine, Process, Pty};

/// Speaker, second in the call and text of each turn.
const TURNS: [(&str, i64, &str); 9] = [
    ("agent", 0, "Road assistance, this is Nova. Where are you right now?"),
    ("user", 3, "Hi. I'm on the A10 northbound, just past exit 22. My engine died."),
    ("agent", 10, "Thanks. Are you and everyone with you out of the car and behind the barrier?"),
    ("user", 14, "Yes, it's just me and the dog. We're behind the barrier."),
    ("agent", 18, "Good. What do you drive, and does anything smell of smoke or fuel?"),
    ("user", 23, "A green hatchback. No smoke. It coughed twice and that was it."),
    ("tool", 26, "find_truck({\"place\": \"A10 northbound, exit 22\", \"kind\": \"flatbed\", \"dogs\": 1})"),
    ("agent", 28, "Then I'm sending a flatbed. It will be there in about thirty-five minutes."),
    ("user", 33, "That's fine. Can the dog ride along?"),
];
const TURNS_BEFORE_KILL: usize = 4;
const CALL: &str = "EL_road_1790855035";
const CONVERSATION: &str = "conv_01callscope0road";

#[derive(Debug, Args)]
pub struct Flags {
    /// The folder for the pictures
    #[arg(long, default_value = "docs/screens")]
    folder: PathBuf,
}

/// Draws all pictures.
pub async fn run(flags: &Flags) {
    std::fs::create_dir_all(&flags.folder).unwrap();
    let database = Database::new(Engine::Sqlite).await;
    let mut server = Process::start(&database, 0).await;
    let began = unix_secs() - 40;
    for other in ["EL_bakery_1790855011", "EL_harbour_1790854200"] {
        post_turn(&server.url, other, ("agent", 0, "Hello."), began).await;
    }
    register(&server.url).await;
    let token = admin_token("measure");
    let url = server.url.clone();
    let environment = [("CALLSCOPE_SERVER", url.as_str()), ("CALLSCOPE_TOKEN", token.as_str())];
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Pty::start((80, 24), &program("callscope"), &["tail", CALL], &environment, folder.path());
    for turn in &TURNS[..TURNS_BEFORE_KILL] {
        post_turn(&server.url, CALL, *turn, began).await;
    }
    terminal.until_text("We're behind the barrier.");
    let port = server.port();
    server.kill().await;
    terminal.until_text("RETRY 3");
    draw(&terminal, &flags.folder, "broken");
    server = Process::start(&database, port).await;
    for turn in &TURNS[TURNS_BEFORE_KILL..] {
        post_turn(&server.url, CALL, *turn, began).await;
    }
    terminal.until_text("Can the dog ride along?");
    terminal.until_text("LIVE");
    draw(&terminal, &flags.folder, "tail");
    terminal.press("c");
    terminal.until_text("EL_bakery");
    let written = terminal.bytes_written();
    terminal.press(key::DOWN);
    terminal.wait_past(written);
    draw(&terminal, &flags.folder, "picker");
    terminal.press(key::ESC);
    terminal.until_no_text("choose a call");
    terminal.press("/dog");
    terminal.press(key::ENTER);
    terminal.until_text("of 3 found");
    draw(&terminal, &flags.folder, "search");
    let top = Pty::start((80, 24), &program("callscope"), &["top"], &environment, folder.path());
    top.until_text("EL_harbour");
    draw(&top, &flags.folder, "top");
    terminal.press("/");
    terminal.press(key::ENTER);
    terminal.press("G");
    post_call_end(&server.url).await;
    terminal.until_text("ENDED success");
    terminal.until_text("place = A10");
    draw(&terminal, &flags.folder, "ended");
    assert!(server.stop().await);
}

async fn post(url: &str, route: &str, body: &serde_json::Value) {
    let reply = post_webhook(&http(), url, route, body.to_string()).await.unwrap();
    assert!(matches!(reply.status, 200 | 201), "{reply:?}");
}

async fn post_turn(url: &str, sid: &str, (speaker, second, text): (&str, i64, &str), began: i64) {
    let timestamp = began + second;
    let body = json!({"call_sid": sid, "speaker": speaker, "message": text, "turn_id": text, "timestamp": timestamp});
    post(url, "transcription", &body).await;
}

/// Registers the call under both its names, because the post-call webhook has only the conversation id.
async fn register(url: &str) {
    let body = json!({"call_sid": CALL, "conversation_id": CONVERSATION, "agent_id": "agent_road_desk"});
    let request = http().post(format!("{url}/api/v1/calls")).bearer_auth(admin_token("measure")).json(&body);
    assert_eq!(request.send().await.unwrap().status(), 201);
}

async fn post_call_end(url: &str) {
    let data = json!({"conversation_id": CONVERSATION, "status": "done", "agent_id": "agent_road_desk",
        "metadata": {"call_duration_secs": 41, "cost": 263},
        "analysis": {"call_successful": "success",
            "transcript_summary": "A driver broke down on the A10 past exit 22. A flatbed is on its way.",
            "evaluation_criteria_results": {"safety_first":
                {"result": "success", "rationale": "The agent asked about everyone's safety first."}},
            "data_collection_results": {"dogs": {"value": 1}, "place": {"value": "A10 northbound, past exit 22"}}}});
    post(url, "post-call", &json!({"type": "post_call_transcription", "event_timestamp": unix_secs(), "data": data}))
        .await;
}

/// Width and height of a cell in the picture.
const CELL: (f64, f64) = (8.4, 18.0);
const MARGIN: f64 = 12.0;

fn draw(terminal: &Pty, folder: &Path, name: &str) {
    std::fs::write(folder.join(format!("{name}.svg")), svg(&terminal.styled_screen())).unwrap();
}

/// Returns a screen as SVG in the colours of a dark terminal.
fn svg(screen: &vt100::Screen) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let (width, height) = (f64::from(columns) * CELL.0 + 2.0 * MARGIN, f64::from(rows) * CELL.1 + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1c1f26\"/>\n"
    );
    for row in 0..rows {
        let mut column = 0;
        while column < columns {
            let style = style(screen, row, column);
            let begin = column;
            let mut text = String::new();
            while column < columns && self::style(screen, row, column) == style {
                let contents = screen.cell(row, column).map(|cell| cell.contents().to_owned()).unwrap_or_default();
                text.push_str(if contents.is_empty() { " " } else { &contents });
                column += 1;
            }
            draw_cells(&mut svg, (row, begin), &text, style);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Colour, bold, dim, reversed.
type Style = (&'static str, bool, bool, bool);

fn style(screen: &vt100::Screen, row: u16, column: u16) -> Style {
    let Some(cell) = screen.cell(row, column) else { return ("#d5d9e0", false, false, false) };
    let colour = match cell.fgcolor() {
        vt100::Color::Idx(1) => "#e06c75",
        vt100::Color::Idx(2) => "#8fc379",
        vt100::Color::Idx(3) => "#e0b86a",
        vt100::Color::Idx(6) => "#5fc0cf",
        _ => "#d5d9e0",
    };
    (colour, cell.bold(), cell.dim(), cell.inverse())
}

/// Draws neighbouring cells of one style.
fn draw_cells(svg: &mut String, (row, column): (u16, u16), text: &str, (colour, bold, dim, reversed): Style) {
    if text.trim().is_empty() && !reversed {
        return;
    }
    let (x, y) = (MARGIN + f64::from(column) * CELL.0, MARGIN + f64::from(row) * CELL.1);
    let cells = text.chars().count() as f64;
    let width = cells * CELL.0;
    let mut fill = colour;
    if reversed {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>",
            CELL.1
        );
        fill = "#1c1f26";
    }
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    let opacity = if dim { " opacity=\"0.6\"" } else { "" };
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let y = y + CELL.1 * 0.75;
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{width:.1}\" fill=\"{fill}\"{weight}{opacity} xml:space=\"preserve\">{escaped}</text>"
    );
}
