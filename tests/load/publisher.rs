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
use crate::message::{Mark, call_sid, now, relayed_message, webhook};
use crate::peer::{Peer, PeerServer};
use crate::watchers::Tally;

/// Limit of the turns that are published and not yet delivered to all subscribers, if there is no rate.
const MAX_UNDELIVERED_TURNS: u64 = 512;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The turns to publish, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub first_topic: u32,
    /// Number of topics. Turns are published to one topic after the other.
    pub topics: u32,
    /// Turns a second; `None` means as fast as they are delivered.
    pub rate: Option<f64>,
    /// Number of turns; `None` means as many as `duration` allows.
    pub max_turns: Option<u64>,
    pub duration: Duration,
    /// Number of connections.
    pub clients: usize,
    /// Subscribers of each topic.
    pub deliveries_per_turn: u64,
}

impl Load {
    /// Returns turns without deliveries, as fast as they are acknowledged.
    pub fn of(topics: u32, duration: Duration) -> Self {
        Self { first_topic: 0, topics, rate: None, max_turns: None, duration, clients: 64, deliveries_per_turn: 0 }
    }
}

/// The result of [`publish`].
#[derive(Debug, Default)]
pub struct Published {
    /// Number of turns by topic, with those of earlier calls that used the same `next_turns`.
    pub turns: Vec<u32>,
    /// Number of turns that this call published.
    pub total: u64,
    /// Time until the last answer.
    pub elapsed: Duration,
    /// Times from request to answer, in microseconds.
    pub answer_micros: Vec<u32>,
}

struct Client {
    stream: TcpStream,
    /// Time of the request in progress.
    sent_at: Option<Instant>,
    /// Bytes of the answer so far.
    answer: Vec<u8>,
}

/// Publishes turns and waits for the answers. `next_turns` holds the number of the next turn of each topic.
///
/// # Panics
///
/// Panics if a request fails, because the cost of failed requests is not what is measured.
#[must_use]
pub fn publish(server: &PeerServer, load: &Load, tally: &Tally, next_turns: &mut Vec<u32>) -> Published {
    next_turns.resize(next_turns.len().max((load.first_topic + load.topics) as usize), 0);
    let received_before = tally.received.load(Ordering::Acquire);
    let mut pace = Pace { load: *load, began: Instant::now(), received_before, sent: 0 };
    let mut published = match server.peer {
        Peer::BareBatched | Peer::BareSingle | Peer::Nats => publish_stream(server, &mut pace, tally, next_turns),
        _ => publish_requests(server, &mut pace, tally, next_turns),
    };
    published.elapsed = pace.began.elapsed();
    published.turns.clone_from(next_turns);
    published.total = pace.sent;
    published.answer_micros.sort_unstable();
    published
}

