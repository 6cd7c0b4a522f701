//! Deliveries: searched, shown, replayed, dropped by age and size, and followed live.

use std::collections::HashSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use callscope_common::Timestamp;
use callscope_common::api::WebhookRoute;
use callscope_common::claims::Role;
use callscope_server::ingest::naming::{CallLinks, Naming};
use callscope_server::ingest::receipt::render;
use callscope_server::ingest::{WebhookRequest, read_delivery};
use callscope_server::log::{Operation, UnknownCalls};
use callscope_server::store::LogWriter;
use callscope_tests::server::{forged_signature, mint, on_each_engine, unix_secs};
use callscope_tests::{Database, Engine, Server, Subscriber, until};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/api/v1/admin/deliveries";

async fn list(server: &Server, query: &str) -> Vec<Value> {
    server.get(&format!("{PATH}?{query}")).await["deliveries"].as_array().unwrap().clone()
}

fn ids(deliveries: &[Value]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery["delivery_id"].as_str().unwrap().to_owned()).collect()
}

fn post_call_result(conversation: &str, summary: &str) -> Value {
    json!({"type": "post_call_transcription", "event_timestamp": unix_secs(), "data": {
        "conversation_id": conversation, "agent_id": "agent_1", "status": "done",
        "transcript": [{"role": "agent", "message": "Hello", "time_in_call_secs": 0}],
        "analysis": {"transcript_summary": summary, "call_successful": "success"}}})
}

