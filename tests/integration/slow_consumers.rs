//! A client that does not read loses nothing, delays no other client, and is closed with a code that says why.

use callscope_tests::subscriber::Received;
use callscope_tests::{Database, Engine, Server};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_client_is_closed_and_resumes_while_others_get_everything() {
    let server = Server::on_sqlite(&[("CALLSCOPE_WRITE_DEADLINE", "1")]).await;
    server.turn("EL_slow_1", "agent", "first").await;
    let mut stalled = server.subscriber().await;
    stalled.subscribe("EL_slow_1").await;
    let mut reader = server.follower("EL_slow_1", 1).await;
    // This is more than the kernel's buffers on both sides take. Each text is different, because equal ones would be
    // repeats.
    let count = 300;
    let reading = tokio::spawn(async move { reader.events(2, count).await.len() });
    for i in 0..count {
        assert_eq!(server.turn("EL_slow_1", "user", &format!("{i}{}", "x".repeat(60_000))).await.status, 201);
    }
    assert_eq!(reading.await.unwrap(), count);
    // The stalled client reads again, and gets the events in order before the close.
    let mut last = 0;
    let code = loop {
        match stalled.next().await {
            Received::Json(message) => {
                last += 1;
                assert_eq!(message["seq"], last);
            }
            Received::Closed(code) => break code,
        }
    };
    // The close frame reaches only a client that begins to read in time.
    assert!(matches!(code, 4101 | 1006), "{code}");
    assert!(last > 0 && last < 300, "the kernel's buffers took every event: {last}");
    let mut again = server.subscriber().await;
    again.ask(json!({"subscribe": "EL_slow_1", "after": last}), "subscription_confirmed").await;
    again.events(last + 1, usize::try_from(301 - last).unwrap()).await;
}

/// A call ends while its log is read. The subscription ends too, even if it has read events before they are announced.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_wherever_it_stands_when_the_call_does() {
    let database = Database::new(Engine::Postgres).await;
    let (here, there) = (Server::start(&database).await, Server::start(&database).await);
    for i in 0..20 {
        let sid = format!("EL_end_{i}");
        there.turn(&sid, "agent", "first").await;
        let mut early = here.follower(&sid, 1).await;
        there.patch(&sid, &json!({"status": "completed"})).await;
        // Until it reconciles, `here` knows of the end only from its database.
        let _late = here.follower(&sid, 3).await;
        early.events(2, 2).await;
    }
    let hub = here.embedded.hub.clone();
    callscope_tests::until("every subscription has ended", async || hub.sizes().followed_calls == 0).await;
}
