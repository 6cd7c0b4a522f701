//! The subscribers: many connections on one thread, which checks every delivery.
//!
//! [`callscope_tests::Socket`] does not read their frames, for two reasons. One thread has to read from thousands of
//! sockets and must not be the limit that is measured, and the other servers speak to it too.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use callscope_tests::socket::{PATH, client_frame, upgrade_request};

use crate::message::{Marks, call_sid, now};
use crate::peer::{Peer, Running};

/// Limit of the connections between connect and confirmation.
const WAVE: usize = 256;
/// Time for a connection to be confirmed, and for the last delivery to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// What the watchers' thread shares with the others.
#[derive(Debug, Default)]
pub struct Tally {
    /// Deliveries so far.
    pub received: AtomicU64,
    /// Set when the thread is to end.
    pub stop: AtomicBool,
}

/// What the watchers received.
#[derive(Debug, Default)]
pub struct Seen {
    pub received: u64,
    /// Deliveries that never came.
    pub lost: u64,
    /// Deliveries that came again.
    pub doubled: u64,
    /// Events of Callscope whose seq did not follow the one before.
    pub disordered: u64,
    /// Connections that ended.
    pub ended: u64,
    /// Times from publishing to receiving, in microseconds.
    pub late: Vec<u32>,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.ended += other.ended;
        self.late.extend(&other.late);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Upgrading,
    Confirming,
    Ready,
    Ended,
}

#[derive(Debug)]
struct Watcher {
    stream: TcpStream,
    topic: u32,
    state: State,
    /// Bytes of an incomplete frame.
    carry: Vec<u8>,
    /// Bytes of an incomplete message: NATS spreads its messages over frames.
    inner: Vec<u8>,
    /// A bit for each turn that came.
    turns: Vec<u64>,
    /// Turns before this one are not expected.
    first: u32,
    /// Seq of the last event.
    seq: Option<i64>,
}

/// Where a watcher begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct StartAt {
    /// At Callscope, the event after which it resumes; `None` means what comes from now on.
    pub after: Option<i64>,
    /// The first turn that it is owed.
    pub first: u32,
}

/// Connections that follow topics.
#[derive(Debug)]
pub struct Watchers {
    peer: Peer,
    poll: OwnedFd,
    all: Vec<Watcher>,
    marks: Marks,
    buffer: Vec<u8>,
    seen: Seen,
    /// Connections that are still to be opened.
    waiting: VecDeque<(u32, StartAt)>,
    opening: usize,
    is_recording: bool,
}

impl Watchers {
    #[must_use]
    pub fn new(server: &Running) -> Self {
        Self {
            peer: server.peer,
            poll: epoll::create(CreateFlags::CLOEXEC).expect("the kernel creates an epoll"),
            all: Vec::new(),
            marks: Marks::default(),
            buffer: vec![0; BUFFER],
            seen: Seen::default(),
            waiting: VecDeque::new(),
            opening: 0,
            is_recording: true,
        }
    }

    /// Connects one watcher for each of `topics` and waits until all are confirmed.
    #[must_use]
    pub fn connect(server: &Running, topics: impl IntoIterator<Item = u32>) -> Self {
        let mut watchers = Self::new(server);
        watchers.join(server, topics.into_iter().map(|topic| (topic, StartAt::default())));
        watchers
    }

    /// Connects further watchers and waits until all are confirmed.
    ///
    /// # Panics
    ///
    /// Panics if they are not confirmed in time.
    pub fn join(&mut self, server: &Running, starts: impl IntoIterator<Item = (u32, StartAt)>) {
        self.waiting.extend(starts);
        let began = Instant::now();
        while self.opening > 0 || !self.waiting.is_empty() {
            assert!(began.elapsed() < PATIENCE, "{} watchers of {:?} wait in vain", self.opening, self.peer);
            self.open(server);
            self.round(Duration::from_millis(100), None);
        }
    }

