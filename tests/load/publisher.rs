//! The publishers: turns at a rate, or as fast as they are delivered, over keep-alive connections of one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use callscope_common::signature;
use callscope_tests::server::SECRET;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::bare;
use crate::message::{Mark, call_sid, now, passed_on, webhook};
use crate::peer::{Peer, Running};
use crate::watchers::Tally;

/// Time for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to publish.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The first topic.
    pub first: u32,
    /// Number of topics, which take turns.
    pub topics: u32,
    /// Turns a second; `None` means as fast as they are acknowledged.
    pub rate: Option<f64>,
    /// Number of turns; `None` means as many as the time allows.
    pub count: Option<u64>,
    pub time: Duration,
    /// Number of connections.
    pub clients: usize,
    /// Deliveries of one turn.
    pub fan: u64,
    /// Limit of the turns that are published and not yet delivered everywhere.
    pub window: u64,
}

#[derive(Debug, Default)]
pub struct Published {
    /// Number of turns by topic.
    pub turns: Vec<u32>,
    pub total: u64,
    /// Time until the last answer.
    pub elapsed: Duration,
    /// Times from request to answer, in microseconds.
    pub answered: Vec<u32>,
}

struct Client {
    stream: TcpStream,
    asked: Option<Instant>,
    answer: Vec<u8>,
}

/// Publishes.
///
/// # Panics
///
/// Panics if a request fails, because a benchmark of failures would mean nothing.
#[must_use]
pub fn publish(server: &Running, load: &Load, tally: &Tally, next: &mut Vec<u32>) -> Published {
    next.resize(next.len().max((load.first + load.topics) as usize), 0);
    let mut pace = Pace { load: *load, began: Instant::now(), base: tally.received.load(Ordering::Acquire), sent: 0 };
    let mut published = match server.peer {
        Peer::BareBatched | Peer::BareSingle | Peer::Nats => stream(server, &mut pace, tally, next),
        _ => requests(server, &mut pace, tally, next),
    };
    published.elapsed = pace.began.elapsed();
    published.turns.clone_from(next);
    published.total = pace.sent;
    published.answered.sort_unstable();
    published
}

