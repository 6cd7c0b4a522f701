//! Whether permessage-deflate (RFC 7692) would save CPU time: the cost of compressing a message once, compared with the
//! cost of writing the message to each follower. Context takeover is off, because otherwise followers could not share a
//! compressed message.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use callscope_tests::subscriber::Received;
use callscope_tests::{Database, Engine, Server};

#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Folder of post-call webhooks whose turns are sent
    #[arg(long, default_value = "cli/samples")]
    pub samples: PathBuf,
    /// Number of times that each frame is compressed and written
    #[arg(long, default_value_t = 200)]
    pub rounds: usize,
}

/// Measures levels 1 and 6, and prints a table.
pub async fn run(flags: &Flags) {
    let frames = frames(flags).await;
    let bytes: usize = frames.iter().map(Vec::len).sum();
    println!(
        "{} frames of the turns in {}, {} bytes on average",
        frames.len(),
        flags.samples.display(),
        bytes / frames.len()
    );
    let uncompressed = write(&frames, flags.rounds);
    println!("{:<34}{:>8.1} % {:>8.2} µs CPU a write", "uncompressed", 100.0, uncompressed);
    for level in [1, 6] {
        let (cost, compressed) = compress(&frames, level, flags.rounds);
        let share = compressed.iter().map(Vec::len).sum::<usize>() as f64 / bytes as f64;
        let written = write(&compressed, flags.rounds);
        println!(
            "{:<34}{:>8.1} % {written:>8.2} µs CPU a write, {cost:.1} µs to compress, paid back {}",
            format!("deflate level {level}"),
            share * 100.0,
            if written < uncompressed {
                format!("at {:.0} followers", (cost / (uncompressed - written)).ceil())
            } else {
                "never".to_owned()
            }
        );
    }
}

/// Returns the messages that a follower receives when each turn of the samples is posted by itself.
async fn frames(flags: &Flags) -> Vec<Vec<u8>> {
    let database = Database::new(Engine::Sqlite).await;
    let server = Server::start(&database).await;
    let mut subscriber = server.subscriber().await;
    subscriber.send(json!({"subscribe": "EL_deflate", "wait": true})).await;
    let mut frames = Vec::new();
    for entry in std::fs::read_dir(&flags.samples).expect("the folder of samples") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a sample");
        let sample: Value = serde_json::from_str(&text).expect("JSON");
        for turn in sample["data"]["transcript"].as_array().into_iter().flatten() {
            if let Some(message) = turn["message"].as_str().filter(|message| !message.is_empty()) {
                // Each turn has an id of its own. Otherwise equal texts in one second would be one turn.
                let turn = json!({"call_sid": "EL_deflate", "speaker": if turn["role"] == "user" { "user" } else { "agent" },
                    "message": message, "turn_id": frames.len().to_string()});
                let reply = server.webhook("transcription", &turn).await;
                assert_eq!(reply.status, 201, "{}", reply.json);
                frames.push(next_turn(&mut subscriber).await);
            }
        }
    }
    server.stop().await;
    assert!(!frames.is_empty(), "no turns in {}", flags.samples.display());
    frames
}

async fn next_turn(subscriber: &mut callscope_tests::Subscriber) -> Vec<u8> {
    loop {
        match subscriber.next().await {
            Received::Json(message) if message["type"] == "transcription" => return message.to_string().into_bytes(),
            Received::Json(_) => {}
            Received::Closed(code) => panic!("closed with {code}"),
        }
    }
}

/// Returns the microseconds of CPU time for compressing a frame, and the compressed frames. Each is a sync flush
/// without its last four bytes (RFC 7692 section 7.2.1).
fn compress(frames: &[Vec<u8>], level: u32, rounds: usize) -> (f64, Vec<Vec<u8>>) {
    let mut deflate = Compress::new(Compression::new(level), false);
    let mut out = Vec::new();
    let cpu_before = cpu_time();
    for _ in 0..rounds {
        out.clear();
        for frame in frames {
            deflate.reset();
            let mut compressed = Vec::with_capacity(frame.len() + 64);
            deflate.compress_vec(frame, &mut compressed, FlushCompress::Sync).expect("room");
            compressed.truncate(compressed.len() - 4);
            out.push(compressed);
        }
    }
    (micros_since(cpu_before) / (rounds * frames.len()) as f64, out)
}

/// Returns the microseconds of this thread's CPU time for writing a frame to a socket whose peer reads.
fn write(frames: &[Vec<u8>], rounds: usize) -> f64 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let mut sender = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (mut receiver, _) = listener.accept().expect("a connection");
    sender.set_nodelay(true).expect("the socket accepts the option");
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        while receiver.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let cpu_before = cpu_time();
    for _ in 0..rounds {
        for frame in frames {
            sender.write_all(frame).expect("a reader");
        }
    }
    let used_micros = micros_since(cpu_before);
    drop(sender);
    reader.join().expect("the reader ends");
    used_micros / (rounds * frames.len()) as f64
}

/// Returns the CPU time of this thread.
fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(used.tv_sec).expect("not negative"), u32::try_from(used.tv_nsec).expect("below 10^9"))
}

fn micros_since(cpu_before: Duration) -> f64 {
    (cpu_time() - cpu_before).as_secs_f64() * 1e6
}
