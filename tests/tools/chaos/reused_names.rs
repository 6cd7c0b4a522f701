//! Reused names: a call is made, deleted, and made again under the same name, while a follower follows the name.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use callscope_common::{Cursor, signature};
use fastrand::Rng;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::check;
use crate::cluster::Cluster;
use crate::socket::{ServerMessage, connect, send};
use crate::violations::Violation;
use callscope_tests::Socket;
use callscope_tests::server::{SECRET, unix_secs};

/// Time for a follower to reach the head of the last call.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay before a refused request is repeated. While the storage is down every request is refused at once, and
/// repeating them without a delay exceeds the server's limit of 50 messages a second.
const REPEAT_DELAY: Duration = Duration::from_millis(25);
/// Time without a message after which a follower may send another request.
const IDLE_TIME: Duration = Duration::from_millis(200);

/// The head of the last call's log, once the call is complete.
type FinalHead = watch::Receiver<Option<i64>>;

/// Reuses one name after the other until the run is closing.
pub async fn reuse_names(cluster: Arc<Cluster>, number: usize, mut rng: Rng) {
    let mut count = 0;
    while !cluster.is_closing() {
        let name = format!("EL_again{number}_{count}");
        count += 1;
        let (send_head, final_head) = watch::channel(None);
        let follower = NameFollower::new(&cluster, name.clone(), rng.fork());
        tokio::join!(make_calls(&cluster, &name, &mut rng, send_head), follower.follow(final_head));
    }
}

/// Makes several calls with one name and deletes all of them but the last.
async fn make_calls(cluster: &Cluster, name: &str, rng: &mut Rng, send_head: watch::Sender<Option<i64>>) {
    let calls = rng.usize(2..5);
    for number in 0..calls {
        let texts: Vec<String> = (0..rng.usize(1..8)).map(|turn| format!("{name} call {number} turn {turn}")).collect();
        for text in &texts {
            sleep(Duration::from_millis(rng.u64(0..120))).await;
            post(cluster, name, text, rng).await;
        }
        if number + 1 < calls {
            delete(cluster, name, rng).await;
            continue;
        }
        let Some(log) = check::fetch(cluster, name).await else {
            cluster.report(Violation::Missing, || format!("{name} has no log after its last call was acknowledged"));
            break;
        };
        for text in &texts {
            if !log.frames.iter().any(|frame| frame.contains(&format!("\"{text}\""))) {
                cluster.report(Violation::Missing, || format!("{name}: acknowledged but not in its log: {text}"));
            }
        }
        // The follower may have ended already.
        let _ = send_head.send(i64::try_from(log.frames.len()).ok());
    }
}

/// Sends a turn until it is acknowledged.
async fn post(cluster: &Cluster, name: &str, text: &str, rng: &mut Rng) {
    let body = json!({"call_sid": name, "speaker": "user", "message": text, "turn_id": text}).to_string();
    loop {
        let (node, address) = cluster.pick_node(rng);
        let incarnation = node.incarnation();
        let sent = cluster
            .http
            .post(format!("http://{address}/webhooks/elevenlabs/transcription"))
            .header(signature::HEADER, signature::sign(SECRET.as_bytes(), unix_secs(), body.as_bytes()))
            .body(body.clone())
            .send();
        match sent.await.map(|answer| answer.status().as_u16()) {
            Ok(201) => return node.record_acknowledged(incarnation),
            Ok(status) if status < 429 => {
                return cluster.report(Violation::Refused, || format!("{name}: {text} was answered {status}"));
            }
            _ => sleep(Duration::from_millis(rng.u64(5..60))).await,
        }
    }
}

async fn delete(cluster: &Cluster, name: &str, rng: &mut Rng) {
    loop {
        let (_, address) = cluster.pick_node(rng);
        let url = format!("http://{address}/api/v1/calls/{name}");
        let sent = cluster.http.request(Method::DELETE, url).bearer_auth(&cluster.token).send();
        // 404: an earlier try deleted the call, and its answer was lost.
        if let Ok(204 | 404) = sent.await.map(|answer| answer.status().as_u16()) {
            return;
        }
        sleep(Duration::from_millis(rng.u64(5..60))).await;
    }
}

/// Follows a name through all its calls and resumes with the last cursor that it received.
struct NameFollower<'c> {
    cluster: &'c Cluster,
    name: String,
    rng: Rng,
    cursor: Option<String>,
    /// The record that is followed.
    record: Option<uuid::Uuid>,
    /// Seq of the last event of `record` that was received.
    last_seq: i64,
    /// Records that were followed earlier and are deleted now.
    deleted: Vec<uuid::Uuid>,
    /// Whether the head of the last call was reached.
    is_done: bool,
}

impl<'c> NameFollower<'c> {
    fn new(cluster: &'c Cluster, name: String, rng: Rng) -> Self {
        Self { cluster, name, rng, cursor: None, record: None, last_seq: 0, deleted: Vec::new(), is_done: false }
    }