    fn open(&mut self, server: &Running) {
        while self.opening < WAVE
            && let Some((topic, start)) = self.waiting.pop_front()
        {
            let mut stream = TcpStream::connect(server.subscribe).expect("the server accepts");
            stream.set_nodelay(true).expect("the socket takes the option");
            stream.write_all(upgrade(server, topic).as_bytes()).expect("the server takes a request");
            stream.set_nonblocking(true).expect("the socket takes the option");
            let data = EventData::new_u64(self.all.len() as u64);
            epoll::add(&self.poll, &stream, data, EventFlags::IN).expect("the epoll takes the socket");
            self.all.push(Watcher {
                stream,
                topic,
                state: State::Upgrading,
                carry: Vec::new(),
                inner: Vec::new(),
                turns: Vec::new(),
                first: start.first,
                seq: start.after,
            });
            self.opening += 1;
        }
    }

    /// Reads until the thread is to end.
    pub fn follow(&mut self, tally: &Tally) {
        while !tally.stop.load(Ordering::Relaxed) {
            self.round(Duration::from_millis(50), Some(tally));
        }
    }

    /// Reads until `expected` deliveries have come, or none has come for a long time.
    pub fn settle(&mut self, expected: u64) {
        let mut last = (self.seen.received, Instant::now());
        while self.seen.received < expected && last.1.elapsed() < Duration::from_secs(10) {
            self.round(Duration::from_millis(50), None);
            if self.seen.received > last.0 {
                last = (self.seen.received, Instant::now());
            }
        }
    }

    #[must_use]
    pub fn received(&self) -> u64 {
        self.seen.received
    }

    /// Discards the times measured so far.
    pub fn forget_lateness(&mut self) {
        self.seen.late.clear();
    }

    /// Compares what was received with the turns published by topic.
    #[must_use]
    pub fn finish(mut self, published: &[u32]) -> Seen {
        for watcher in &self.all {
            let total = published.get(watcher.topic as usize).copied().unwrap_or(0).saturating_sub(watcher.first);
            let came: u32 = watcher.turns.iter().map(|word| word.count_ones()).sum();
            self.seen.lost += u64::from(total.saturating_sub(came));
            self.seen.ended += u64::from(watcher.state == State::Ended);
        }
        self.seen.late.sort_unstable();
        self.seen
    }

    fn round(&mut self, wait: Duration, tally: Option<&Tally>) {
        let mut events = Vec::with_capacity(512);
        let wait = Timespec::try_from(wait).expect("the time is short");
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        for event in &events {
            self.read(usize::try_from(event.data.u64()).expect("the index fits into a usize"));
        }
        if let Some(tally) = tally {
            tally.received.store(self.seen.received, Ordering::Release);
        }
    }

    fn read(&mut self, at: usize) {
        let watcher = &mut self.all[at];
        let carried = watcher.carry.len();
        self.buffer[..carried].copy_from_slice(&watcher.carry);
        let end = match watcher.stream.read(&mut self.buffer[carried..]) {
            Ok(0) => 0,
            Ok(read) => carried + read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => 0,
        };
        if end == 0 {
            self.opening -= usize::from(matches!(watcher.state, State::Upgrading | State::Confirming));
            watcher.state = State::Ended;
            let _ = epoll::delete(&self.poll, &watcher.stream);
            return;
        }
        let bytes = &self.buffer[..end];
        let mut taken = 0;
        if watcher.state == State::Upgrading {
            let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                watcher.carry = bytes.to_vec();
                return;
            };
            assert!(bytes.starts_with(b"HTTP/1.1 101"), "{:?}: {}", self.peer, String::from_utf8_lossy(bytes));
            taken = head + 4;
            watcher.state = State::Ready;
            if let Some(hello) = hello(self.peer, watcher.topic, watcher.seq) {
                watcher.stream.write_all(&hello).expect("an empty socket takes a request");
                watcher.state = State::Confirming;
            }
            self.opening -= usize::from(watcher.state == State::Ready);
        }
        while let Some((opcode, start, len)) = frame(&bytes[taken..]) {
            let payload = &bytes[taken + start..taken + start + len];
            taken += start + len;
            match opcode {
                8 => watcher.state = State::Ended,
                9 => {
                    let _ = watcher.stream.write_all(&client_frame(10, payload));
                }
                _ => {
                    if watcher.state == State::Confirming && confirms(self.peer, payload) {
                        watcher.state = State::Ready;
                        self.opening -= 1;
                    }
                    see(watcher, self.peer, &self.marks, payload, self.is_recording, &mut self.seen);
                }
            }
        }
        watcher.carry.clear();
        watcher.carry.extend_from_slice(&bytes[taken..]);
    }
}

