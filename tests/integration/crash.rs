//! `kill -9` in the middle of work: what was acknowledged is in the log, once and in order.

use callscope_tests::server::{admin_token, http, post_webhook};
use callscope_tests::subscriber::Received;
use callscope_tests::{Database, Engine, Process, Subscriber};
use serde_json::json;

/// Each turn is sent until a server acknowledges it. Three times, the server is killed and started again.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_turns_survive_and_a_resuming_subscriber_gets_each_once() {
    for engine in Engine::ALL {
        let database = Database::new(engine).await;
        let mut process = Process::start(&database, 0).await;
        let (port, url) = (process.port(), process.url.clone());
        let reader = tokio::spawn(read_all(url.clone(), admin_token("kill"), 60));
        let http = http();
        for i in 0..60 {
            let body = json!({"call_sid": "EL_kill_1", "speaker": "user", "message": format!("turn {i}"),
                "turn_id": format!("t{i}")})
            .to_string();
            if i % 20 == 10 {
                // The turn is in flight when the server dies. Whether or not it was acknowledged, sending it again must
                // count it once.
                let in_flight = tokio::spawn({
                    let (http, url, body) = (http.clone(), url.clone(), body.clone());
                    async move { post_webhook(&http, &url, "transcription", &body).await.is_ok() }
                });
                process.kill().await;
                let _ = in_flight.await;
                process = Process::start(&database, port).await;
            }
            // A kept-alive connection to the killed server may break only at the next write. A provider sends again
            // then.
            let reply = loop {
                if let Ok(reply) = post_webhook(&http, &url, "transcription", &body).await {
                    break reply;
                }
            };
            assert_eq!(reply.status, 201, "{reply:?}");
            assert_eq!(reply.json["seq"], i + 1, "{reply:?}");
        }
        let texts = reader.await.unwrap();
        assert_eq!(texts, (0..60).map(|i| format!("turn {i}")).collect::<Vec<_>>());
    }
}

/// Follows the call until `count` turns have come, and resumes after each break. Returns their texts.
async fn read_all(url: String, token: String, count: usize) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    while texts.len() < count {
        let Ok(mut subscriber) = Subscriber::try_connect(&url, &token).await else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        subscriber.send(json!({"subscribe": "EL_kill_1", "after": texts.len(), "wait": true})).await;
        while texts.len() < count {
            let Received::Json(message) = subscriber.next().await else { break };
            if message["type"] == "transcription" {
                assert_eq!(message["seq"], i64::try_from(texts.len()).unwrap() + 1, "{message}");
                texts.push(message["message_text"].as_str().unwrap().to_owned());
            }
        }
    }
    texts
}