    async fn follow(mut self, final_head: FinalHead) {
        let mut deadline = None;
        while !self.is_done {
            if let Some(head) = *final_head.borrow() {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + CATCH_UP_TIMEOUT);
                if Instant::now() > deadline {
                    let (name, record, seq) = (&self.name, self.record, self.last_seq);
                    return self
                        .cluster
                        .report(Violation::Lost, || format!("{name}: at seq {seq} of {record:?}, not {head}"));
                }
            } else if final_head.has_changed().is_err() {
                // `make_calls` failed without a final head, and reported why.
                return;
            }
            let address = self.cluster.pick_address(&mut self.rng);
            if let Some(mut socket) = connect(address, &self.cluster.token, false).await {
                self.cluster.ledger.counts.connections.fetch_add(1, Ordering::Relaxed);
                self.run_connection(&mut socket, &final_head).await;
            }
            sleep(Duration::from_millis(self.rng.u64(5..60))).await;
        }
    }

    fn request(&self) -> Value {
        match &self.cursor {
            Some(cursor) => json!({"subscribe": self.name, "after": cursor, "wait": true}),
            None => json!({"subscribe": self.name, "wait": true}),
        }
    }

    /// Reads a random number of messages, or until the connection ends or the head of the last call is reached.
    async fn run_connection(&mut self, socket: &mut Socket, final_head: &FinalHead) {
        send(socket, &self.request()).await;
        for _ in 0..self.rng.u32(20..400) {
            if (*final_head.borrow()).is_some_and(|head| self.last_seq >= head && self.has_current_record()) {
                self.is_done = true;
                return;
            }
            match timeout(IDLE_TIME, socket.next()).await {
                Ok(Err(_)) => return,
                Ok(Ok(text)) => {
                    if let Some(request) = self.receive(&text) {
                        sleep(REPEAT_DELAY).await;
                        send(socket, &request).await;
                    }
                }
                // This request has no cursor. It may arrive between two calls, or while the name's call is followed.
                Err(_) if self.rng.u8(..3) == 0 => send(socket, &json!({"subscribe": self.name, "wait": true})).await,
                Err(_) => {}
            }
            if (*final_head.borrow()).is_some() && self.last_seq > 0 && self.rng.u8(..50) == 0 {
                return;
            }
        }
    }

    fn has_current_record(&self) -> bool {
        self.record.is_some_and(|record| !self.deleted.contains(&record))
    }

    /// Processes a message and returns the request that it makes necessary.
    fn receive(&mut self, text: &str) -> Option<Value> {
        let message: ServerMessage = serde_json::from_str(text).ok()?;
        match message.r#type.as_str() {
            "transcription" => self.receive_event(&message, text),
            "subscription_confirmed" => self.receive_confirmation(&message, text),
            "error" => {
                let is_allowed = matches!(
                    message.code.as_deref(),
                    Some("CALL_NOT_FOUND" | "CURSOR_INVALID" | "SUBSCRIPTION_FAILED")
                );
                if !is_allowed {
                    self.cluster.report(Violation::Refused, || format!("{}: {text:.300}", self.name));
                }
                // The cursor belongs to a deleted call, so the next request starts at the first event of the new call.
                if message.code.as_deref() != Some("SUBSCRIPTION_FAILED") {
                    self.cursor = None;
                }
                return Some(self.request());
            }
            _ => {}
        }
        None
    }

    /// Follows another record from `seq` on. The record before counts as deleted.
    fn switch_record(&mut self, record: uuid::Uuid, seq: i64) {
        if self.deleted.contains(&record) {
            self.cluster.report(Violation::Disordered, || {
                format!("{}: back to a record that was deleted: {record}", self.name)
            });
        }
        self.deleted.extend(self.record.replace(record));
        self.last_seq = seq;
    }

    fn receive_confirmation(&mut self, message: &ServerMessage, text: &str) {
        let (Some(record), Some(cursor)) = (message.call_id, message.cursor.clone()) else { return };
        // -1 is never a position, so a cursor that cannot be parsed is a violation.
        let seq = cursor.parse::<Cursor>().map_or(-1, Cursor::seq);
        if self.record != Some(record) {
            self.switch_record(record, seq);
            if seq != 0 {
                self.cluster
                    .report(Violation::Lost, || format!("{}: a new record starts at {seq}: {text:.300}", self.name));
            }
        } else if self.cursor.is_none() && seq == 0 {
            // The last request had no cursor, so the log starts over at its first event.
            self.last_seq = 0;
        } else if seq != self.last_seq {
            self.cluster
                .report(Violation::Misplaced, || format!("{} is at seq {}: {text:.300}", self.name, self.last_seq));
        }
        self.cursor = Some(cursor);
    }

    fn receive_event(&mut self, message: &ServerMessage, text: &str) {
        let (Some(record), Some(seq)) = (message.call_id, message.seq) else { return };
        self.cluster.ledger.counts.received.fetch_add(1, Ordering::Relaxed);
        if self.record != Some(record) {
            self.cluster
                .report(Violation::Unexpected, || format!("{} follows {:?}: {text:.300}", self.name, self.record));
            self.switch_record(record, seq - 1);
        }
        if seq != self.last_seq + 1 {
            let violation = if seq <= self.last_seq { Violation::Doubled } else { Violation::Lost };
            self.cluster
                .report(violation, || format!("{}: expected seq {}: {text:.300}", self.name, self.last_seq + 1));
        }
        self.last_seq = seq;
        self.cursor = Cursor::of_message(text).map(str::to_owned);
    }
}