async fn replay(server: &Server, id: &str, as_new: bool) -> Value {
    let reply = server.api(Method::POST, &format!("{PATH}/{id}/replay?as_new={as_new}"), None).await;
    assert_eq!(reply.status, 200, "{}", reply.json);
    reply.json
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_found_by_verdict_type_call_text_and_time() {
    on_each_engine(async |engine, server| {
        server.turn("EL_find_1", "user", "the Übergang is closed").await;
        server.turn("EL_find_1", "agent", "take the bridge").await;
        server.turn("EL_find_2", "user", "the bridge too").await;
        server.webhook("post-call", &post_call_result("conv_find", "about a bridge")).await;
        server.webhook("post-call", &json!({"type": "unheard_of", "data": {}})).await;
        server.post_signed("transcription", b"not json", unix_secs(), &[]).await;
        let count = async |query: &str| list(&server, query).await.len();
        for (query, expected) in [
            ("", 6),
            ("verdict=accepted", 4),
            ("verdict=ignored", 1),
            ("verdict=rejected", 1),
            ("verdict=duplicate", 0),
            ("type=turn", 4),
            ("type=post_call_transcription", 1),
            ("call=EL_find_1", 2),
            ("call=conv_find", 1),
            ("call=EL_find_1&q=bridge", 1),
            ("q=bridge", 3),
            ("q=Bridge", 0),
            ("q=%C3%9Cbergang", 1),
            ("q=not%20JSON", 1),
            ("since=2020-01-01T00:00:00Z", 6),
            ("until=2020-01-01T00:00:00Z", 0),
            ("since=2100-01-01T00:00:00Z", 0),
            ("verdict=accepted&type=turn&q=bridge&call=EL_find_2", 1),
        ] {
            assert_eq!(count(query).await, expected, "{engine:?}: {query}");
        }
        for wrong in ["verdict=maybe", "since=yesterday", "until=soon", "limit=0", "cursor=x", "q=%00", "call=a%20b"] {
            assert_eq!(server.api(Method::GET, &format!("{PATH}?{wrong}"), None).await.status, 400, "{wrong}");
        }
        let newest_first = ids(&list(&server, "").await);
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("{PATH}?limit=4{cursor}")).await;
            paged.extend(ids(page["deliveries"].as_array().unwrap()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(paged, newest_first);
    })
    .await;
}

/// One page of a search reads a limited number of deliveries. Older matches are on the next page.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_continues_where_it_left_off() {
    on_each_engine(async |engine, server| {
        server.turn("EL_deep_1", "user", "needle").await;
        let server = &server;
        let posts = (0..1_100).map(|i| async move { server.turn("EL_deep_1", "agent", &format!("hay {i}")).await });
        assert!(join_all(posts).await.iter().all(|reply| reply.status == 201));
        let first = server.get(&format!("{PATH}?q=needle")).await;
        assert_eq!(first["deliveries"], json!([]), "{engine:?}: older than what one page reads");
        let rest = server.get(&format!("{PATH}?q=needle&cursor={}", first["next_cursor"].as_str().unwrap())).await;
        assert_eq!(rest["deliveries"].as_array().unwrap().len(), 1);
        assert_eq!(rest["next_cursor"], Value::Null);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_shows_its_bytes_its_headers_and_what_it_changed() {
    on_each_engine(async |_, server| {
        let body = post_call_result("conv_show", "seen").to_string();
        server.post_signed("post-call", body.as_bytes(), unix_secs(), &[("X-Request-Id", "a b"), ("X-Own", "c")]).await;
        server.post_signed("post-call", body.as_bytes(), unix_secs() - 1, &[]).await;
        server.post_signed("transcription", b"\xff\x00 not text", unix_secs(), &[]).await;
        let all = ids(&list(&server, "").await);
        let [binary, repeat, first] = &all[..] else { panic!("{all:?}") };
        let first = server.get(&format!("{PATH}/{first}")).await;
        assert_eq!(first["body"].as_str(), Some(body.as_str()));
        assert_eq!(BASE64_STANDARD.decode(first["body_base64"].as_str().unwrap()).unwrap(), body.as_bytes());
        let headers = first["headers"].as_array().unwrap();
        assert!(headers.iter().any(|pair| pair[0] == "x-request-id"), "{headers:?}");
        assert_eq!(first["body_dropped"], false);
        assert_eq!(first["call_sid"], server.get("/api/v1/calls/conv_show").await["call_sid"]);
        assert_eq!(first["events"].as_array().unwrap().as_slice(), server.log("conv_show").await);
        let repeat = server.get(&format!("{PATH}/{repeat}")).await;
        assert_eq!((&repeat["verdict"], &repeat["duplicate_of"]), (&json!("duplicate"), &first["delivery_id"]));
        assert_eq!((&repeat["body"], &repeat["events"]), (&first["body"], &json!([])));
        let binary = server.get(&format!("{PATH}/{binary}")).await;
        assert_eq!((&binary["body"], &binary["verdict"]), (&Value::Null, &json!("rejected")));
        assert_eq!(BASE64_STANDARD.decode(binary["body_base64"].as_str().unwrap()).unwrap(), b"\xff\x00 not text");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_a_repeat_unless_it_is_to_be_new() {
    on_each_engine(async |engine, server| {
        let turn = server.turn("EL_again_1", "user", "once").await;
        let twice = json!({"call_sid": "EL_again_1", "speaker": "agent", "message": "twice", "turn_id": "t"});
        server.webhook("transcription", &twice).await;
        let keyed = json!({"call_sid": "EL_again_1", "speaker": "agent", "message": "keyed"}).to_string();
        server.post_signed("transcription", keyed.as_bytes(), unix_secs(), &[("Idempotency-Key", "k")]).await;
        server.webhook("post-call", &post_call_result("conv_again", "first")).await;
        let logs = async || (server.log("EL_again_1").await, server.log("conv_again").await);
        let before = logs().await;
        for delivery in list(&server, "").await {
            let id = delivery["delivery_id"].as_str().unwrap();
            let replayed = replay(&server, id, false).await;
            assert_eq!(replayed["verdict"], "duplicate", "{engine:?}: {delivery}");
            assert_eq!(replayed["response_status"], delivery["response_status"]);
            assert_eq!((&replayed["replay_of"], &replayed["as_new"]), (&json!(id), &json!(false)));
        }
        assert_eq!(logs().await, before, "a repeat changes nothing");
        let first = ids(&list(&server, "q=once&verdict=accepted").await).remove(0);
        let replayed = replay(&server, &first, false).await;
        assert_eq!(serde_json::from_str::<Value>(replayed["response"].as_str().unwrap()).unwrap(), turn.json);

        let renewed = replay(&server, &first, true).await;
        assert_eq!((&renewed["verdict"], &renewed["response_status"]), (&json!("accepted"), &json!(201)));
        let log = server.log("EL_again_1").await;
        assert_eq!((log.len(), &log[3]["message_text"]), (4, &json!("once")));
        let shown = server.get(&format!("{PATH}/{}", renewed["delivery_id"].as_str().unwrap())).await;
        assert_eq!(shown["events"].as_array().unwrap().as_slice(), &log[3..]);
        let has_header = |name: &str, value: &Value| {
            shown["headers"].as_array().unwrap().iter().any(|pair| pair[0] == name && pair[1] == *value)
        };
        assert!(
            has_header("Callscope-Replay-Of", &json!(first)) && has_header("Callscope-Replay-By", &json!("embedded"))
        );
        // The replay that was accepted has no dedup key, so repeats of the original still count as repeats of the
        // original.
        let again = replay(&server, renewed["delivery_id"].as_str().unwrap(), false).await;
        assert_eq!(again["verdict"], "duplicate");
        let body = json!({"as_new": true});
        let path = format!("{PATH}/{first}/replay");
        assert_eq!(server.api(Method::POST, &path, Some(&body)).await.json["verdict"], "accepted");
        assert_eq!(server.api(Method::POST, &path, Some(&json!({"as_new": "yes"}))).await.status, 400);
        let nowhere = format!("{PATH}/00000000-0000-7000-8000-000000000000/replay");
        assert_eq!(server.api(Method::POST, &nowhere, None).await.status, 404);
    })
    .await;
}

/// A delivery that was refused took no effect, so its replay may take one.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_delivery_takes_effect_when_it_is_replayed_later() {
    for engine in Engine::ALL {
        let database = Database::new(engine).await;
        let server = Server::start_with(&database, &[("CALLSCOPE_UNKNOWN_CALLS", "reject")]).await;
        assert_eq!(server.turn("EL_late_1", "user", "too early").await.status, 404);
        server.register(&json!({"call_sid": "EL_late_1"})).await;
        let refused = ids(&list(&server, "verdict=rejected").await);
        assert_eq!(replay(&server, &refused[0], false).await["verdict"], "accepted");
        assert_eq!(replay(&server, &refused[0], false).await["verdict"], "duplicate");
        assert_eq!(server.log("EL_late_1").await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_unlimited_admins_see_deliveries() {
    let server = Server::on_sqlite(&[]).await;
    server.turn("EL_mine_1", "user", "private").await;
    let id = ids(&list(&server, "").await).remove(0);
    let viewer = mint("v", Role::Viewer, None);
    let limited = mint("a", Role::Admin, Some(&["EL_mine_1"]));
    for token in [&viewer, &limited] {
        for (method, path) in [
            (Method::GET, PATH.to_owned()),
            (Method::GET, format!("{PATH}/{id}")),
            (Method::POST, format!("{PATH}/{id}/replay")),
        ] {
            assert_eq!(server.api_as(token, method, &path).await.0, 403, "{path}");
        }
        let mut subscriber = Subscriber::connect(&server.embedded.url, token).await;
        assert_eq!(
            subscriber.ask(json!({"subscribe_deliveries": {"history": true}}), "error").await["code"],
            "FORBIDDEN"
        );
        server.turn("EL_mine_1", "user", "still private").await;
        subscriber.expect_silence().await;
    }
}

/// Applies a webhook as if it had been received at `at`.
async fn apply_received_at(log_writer: &LogWriter, route: WebhookRoute, body: &Value, at: Timestamp) {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let webhook = WebhookRequest { route, remote_addr: None, headers, body: body.to_string().into_bytes() };
    let mut delivery = read_delivery(webhook, at, Some(at.as_unix_secs()), &Naming::by_links(CallLinks::new(&[])));
    // A new id would contain the current time, so the id is made of `at`, as an earlier process would have made it.
    let millis = u128::try_from(at.as_micros() / 1_000).unwrap();
    delivery.delivery_id = uuid::Uuid::from_u128((millis << 80) | (uuid::Uuid::new_v4().as_u128() >> 48));
    log_writer.submit(Operation::Deliver(Box::new(delivery))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_deliveries_lose_their_bodies_and_keep_their_effects() {
    for engine in Engine::ALL {
        let database = Database::new(engine).await;
        let old = Timestamp::from_unix_secs(unix_secs() - 3 * 86_400).unwrap();
        let turn = json!({"call_sid": "EL_old_1", "speaker": "user", "message": "long ago", "turn_id": "t1"});
        let result = post_call_result("conv_old", "long ago");
        {
            let store = database.open().await;
            let (log_writer, task) =
                LogWriter::start(store.clone(), UnknownCalls::Create, render, Box::new(drop)).unwrap();
            apply_received_at(&log_writer, WebhookRoute::Transcription, &turn, old).await;
            apply_received_at(&log_writer, WebhookRoute::Transcription, &turn, old).await;
            apply_received_at(&log_writer, WebhookRoute::PostCall, &result, old).await;
            apply_received_at(&log_writer, WebhookRoute::PostCall, &json!({"no": "type"}), old).await;
            drop(log_writer);
            task.await.unwrap();
            store.close().await;
        }
        let server = Server::start_with(&database, &[("CALLSCOPE_DELIVERY_RETENTION_DAYS", "1")]).await;
        server.turn("EL_old_1", "agent", "today").await;
        let mut left = Vec::new();
        until("the old deliveries are stripped", async || {
            left = list(&server, "").await;
            left.len() == 3
        })
        .await;
        assert!(left.iter().all(|delivery| delivery["verdict"] == "accepted"), "{left:?}");
        let mut shown = Vec::new();
        for id in ids(&left) {
            shown.push(server.get(&format!("{PATH}/{id}")).await);
        }
        assert_eq!(shown[0]["body_dropped"], false, "{engine:?}");
        for stripped in &shown[1..] {
            assert_eq!((&stripped["body_dropped"], &stripped["headers"]), (&json!(true), &json!([])), "{engine:?}");
            assert_eq!((&stripped["body"], &stripped["body_base64"]), (&Value::Null, &Value::Null));
            assert!(stripped["body_bytes"].as_i64().unwrap() > 0 && !stripped["events"].as_array().unwrap().is_empty());
            let path = format!("{PATH}/{}/replay", stripped["delivery_id"].as_str().unwrap());
            let refused = server.api(Method::POST, &path, None).await;
            assert_eq!((refused.status, &refused.json["code"]), (410, &json!("BODY_DROPPED")));
        }
        // A repeat of what came long ago still counts as a repeat.
        let logs = async || (server.log("EL_old_1").await, server.log("conv_old").await);
        let before = logs().await;
        let again = server.webhook("transcription", &turn).await;
        assert_eq!((again.status, &again.json["seq"]), (201, &json!(1)));
        assert_eq!(server.webhook("post-call", &result).await.status, 200);
        assert_eq!(list(&server, "verdict=duplicate").await.len(), 2, "{engine:?}");
        assert_eq!(logs().await, before, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_bodies_stay_within_the_cap() {
    for engine in Engine::ALL {
        let database = Database::new(engine).await;
        let server = Server::start(&database).await;
        for i in 0..5 {
            let body = json!({"type": "unheard_of", "data": {"filling": format!("{i}").repeat(300 << 10)}});
            assert_eq!(server.webhook("post-call", &body).await.status, 200);
        }
        server.stop().await;
        let server = Server::start_with(&database, &[("CALLSCOPE_DELIVERY_MAX_MB", "1")]).await;
        let dropped = async || {
            let mut dropped = Vec::new();
            for id in ids(&list(&server, "").await) {
                dropped.push(server.get(&format!("{PATH}/{id}")).await["body_dropped"].as_bool().unwrap());
            }
            dropped
        };
        until("the oldest bodies are dropped", async || dropped().await == [false, false, false, true, true]).await;
    }
}

/// A subscriber to deliveries, with the cursor of the last delivery that it received.
struct DeliveryFollower {
    subscriber: Subscriber,
    cursor: String,
}

impl DeliveryFollower {
    async fn start(server: &Server, options: Value) -> Self {
        let mut subscriber = server.subscriber().await;
        let cursor = subscriber.ask(json!({"subscribe_deliveries": options}), "deliveries_confirmed").await["cursor"]
            .as_str()
            .unwrap()
            .to_owned();
        Self { subscriber, cursor }
    }

    /// Returns the next `count` deliveries.
    async fn next(&mut self, count: usize) -> Vec<Value> {
        let mut deliveries = Vec::new();
        while deliveries.len() < count {
            let delivery = self.subscriber.expect("delivery").await;
            self.cursor = delivery["cursor"].as_str().unwrap().to_owned();
            deliveries.push(delivery);
        }
        deliveries
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_followed_live_and_resumed_by_cursor() {
    on_each_engine(async |engine, server| {
        server.turn("EL_live_1", "user", "before").await;
        let mut live = DeliveryFollower::start(&server, json!({})).await;
        server.turn("EL_live_1", "user", "one").await;
        server.post_signed("transcription", b"{}", unix_secs(), &[]).await;
        server.webhook("post-call", &json!({"type": "unheard_of"})).await;
        let mut heard = live.next(3).await;
        // PostgreSQL numbers the transactions of all databases together. While an older transaction is open, a new
        // follower starts before the delivery `before`.
        if heard[0]["delivery_id"] == list(&server, "limit=4").await[3]["delivery_id"] {
            heard.remove(0);
            heard.extend(live.next(1).await);
        }
        let listed = list(&server, "limit=3").await;
        for (delivery, listed) in heard.iter().zip(listed.iter().rev()) {
            let mut fields = delivery.clone();
            fields.as_object_mut().unwrap().retain(|key, _| key != "cursor" && key != "type");
            assert_eq!(fields, *listed, "{engine:?}");
        }
        drop(live.subscriber);
        server.turn("EL_live_1", "user", "while away").await;
        let mut resumed = DeliveryFollower::start(&server, json!({"after": live.cursor})).await;
        assert_eq!(ids(&resumed.next(1).await), ids(&list(&server, "limit=1").await));
        resumed.subscriber.expect_silence().await;
        let mut all = DeliveryFollower::start(&server, json!({"history": true})).await;
        let mut known = ids(&list(&server, "").await);
        known.reverse();
        assert_eq!(ids(&all.next(5).await), known);
        all.subscriber.ask(json!({"unsubscribe_deliveries": true}), "deliveries_unsubscribed").await;
        server.turn("EL_live_1", "user", "unheard").await;
        all.subscriber.expect_silence().await;
        for wrong in ["", "x", "00000000.1.00000000000070008000000000000000"] {
            assert_eq!(
                all.subscriber.ask(json!({"subscribe_deliveries": {"after": wrong}}), "error").await["code"],
                "CURSOR_INVALID",
                "{wrong:?}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_at_once_reach_each_follower_once_and_in_one_order() {
    on_each_engine(async |engine, server| {
        let server = &server;
        let mut followers = Vec::new();
        for _ in 0..3 {
            followers.push(DeliveryFollower::start(server, json!({})).await);
        }
        let posts = (0..600)
            .map(|i| async move { server.turn(&format!("EL_crowd_{}", i % 7), "user", &format!("turn {i}")).await });
        let (replies, heard) =
            tokio::join!(join_all(posts), join_all(followers.iter_mut().map(|follower| follower.next(600))));
        assert!(replies.iter().all(|reply| reply.status == 201));
        let first = ids(&heard[0]);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 600, "{engine:?}: none twice");
        assert!(heard.iter().all(|heard| ids(heard) == first), "{engine:?}: one order");
        let mut afterwards = DeliveryFollower::start(server, json!({"history": true})).await;
        assert_eq!(ids(&afterwards.next(600).await), first, "{engine:?}: the same order again");
        for follower in &mut followers {
            follower.subscriber.expect_silence().await;
        }
    })
    .await;
}

/// Two servers commit at the same time, and one of them commits late. A follower of either misses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn no_late_commit_is_missed_between_servers() {
    let database = Database::new(Engine::Postgres).await;
    let (first, second) = (Server::start(&database).await, Server::start(&database).await);
    let (mut here, mut there) =
        (DeliveryFollower::start(&first, json!({})).await, DeliveryFollower::start(&second, json!({})).await);
    // This transaction began to write before all others, and stays open.
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&database.url).await.unwrap();
    sqlx::query("BEGIN").execute(&mut connection).await.unwrap();
    let late = "INSERT INTO deliveries (delivery_id, route, verdict, body_hash, received_at, headers, body_bytes, \
                response_status, response) VALUES (gen_random_uuid(), 'transcription', 'accepted', '', 0, '[]', 0, 201, '{}') \
                RETURNING delivery_id";
    let late: uuid::Uuid = sqlx::query_scalar(late).fetch_one(&mut connection).await.unwrap();
    // A follower that starts while the transaction is open has to receive its delivery too.
    let mut later = DeliveryFollower::start(&first, json!({})).await;
    let (a, b) = (&first, &second);
    let posts = (0..40).map(|i| async move {
        let server = if i % 2 == 0 { a } else { b };
        server.turn(&format!("EL_pair_{}", i % 3), "user", &format!("turn {i}")).await
    });
    assert!(join_all(posts).await.iter().all(|reply| reply.status == 201));
    // The deliveries are committed but not shown, because they come after one that is still open.
    here.subscriber.expect_silence().await;
    sqlx::query("COMMIT").execute(&mut connection).await.unwrap();
    let (one, other) = (here.next(41).await, there.next(41).await);
    assert_eq!(ids(&one)[0], late.to_string());
    assert_eq!(ids(&one), ids(&other));
    assert_eq!(ids(&one), ids(&later.next(41).await));
    assert_eq!(ids(&one).into_iter().collect::<HashSet<_>>().len(), 41);
    // The cursor of one server is valid at the other.
    let mut resumed = DeliveryFollower::start(&second, json!({"after": one[20]["cursor"]})).await;
    assert_eq!(ids(&resumed.next(20).await), ids(&one[21..]));
}

/// A restored dump contains transaction numbers of another PostgreSQL, which say nothing about the order here.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_restored_elsewhere_begins_a_new_order() {
    let database = Database::new(Engine::Postgres).await;
    let server = Server::start(&database).await;
    server.turn("EL_dump_1", "user", "one").await;
    let mut follower = DeliveryFollower::start(&server, json!({"history": true})).await;
    let cursor = follower.next(1).await[0]["cursor"].clone();
    server.stop().await;
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&database.url).await.unwrap();
    sqlx::query("UPDATE deliveries SET tx = tx + 1000000000").execute(&mut connection).await.unwrap();
    let server = Server::start(&database).await;
    let mut subscriber = server.subscriber().await;
    assert_eq!(
        subscriber.ask(json!({"subscribe_deliveries": {"after": cursor}}), "error").await["code"],
        "CURSOR_INVALID"
    );
    let mut follower = DeliveryFollower::start(&server, json!({"history": true})).await;
    server.turn("EL_dump_1", "user", "two").await;
    let mut known = ids(&list(&server, "").await);
    known.reverse();
    assert_eq!(ids(&follower.next(2).await), known);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_attempts_are_listed_counted_and_bounded() {
    let server = Server::on_sqlite(&[]).await;
    for i in 0..1_010 {
        let route = if i % 2 == 0 { "post-call" } else { "transcription" };
        assert_eq!(server.post(route, &[("ElevenLabs-Signature", &forged_signature())], b"{}").await.status, 401);
    }
    let listed = server.get(&format!("{PATH}?verdict=unverified&limit=500")).await;
    assert_eq!((listed["total"].as_i64(), listed["unverified"].as_array().unwrap().len()), (Some(1_010), 500));
    let explained = listed["unverified"].as_array().unwrap().iter().filter(|attempt| attempt["diagnosis"].is_string());
    assert!(explained.count() < 500, "not every attempt of a flood is diagnosed");
    let newest = &listed["unverified"][0];
    assert_eq!((&newest["reason"], &newest["route"]), (&json!("signature wrong"), &json!("transcription")));
    assert!(newest["remote_addr"].as_str().unwrap().starts_with("127.0.0.1:") && newest["node"].is_string());
    let only = server.get(&format!("{PATH}?verdict=unverified&type=post-call&limit=500")).await;
    assert_eq!(only["unverified"].as_array().unwrap().len(), 500);
    assert!(only["unverified"].as_array().unwrap().iter().all(|attempt| attempt["route"] == "post-call"));
    assert_eq!(list(&server, "").await.len(), 0, "no refused attempt is stored as a delivery");
}

/// The sender learns how the signature is wrong, and the admin learns why.
#[tokio::test(flavor = "multi_thread")]
async fn the_admin_sees_the_cause_of_a_refusal_and_the_sender_does_not() {
    let server = Server::on_sqlite(&[]).await;
    let signed = r#"{"call_sid": "EL_cause_1", "speaker": "user", "message": "hello"}"#;
    let header =
        callscope_common::signature::sign(callscope_tests::server::SECRET.as_bytes(), unix_secs(), signed.as_bytes());
    let body = signed.replace(": ", ":");
    let refused = server.post("transcription", &[("ElevenLabs-Signature", &header)], body.as_bytes()).await;
    assert_eq!(refused.status, 401);
    let said = refused.json.to_string();
    assert!(said.contains("signature wrong") && !said.contains("reserialised"), "{said}");
    // The sender did not wait for the cause to be found.
    until("the cause is found", async || {
        let listed = server.get(&format!("{PATH}?verdict=unverified")).await;
        listed["unverified"][0]["diagnosis"] == "body_reserialised"
    })
    .await;
    let found = server.get(&format!("{PATH}?verdict=unverified&q=reserialised")).await;
    assert_eq!(found["unverified"].as_array().unwrap().len(), 1);
}
