//! The memory that one request with a wrong signature takes, for bodies that are chosen to take much. The signature can
//! be verified only after the whole body is read.
//!
//! All allocated bytes are counted, also those that are freed before the request ends. The sum is therefore an upper
//! bound of the memory held at one time. Only for bodies up to 256 KiB does the server look for the cause of the wrong
//! signature.

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
use callscope_tests::server::{forged_signature, unix_secs};
use callscope_tests::{Database, Engine, Server};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Limit of the bytes that one request may allocate.
const MAX_ALLOCATED_BYTES: usize = 16 << 20;
/// Length of the longest body for which the server looks for the cause of a wrong signature.
const MAX_EXPLAINED_BYTES: usize = 256 << 10;
/// Length of the longest body that the webhook of a turn accepts.
const MAX_TURN_BYTES: usize = 1 << 20;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Repeats `piece` up to `length` bytes.
fn fill(piece: &str, length: usize) -> String {
    piece.repeat(length / piece.len())
}

/// Returns names and bodies of up to `length` bytes that take much memory to parse, rewrite or decompress.
fn hostile_bodies(length: usize) -> Vec<(&'static str, Vec<u8>)> {
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
        ("commas in a deep list", commas),
        ("escapes", format!("\"{}\"", fill("\\u00e4", length - 8))),
        ("pairs of escapes", format!("\"{}\"", fill("\\ud83d\\ude00", length - 14))),
        ("a string of backslashes", format!("\"{}\"", fill("\\\\", length - 2))),
        ("a huge number", fill("1", length)),
        ("a huge fraction", format!("0.{}", fill("1", length - 2))),
        ("numbers with exponents", format!("[{}1]", fill("1e300,", length - 3))),
        ("numbers that are longer in another notation", format!("[{}1]", fill("1e15,", length - 3))),
        ("many fields", format!("{{{}\"a\":1}}", fill("\"a\":1,", length - 8))),
        ("many short strings", format!("[{}1]", fill("\"\",", length - 3))),
        ("control characters", fill("\u{7f}", length)),
        ("text that is longer in ASCII escapes", format!("\"{}\"", fill("ü", length - 2))),
        ("blanks", fill(" ", length)),
        ("line feeds", fill("\n", length)),
        ("Base64", fill("QUJD", length)),
        ("a form", fill("a=%7b&", length)),
        ("NaN", format!("[{}1]", fill("NaN,", length - 3))),
    ];
    let mut bodies: Vec<_> = bodies.into_iter().map(|(name, body)| (name, body.into_bytes())).collect();
    bodies.push(("invalid UTF-8", vec![0xff; length]));
    bodies.push(("compressed blanks", compressed_blanks(length)));
    bodies
}

/// Returns a gzip body that is a thousand times as long when it is decompressed.
fn compressed_blanks(length: usize) -> Vec<u8> {
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
    let signature = forged_signature();
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
    // This request causes the allocations that happen only once, so they are not counted.
    post(&address, b"{}");
    let verifier = SignatureVerifier::new(
        WebhookAuth::Required,
        vec![Secret::new("one".into()), Secret::new("other".into())],
        1800,
    );
    let headers = [(HEADER.to_owned(), forged_signature())];
    let received_at = Timestamp::from_unix_secs(unix_secs()).unwrap();
    for length in [MAX_EXPLAINED_BYTES, MAX_TURN_BYTES] {
        for (name, body) in hostile_bodies(length) {
            // The server may explain the refusal on another thread and later. Here it is explained in any case.
            let allocated = allocated_bytes(|| {
                post(&address, &body);
                let cause = verifier.explain(&headers, &body, received_at);
                assert_eq!(cause.as_deref(), (body.len() <= MAX_EXPLAINED_BYTES).then_some("unexplained"), "{name}");
            });
            println!("{allocated:>9} bytes allocated for {} of {name}", body.len());
            assert!(allocated < MAX_ALLOCATED_BYTES, "{} bytes of {name} allocated {allocated}", body.len());
        }
    }
    runtime.block_on(server.stop());
}

/// Returns the number of bytes that the whole process allocates during `work`.
fn allocated_bytes(work: impl FnOnce()) -> usize {
    let before = COUNTED.stats().bytes_allocated;
    work();
    COUNTED.stats().bytes_allocated - before
}