/// Creates the calls of the topics, at a server that has calls.
pub fn prepare(server: &Running, topics: u32) {
    if !server.peer.takes_webhooks() {
        return;
    }
    let mut clients = Clients::connect(server, 64);
    let mut next = 0;
    while next < topics || clients.busy > 0 {
        while next < topics
            && let Some(at) = clients.idle.pop()
        {
            let body = format!(r#"{{"call_sid":"{}","speaker":"agent","message":"hello"}}"#, call_sid(next));
            clients.ask(at, &request(server, next, &body));
            next += 1;
        }
        clients.wait(Duration::from_millis(50), |_| {});
    }
}

struct Pace {
    load: Load,
    began: Instant,
    /// Deliveries before it began.
    base: u64,
    sent: u64,
}

impl Pace {
    fn is_over(&self) -> bool {
        if let Some(count) = self.load.count {
            return self.sent >= count;
        }
        match self.load.rate {
            Some(rate) => self.sent as f64 >= rate * self.load.time.as_secs_f64(),
            None => self.began.elapsed() >= self.load.time,
        }
    }

    /// Returns when the next turn is due: `Ok` with the time at which it was due, or else how long to wait.
    fn due(&self, tally: &Tally) -> Result<u64, Duration> {
        if let Some(rate) = self.load.rate {
            let (at, elapsed) = (Duration::from_secs_f64(self.sent as f64 / rate), self.began.elapsed());
            return match at.checked_sub(elapsed) {
                Some(wait) if !wait.is_zero() => Err(wait),
                _ => Ok(now() - u64::try_from((elapsed - at).as_nanos()).unwrap_or(0)),
            };
        }
        let delivered = (tally.received.load(Ordering::Acquire) - self.base) / self.load.fan.max(1);
        if self.load.fan > 0 && self.sent >= delivered + self.load.window {
            return Err(Duration::from_micros(200));
        }
        Ok(now())
    }

    fn mark(&mut self, at: u64, next: &mut [u32]) -> Mark {
        let topic =
            self.load.first + u32::try_from(self.sent % u64::from(self.load.topics)).expect("the topic is a number");
        let turn = next[topic as usize];
        next[topic as usize] += 1;
        self.sent += 1;
        Mark { topic, turn, at }
    }
}

fn requests(server: &Running, pace: &mut Pace, tally: &Tally, next: &mut [u32]) -> Published {
    let mut published = Published::default();
    let mut clients = Clients::connect(server, pace.load.clients);
    loop {
        let mut wait = Duration::from_millis(50);
        while !pace.is_over() && !clients.idle.is_empty() {
            match pace.due(tally) {
                Ok(at) => {
                    let mark = pace.mark(at, next);
                    let body =
                        if server.peer.takes_webhooks() { webhook(mark, server.peer.lacks()) } else { passed_on(mark) };
                    let client = clients.idle.pop().expect("a client is idle");
                    clients.ask(client, &request(server, mark.topic, &body));
                }
                Err(until) => {
                    wait = until.min(wait);
                    break;
                }
            }
        }
        if pace.is_over() && clients.busy == 0 {
            return published;
        }
        clients.wait(wait, |answered| published.answered.push(answered));
    }
}

/// Publishes over one connection, to servers that take more than one message at a time.
fn stream(server: &Running, pace: &mut Pace, tally: &Tally, next: &mut [u32]) -> Published {
    let mut stream = TcpStream::connect(server.publish).expect("the server accepts");
    stream.set_nodelay(true).expect("the socket takes the option");
    let is_nats = server.peer == Peer::Nats;
    if is_nats {
        stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").expect("the server takes the request");
    }
    let mut out = Vec::new();
    while !pace.is_over() {
        out.clear();
        let mut wait = Duration::ZERO;
        while !pace.is_over() && out.len() < 32 * 1024 {
            match pace.due(tally) {
                Ok(at) => {
                    let mark = pace.mark(at, next);
                    let message = passed_on(mark);
                    if is_nats {
                        let head = format!("PUB t.{} {}\r\n", mark.topic, message.len());
                        out.extend([head.as_bytes(), message.as_bytes(), b"\r\n"].concat());
                    } else {
                        let len = u16::try_from(message.len()).expect("the message is short").to_be_bytes();
                        let frame = [&[0x81, 126][..], &len, message.as_bytes()].concat();
                        bare::publication(mark.topic, &frame, &mut out);
                    }
                }
                Err(until) => {
                    wait = until;
                    break;
                }
            }
        }
        stream.write_all(&out).expect("the server takes the request");
        std::thread::sleep(wait);
    }
    if is_nats {
        // The answer to this means that all of it was handled.
        stream.write_all(b"PING\r\n").expect("the server takes the request");
        let (mut heard, mut chunk) = (Vec::new(), [0; 4096]);
        while memchr::memmem::find(&heard, b"PONG").is_none() {
            let read = stream.read(&mut chunk).expect("the server answers");
            assert!(read > 0, "nats-server hung up: {}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&chunk[..read]);
        }
    }
    Published::default()
}

fn request(server: &Running, topic: u32, body: &str) -> Vec<u8> {
    let (path, further) = if server.peer.takes_webhooks() {
        let at = callscope_tests::server::now();
        let signature = signature::sign(SECRET.as_bytes(), at, body.as_bytes());
        ("/webhooks/elevenlabs/transcription".to_owned(), format!("{}: {signature}\r\n", signature::HEADER))
    } else {
        (format!("/pub/{topic}"), String::new())
    };
    format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{further}Content-Length: {}\r\n\r\n{body}",
        server.publish,
        body.len()
    )
    .into_bytes()
}

/// Keep-alive connections, each with at most one request in progress.
struct Clients {
    poll: OwnedFd,
    all: Vec<Client>,
    idle: Vec<usize>,
    busy: usize,
}

impl Clients {
    fn connect(server: &Running, count: usize) -> Self {
        let poll = epoll::create(CreateFlags::CLOEXEC).expect("the kernel creates an epoll");
        let all: Vec<Client> = (0..count)
            .map(|at| {
                let stream = TcpStream::connect(server.publish).expect("the server accepts");
                stream.set_nodelay(true).expect("the socket takes the option");
                stream.set_nonblocking(true).expect("the socket takes the option");
                epoll::add(&poll, &stream, EventData::new_u64(at as u64), EventFlags::IN)
                    .expect("the epoll takes the socket");
                Client { stream, asked: None, answer: Vec::new() }
            })
            .collect();
        Self { poll, idle: (0..all.len()).rev().collect(), all, busy: 0 }
    }

    fn ask(&mut self, at: usize, request: &[u8]) {
        let client = &mut self.all[at];
        client.stream.write_all(request).expect("an empty socket takes a request");
        client.asked = Some(Instant::now());
        self.busy += 1;
    }

    fn wait(&mut self, wait: Duration, mut answered: impl FnMut(u32)) {
        let mut events = Vec::with_capacity(256);
        let wait = Timespec::try_from(wait).expect("the time is short");
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        let mut chunk = [0; 4096];
        for event in &events {
            let at = usize::try_from(event.data.u64()).expect("the index fits into a usize");
            let client = &mut self.all[at];
            match client.stream.read(&mut chunk) {
                Ok(0) => panic!("the server hung up: {}", String::from_utf8_lossy(&client.answer)),
                Ok(read) => client.answer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("the server hung up: {error}"),
            }
            if is_whole(&client.answer) {
                let status = String::from_utf8_lossy(&client.answer[..client.answer.len().min(300)]).into_owned();
                assert!(status.starts_with("HTTP/1.1 2"), "a request failed: {status}");
                client.answer.clear();
                let asked = client.asked.take().expect("an answer follows a request");
                answered(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
                self.idle.push(at);
                self.busy -= 1;
            }
        }
        let is_late = |client: &Client| client.asked.is_some_and(|asked| asked.elapsed() > PATIENCE);
        assert!(!self.all.iter().any(is_late), "a request got no answer");
    }
}

/// Returns whether the head and the body of an answer are complete.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    match head.lines().find_map(|line| line.strip_prefix("content-length:")) {
        Some(length) => answer.len() >= end + 4 + length.trim().parse::<usize>().expect("the length is a number"),
        None if head.contains("transfer-encoding: chunked") => answer.ends_with(b"0\r\n\r\n"),
        None => true,
    }
}
