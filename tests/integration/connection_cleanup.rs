//! A connection that ends leaves nothing behind, however it ends.

use callscope_server::live::hub::HubSizes;
use callscope_tests::{Server, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn closed_reset_and_kicked_connections_leave_every_structure() {
    let server = Server::on_sqlite(&[]).await;
    server.turn("EL_here_1", "agent", "hello").await;
    let hub = server.embedded.hub.clone();
    let mut kicked = None;
    for end in ["close", "reset", "kick"] {
        let mut subscriber = server.follower("EL_here_1", 1).await;
        subscriber.ask(json!({"subscribe": "EL_absent_1", "wait": true}), "subscription_pending").await;
        assert_eq!(hub.sizes().followed_calls, 1, "the call is followed");
        match end {
            "close" => subscriber.socket().close(None).await.unwrap(),
            "reset" => {
                subscriber.socket().get_ref().set_zero_linger().unwrap();
                drop(subscriber);
            }
            _ => {
                let connections = server.get("/api/v1/admin/connections").await;
                let id = connections["connections"][0]["connection_id"].as_str().unwrap().to_owned();
                let path = format!("/api/v1/admin/connections/{id}");
                assert_eq!(server.api(reqwest::Method::DELETE, &path, None).await.status, 204);
                kicked = Some(subscriber);
            }
        }
        until("nothing of the connection is left", async || hub.sizes() == HubSizes::default()).await;
    }
    let last = kicked.unwrap().next().await;
    assert_eq!(last, callscope_tests::subscriber::Received::Closed(4012));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_call_has_no_followers() {
    let server = Server::on_sqlite(&[]).await;
    server.turn("EL_over_1", "agent", "hello").await;
    let mut subscribers = Vec::new();
    for _ in 0..5 {
        subscribers.push(server.follower("EL_over_1", 1).await);
    }
    server.patch("EL_over_1", &json!({"status": "completed"})).await;
    for subscriber in &mut subscribers {
        subscriber.events(2, 2).await;
    }
    let hub = server.embedded.hub.clone();
    until("the feed is gone", async || hub.sizes().followed_calls == 0).await;
    server.turn("EL_over_1", "agent", "too late").await;
    for subscriber in &mut subscribers {
        subscriber.expect_silence().await;
    }
}