/// Creates a call for each topic with one turn, if the server has calls.
pub fn create_calls(server: &PeerServer, topics: u32) {
    if !server.peer.accepts_webhooks() {
        return;
    }
    let mut clients = Clients::connect(server, 64);
    let mut next = 0;
    while next < topics || clients.busy > 0 {
        while next < topics
            && let Some(client) = clients.idle.pop()
        {
            let body = format!(r#"{{"call_sid":"{}","speaker":"agent","message":"hello"}}"#, call_sid(next));
            clients.send(client, &request(server, next, &body));
            next += 1;
        }
        clients.read_answers(Duration::from_millis(50), |_| {});
    }
}

struct Pace {
    load: Load,
    began: Instant,
    /// Deliveries before the first turn.
    received_before: u64,
    /// Turns published so far.
    sent: u64,
}

impl Pace {
    fn is_over(&self) -> bool {
        if let Some(max_turns) = self.load.max_turns {
            return self.sent >= max_turns;
        }
        match self.load.rate {
            Some(rate) => self.sent as f64 >= rate * self.load.duration.as_secs_f64(),
            None => self.began.elapsed() >= self.load.duration,
        }
    }

    /// Returns the time at which the next turn became due, in nanoseconds of [`now`], or how long to wait for that.
    fn next_due(&self, tally: &Tally) -> Result<u64, Duration> {
        if let Some(rate) = self.load.rate {
            let (due_after, elapsed) = (Duration::from_secs_f64(self.sent as f64 / rate), self.began.elapsed());
            return match due_after.checked_sub(elapsed) {
                Some(wait) if !wait.is_zero() => Err(wait),
                _ => Ok(now() - u64::try_from((elapsed - due_after).as_nanos()).unwrap_or(0)),
            };
        }
        // Without a rate, a turn is due as soon as fewer than `MAX_UNDELIVERED_TURNS` wait for their deliveries.
        let delivered =
            (tally.received.load(Ordering::Acquire) - self.received_before) / self.load.deliveries_per_turn.max(1);
        if self.load.deliveries_per_turn > 0 && self.sent >= delivered + MAX_UNDELIVERED_TURNS {
            return Err(Duration::from_micros(200));
        }
        Ok(now())
    }

    /// Counts a turn as published and returns its mark.
    fn take_mark(&mut self, due_at: u64, next_turns: &mut [u32]) -> Mark {
        let topic = self.load.first_topic
            + u32::try_from(self.sent % u64::from(self.load.topics)).expect("the topic is a number");
        let turn = next_turns[topic as usize];
        next_turns[topic as usize] += 1;
        self.sent += 1;
        Mark { topic, turn, due_at }
    }
}

/// Publishes over `clients` connections, with one request for each turn.
fn publish_requests(server: &PeerServer, pace: &mut Pace, tally: &Tally, next_turns: &mut [u32]) -> Published {
    let mut published = Published::default();
    let mut clients = Clients::connect(server, pace.load.clients);
    loop {
        let mut wait = Duration::from_millis(50);
        while !pace.is_over() && !clients.idle.is_empty() {
            match pace.next_due(tally) {
                Ok(due_at) => {
                    let mark = pace.take_mark(due_at, next_turns);
                    let body = if server.peer.accepts_webhooks() {
                        webhook(mark, server.peer.missing_bytes())
                    } else {
                        relayed_message(mark)
                    };
                    let client = clients.idle.pop().expect("a client is idle");
                    clients.send(client, &request(server, mark.topic, &body));
                }
                Err(until_due) => {
                    wait = until_due.min(wait);
                    break;
                }
            }
        }
        if pace.is_over() && clients.busy == 0 {
            return published;
        }
        clients.read_answers(wait, |micros| published.answer_micros.push(micros));
    }
}

/// Publishes over one connection, to servers that do not answer each turn.
fn publish_stream(server: &PeerServer, pace: &mut Pace, tally: &Tally, next_turns: &mut [u32]) -> Published {
    let mut stream = TcpStream::connect(server.publish_address).expect("the server accepts");
    stream.set_nodelay(true).expect("the socket accepts the option");
    let is_nats = server.peer == Peer::Nats;
    if is_nats {
        stream
            .write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")
            .expect("the server accepts the request");
    }
    let mut out = Vec::new();
    while !pace.is_over() {
        out.clear();
        let mut wait = Duration::ZERO;
        while !pace.is_over() && out.len() < 32 * 1024 {
            match pace.next_due(tally) {
                Ok(due_at) => {
                    let mark = pace.take_mark(due_at, next_turns);
                    let message = relayed_message(mark);
                    if is_nats {
                        let head = format!("PUB t.{} {}\r\n", mark.topic, message.len());
                        out.extend([head.as_bytes(), message.as_bytes(), b"\r\n"].concat());
                    } else {
                        let len = u16::try_from(message.len()).expect("the message is short").to_be_bytes();
                        let frame = [&[0x81, 126][..], &len, message.as_bytes()].concat();
                        bare::encode_publication(mark.topic, &frame, &mut out);
                    }
                }
                Err(until_due) => {
                    wait = until_due;
                    break;
                }
            }
        }
        stream.write_all(&out).expect("the server accepts the request");
        std::thread::sleep(wait);
    }
    if is_nats {
        // The PONG comes after the server has processed all turns.
        stream.write_all(b"PING\r\n").expect("the server accepts the request");
        let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
        while memchr::memmem::find(&answer, b"PONG").is_none() {
            let read = stream.read(&mut chunk).expect("the server answers");
            assert!(read > 0, "nats-server closed the connection: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&chunk[..read]);
        }
    }
    Published::default()
}

fn request(server: &PeerServer, topic: u32, body: &str) -> Vec<u8> {
    let (path, signature_header) = if server.peer.accepts_webhooks() {
        let signed_at = callscope_tests::server::unix_secs();
        let signature = signature::sign(SECRET.as_bytes(), signed_at, body.as_bytes());
        ("/webhooks/elevenlabs/transcription".to_owned(), format!("{}: {signature}\r\n", signature::HEADER))
    } else {
        (format!("/pub/{topic}"), String::new())
    };
    format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{signature_header}Content-Length: {}\r\n\r\n{body}",
        server.publish_address,
        body.len()
    )
    .into_bytes()
}

/// Keep-alive connections, each with at most one request in progress.
struct Clients {
    poll: OwnedFd,
    clients: Vec<Client>,
    /// Indexes of the clients without a request in progress.
    idle: Vec<usize>,
    /// Number of clients with a request in progress.
    busy: usize,
}

impl Clients {
    fn connect(server: &PeerServer, count: usize) -> Self {
        let poll = epoll::create(CreateFlags::CLOEXEC).expect("the kernel creates an epoll");
        let clients: Vec<Client> = (0..count)
            .map(|index| {
                let stream = TcpStream::connect(server.publish_address).expect("the server accepts");
                stream.set_nodelay(true).expect("the socket accepts the option");
                stream.set_nonblocking(true).expect("the socket accepts the option");
                epoll::add(&poll, &stream, EventData::new_u64(index as u64), EventFlags::IN)
                    .expect("the epoll accepts the socket");
                Client { stream, sent_at: None, answer: Vec::new() }
            })
            .collect();
        Self { poll, idle: (0..clients.len()).rev().collect(), clients, busy: 0 }
    }

    fn send(&mut self, index: usize, request: &[u8]) {
        let client = &mut self.clients[index];
        client.stream.write_all(request).expect("an empty socket accepts a request");
        client.sent_at = Some(Instant::now());
        self.busy += 1;
    }

    /// Waits for answers, and calls `on_answer` with the microseconds that each complete one took.
    fn read_answers(&mut self, wait: Duration, mut on_answer: impl FnMut(u32)) {
        let mut events = Vec::with_capacity(256);
        let wait = Timespec::try_from(wait).expect("the time is short");
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        let mut chunk = [0; 4096];
        for event in &events {
            let index = usize::try_from(event.data.u64()).expect("the index fits into a usize");
            let client = &mut self.clients[index];
            match client.stream.read(&mut chunk) {
                Ok(0) => panic!("the server closed the connection: {}", String::from_utf8_lossy(&client.answer)),
                Ok(read) => client.answer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("the server closed the connection: {error}"),
            }
            if is_complete(&client.answer) {
                let status = String::from_utf8_lossy(&client.answer[..client.answer.len().min(300)]).into_owned();
                assert!(status.starts_with("HTTP/1.1 2"), "a request failed: {status}");
                client.answer.clear();
                let sent_at = client.sent_at.take().expect("an answer follows a request");
                on_answer(u32::try_from(sent_at.elapsed().as_micros()).unwrap_or(u32::MAX));
                self.idle.push(index);
                self.busy -= 1;
            }
        }
        let is_overdue = |client: &Client| client.sent_at.is_some_and(|sent_at| sent_at.elapsed() > ANSWER_TIMEOUT);
        assert!(!self.clients.iter().any(is_overdue), "a request got no answer in {ANSWER_TIMEOUT:?}");
    }
}

/// Returns whether the head and the body of an answer are complete.
fn is_complete(answer: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    match head.lines().find_map(|line| line.strip_prefix("content-length:")) {
        Some(length) => answer.len() >= end + 4 + length.trim().parse::<usize>().expect("the length is a number"),
        None if head.contains("transfer-encoding: chunked") => answer.ends_with(b"0\r\n\r\n"),
        None => true,
    }
}
