//! What a webhook, a delivery and a connection cost in allocations. A regression fails here on any machine, without a
//! clock.
//!
//! The recorded figures go down when a change saves allocations; they go up only with a reason in the commit's message.
//! The memory of SQLite and of the kernel is not included.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]
#![allow(clippy::print_stdout, reason = "the figures of a run, beside what is recorded")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use callscope_tests::server::now;
use callscope_tests::socket::{PATH, client_frame, host, upgrade_request};
use callscope_tests::{Database, Engine, Server, until};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Allocations of a turn's webhook to a call without followers, from the socket to the answer.
const WEBHOOK: f64 = 155.0;
/// Bytes that an idle follower holds.
const CONNECTION: f64 = 2480.0;
/// Tolerance of a run, as a factor.
const SLACK: f64 = 1.05;

const FOLLOWERS: usize = 200;
const TURNS: usize = 200;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Returns the allocations so far, including enlargements.
fn allocations() -> f64 {
    let stats = COUNTED.stats();
    (stats.allocations + stats.reallocations) as f64
}

/// Returns the bytes that are held now.
fn held() -> f64 {
    let stats = COUNTED.stats();
    stats.bytes_allocated as f64 - stats.bytes_deallocated as f64
}

/// A provider on one connection, which allocates nothing while it posts.
struct Provider {
    stream: TcpStream,
    answer: Box<[u8]>,
}

impl Provider {
    fn post(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
        let mut read = 0;
        loop {
            read += self.stream.read(&mut self.answer[read..]).unwrap();
            let text = std::str::from_utf8(&self.answer[..read]).unwrap();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                assert!(head.starts_with("HTTP/1.1 201 "), "{text}");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if body.len() == length.parse::<usize>().unwrap() {
                    return;
                }
            }
        }
    }

    /// Returns the allocations of the whole process for each of the requests.
    fn cost(&mut self, requests: &[Vec<u8>]) -> f64 {
        let before = allocations();
        for request in requests {
            self.post(request);
        }
        (allocations() - before) / requests.len() as f64
    }
}

fn webhooks(call_sid: &str, text: &str) -> Vec<Vec<u8>> {
    let turn = |number: usize| {
        let body =
            json!({"call_sid": call_sid, "speaker": "agent", "message": format!("{text} {number:08}")}).to_string();
        let signature =
            callscope_common::signature::sign(callscope_tests::server::SECRET.as_bytes(), now(), body.as_bytes());
        format!(
            "POST /webhooks/elevenlabs/transcription HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             ElevenLabs-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    (0..TURNS).map(turn).collect()
}

/// Upgrades, subscribes and waits for the confirmation.
fn follow(address: &str, token: &str, call_sid: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let subscribe = json!({ "subscribe": call_sid, "history": false }).to_string();
    stream.write_all(upgrade_request(&format!("{PATH}?token={token}"), address, "").as_bytes()).unwrap();
    let frame = client_frame(1, subscribe.as_bytes());
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let mut has_asked = false;
    while !String::from_utf8_lossy(&seen).contains("subscription_confirmed") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..read]);
        if !std::mem::replace(&mut has_asked, true) {
            stream.write_all(&frame).unwrap();
        }
    }
    stream
}

fn deliveries(mut stream: TcpStream, text: &str) -> usize {
    let mut seen = Vec::new();
    let mut buffer = [0; 64 << 10];
    let count = |seen: &[u8]| String::from_utf8_lossy(seen).matches(text).count();
    while count(&seen) < TURNS {
        let Ok(read) = stream.read(&mut buffer) else { break };
        seen.extend_from_slice(&buffer[..read]);
    }
    count(&seen)
}

#[test]
fn webhooks_deliveries_and_connections_allocate_no_more_than_recorded() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let database = runtime.block_on(Database::new(Engine::Sqlite));
    let server = runtime.block_on(Server::start(&database));
    let address = host(&server.embedded.url).to_owned();
    let token = server.embedded.token.clone();
    let mut provider =
        Provider { stream: TcpStream::connect(&address).unwrap(), answer: vec![0; 4096].into_boxed_slice() };
    // What is allocated only once is allocated now.
    for call_sid in ["alone", "followed"] {
        for request in webhooks(call_sid, "first") {
            provider.post(&request);
        }
    }
    drop(follow(&address, &token, "followed"));
    runtime.block_on(until("the first follower is forgotten", async || server.embedded.hub.connections().is_empty()));

    let alone = provider.cost(&webhooks("alone", "then"));
    let before = held();
    let mut followers = Vec::with_capacity(FOLLOWERS);
    followers.extend((0..FOLLOWERS).map(|_| follow(&address, &token, "followed")));
    let connection = (held() - before) / FOLLOWERS as f64;
    let followed = provider.cost(&webhooks("followed", "heard"));
    let delivery = (followed - alone) / FOLLOWERS as f64;
    println!("allocations a webhook {alone:.1}, a delivery {delivery:.3}; bytes a connection {connection:.0}");
    for stream in followers {
        assert_eq!(deliveries(stream, "heard "), TURNS);
    }
    assert!(alone <= WEBHOOK * SLACK, "a webhook allocates {alone:.1} times, recorded are {WEBHOOK}");
    assert!(delivery <= 0.1, "a delivery allocates {delivery:.3} times; none is right");
    assert!(connection <= CONNECTION * SLACK, "a connection holds {connection:.0} bytes, recorded are {CONNECTION}");
    runtime.block_on(server.stop());
}
