//! Two servers on one PostgreSQL, without anything that carries announcements between them: the sweep alone delivers.

use callscope_tests::{Database, Engine, Server};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_hears_what_another_server_took_in() {
    let database = Database::new(Engine::Postgres).await;
    let (here, there) = (Server::start(&database).await, Server::start(&database).await);
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
async fn a_wait_is_answered_for_a_call_another_server_made() {
    let database = Database::new(Engine::Postgres).await;
    let (here, there) = (Server::start(&database).await, Server::start(&database).await);
    let mut subscriber = here.subscriber().await;
    subscriber.send(json!({"subscribe": "EL_soon_1", "wait": true})).await;
    subscriber.expect("subscription_pending").await;
    there.turn("EL_soon_1", "agent", "here I am").await;
    subscriber.expect("subscription_confirmed").await;
    subscriber.events(1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_and_a_deletion_elsewhere_reach_the_subscriber() {
    let database = Database::new(Engine::Postgres).await;
    let (here, there) = (Server::start(&database).await, Server::start(&database).await);
    there.turn("EL_big_1", "agent", "one").await;
    there.turn("EL_big_1", "agent", "two").await;
    there.turn("EL_small_1", "user", "three").await;
    let mut subscriber = here.subscriber().await;
    subscriber.subscribe("EL_small_1").await;
    subscriber.events(1, 1).await;
    let link = json!({"call_sid": "EL_big_1", "merge": true});
    assert_eq!(there.api(reqwest::Method::PATCH, "/api/v1/calls/EL_small_1", Some(&link)).await.status, 200);
    let merged = subscriber.expect("call_merged").await;
    assert_eq!(merged["identifier"], "EL_small_1");
    subscriber.events(1, 3).await;
    assert_eq!(there.api(reqwest::Method::DELETE, "/api/v1/calls/EL_big_1", None).await.status, 204);
    let gone = subscriber.expect("error").await;
    assert_eq!((&gone["code"], &gone["identifier"]), (&json!("CALL_NOT_FOUND"), &json!("EL_small_1")));
}
