//! What one request without a valid signature costs in memory, whatever its body is. Its signature could be valid until
//! all of it is read.
//!
//! Bytes count when they are allocated, whether or not they are freed again, so the sum is more than was ever held at
//! one time and bounds it on any machine. The longest bodies whose cause of refusal is searched have 256 KiB; longer
//! ones are read and refused.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]
#![allow(clippy::print_stdout, reason = "the figures of a run")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

use callscope_common::Timestamp;
use callscope_common::signature::HEADER;
use callscope_server::ingest::signature::SignatureVerifier;
use callscope_server::policy::WebhookAuth;
use callscope_server::secret::Secret;
use callscope_tests::server::{forged, now};
use callscope_tests::{Database, Engine, Server};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Limit of the bytes that one request may allocate.
const MOST: usize = 16 << 20;
const EXPLAINED: usize = 256 << 10;
const LONGEST: usize = 1 << 20;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn fill(piece: &str, length: usize) -> String {
    piece.repeat(length / piece.len())
}

/// Returns bodies of up to `length` bytes that are expensive although they look cheap.
fn hostile(length: usize) -> Vec<(&'static str, Vec<u8>)> {
    let half = length / 2;
    let closed = fill("[", half) + &fill("]", half);
    let objects = fill(r#"{"a":"#, length / 6 * 5);
    let depth = objects.len() / 5;
    let objects = objects + "0" + &"}".repeat(depth);
    let commas = format!("{}0{}{}", "[".repeat(1_000), fill(",0", length - 2_001), "]".repeat(1_000));
    let bodies = [
        ("deep lists", closed),
        ("deep objects", objects),
        ("deep lists that do not end", fill("[", length)),
        ("deep objects that do not end", fill(r#"{"a":"#, length)),
        ("commas in the depth", commas),
        ("escapes", format!("\"{}\"", fill("\\u00e4", length - 8))),
        ("pairs of escapes", format!("\"{}\"", fill("\\ud83d\\ude00", length - 14))),
        ("a text of backslashes", format!("\"{}\"", fill("\\\\", length - 2))),
        ("a huge number", fill("1", length)),
        ("a huge fraction", format!("0.{}", fill("1", length - 2))),
        ("numbers with exponents", format!("[{}1]", fill("1e300,", length - 3))),
        ("numbers that are spelled longer", format!("[{}1]", fill("1e15,", length - 3))),
        ("many fields", format!("{{{}\"a\":1}}", fill("\"a\":1,", length - 8))),
        ("many tiny texts", format!("[{}1]", fill("\"\",", length - 3))),
        ("controls", fill("\u{7f}", length)),
        ("text that grows in ASCII", format!("\"{}\"", fill("ü", length - 2))),
        ("blanks", fill(" ", length)),
        ("line ends", fill("\n", length)),
        ("Base64", fill("QUJD", length)),
        ("a form", fill("a=%7b&", length)),
        ("NaN", format!("[{}1]", fill("NaN,", length - 3))),
    ];
    let mut bodies: Vec<_> = bodies.into_iter().map(|(name, body)| (name, body.into_bytes())).collect();
    bodies.push(("no UTF-8", vec![0xff; length]));
    bodies.push(("compressed blanks", compressed(length)));
    bodies
}

/// This body expands a thousandfold.
fn compressed(length: usize) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..length / 1_000 {
        gzip.write_all(&[b' '; 1_000_000]).unwrap();
        if gzip.get_ref().len() > length / 2 {
            break;
        }
    }
    gzip.finish().unwrap()
}

/// Posts a body under a forged signature and reads the refusal.
fn post(address: &str, body: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    let signature = forged();
    let length = body.len();
    write!(
        stream,
        "POST /webhooks/elevenlabs/transcription HTTP/1.1\r\nHost: localhost\r\nElevenLabs-Signature: {signature}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn one_unsigned_request_takes_little_memory() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let database = runtime.block_on(Database::new(Engine::Sqlite));
    let server = runtime.block_on(Server::start(&database));
    let address = callscope_tests::socket::host(&server.embedded.url).to_owned();
    // What is allocated only once is allocated now.
    post(&address, b"{}");
    let verifier = SignatureVerifier::new(
        WebhookAuth::Required,
        vec![Secret::new("one".into()), Secret::new("other".into())],
        1800,
    );
    let headers = [(HEADER.to_owned(), forged())];
    let received_at = Timestamp::from_unix_secs(now()).unwrap();
    for length in [EXPLAINED, LONGEST] {
        for (name, body) in hostile(length) {
            // The server may explain the refusal at the same time on another thread; here it is explained in any case.
            let taken = allocated(|| {
                post(&address, &body);
                let cause = verifier.explain(&headers, &body, received_at);
                assert_eq!(cause.as_deref(), (body.len() <= EXPLAINED).then_some("unexplained"), "{name}");
            });
            println!("{taken:>9} bytes taken by {} of {name}", body.len());
            assert!(taken < MOST, "{} bytes of {name} took {taken}", body.len());
        }
    }
    runtime.block_on(server.stop());
}

/// Returns the bytes that the whole process allocates during `work`.
fn allocated(work: impl FnOnce()) -> usize {
    let before = COUNTED.stats().bytes_allocated;
    work();
    COUNTED.stats().bytes_allocated - before
}
