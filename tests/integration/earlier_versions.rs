//! Databases of earlier versions, recorded by `tests/fixtures/databases/record.py`, are opened, migrated and served.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use callscope_tests::server::unix_secs;
use callscope_tests::{Database, Engine, Server};
use reqwest::Method;
use serde_json::{Value, json};

/// Returns a database as the version `name` left it, and what that version's API answered about it.
async fn recorded_database(name: &str, engine: Engine) -> (Database, Value) {
    let engine_name = if engine == Engine::Sqlite { "sqlite" } else { "postgres" };
    let path = format!("{}/fixtures/databases/{name}.{engine_name}", env!("CARGO_MANIFEST_DIR"));
    let dump = std::fs::read_to_string(format!("{path}.sql")).unwrap();
    let database = Database::new(engine).await;
    database.execute(dump).await;
    (database, serde_json::from_str(&std::fs::read_to_string(format!("{path}.json")).unwrap()).unwrap())
}

/// Returns an event as versions without cursors sent it.
fn without_cursor(event: &Value) -> Value {
    let mut event = event.clone();
    let fields = event.as_object_mut().unwrap();
    assert!(fields.remove("cursor").is_some() && fields.remove("call_id").is_some(), "{fields:?}");
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_from_before_cursors_is_served_and_appended_to() {
    for engine in Engine::ALL {
        let (database, answers) = recorded_database("before-cursors", engine).await;
        let server = Server::start(&database).await;
        let calls = answers["calls"].as_array().unwrap();
        assert_eq!(server.get("/api/v1/calls").await["calls"].as_array().unwrap().len(), calls.len());
        for before in calls {
            let (call, events) = (&before["call"], before["events"].as_array().unwrap());
            let call_id = call["call_id"].as_str().unwrap();
            let call_now = server.get(&format!("/api/v1/calls/{call_id}")).await;
            for (field, value) in call.as_object().unwrap() {
                assert_eq!(&call_now[field], value, "{engine:?}: {field} of {call}");
            }
            let log = server.log(call_id).await;
            assert_eq!(log.iter().map(without_cursor).collect::<Vec<_>>(), *events, "{engine:?}: {call}");
            let mut subscriber = server.subscriber().await;
            subscriber.subscribe(call_id).await;
            let sent = subscriber.events(1, log.len()).await;
            assert_eq!(sent, log, "{engine:?}: {call}");
            // Clients resume after a seq, as clients of that version did, and after each of the cursors that the old
            // events have now.
            for (at, event) in log.iter().enumerate() {
                for after in [&event["seq"], &event["cursor"]] {
                    let mut again = server.subscriber().await;
                    let confirmed =
                        again.ask(json!({"subscribe": call_id, "after": after}), "subscription_confirmed").await;
                    assert_eq!(confirmed["cursor"], event["cursor"], "{engine:?}: {after}");
                    let rest = again.events(i64::try_from(at).unwrap() + 2, log.len() - at - 1).await;
                    assert_eq!(rest, log[at + 1..], "{engine:?}: {after}");
                }
            }
        }
        for (call_id, recording) in answers["recordings"].as_object().unwrap() {
            let answer = server.fetch(&format!("/api/v1/calls/{call_id}/audio"), &[]).await;
            let expected = BASE64_STANDARD.decode(recording.as_str().unwrap()).unwrap();
            assert_eq!(answer.bytes().await.unwrap(), expected, "{engine:?}");
        }
        // A repeat stays a repeat, what was deleted stays deleted, and new events are appended.
        let log = server.log("EL_tow_1").await;
        let repeat = br#"{"call_sid": "EL_tow_1", "speaker": "agent", "message": "Where are you?", "turn_id": "t1"}"#;
        let repeated = server.post_signed("transcription", repeat, unix_secs(), &[]).await;
        assert_eq!((repeated.status, &repeated.json["sequence_number"]), (201, &json!(1)), "{engine:?}: {repeated:?}");
        assert_eq!(server.log("EL_tow_1").await, log, "{engine:?}");
        assert_eq!(server.api(Method::GET, "/api/v1/calls/EL_gone_1", None).await.status, 404);
        server.turn("EL_tow_1", "user", "after the upgrade").await;
        server.stop().await;
        let server = Server::start(&database).await;
        let new_log = server.log("EL_tow_1").await;
        assert_eq!((&new_log[..log.len()], new_log.len()), (&log[..], log.len() + 1), "{engine:?}");
        assert_eq!(new_log[log.len()]["message_text"], "after the upgrade");
        server.stop().await;
    }
}
