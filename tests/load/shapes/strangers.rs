//! Webhooks while senders without a signature hold sockets, watchers follow other calls, and downloads are not read.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::millis;
use crate::message::call_sid;
use crate::peer::{Peer, Running};
use crate::publisher::{Load, Published, prepare, publish};
use crate::table::Sample;
use crate::usage::memory;
use crate::watchers::{Tally, Watchers};

/// Number of calls that receive webhooks.
const CALLS: u32 = 64;
/// Sockets that send nothing, half of a request's head, or a head without its body.
const IDLE: usize = 5_000;
/// Watchers of other calls, with one token.
const WATCHERS: u32 = 2_000;
/// Downloads of a long log that are not read.
const DOWNLOADS: usize = 100;
/// Number of turns in that log.
const LONG: u64 = 20_000;
/// Webhooks a second.
const RATE: f64 = 200.0;

/// Sends webhooks for `time` to an idle server, and then while all the others are there.
#[must_use]
pub fn sample(peer: Peer, time: Duration) -> Sample {
    let server = Running::start(peer, None);
    prepare(&server, CALLS + 2);
    let (long, watched) = (CALLS, CALLS + 1);
    let load = Load { first: 0, topics: CALLS, count: None, rate: Some(RATE), time, clients: 16, fan: 0, window: 0 };
    let history = Load {
        first: long,
        topics: 1,
        count: Some(LONG),
        rate: None,
        time: Duration::from_secs(600),
        clients: 64,
        ..load
    };
    let mut next = Vec::new();
    let mut run = |load: &Load| publish(&server, load, &Tally::default(), &mut next);
    let _ = run(&history);
    let _ = run(&Load { time: Duration::from_secs(1), ..load });
    let quiet = run(&load);
    let before = memory(&server.pids());
    let sockets: Vec<TcpStream> = (0..IDLE).filter_map(|at| idle(&server, at)).collect();
    let watchers = Watchers::connect(&server, (0..WATCHERS).map(|_| watched));
    let downloads: Vec<TcpStream> = (0..DOWNLOADS).filter_map(|_| unread(&server, long)).collect();
    std::thread::sleep(Duration::from_secs(2));
    let crowded = run(&load);
    let after = memory(&server.pids());
    let p99 = |published: &Published| millis(&published.answered, 0.99);
    let figures = vec![
        ("sockets", (sockets.len() + downloads.len()) as f64 + f64::from(WATCHERS)),
        ("p50 ms, quiet", millis(&quiet.answered, 0.5)),
        ("p50 ms", millis(&crowded.answered, 0.5)),
        ("p99 ms, quiet", p99(&quiet)),
        ("p99 ms", p99(&crowded)),
        ("p99 ÷ quiet", p99(&crowded) / p99(&quiet)),
        ("MB more", (after as f64 - before as f64) / 1e6),
    ];
    drop((sockets, watchers, downloads));
    Sample { peer, figures }
}

fn connect(server: &Running) -> Option<TcpStream> {
    TcpStream::connect_timeout(&server.subscribe, Duration::from_secs(1)).ok()
}

/// Opens a connection that never becomes a request.
fn idle(server: &Running, at: usize) -> Option<TcpStream> {
    let mut stream = connect(server)?;
    let said = match at % 3 {
        0 => "",
        1 => "GET /api/v1/calls HTTP/1.1\r\nHost: localhost\r\n",
        _ => "POST /webhooks/elevenlabs/transcription HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
    };
    stream.write_all(said.as_bytes()).ok().map(|()| stream)
}

/// Opens a connection that asks for a long log and reads nothing of it.
fn unread(server: &Running, topic: u32) -> Option<TcpStream> {
    let mut stream = connect(server)?;
    let (call, token) = (call_sid(topic), &server.token);
    let request = format!(
        "GET /api/v1/calls/{call}/events?limit=5000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok().map(|()| stream)
}
