//! Webhooks while other clients hold idle sockets, follow other calls, and do not read their downloads.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use callscope_tests::usage::pss_bytes;

use super::quantile_ms;
use crate::message::call_sid;
use crate::peer::{Peer, PeerServer};
use crate::publisher::{Load, Published, create_calls, publish};
use crate::table::Sample;
use crate::watchers::{Tally, Watchers};

/// Number of calls that receive webhooks.
const CALLS: u32 = 64;
/// Sockets that send nothing, half of a request's head, or a head without its body.
const IDLE_SOCKETS: usize = 5_000;
/// Watchers of other calls, with one token.
const WATCHERS: u32 = 2_000;
/// Downloads of a long log that are not read.
const DOWNLOADS: usize = 100;
/// Number of turns in the long log.
const LONG_LOG_TURNS: u64 = 20_000;
/// Webhooks a second.
const WEBHOOKS_PER_SEC: f64 = 200.0;

/// Sends webhooks for `duration` to an idle server, and again while it has all these connections.
#[must_use]
pub fn sample(peer: Peer, duration: Duration) -> Sample {
    let server = PeerServer::start(peer, None);
    create_calls(&server, CALLS + 2);
    let (long, watched) = (CALLS, CALLS + 1);
    let load = Load { rate: Some(WEBHOOKS_PER_SEC), clients: 16, ..Load::of(CALLS, duration) };
    let max_turns = Some(LONG_LOG_TURNS);
    let history = Load { first_topic: long, max_turns, ..Load::of(1, Duration::from_secs(600)) };
    let mut next_turns = Vec::new();
    let mut run = |load: &Load| publish(&server, load, &Tally::default(), &mut next_turns);
    let _ = run(&history);
    // The first turns cost more, so they are not measured.
    let _ = run(&Load { duration: Duration::from_secs(1), ..load });
    let quiet = run(&load);
    let before = pss_bytes(&server.pids());
    let sockets: Vec<TcpStream> = (0..IDLE_SOCKETS).filter_map(|index| open_idle(&server, index)).collect();
    let watchers = Watchers::connect(&server, (0..WATCHERS).map(|_| watched));
    let downloads: Vec<TcpStream> = (0..DOWNLOADS).filter_map(|_| start_download(&server, long)).collect();
    std::thread::sleep(Duration::from_secs(2));
    let crowded = run(&load);
    let after = pss_bytes(&server.pids());
    let p99 = |published: &Published| quantile_ms(&published.answer_micros, 0.99);
    let figures = vec![
        ("sockets", (sockets.len() + downloads.len()) as f64 + f64::from(WATCHERS)),
        ("p50 ms, quiet", quantile_ms(&quiet.answer_micros, 0.5)),
        ("p50 ms", quantile_ms(&crowded.answer_micros, 0.5)),
        ("p99 ms, quiet", p99(&quiet)),
        ("p99 ms", p99(&crowded)),
        ("p99 ÷ quiet", p99(&crowded) / p99(&quiet)),
        ("MB more", (after as f64 - before as f64) / 1e6),
    ];
    drop((sockets, watchers, downloads));
    Sample { peer, figures }
}

fn connect(server: &PeerServer) -> Option<TcpStream> {
    TcpStream::connect_timeout(&server.subscribe_address, Duration::from_secs(1)).ok()
}

/// Opens a connection that never sends a complete request.
fn open_idle(server: &PeerServer, index: usize) -> Option<TcpStream> {
    let mut stream = connect(server)?;
    let sent = match index % 3 {
        0 => "",
        1 => "GET /api/v1/calls HTTP/1.1\r\nHost: localhost\r\n",
        _ => "POST /webhooks/elevenlabs/transcription HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
    };
    stream.write_all(sent.as_bytes()).ok().map(|()| stream)
}

/// Opens a connection that requests a long log and reads nothing of the answer.
fn start_download(server: &PeerServer, topic: u32) -> Option<TcpStream> {
    let mut stream = connect(server)?;
    let (call, token) = (call_sid(topic), &server.token);
    let request = format!(
        "GET /api/v1/calls/{call}/events?limit=5000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok().map(|()| stream)
}
