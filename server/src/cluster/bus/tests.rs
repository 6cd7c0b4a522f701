//! Tests with two processes of one cluster and a stranger on the same Redis.

use std::sync::atomic::Ordering;

use serde_json::value::RawValue;
use uuid::Uuid;

use super::*;
use crate::cluster::announcer;
use crate::live::probe::{PROBE_CALL, Probe};

fn secrets() -> [Secret; 1] {
    [Secret::new("0123456789abcdef0123456789abcdef".into())]
}

fn bus(node: &str, name: &str, hub: &Hub) -> (Bus, mpsc::Receiver<Incoming>) {
    let url = std::env::var("CALLSCOPE_TEST_REDIS")
        .expect("CALLSCOPE_TEST_REDIS names no Redis; tests/run starts one and sets it");
    let (rpcs, received) = mpsc::channel(RPC_QUEUE);
    let (bus, _) = Bus::start(&Secret::new(url), &secrets(), name, node, hub.clone(), rpcs).expect("a URL");
    (bus, received)
}

async fn wait_until_complete(bus: &Bus) {
    bus.health().wait_for(|health| health.is_complete).await.expect("the link comes up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_process_that_is_silent_or_dropped_notifications_is_noticed() {
    let name = Uuid::new_v4().to_string();
    let (here, _here) = bus("here", &name, &Hub::on_tasks());
    let url = Secret::new(std::env::var("CALLSCOPE_TEST_REDIS").expect("set"));
    let (rpcs, _received) = mpsc::channel(RPC_QUEUE);
    let (there, task) = Bus::start(&url, &secrets(), &name, "there", Hub::on_tasks(), rpcs).expect("a URL");
    wait_until_complete(&here).await;
    wait_until_complete(&there).await;
    here.set_expected_peers(vec!["there".into()]);
    wait_until_complete(&here).await;
    there.link.record_dropped();
    here.health().wait_for(|health| health.gaps == 1).await.expect("it says so");
    task.abort();
    here.health().wait_for(|health| !health.is_complete).await.expect("its silence is noticed");
    assert!(here.is_up());
    here.set_expected_peers(Vec::new());
    wait_until_complete(&here).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn notifications_reach_the_same_cluster_and_no_other() {
    let name = Uuid::new_v4().to_string();
    let hubs = [Hub::on_tasks(), Hub::on_tasks(), Hub::on_tasks()];
    let (here, _here) = bus("here", &name, &hubs[0]);
    let (there, _there) = bus("there", &name, &hubs[1]);
    let (stranger, _stranger) = bus("stranger", "another cluster", &hubs[2]);
    for bus in [&here, &there, &stranger] {
        wait_until_complete(bus).await;
    }
    let mut probe = Probe::new(&hubs[1]);
    let announce = announcer(hubs[0].clone(), Some(here.clone()));
    announce(vec![Notification::PartialTurn { call_id: PROBE_CALL, frame: r#"{"text":"a word"}"#.into() }]);
    probe.receives("a word").await.expect("the pipe stands");
    assert_eq!(there.counters().received.load(Ordering::Relaxed), 1);
    assert_eq!(stranger.counters().received.load(Ordering::Relaxed), 0);
    // An empty message and one that is too long are not sent, and the link stays up.
    let too_long = format!("{:?}", "x".repeat(100_000)).into();
    announce(Vec::new());
    announce(vec![Notification::PartialTurn { call_id: PROBE_CALL, frame: too_long }]);
    announce(vec![Notification::PartialTurn { call_id: PROBE_CALL, frame: r#"{"text":"another"}"#.into() }]);
    probe.receives("another").await.expect("the pipe stands");
    assert!(here.is_up());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn questions_and_replies_reach_the_other_process() {
    let name = Uuid::new_v4().to_string();
    let (here, mut received_here) = bus("here", &name, &Hub::on_tasks());
    let (there, mut received_there) = bus("there", &name, &Hub::on_tasks());
    wait_until_complete(&here).await;
    wait_until_complete(&there).await;
    let id = Uuid::new_v4();
    let text = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
    here.send(Rpc::Ask { id, question: text("\"how many\"") });
    let Some(Incoming { from, rpc: Rpc::Ask { id: asked, question } }) = received_there.recv().await else {
        panic!("no question")
    };
    assert_eq!((&*from, asked, question.get()), ("here", id, "\"how many\""));
    there.send(Rpc::Reply { id, part: text("[3]"), is_last: true });
    let Some(Incoming { from, rpc: Rpc::Reply { part, is_last: true, .. } }) = received_here.recv().await else {
        panic!("no reply")
    };
    assert_eq!((&*from, part.get()), ("there", "[3]"));
}

/// A client that may publish in the channel and does not know the secret has no effect on the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_stranger_publishes_is_refused_and_counted() {
    let name = Uuid::new_v4().to_string();
    let hubs = [Hub::on_tasks(), Hub::on_tasks()];
    let (here, mut received_here) = bus("here", &name, &hubs[0]);
    let (there, _there) = bus("there", &name, &hubs[1]);
    wait_until_complete(&here).await;
    wait_until_complete(&there).await;
    let mut probe = Probe::new(&hubs[0]);
    let channel = format!("callscope:{name}");
    let url = std::env::var("CALLSCOPE_TEST_REDIS").expect("set");
    let client = redis::Client::open(url).expect("a URL");
    // An authentic message, which is repeated and altered below.
    let mut listener = client.get_async_pubsub().await.expect("Redis");
    listener.subscribe(&channel).await.expect("subscribed");
    let mut messages = Box::pin(listener.into_on_message());
    let announce = announcer(hubs[1].clone(), Some(there.clone()));
    announce(vec![Notification::PartialTurn { call_id: PROBE_CALL, frame: r#"{"text":"a word"}"#.into() }]);
    let authentic = loop {
        let message = futures_util::StreamExt::next(&mut messages).await.expect("a message");
        let payload: String = message.get_payload().expect("text");
        if payload.contains("a word") {
            break payload;
        }
    };
    probe.receives("a word").await.expect("the true one is shown");
    let received = here.counters().received.load(Ordering::Relaxed);
    let refused = here.counters().refused.load(Ordering::Relaxed);
    let id = Uuid::new_v4();
    let mut publisher = client.get_multiplexed_async_connection().await.expect("Redis");
    let forged = [
        format!(
            r#"{{"from":"there","body":{{"news":[{{"partial":{{"call_id":"{PROBE_CALL}","frame":{{"text":"forged"}}}}}}]}}}}"#
        ),
        format!(r#"{{"from":"x","body":{{"word":{{"ask":{{"id":"{id}","question":"connections"}}}}}}}}"#),
        format!(r#"{{"from":"x","body":{{"word":{{"ask":{{"id":"{id}","question":{{"kick":"{id}"}}}}}}}}}}"#),
        r#"{"from":"there","body":"gap"}"#.into(),
        authentic.replace("a word", "forged"),
        authentic.clone(),
        String::new(),
    ];
    for message in &forged {
        let _: i64 = redis::cmd("PUBLISH").arg(&channel).arg(message).query_async(&mut publisher).await.expect("sent");
    }
    // When the next authentic message has arrived, all forged ones before it were handled.
    announce(vec![Notification::PartialTurn { call_id: PROBE_CALL, frame: r#"{"text":"the next"}"#.into() }]);
    probe.receives("the next").await.expect("the true one is shown");
    assert_eq!(here.counters().refused.load(Ordering::Relaxed), refused + forged.len() as u64);
    assert_eq!(here.counters().received.load(Ordering::Relaxed), received + 1);
    assert_eq!(here.health().borrow().gaps, 0);
    assert!(received_here.try_recv().is_err(), "no forged question or reply is passed on");
}
