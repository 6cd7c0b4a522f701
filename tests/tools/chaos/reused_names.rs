//! Names that lead to one call after the other: a call is made, deleted, and made again under the same name, while a
//! follower follows the name.

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
use callscope_tests::server::{SECRET, now};

/// Time for a follower to reach the end of the last call.
const PATIENCE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(200);

/// The number of events of the last call, once it is known.
type Last = watch::Receiver<Option<i64>>;

/// Uses name after name until the run closes.
pub async fn reuse_names(cluster: Arc<Cluster>, number: usize, mut rng: Rng) {
    let mut count = 0;
    while !cluster.is_closing() {
        let name = format!("EL_again{number}_{count}");
        count += 1;
        let (tell, last) = watch::channel(None);
        let follower = Follower::new(&cluster, name.clone(), rng.fork());
        tokio::join!(speak(&cluster, &name, &mut rng, tell), follower.follow(last));
    }
}

/// Makes several calls with one name and deletes all of them but the last.
async fn speak(cluster: &Cluster, name: &str, rng: &mut Rng, tell: watch::Sender<Option<i64>>) {
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
                cluster.report(Violation::Missing, || format!("{name}: acknowledged and not in its log: {text}"));
            }
        }
        let _ = tell.send(i64::try_from(log.frames.len()).ok());
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
            .header(signature::HEADER, signature::sign(SECRET.as_bytes(), now(), body.as_bytes()))
            .body(body.clone())
            .send();
        match sent.await.map(|answer| answer.status().as_u16()) {
            Ok(201) => return node.acknowledge(incarnation),
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
        // 404 means that an earlier try succeeded and its answer was lost.
        if let Ok(204 | 404) = sent.await.map(|answer| answer.status().as_u16()) {
            return;
        }
        sleep(Duration::from_millis(rng.u64(5..60))).await;
    }
}

/// Follows a name through its calls and knows only the last cursor that it received.
struct Follower<'w> {
    cluster: &'w Cluster,
    name: String,
    rng: Rng,
    cursor: Option<String>,
    /// The record that is followed, and the seq of its last event.
    record: Option<uuid::Uuid>,
    seq: i64,
    /// Records that were deleted.
    deleted: Vec<uuid::Uuid>,
    is_done: bool,
}

impl<'w> Follower<'w> {
    fn new(cluster: &'w Cluster, name: String, rng: Rng) -> Self {
        Self { cluster, name, rng, cursor: None, record: None, seq: 0, deleted: Vec::new(), is_done: false }
    }

    async fn follow(mut self, last: Last) {
        let mut deadline = None;
        while !self.is_done {
            if let Some(head) = *last.borrow() {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                if Instant::now() > deadline {
                    let (name, record, seq) = (&self.name, self.record, self.seq);
                    return self
                        .cluster
                        .report(Violation::Lost, || format!("{name}: at seq {seq} of {record:?}, not {head}"));
                }
            } else if last.has_changed().is_err() {
                // The speaker gave up and has said why.
                return;
            }
            let address = self.cluster.socket(&mut self.rng);
            if let Some(mut socket) = connect(address, &self.cluster.token, false).await {
                self.cluster.ledger.counts.connections.fetch_add(1, Ordering::Relaxed);
                self.connection(&mut socket, &last).await;
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

    async fn connection(&mut self, socket: &mut Socket, last: &Last) {
        send(socket, &self.request()).await;
        for _ in 0..self.rng.u32(20..400) {
            if (*last.borrow()).is_some_and(|head| self.seq >= head && self.has_new_record()) {
                self.is_done = true;
                return;
            }
            match timeout(TICK, socket.next()).await {
                Ok(Err(_)) => return,
                Ok(Ok(text)) => {
                    if let Some(request) = self.receive(&text) {
                        send(socket, &request).await;
                    }
                }
                // This happens in the gap between two calls, or in the middle of one.
                Err(_) if self.rng.u8(..3) == 0 => send(socket, &json!({"subscribe": self.name, "wait": true})).await,
                Err(_) => {}
            }
            if (*last.borrow()).is_some() && self.seq > 0 && self.rng.u8(..50) == 0 {
                return;
            }
        }
    }

    fn has_new_record(&self) -> bool {
        self.record.is_some_and(|record| !self.deleted.contains(&record))
    }

    /// Takes a message and returns the request that it makes necessary.
    fn receive(&mut self, text: &str) -> Option<Value> {
        let message: ServerMessage = serde_json::from_str(text).ok()?;
        match message.r#type.as_str() {
            "transcription" => self.event(&message, text),
            "subscription_confirmed" => self.confirmed(&message, text),
            "error" => {
                // The call was deleted, or the cursor belongs to a deleted one: start with what the name leads to now.
                let is_fair = matches!(
                    message.code.as_deref(),
                    Some("CALL_NOT_FOUND" | "CURSOR_INVALID" | "SUBSCRIPTION_FAILED")
                );
                if !is_fair {
                    self.cluster.report(Violation::Refused, || format!("{}: {text:.300}", self.name));
                }
                if message.code.as_deref() != Some("SUBSCRIPTION_FAILED") {
                    self.cursor = None;
                }
                return Some(self.request());
            }
            _ => {}
        }
        None
    }

    fn begin(&mut self, record: uuid::Uuid, seq: i64) {
        if self.deleted.contains(&record) {
            self.cluster.report(Violation::Disordered, || {
                format!("{}: back to a record that was deleted: {record}", self.name)
            });
        }
        self.deleted.extend(self.record.replace(record));
        self.seq = seq;
    }

    fn confirmed(&mut self, message: &ServerMessage, text: &str) {
        let (Some(record), Some(cursor)) = (message.call_id, message.cursor.clone()) else { return };
        let seq = cursor.parse::<Cursor>().map_or(-1, Cursor::seq);
        if self.record != Some(record) {
            self.begin(record, seq);
            if seq != 0 {
                self.cluster
                    .report(Violation::Lost, || format!("{}: a new record begins at {seq}: {text:.300}", self.name));
            }
        } else if self.cursor.is_none() && seq == 0 {
            // The log was requested from its start again.
            self.seq = 0;
        } else if seq != self.seq {
            self.cluster.report(Violation::Misplaced, || format!("{} stands at {}: {text:.300}", self.name, self.seq));
        }
        self.cursor = Some(cursor);
    }

    fn event(&mut self, message: &ServerMessage, text: &str) {
        let (Some(record), Some(seq)) = (message.call_id, message.seq) else { return };
        self.cluster.ledger.counts.received.fetch_add(1, Ordering::Relaxed);
        if self.record != Some(record) {
            self.cluster.report(Violation::Alien, || format!("{} follows {:?}: {text:.300}", self.name, self.record));
            self.begin(record, seq - 1);
        }
        if seq != self.seq + 1 {
            let violation = if seq <= self.seq { Violation::Doubled } else { Violation::Lost };
            self.cluster.report(violation, || format!("{}: expected seq {}: {text:.300}", self.name, self.seq + 1));
        }
        self.seq = seq;
        self.cursor = Cursor::of_message(text).map(str::to_owned);
    }
}
