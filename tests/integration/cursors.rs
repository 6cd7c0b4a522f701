//! A cursor resumes exactly where it stood, or is refused.

use std::collections::HashMap;

use callscope_tests::server::on_each_engine;
use callscope_tests::subscriber::Received;
use callscope_tests::{Database, Engine, Server, Subscriber};
use reqwest::Method;
use serde_json::{Value, json};

/// Sends a request that must be refused, and returns the error code of the answer.
async fn refusal_code(subscriber: &mut Subscriber, request: Value) -> String {
    subscriber.send(request.clone()).await;
    let message = subscriber.message().await;
    assert_eq!(message["type"], "error", "{request} was answered {message}");
    message["code"].as_str().unwrap().to_owned()
}

fn cursors(log: &[Value]) -> Vec<&str> {
    log.iter().map(|event| event["cursor"].as_str().unwrap()).collect()
}

/// Asserts that the WebSocket and the events API refuse to resume after a cursor.
async fn assert_refused_everywhere(server: &Server, id: &str, after: &Value) {
    let mut subscriber = server.subscriber().await;
    assert_eq!(
        refusal_code(&mut subscriber, json!({"subscribe": id, "after": after})).await,
        "CURSOR_INVALID",
        "{id} {after}"
    );
    let text = after.as_str().map_or_else(|| after.to_string(), str::to_owned);
    let reply = server.api(Method::GET, &format!("/api/v1/calls/{id}/events?after={text}"), None).await;
    assert_eq!((reply.status, &reply.json["code"]), (400, &json!("CURSOR_INVALID")), "{id} {after}: {reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_about_a_call_carries_what_resuming_needs() {
    on_each_engine(async |_, server| {
        let mut subscriber = server.subscriber().await;
        server.turn("EL_c_1", "user", "one").await;
        let confirmed = subscriber.subscribe("EL_c_1").await;
        let call_id = &confirmed["call_id"];
        let mut events = subscriber.events(1, 1).await;
        let partial = json!({"call_sid": "EL_c_1", "speaker": "user", "message": "tw", "is_final": false});
        server.webhook("transcription", &partial).await;
        assert_eq!(&subscriber.expect("transcription_partial").await["call_id"], call_id);
        server.turn("EL_c_1", "user", "two").await;
        events.extend(subscriber.events(2, 1).await);
        server.patch("EL_c_1", &json!({"status": "completed"})).await;
        events.extend(subscriber.events(3, 2).await);
        assert!(events.iter().all(|event| &event["call_id"] == call_id), "{events:?}");
        let all_cursors: Vec<&str> =
            [confirmed["cursor"].as_str().unwrap()].into_iter().chain(cursors(&events)).collect();
        assert!(all_cursors.iter().all(|cursor| (1..=40).contains(&cursor.len())), "{all_cursors:?}");
        // Each cursor, including the one before the first event, is followed by the rest and by nothing else.
        for (at, cursor) in all_cursors.iter().enumerate() {
            let mut again = server.subscriber().await;
            let confirmed = again.ask(json!({"subscribe": "EL_c_1", "after": cursor}), "subscription_confirmed").await;
            assert_eq!(&confirmed["cursor"], cursor, "where this subscription starts");
            assert_eq!(again.events(i64::try_from(at).unwrap() + 1, 4 - at).await, events[at..]);
            again.expect_silence().await;
            let listed = server.get(&format!("/api/v1/calls/EL_c_1/events?after={cursor}")).await;
            assert_eq!(listed["events"].as_array().unwrap()[..], events[at..]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_confirmation_holds_the_running_subscriptions_cursor() {
    on_each_engine(async |_, server| {
        for text in ["a", "b", "c"] {
            server.turn("EL_s_1", "user", text).await;
        }
        let mut subscriber = server.subscriber().await;
        subscriber.subscribe("EL_s_1").await;
        let events = subscriber.events(1, 3).await;
        let again = subscriber.subscribe("EL_s_1").await;
        assert_eq!(again["cursor"], events[2]["cursor"]);
        server.turn("EL_s_1", "user", "d").await;
        subscriber.events(4, 1).await;
        let live = {
            let mut live = server.subscriber().await;
            live.send(json!({"subscribe": "EL_s_1", "history": false})).await;
            live.expect("subscription_confirmed").await
        };
        assert_eq!(live["cursor"], server.log("EL_s_1").await[3]["cursor"]);
    })
    .await;
}

/// The survivor refuses a cursor of the absorbed record, whichever name the client uses. It also refuses a bare seq
/// under a name that the merge moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_an_absorbed_record_is_refused() {
    on_each_engine(async |_, server| {
        for at in 0..5 {
            server.turn("EL_a_1", "user", &format!("a{at}")).await;
        }
        for at in 0..8 {
            server.turn("EL_b_1", "user", &format!("b{at}")).await;
        }
        let absorbed = server.call_id("EL_a_1").await;
        let old = server.log("EL_a_1").await;
        let mut subscriber = server.subscriber().await;
        let start = subscriber.subscribe("EL_a_1").await["cursor"].clone();
        subscriber.events(1, 5).await;
        let merge = json!({"identifiers": ["EL_a_1"], "merge": true});
        server.patch("EL_b_1", &merge).await;
        for id in ["EL_a_1", "EL_b_1", &absorbed] {
            for cursor in cursors(&old).into_iter().map(|cursor| json!(cursor)).chain([start.clone()]) {
                assert_refused_everywhere(&server, id, &cursor).await;
            }
        }
        for id in ["EL_a_1", &absorbed] {
            assert_refused_everywhere(&server, id, &json!(5)).await;
            let reply =
                server.api(Method::GET, &format!("/api/v1/calls/{id}/events?after=5&call_id={absorbed}"), None).await;
            assert_eq!(reply.json["code"], "CURSOR_INVALID");
        }
        // A bare seq is unambiguous together with the `call_id` of its record, or under a name that always led to this
        // call.
        let survivor = server.call_id("EL_b_1").await;
        let rest = server.get("/api/v1/calls/EL_b_1/events?after=5").await;
        assert_eq!(rest["events"][0]["seq"], 6);
        assert_eq!(server.get(&format!("/api/v1/calls/EL_a_1/events?after=5&call_id={survivor}")).await, rest);
        // A follower of the absorbed record learns where the survivor's log starts, and resumes with that cursor alone.
        assert_eq!(subscriber.expect("call_merged").await["call_id"], survivor.as_str());
        let confirmed = subscriber.expect("subscription_confirmed").await;
        let mut again = server.subscriber().await;
        again.ask(json!({"subscribe": "EL_a_1", "after": confirmed["cursor"]}), "subscription_confirmed").await;
        again.events(1, 13).await;
    })
    .await;
}

/// A database that was restored to an older state has other events under the same numbers, even if their texts are the
/// same.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_from_beyond_a_restore_is_refused() {
    let database = Database::new(Engine::Sqlite).await;
    let file = database.url.trim_start_matches("sqlite://").to_owned();
    let copy = format!("{file}.copy");
    let turn = |text: &str| {
        json!({"call_sid": "EL_r_1", "speaker": "user", "message": text, "turn_id": text,
        "timestamp": 1_790_000_000})
    };
    let server = Server::start(&database).await;
    for text in ["one", "two"] {
        server.webhook("transcription", &turn(text)).await;
    }
    let mut deliveries = server.subscriber().await;
    deliveries.ask(json!({"subscribe_deliveries": {"history": true}}), "deliveries_confirmed").await;
    let mut all_cursors = vec![
        deliveries.expect("delivery").await["cursor"].clone(),
        deliveries.expect("delivery").await["cursor"].clone(),
    ];
    server.stop().await;
    std::fs::copy(&file, &copy).unwrap();
    let server = Server::start(&database).await;
    let mut deliveries = server.subscriber().await;
    deliveries.ask(json!({"subscribe_deliveries": {"after": all_cursors[1]}}), "deliveries_confirmed").await;
    for text in ["three", "four"] {
        server.webhook("transcription", &turn(text)).await;
        all_cursors.push(deliveries.expect("delivery").await["cursor"].clone());
    }
    let before = server.log("EL_r_1").await;
    server.stop().await;
    std::fs::rename(&copy, &file).unwrap();
    for companion in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{file}{companion}"));
    }
    let server = Server::start(&database).await;
    for cursor in &cursors(&before)[2..] {
        assert_refused_everywhere(&server, "EL_r_1", &json!(cursor)).await;
    }
    for text in ["three", "four", "five"] {
        server.webhook("transcription", &turn(text)).await;
    }
    for cursor in &cursors(&before)[2..] {
        assert_refused_everywhere(&server, "EL_r_1", &json!(cursor)).await;
    }
    let mut subscriber = server.subscriber().await;
    subscriber.ask(json!({"subscribe": "EL_r_1", "after": cursors(&before)[1]}), "subscription_confirmed").await;
    subscriber.events(3, 3).await;
    for (at, cursor) in all_cursors.iter().enumerate() {
        let mut deliveries = server.subscriber().await;
        deliveries.send(json!({"subscribe_deliveries": {"after": cursor}})).await;
        let answer = deliveries.message().await;
        if at < 2 {
            assert_eq!(
                answer["type"], "deliveries_confirmed",
                "{cursor} names a delivery of the restored database: {answer}"
            );
        } else {
            assert_eq!(
                answer["code"], "CURSOR_INVALID",
                "{cursor} names a delivery that the restored database never had: {answer}"
            );
        }
    }
}

/// Deleting a call does not invalidate the cursors of its deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_deliveries_resumes_after_a_deleted_one() {
    on_each_engine(async |_, server| {
        let mut deliveries = server.subscriber().await;
        deliveries.ask(json!({"subscribe_deliveries": {"history": true}}), "deliveries_confirmed").await;
        server.turn("EL_d_1", "user", "gone soon").await;
        let cursor = deliveries.expect("delivery").await["cursor"].clone();
        server.delete("EL_d_1").await;
        server.turn("EL_d_2", "user", "next").await;
        let mut again = server.subscriber().await;
        again.ask(json!({"subscribe_deliveries": {"after": cursor}}), "deliveries_confirmed").await;
        assert_eq!(again.expect("delivery").await["call_sid"], "EL_d_2");
    })
    .await;
}

/// Events that were stored before cursors existed get a cursor without a tag.
#[tokio::test(flavor = "multi_thread")]
async fn events_without_cursors_are_served_with_one() {
    for engine in Engine::ALL {
        let database = Database::new(engine).await;
        let server = Server::start(&database).await;
        for text in ["one", "two, \"cursor\":\"3.x\"}", "three"] {
            server.turn("EL_o_1", "user", text).await;
        }
        let call_id = server.get("/api/v1/calls/EL_o_1").await["call_id"].clone();
        let new = server.log("EL_o_1").await;
        server.stop().await;
        // The earlier version stored events without these two fields.
        let mut frames = HashMap::new();
        for event in &new {
            let mut old = event.clone();
            let fields = old.as_object_mut().unwrap();
            fields.remove("cursor");
            fields.remove("call_id");
            frames.insert(event["seq"].as_i64().unwrap(), old.to_string());
        }
        for (seq, frame) in &frames {
            let frame = frame.replace('\'', "''");
            database.execute(format!("UPDATE events SET frame = '{frame}' WHERE seq = {seq}")).await;
        }
        let server = Server::start(&database).await;
        server.turn("EL_o_1", "user", "four").await;
        let mut subscriber = server.subscriber().await;
        subscriber.subscribe("EL_o_1").await;
        let events = subscriber.events(1, 4).await;
        assert_eq!(events, server.log("EL_o_1").await);
        assert!(events.iter().all(|event| event["call_id"] == call_id));
        for (at, cursor) in cursors(&events).into_iter().enumerate() {
            let mut again = server.subscriber().await;
            assert_eq!(
                again.ask(json!({"subscribe": "EL_o_1", "after": cursor}), "subscription_confirmed").await["cursor"],
                cursor
            );
            again.events(i64::try_from(at).unwrap() + 2, 3 - at).await;
        }
        // The tagged cursors that these events had at first do not fit them any more.
        for cursor in cursors(&new) {
            assert_refused_everywhere(&server, "EL_o_1", &json!(cursor)).await;
        }
        // A cursor without a tag does not fit an event that has one.
        let untagged = events[2]["cursor"].as_str().unwrap().replacen("3.", "4.", 1);
        assert_refused_everywhere(&server, "EL_o_1", &json!(untagged)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_cursor_is_refused() {
    on_each_engine(async |_, server| {
        server.turn("EL_x_1", "user", "x").await;
        let good = server.log("EL_x_1").await[0]["cursor"].as_str().unwrap().to_owned();
        let other = format!("{}A", &good[..good.len() - 1]);
        let flipped = if other == good { format!("{}B", &good[..good.len() - 1]) } else { other };
        for wrong in
            ["1.", "1.AAAAAAAA", "0.AAAAAAAA", &flipped, &format!("{good}A"), &good.replacen('1', "2", 1), "1.1.1"]
        {
            assert_refused_everywhere(&server, "EL_x_1", &json!(wrong)).await;
        }
        let mut subscriber = server.subscriber().await;
        for wrong in ["", "x", " ", &"9".repeat(1_000)] {
            let code = refusal_code(&mut subscriber, json!({"subscribe": "EL_x_1", "after": wrong})).await;
            assert_eq!(code, "CURSOR_INVALID", "{wrong:?}");
        }
        assert_refused_everywhere(&server, "EL_x_1", &json!(2)).await;
    })
    .await;
}

/// The subscription is live from its request on, and the event that creates the call comes later.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_without_history_gets_the_event_that_creates_the_call() {
    on_each_engine(async |_, server| {
        let mut subscriber = server.subscriber().await;
        subscriber.ask(json!({"subscribe": "EL_w_1", "wait": true, "history": false}), "subscription_pending").await;
        server.turn("EL_w_1", "user", "first").await;
        subscriber.expect("subscription_confirmed").await;
        assert_eq!(subscriber.events(1, 1).await[0]["message_text"], "first");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_subscribe_leaves_a_pending_wait_as_it_is() {
    on_each_engine(async |_, server| {
        let mut subscriber = server.subscriber().await;
        subscriber.ask(json!({"subscribe": "EL_w_2", "wait": true}), "subscription_pending").await;
        assert_eq!(refusal_code(&mut subscriber, json!({"subscribe": "EL_w_2"})).await, "CALL_NOT_FOUND");
        server.turn("EL_w_2", "user", "here").await;
        subscriber.expect("subscription_confirmed").await;
        subscriber.events(1, 1).await;
    })
    .await;
}

/// A call is deleted and its name is reused. The name then belongs to the new call's subscription alone, whenever the
/// server learns of the deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_one_subscription_of_a_connection() {
    // The servers have no Redis, so `here` learns of events at `there` only by reconciliation.
    let (here, there) = Server::pair_on_postgres().await;
    for round in 0..12 {
        let sid = format!("EL_n_{round}");
        there.turn(&sid, "user", "old").await;
        let mut subscriber = here.follower(&sid, 1).await;
        assert_eq!(there.delete(&sid).await.status, 204);
        there.turn(&sid, "user", "new 1").await;
        // Reconciliation may or may not have seen the deletion already.
        subscriber.send(json!({"subscribe": sid})).await;
        let mut seen = Vec::new();
        while !seen.iter().any(|message: &Value| message["message_text"] == "new 1") {
            seen.push(subscriber.message().await);
        }
        let deleted = seen.iter().filter(|message| message["type"] == "error").count();
        let confirmed = seen.iter().position(|message| message["type"] == "subscription_confirmed").unwrap();
        assert!(
            seen[confirmed..].iter().all(|message| message["type"] != "error"),
            "the new subscription is told of the old call's deletion: {seen:?}"
        );
        assert!(deleted <= 1);
        assert_eq!(
            subscriber.ask(json!({"unsubscribe": sid}), "unsubscribe_confirmed").await["message"],
            "unsubscribed"
        );
        here.turn(&sid, "user", "new 2").await;
        there.turn(&sid, "user", "new 3").await;
        // In the first round, reconciliation has the time to run once more.
        tokio::time::sleep(std::time::Duration::from_millis(if round == 0 { 1_500 } else { 0 })).await;
        subscriber.expect_silence().await;
    }
    let mut last = here.subscriber().await;
    last.close().await;
    assert!(matches!(last.next().await, Received::Closed(_)));
}

/// A name leads to another call by now, and the request to follow that one is refused: the subscription that has the
/// name goes on until its own end.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscribe_changes_nothing() {
    let database = Database::new(Engine::Postgres).await;
    // The servers have no Redis, so `here` learns of the deletion only by reconciliation.
    let (here, there) = (Server::start(&database).await, Server::start(&database).await);
    there.turn("EL_r_1", "user", "old").await;
    let mut subscriber = here.subscriber().await;
    subscriber.subscribe("EL_r_1").await;
    subscriber.events(1, 1).await;
    assert_eq!(there.api(Method::DELETE, "/api/v1/calls/EL_r_1", None).await.status, 204);
    there.turn("EL_r_1", "user", "new").await;
    subscriber.send(json!({"subscribe": "EL_r_1", "after": 99})).await;
    let mut codes = [subscriber.expect("error").await, subscriber.expect("error").await]
        .map(|error| error["code"].as_str().unwrap().to_owned());
    codes.sort();
    assert_eq!(codes, ["CALL_NOT_FOUND", "CURSOR_INVALID"]);
    subscriber.expect_silence().await;
}
