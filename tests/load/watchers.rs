//! Watchers: the subscribers of the benchmark, all on one thread, which checks every delivery.
//!
//! They parse frames themselves instead of using [`callscope_tests::Socket`]. One thread reads from thousands of
//! sockets and must not limit the throughput, and the other servers have protocols of their own.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use callscope_tests::socket::{PATH, client_frame, upgrade_request};

use crate::message::{MarkFinder, call_sid, now};
use crate::peer::{Peer, PeerServer};

/// Opcodes of frames (RFC 6455 section 11.8).
const OPCODE_TEXT: u8 = 1;
const OPCODE_BINARY: u8 = 2;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;
const OPCODE_PONG: u8 = 10;
/// Limit of the connections that are opened and not yet confirmed.
const MAX_OPENING: usize = 256;
/// Time for all new connections to be confirmed.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(60);
/// Time without a delivery after which the missing ones count as lost.
const NO_DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 256 * 1024;

/// State that the watchers' thread shares with the publisher.
#[derive(Debug, Default)]
pub struct Tally {
    /// Deliveries so far.
    pub received: AtomicU64,
    /// Set when the watchers' thread must end.
    pub stop: AtomicBool,
}

/// Counts and delays of the deliveries to all watchers.
#[derive(Debug, Default)]
pub struct WatchStats {
    pub received: u64,
    /// Deliveries that never arrived.
    pub lost: u64,
    /// Deliveries that arrived more than once.
    pub doubled: u64,
    /// Events of Callscope whose seq was not the next one.
    pub disordered: u64,
    /// Connections that the server closed.
    pub closed: u64,
    /// Times from publishing to receiving, in microseconds.
    pub delay_micros: Vec<u32>,
}

impl WatchStats {
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.closed += other.closed;
        self.delay_micros.extend(&other.delay_micros);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The upgrade is not answered yet.
    Upgrading,
    /// The subscription is not confirmed yet.
    Confirming,
    Ready,
    Closed,
}

#[derive(Debug)]
struct Watcher {
    stream: TcpStream,
    topic: u32,
    state: State,
    /// Bytes of an incomplete frame.
    partial_frame: Vec<u8>,
    /// Bytes of an incomplete message: nats-server splits its messages across frames.
    partial_message: Vec<u8>,
    /// A bit for each turn, set when the turn arrives.
    received_turns: Vec<u64>,
    /// Earlier turns are not expected.
    first_turn: u32,
    /// Seq of the last event.
    last_seq: Option<i64>,
}

/// Where a watcher starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct StartAt {
    /// At Callscope, the seq after which the watcher resumes; `None` to start at the head.
    pub after: Option<i64>,
    /// The first turn that must arrive.
    pub first_turn: u32,
}

/// Connections that follow topics, read by one thread.
#[derive(Debug)]
pub struct Watchers {
    peer: Peer,
    poll: OwnedFd,
    watchers: Vec<Watcher>,
    marks: MarkFinder,
    buffer: Vec<u8>,
    stats: WatchStats,
    /// Topics and starts of the connections that are not opened yet.
    to_open: VecDeque<(u32, StartAt)>,
    /// Number of connections that are opened and not yet confirmed.
    opening: usize,
}

impl Watchers {
    #[must_use]
    pub fn new(server: &PeerServer) -> Self {
        Self {
            peer: server.peer,
            poll: epoll::create(CreateFlags::CLOEXEC).expect("the kernel creates an epoll"),
            watchers: Vec::new(),
            marks: MarkFinder::default(),
            buffer: vec![0; BUFFER_BYTES],
            stats: WatchStats::default(),
            to_open: VecDeque::new(),
            opening: 0,
        }
    }

    /// Connects one watcher for each of `topics` and waits until all are confirmed.
    #[must_use]
    pub fn connect(server: &PeerServer, topics: impl IntoIterator<Item = u32>) -> Self {
        let mut watchers = Self::new(server);
        watchers.connect_more(server, topics.into_iter().map(|topic| (topic, StartAt::default())));
        watchers
    }

    /// Connects further watchers and waits until all are confirmed.
    ///
    /// # Panics
    ///
    /// Panics if they are not confirmed in time.
    pub fn connect_more(&mut self, server: &PeerServer, starts: impl IntoIterator<Item = (u32, StartAt)>) {
        self.to_open.extend(starts);
        let began = Instant::now();
        while self.opening > 0 || !self.to_open.is_empty() {
            assert!(began.elapsed() < CONFIRM_TIMEOUT, "{:?} does not confirm {} watchers", self.peer, self.opening);
            self.open_connections(server);
            self.process_events(Duration::from_millis(100), None);
        }
    }

