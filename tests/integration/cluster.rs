//! Several servers on one PostgreSQL: with reconciliation alone, and connected by Redis.

use callscope_tests::subscriber::Received;
use callscope_tests::{Database, Engine, Process, Redis, Server, until};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_receives_turns_that_another_server_took() {
    let (here, there) = Server::pair_on_postgres().await;
    let mut subscriber = here.subscriber().await;
    there.turn("EL_far_1", "agent", "first").await;
    subscriber.subscribe("EL_far_1").await;
    subscriber.events(1, 1).await;
    for i in 0..30 {
        let server = if i % 3 == 0 { &here } else { &there };
        server.turn("EL_far_1", "user", &format!("turn {i}")).await;
    }
    subscriber.events(2, 30).await;
    let end = json!({"type": "post_call_transcription", "data": {"conversation_id": "conv_far", "status": "done",
        "metadata": {"phone_call": {"call_sid": "EL_far_1"}}}});
    there.webhook("post-call", &end).await;
    let events = subscriber.events(32, 2).await;
    assert_eq!((&events[0]["type"], &events[1]["type"]), (&json!("call_status"), &json!("call_completed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_another_server_creates_the_call() {
    let (here, there) = Server::pair_on_postgres().await;
    let mut subscriber = here.subscriber().await;
    subscriber.ask(json!({"subscribe": "EL_soon_1", "wait": true}), "subscription_pending").await;
    there.turn("EL_soon_1", "agent", "here I am").await;
    subscriber.expect("subscription_confirmed").await;
    subscriber.events(1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_and_a_deletion_elsewhere_reach_the_subscriber() {
    let (here, there) = Server::pair_on_postgres().await;
    there.turn("EL_big_1", "agent", "one").await;
    there.turn("EL_big_1", "agent", "two").await;
    there.turn("EL_small_1", "user", "three").await;
    let mut subscriber = here.follower("EL_small_1", 1).await;
    let link = json!({"call_sid": "EL_big_1", "merge": true});
    assert_eq!(there.patch("EL_small_1", &link).await.status, 200);
    let merged = subscriber.expect("call_merged").await;
    assert_eq!(merged["identifier"], "EL_small_1");
    subscriber.events(1, 3).await;
    assert_eq!(there.delete("EL_big_1").await.status, 204);
    let gone = subscriber.expect("error").await;
    assert_eq!((&gone["code"], &gone["identifier"]), (&json!("CALL_NOT_FOUND"), &json!("EL_small_1")));
}

/// Starts a server that uses Redis, and waits until it is connected.
async fn start_with_redis(database: &Database, redis: &Redis) -> Server {
    let server = Server::start_with(database, &[("CALLSCOPE_REDIS_URL", &redis.url())]).await;
    until_redis_is(&server, "ok").await;
    server
}

async fn until_redis_is(server: &Server, state: &str) {
    until(&format!("Redis is {state}"), async || {
        let ready = server.api(Method::GET, "/readyz", None).await;
        assert_eq!(ready.status, 200, "a server is ready without Redis too: {}", ready.json);
        ready.json["checks"]["redis"].as_str().unwrap().starts_with(state)
    })
    .await;
}

async fn post_turns(server: &Server, sid: &str, numbers: std::ops::Range<i64>) {
    for i in numbers {
        assert_eq!(server.turn(sid, "user", &format!("turn {i}")).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_missed_while_redis_is_down_or_hangs() {
    let database = Database::new(Engine::Postgres).await;
    let redis = Redis::start().await;
    let (here, there) = (start_with_redis(&database, &redis).await, start_with_redis(&database, &redis).await);
    post_turns(&there, "EL_link_1", 0..1).await;
    let mut subscriber = here.follower("EL_link_1", 1).await;
    post_turns(&there, "EL_link_1", 1..20).await;
    subscriber.events(2, 19).await;
    redis.kill().await;
    post_turns(&there, "EL_link_1", 20..30).await;
    subscriber.events(21, 10).await;
    until_redis_is(&here, "down").await;
    redis.launch().await;
    post_turns(&there, "EL_link_1", 30..40).await;
    subscriber.events(31, 10).await;
    until_redis_is(&here, "ok").await;
    until_redis_is(&there, "ok").await;
    redis.signal(Signal::STOP).await;
    post_turns(&there, "EL_link_1", 40..50).await;
    subscriber.events(41, 10).await;
    until_redis_is(&here, "down").await;
    redis.signal(Signal::CONT).await;
    post_turns(&there, "EL_link_1", 50..60).await;
    subscriber.events(51, 10).await;
    until_redis_is(&here, "ok").await;
    subscriber.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_without_redis_and_finds_it_later() {
    let database = Database::new(Engine::Postgres).await;
    let redis = Redis::start().await;
    redis.kill().await;
    let server = Server::start_with(&database, &[("CALLSCOPE_REDIS_URL", &redis.url())]).await;
    post_turns(&server, "EL_early_1", 0..1).await;
    until_redis_is(&server, "down").await;
    redis.launch().await;
    until_redis_is(&server, "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_carries_announcements_in_shards() {
    let database = Database::new(Engine::Postgres).await;
    let redis = Redis::start_cluster().await;
    let (here, there) = (start_with_redis(&database, &redis).await, start_with_redis(&database, &redis).await);
    let mut subscriber = here.subscriber().await;
    for call in 0..16 {
        let sid = format!("EL_shard_{call}");
        post_turns(&there, &sid, 0..1).await;
        subscriber.subscribe(&sid).await;
        subscriber.events(1, 1).await;
        post_turns(&there, &sid, 1..3).await;
        subscriber.events(2, 2).await;
    }
    let stats = here.get("/api/v1/admin/stats").await;
    let own = stats["cluster"].as_array().unwrap().iter().find(|node| node["node"] == stats["node"]).unwrap();
    assert!(own["stats"]["received"].as_i64().unwrap() > 0, "{own}");
    redis.kill().await;
    until_redis_is(&here, "down").await;
    redis.launch().await;
    until_redis_is(&here, "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_server_lists_and_kicks_the_connections_of_all_servers() {
    let database = Database::new(Engine::Postgres).await;
    let redis = Redis::start().await;
    let (here, there) = (start_with_redis(&database, &redis).await, start_with_redis(&database, &redis).await);
    post_turns(&here, "EL_all_1", 0..1).await;
    let (mut near, mut far) = (here.subscriber().await, there.subscriber().await);
    for subscriber in [&mut near, &mut far] {
        subscriber.subscribe("EL_all_1").await;
        subscriber.events(1, 1).await;
    }
    let list = here.get("/api/v1/admin/connections").await;
    let connections = list["connections"].as_array().unwrap();
    assert_eq!((connections.len(), list["nodes"].as_array().unwrap().len()), (2, 2), "{list}");
    assert_eq!(list["silent_nodes"], json!([]), "{list}");
    let subscriptions = there.get("/api/v1/admin/subscriptions").await;
    assert_eq!(subscriptions["subscriptions"][0]["connection_ids"].as_array().unwrap().len(), 2, "{subscriptions}");
    let stats = there.get("/api/v1/admin/stats").await;
    assert_eq!((&stats["connections"], stats["cluster"].as_array().unwrap().len()), (&json!(2), 2), "{stats}");
    let there_node = there.get("/readyz").await["node"].clone();
    let other = connections.iter().find(|connection| connection["node"] == there_node).unwrap();
    let path = format!("/api/v1/admin/connections/{}", other["connection_id"].as_str().unwrap());
    assert_eq!(here.api(Method::DELETE, &path, None).await.status, 204);
    assert_eq!(far.next().await, Received::Closed(4012));
    until("the connection is gone", async || here.api(Method::DELETE, &path, None).await.status == 404).await;
    near.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_server_lists_refused_webhooks_and_streams_deliveries_of_all_servers() {
    let database = Database::new(Engine::Postgres).await;
    let redis = Redis::start().await;
    let (here, there) = (start_with_redis(&database, &redis).await, start_with_redis(&database, &redis).await);
    for (server, count) in [(&here, 1), (&there, 300)] {
        for _ in 0..count {
            server.post("post-call", &[], b"{}").await;
        }
    }
    let listed = here.get("/api/v1/admin/deliveries?verdict=unverified&limit=500").await;
    let attempts = listed["unverified"].as_array().unwrap();
    assert_eq!((listed["total"].as_i64(), attempts.len()), (Some(301), 301), "{}", listed["silent_nodes"]);
    let nodes: std::collections::HashSet<&str> =
        attempts.iter().map(|attempt| attempt["node"].as_str().unwrap()).collect();
    assert_eq!(nodes.len(), 2);
    let mut follower = here.subscriber().await;
    follower.ask(json!({"subscribe_deliveries": {}}), "deliveries_confirmed").await;
    post_turns(&there, "EL_all_1", 0..3).await;
    for _ in 0..3 {
        assert_eq!(follower.expect("delivery").await["call_sid"], "EL_all_1");
    }
    follower.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_named_and_one_that_is_gone_is_forgotten() {
    let database = Database::new(Engine::Postgres).await;
    let redis = Redis::start().await;
    let variables = [("CALLSCOPE_REDIS_URL", &*redis.url())];
    let here = start_with_redis(&database, &redis).await;
    let (hung, leaving) =
        (Process::start_with(&database, 0, &variables).await, Process::start_with(&database, 0, &variables).await);
    let nodes = async || here.get("/api/v1/admin/connections").await;
    until("every server is listed and answers", async || {
        let list = nodes().await;
        list["nodes"].as_array().unwrap().len() == 3 && list["silent_nodes"] == json!([])
    })
    .await;
    hung.signal(Signal::STOP);
    let list = nodes().await;
    assert_eq!(list["nodes"].as_array().unwrap().len(), 3, "{list}");
    assert_eq!(list["silent_nodes"].as_array().unwrap().len(), 1, "{list}");
    let kick = here.api(Method::DELETE, &format!("/api/v1/admin/connections/{}", uuid::Uuid::nil()), None).await;
    assert_eq!(kick.status, 503, "the silent server may hold the connection: {}", kick.json);
    assert!(leaving.stop().await);
    // A server that drains removes itself from the list, so the others do not wait for its heartbeat to expire.
    assert_eq!(nodes().await["nodes"].as_array().unwrap().len(), 2);
    until("the hung server is forgotten", async || nodes().await["nodes"].as_array().unwrap().len() == 1).await;
    hung.signal(Signal::CONT);
    until("the hung server is back", async || {
        nodes().await["silent_nodes"] == json!([]) && nodes().await["nodes"].as_array().unwrap().len() == 2
    })
    .await;
}
