//! The allocations of a webhook and of a delivery, and the memory of a connection. Counts do not depend on the machine
//! as times do, so a regression fails everywhere.
//!
//! When a change saves allocations, lower the recorded figures. Raise them only with a reason in the commit's message.
//! The memory of SQLite and of the kernel is not counted.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]
#![allow(clippy::print_stdout, reason = "the figures of the run are printed")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use callscope_tests::server::unix_secs;
use callscope_tests::socket::{PATH, client_frame, host, upgrade_request};
use callscope_tests::{Database, Engine, Server, until};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Recorded allocations for a turn's webhook to a call without followers, from the request to the answer.
const ALLOCATIONS_PER_WEBHOOK: f64 = 155.0;
/// Recorded bytes that the connection of an idle follower holds.
const BYTES_PER_CONNECTION: f64 = 2480.0;
/// Limit of the allocations for a delivery: none, but for those that happen at times, such as enlarged buffers.
const MAX_ALLOCATIONS_PER_DELIVERY: f64 = 0.1;
/// Factor by which a run may exceed the recorded figures.
const TOLERANCE: f64 = 1.05;

const FOLLOWERS: usize = 200;
const TURNS: usize = 200;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Returns the number of allocations and reallocations so far.
fn allocations() -> f64 {
    let stats = COUNTED.stats();
    (stats.allocations + stats.reallocations) as f64
}

/// Returns the bytes that are allocated now.
fn allocated_bytes() -> f64 {
    let stats = COUNTED.stats();
    stats.bytes_allocated as f64 - stats.bytes_deallocated as f64
}

/// A provider on one connection. It does not allocate while it posts, so all counted allocations are the server's.
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

    /// Posts the requests and returns the allocations of the whole process per request.
    fn allocations_per_request(&mut self, requests: &[Vec<u8>]) -> f64 {
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
            callscope_common::signature::sign(callscope_tests::server::SECRET.as_bytes(), unix_secs(), body.as_bytes());
        format!(
            "POST /webhooks/elevenlabs/transcription HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             ElevenLabs-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    (0..TURNS).map(turn).collect()
}

/// Opens a connection, subscribes and waits for the confirmation.
fn follow(address: &str, token: &str, call_sid: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let subscribe = json!({ "subscribe": call_sid, "history": false }).to_string();
    stream.write_all(upgrade_request(&format!("{PATH}?token={token}"), address, "").as_bytes()).unwrap();
    let frame = client_frame(1, subscribe.as_bytes());
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let mut has_subscribed = false;
    while !String::from_utf8_lossy(&received).contains("subscription_confirmed") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&buffer[..read]);
        // The subscription is requested once the upgrade is answered.
        if !std::mem::replace(&mut has_subscribed, true) {
            stream.write_all(&frame).unwrap();
        }
    }
    stream
}

/// Reads until `text` has arrived once for each turn, or for 30 seconds, and returns how often it did.
fn count_deliveries(mut stream: TcpStream, text: &str) -> usize {
    let mut received = Vec::new();
    let mut buffer = [0; 64 << 10];
    let count = |received: &[u8]| String::from_utf8_lossy(received).matches(text).count();
    while count(&received) < TURNS {
        let Ok(read) = stream.read(&mut buffer) else { break };
        received.extend_from_slice(&buffer[..read]);
    }
    count(&received)
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
    // These turns and this follower cause the allocations that happen only once, so they are not counted.
    for call_sid in ["alone", "followed"] {
        for request in webhooks(call_sid, "first") {
            provider.post(&request);
        }
    }
    drop(follow(&address, &token, "followed"));
    runtime.block_on(until("the first follower's connection is removed", async || {
        server.embedded.hub.connections().is_empty()
    }));

    let webhook = provider.allocations_per_request(&webhooks("alone", "then"));
    let bytes_before = allocated_bytes();
    let mut followers = Vec::with_capacity(FOLLOWERS);
    followers.extend((0..FOLLOWERS).map(|_| follow(&address, &token, "followed")));
    let connection = (allocated_bytes() - bytes_before) / FOLLOWERS as f64;
    let followed = provider.allocations_per_request(&webhooks("followed", "heard"));
    let delivery = (followed - webhook) / FOLLOWERS as f64;
    println!("allocations a webhook {webhook:.1}, a delivery {delivery:.3}; bytes a connection {connection:.0}");
    for stream in followers {
        assert_eq!(count_deliveries(stream, "heard "), TURNS);
    }
    assert!(
        webhook <= ALLOCATIONS_PER_WEBHOOK * TOLERANCE,
        "a webhook allocates {webhook:.1} times, recorded are {ALLOCATIONS_PER_WEBHOOK}"
    );
    assert!(delivery <= MAX_ALLOCATIONS_PER_DELIVERY, "a delivery allocates {delivery:.3} times instead of never");
    assert!(
        connection <= BYTES_PER_CONNECTION * TOLERANCE,
        "a connection holds {connection:.0} bytes, recorded are {BYTES_PER_CONNECTION}"
    );
    runtime.block_on(server.stop());
}