fn see(watcher: &mut Watcher, peer: Peer, marks: &Marks, payload: &[u8], is_recording: bool, seen: &mut Seen) {
    let at = now();
    let Watcher { topic, turns, inner, seq, .. } = watcher;
    let mut note = |mark: crate::message::Mark| {
        assert_eq!(mark.topic, *topic, "a turn of another topic");
        let (word, bit) = (mark.turn as usize / 64, 1 << (mark.turn % 64));
        if turns.len() <= word {
            turns.resize(word + 1, 0);
        }
        seen.doubled += u64::from(turns[word] & bit != 0);
        turns[word] |= bit;
        seen.received += 1;
        if is_recording {
            seen.late.push(u32::try_from(at.saturating_sub(mark.at) / 1000).unwrap_or(u32::MAX));
        }
    };
    if peer == Peer::Nats {
        inner.extend_from_slice(payload);
        let read = marks.read(inner, &mut note);
        inner.drain(..read);
        return;
    }
    marks.read(payload, &mut note);
    if peer.is_ours()
        && let Some(next) = seq_of(payload)
    {
        seen.disordered += u64::from(seq.is_some_and(|last| last + 1 != next));
        *seq = Some(next);
    }
}

/// Returns the number at the end of an event's message: `…,"seq":17}`.
fn seq_of(payload: &[u8]) -> Option<i64> {
    if payload.starts_with(br#"{"type":"subscription"#) {
        return None;
    }
    let digits = payload.strip_suffix(b"}")?;
    let start = digits.iter().rposition(|byte| !byte.is_ascii_digit())? + 1;
    digits[..start].ends_with(br#""seq":"#).then(|| std::str::from_utf8(&digits[start..]).ok()?.parse().ok()).flatten()
}

/// Returns a frame's opcode, the start of its payload and its length; `None` while the frame is incomplete.
fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (start, len) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?),
        len => (2, usize::from(len)),
    };
    (bytes.len() >= start + len).then_some((first & 0x0f, start, len))
}

/// Returns what a client of Callscope sends: the upgrade, and the request to follow a topic.
#[must_use]
pub fn requests(server: &Running, topic: u32) -> (String, Vec<u8>) {
    (upgrade(server, topic), hello(server.peer, topic, None).unwrap_or_default())
}

fn upgrade(server: &Running, topic: u32) -> String {
    let (path, headers) = match server.peer {
        Peer::Callscope | Peer::CallscopePostgres | Peer::Before => {
            (PATH.to_owned(), format!("Authorization: Bearer {}\r\n", server.token))
        }
        Peer::Nats => ("/".to_owned(), String::new()),
        _ => (format!("/sub/{topic}"), String::new()),
    };
    upgrade_request(&path, &server.subscribe.to_string(), &headers)
}

fn hello(peer: Peer, topic: u32, after: Option<i64>) -> Option<Vec<u8>> {
    match peer {
        Peer::Callscope | Peer::CallscopePostgres | Peer::Before => {
            let sid = call_sid(topic);
            let text = match after {
                Some(seq) => format!(r#"{{"subscribe":"{sid}","after":{seq}}}"#),
                None => format!(r#"{{"subscribe":"{sid}","history":false}}"#),
            };
            Some(client_frame(1, text.as_bytes()))
        }
        Peer::Nats => {
            let text = format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB t.{topic} 1\r\nPING\r\n");
            Some(client_frame(2, text.as_bytes()))
        }
        _ => None,
    }
}

fn confirms(peer: Peer, payload: &[u8]) -> bool {
    match peer {
        Peer::Nats => memchr::memmem::find(payload, b"PONG").is_some(),
        _ => payload.starts_with(br#"{"type":"subscription_confirmed""#),
    }
}