    /// Opens connections until `MAX_OPENING` of them wait for their confirmation.
    fn open_connections(&mut self, server: &PeerServer) {
        while self.opening < MAX_OPENING
            && let Some((topic, start)) = self.to_open.pop_front()
        {
            let mut stream = TcpStream::connect(server.subscribe_address).expect("the server accepts");
            stream.set_nodelay(true).expect("the socket accepts the option");
            stream.write_all(upgrade(server, topic).as_bytes()).expect("the server accepts a request");
            stream.set_nonblocking(true).expect("the socket accepts the option");
            let data = EventData::new_u64(self.watchers.len() as u64);
            epoll::add(&self.poll, &stream, data, EventFlags::IN).expect("the epoll accepts the socket");
            self.watchers.push(Watcher {
                stream,
                topic,
                state: State::Upgrading,
                partial_frame: Vec::new(),
                partial_message: Vec::new(),
                received_turns: Vec::new(),
                first_turn: start.first_turn,
                last_seq: start.after,
            });
            self.opening += 1;
        }
    }

    /// Reads until `tally.stop` is set.
    pub fn follow(&mut self, tally: &Tally) {
        while !tally.stop.load(Ordering::Relaxed) {
            self.process_events(Duration::from_millis(50), Some(tally));
        }
    }

    /// Reads until `expected` deliveries have arrived, or none has arrived for [`NO_DELIVERY_TIMEOUT`].
    pub fn wait_for(&mut self, expected: u64) {
        let mut last = (self.stats.received, Instant::now());
        while self.stats.received < expected && last.1.elapsed() < NO_DELIVERY_TIMEOUT {
            self.process_events(Duration::from_millis(50), None);
            if self.stats.received > last.0 {
                last = (self.stats.received, Instant::now());
            }
        }
    }

    #[must_use]
    pub fn received(&self) -> u64 {
        self.stats.received
    }

    /// Discards the delays recorded so far.
    pub fn discard_delays(&mut self) {
        self.stats.delay_micros.clear();
    }

    /// Counts lost deliveries and closed connections. `published` holds the number of turns by topic.
    #[must_use]
    pub fn finish(mut self, published: &[u32]) -> WatchStats {
        for watcher in &self.watchers {
            let expected =
                published.get(watcher.topic as usize).copied().unwrap_or(0).saturating_sub(watcher.first_turn);
            let received: u32 = watcher.received_turns.iter().map(|word| word.count_ones()).sum();
            self.stats.lost += u64::from(expected.saturating_sub(received));
            self.stats.closed += u64::from(watcher.state == State::Closed);
        }
        self.stats.delay_micros.sort_unstable();
        self.stats
    }

    /// Waits for readable sockets, reads them and publishes the count in `tally`.
    fn process_events(&mut self, wait: Duration, tally: Option<&Tally>) {
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
            tally.received.store(self.stats.received, Ordering::Release);
        }
    }

    /// Reads from a socket once and processes the complete frames.
    fn read(&mut self, index: usize) {
        let watcher = &mut self.watchers[index];
        let kept = watcher.partial_frame.len();
        self.buffer[..kept].copy_from_slice(&watcher.partial_frame);
        // 0 stands for a closed connection.
        let end = match watcher.stream.read(&mut self.buffer[kept..]) {
            Ok(0) => 0,
            Ok(read) => kept + read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => 0,
        };
        if end == 0 {
            self.opening -= usize::from(matches!(watcher.state, State::Upgrading | State::Confirming));
            watcher.state = State::Closed;
            let _ = epoll::delete(&self.poll, &watcher.stream);
            return;
        }
        let bytes = &self.buffer[..end];
        let mut parsed_bytes = 0;
        if watcher.state == State::Upgrading {
            let Some(head_end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                watcher.partial_frame = bytes.to_vec();
                return;
            };
            assert!(bytes.starts_with(b"HTTP/1.1 101"), "{:?}: {}", self.peer, String::from_utf8_lossy(bytes));
            parsed_bytes = head_end + 4;
            watcher.state = State::Ready;
            if let Some(request) = subscribe_request(self.peer, watcher.topic, watcher.last_seq) {
                watcher.stream.write_all(&request).expect("an empty socket accepts a request");
                watcher.state = State::Confirming;
            }
            self.opening -= usize::from(watcher.state == State::Ready);
        }
        while let Some((opcode, start, len)) = parse_frame(&bytes[parsed_bytes..]) {
            let payload = &bytes[parsed_bytes + start..parsed_bytes + start + len];
            parsed_bytes += start + len;
            match opcode {
                OPCODE_CLOSE => watcher.state = State::Closed,
                OPCODE_PING => {
                    // A closed connection is noticed at the next read.
                    let _ = watcher.stream.write_all(&client_frame(OPCODE_PONG, payload));
                }
                _ => {
                    if watcher.state == State::Confirming && is_confirmation(self.peer, payload) {
                        watcher.state = State::Ready;
                        self.opening -= 1;
                    }
                    record_payload(watcher, self.peer, &self.marks, payload, &mut self.stats);
                }
            }
        }
        watcher.partial_frame.clear();
        watcher.partial_frame.extend_from_slice(&bytes[parsed_bytes..]);
    }
}

/// Records the turns in a frame's payload, and checks the seq of an event of Callscope.
fn record_payload(watcher: &mut Watcher, peer: Peer, marks: &MarkFinder, payload: &[u8], stats: &mut WatchStats) {
    let received_at = now();
    let Watcher { topic, received_turns, partial_message, last_seq, .. } = watcher;
    let mut record = |mark: crate::message::Mark| {
        assert_eq!(mark.topic, *topic, "a turn of another topic");
        let (word, bit) = (mark.turn as usize / 64, 1 << (mark.turn % 64));
        if received_turns.len() <= word {
            received_turns.resize(word + 1, 0);
        }
        stats.doubled += u64::from(received_turns[word] & bit != 0);
        received_turns[word] |= bit;
        stats.received += 1;
        stats.delay_micros.push(u32::try_from(received_at.saturating_sub(mark.due_at) / 1000).unwrap_or(u32::MAX));
    };
    if peer == Peer::Nats {
        partial_message.extend_from_slice(payload);
        let searched = marks.read(partial_message, &mut record);
        partial_message.drain(..searched);
        return;
    }
    marks.read(payload, &mut record);
    if peer.is_callscope()
        && let Some(seq) = seq_of(payload)
    {
        stats.disordered += u64::from(last_seq.is_some_and(|last_seq| last_seq + 1 != seq));
        *last_seq = Some(seq);
    }
}

/// Returns the seq at the end of an event's message: `…,"seq":17}`.
fn seq_of(payload: &[u8]) -> Option<i64> {
    if payload.starts_with(br#"{"type":"subscription"#) {
        return None;
    }
    let digits = payload.strip_suffix(b"}")?;
    let start = digits.iter().rposition(|byte| !byte.is_ascii_digit())? + 1;
    digits[..start].ends_with(br#""seq":"#).then(|| std::str::from_utf8(&digits[start..]).ok()?.parse().ok()).flatten()
}

/// Returns a frame's opcode, the start of its payload and its length; `None` while the frame is incomplete.
fn parse_frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (start, len) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?),
        len => (2, usize::from(len)),
    };
    (bytes.len() >= start + len).then_some((first & 0x0f, start, len))
}

/// Returns the upgrade request and the subscribe request of a client of Callscope.
#[must_use]
pub fn client_requests(server: &PeerServer, topic: u32) -> (String, Vec<u8>) {
    (upgrade(server, topic), subscribe_request(server.peer, topic, None).unwrap_or_default())
}

fn upgrade(server: &PeerServer, topic: u32) -> String {
    let (path, headers) = match server.peer {
        Peer::Callscope | Peer::CallscopePostgres | Peer::Before => {
            (PATH.to_owned(), format!("Authorization: Bearer {}\r\n", server.token))
        }
        Peer::Nats => ("/".to_owned(), String::new()),
        _ => (format!("/sub/{topic}"), String::new()),
    };
    upgrade_request(&path, &server.subscribe_address.to_string(), &headers)
}

/// Returns the frame that subscribes to a topic; `None` if the path of the upgrade does so.
fn subscribe_request(peer: Peer, topic: u32, after: Option<i64>) -> Option<Vec<u8>> {
    match peer {
        Peer::Callscope | Peer::CallscopePostgres | Peer::Before => {
            let sid = call_sid(topic);
            let text = match after {
                Some(seq) => format!(r#"{{"subscribe":"{sid}","after":{seq}}}"#),
                None => format!(r#"{{"subscribe":"{sid}","history":false}}"#),
            };
            Some(client_frame(OPCODE_TEXT, text.as_bytes()))
        }
        Peer::Nats => {
            let text = format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB t.{topic} 1\r\nPING\r\n");
            Some(client_frame(OPCODE_BINARY, text.as_bytes()))
        }
        _ => None,
    }
}

fn is_confirmation(peer: Peer, payload: &[u8]) -> bool {
    match peer {
        Peer::Nats => memchr::memmem::find(payload, b"PONG").is_some(),
        _ => payload.starts_with(br#"{"type":"subscription_confirmed""#),
    }
}
