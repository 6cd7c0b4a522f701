//! What names a call: values that the platform states do, and values that a caller's client can set do not.

use callscope_tests::server::{limited_token, on_each_engine, texts, unix_secs};
use callscope_tests::{Server, Subscriber};
use reqwest::Method;
use serde_json::{Value, json};

/// Returns the result of a web conversation whose client set these dynamic variables, as ElevenLabs signs it.
fn web_result(conversation: &str, variables: &Value) -> Value {
    json!({"type": "post_call_transcription", "data": {"conversation_id": conversation, "status": "done",
        "transcript": [{"role": "agent", "message": "never said to anybody else"}],
        "analysis": {"transcript_summary": "the customer agreed to transfer 10000 EUR", "call_successful": "success"},
        "conversation_initiation_client_data": {"dynamic_variables": variables}}})
}

async fn register(server: &Server, call: Value) -> Value {
    let reply = server.register(&call).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json
}

/// A conversation whose client sets any variable can neither read, complete, overwrite nor pre-empt another call.
#[tokio::test(flavor = "multi_thread")]
async fn variables_that_a_client_sets_reach_no_other_call() {
    on_each_engine(async |_, server| {
        let victim = register(&server, json!({"subject": "bank"})).await;
        let (sid, id) =
            (victim["call_sid"].as_str().unwrap().to_owned(), victim["call_id"].as_str().unwrap().to_owned());
        server.turn(&sid, "user", "my card number is 4111").await;
        let before = server.get(&format!("/api/v1/calls/{sid}")).await;
        let link = victim["link"].as_str().unwrap();
        let (rest, last) = link.split_at(link.len() - 1);
        let broken_link = format!("{rest}{}", if last == "A" { "E" } else { "A" });
        let names = "call_sid conversation_id call_id callscope_link callscope_call_id sip_call_id CallSid phone_call \
                     linked x-call-sid trusted_variable";
        let values = [json!(sid), json!(id), json!(broken_link), json!({"call_sid": sid}), json!([sid])];
        for (at, name) in names.split(' ').enumerate() {
            for (nth, value) in values.iter().enumerate() {
                let attacker = format!("conv_attacker_{at}_{nth}");
                let reply = server.webhook("post-call", &web_result(&attacker, &json!({name: value}))).await;
                assert_eq!(reply.status, 200, "{name}: {reply:?}");
                assert_ne!(reply.json["call_sid"], sid.as_str(), "{name} = {value} completed the call");
                let scoped = limited_token(&[&attacker]);
                let (status, said) =
                    server.api_as(&scoped, Method::GET, &format!("/api/v1/calls/{attacker}/events")).await;
                assert_eq!(status, 200);
                assert!(!said.to_string().contains("4111"), "{name} = {value} reads the call: {said}");
            }
        }
        let after = server.get(&format!("/api/v1/calls/{sid}")).await;
        assert_eq!(after, before, "the call changed");
        assert_eq!(texts(&server.log(&sid).await), ["my card number is 4111"]);
        // The client cannot occupy a sid that the next registration would make, either.
        let at = unix_secs();
        for later in 0..4 {
            let value = json!({"call_sid": format!("EL_bank_{}", at + later)});
            server.webhook("post-call", &web_result(&format!("conv_early_{later}"), &value)).await;
        }
        let next = register(&server, json!({"subject": "bank"})).await;
        let made = next["call_sid"].as_str().unwrap();
        assert!(!made.ends_with("_2") || made.starts_with(&format!("{sid}_")), "the sid was occupied: {made}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_of_a_registration_names_its_call() {
    on_each_engine(async |_, server| {
        let call = register(&server, json!({"subject": "desk"})).await;
        let sid = call["call_sid"].as_str().unwrap();
        server.turn(sid, "user", "hello").await;
        let end = web_result("conv_linked", &json!({"callscope_link": call["link"]}));
        let reply = server.webhook("post-call", &end).await;
        assert_eq!(
            (&reply.json["call_sid"], &reply.json["call_status"]),
            (&json!(sid), &json!("completed")),
            "{reply:?}"
        );
        let view = server.get("/api/v1/calls/conv_linked").await;
        assert_eq!(view["call_id"], call["call_id"]);
        assert!(view.get("link").is_none(), "only a registration is answered with it: {view}");
        // A link whose call is deleted names nothing.
        let path = format!("/api/v1/calls/{sid}");
        assert_eq!(server.api(Method::DELETE, &path, None).await.status, 204);
        let end = web_result("conv_late", &json!({"callscope_link": call["link"]}));
        assert_ne!(server.webhook("post-call", &end).await.json["call_sid"], sid);
    })
    .await;
}

/// An identifier that spells the `call_id` of a call means that call on every route, and is no other call's name.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_id_wins_over_identifiers_everywhere() {
    on_each_engine(async |_, server| {
        for text in ["v1", "v2"] {
            server.turn("EL_v_1", "user", text).await;
        }
        let call_id = server.call_id("EL_v_1").await;
        // As the sid or conversation id of a webhook, it names that call.
        assert_eq!(server.turn(&call_id, "agent", "v3").await.json["call_sid"], "EL_v_1");
        let turn = json!({"conversation_id": call_id, "speaker": "agent", "message": "v4"});
        assert_eq!(server.webhook("transcription", &turn).await.json["call_sid"], "EL_v_1");
        // PATCH and registration refuse it as another call's identifier.
        server.turn("EL_p_1", "user", "p1").await;
        for body in
            [json!({"identifiers": [call_id]}), json!({"call_sid": call_id}), json!({"conversation_id": call_id})]
        {
            let reply = server.patch("EL_p_1", &body).await;
            assert_eq!((reply.status, &reply.json["code"]), (409, &json!("IDENTIFIER_TAKEN")), "{body}");
        }
        for body in [json!({"call_sid": call_id}), json!({"conversation_id": call_id})] {
            let reply = server.register(&body).await;
            assert_eq!((reply.status, &reply.json["code"]), (409, &json!("IDENTIFIER_TAKEN")), "{body}");
        }
        let itself = json!({"identifiers": [call_id], "call_sid": call_id});
        assert_eq!(server.patch(&call_id, &itself).await.json["call_sid"], "EL_v_1");
        // PATCH with `merge` merges the two calls.
        let absorbed = server.call_id("EL_p_1").await;
        let merge = json!({"identifiers": [call_id], "merge": true});
        let merged = server.patch("EL_p_1", &merge).await;
        assert_eq!((merged.status, &merged.json["call_id"]), (200, &json!(call_id)), "{merged:?}");
        assert_eq!(texts(&server.log(&call_id).await), ["v1", "v2", "v3", "v4", "p1"]);
        let names = server.get(&format!("/api/v1/calls/{call_id}")).await["identifiers"].clone();
        assert!(!names.as_array().unwrap().contains(&json!(call_id)), "stored as a name: {names}");
        // The id of the absorbed record leads to the survivor too, also in capitals.
        let capitals = absorbed.to_uppercase();
        assert_eq!(server.turn(&capitals, "user", "v5").await.json["call_sid"], "EL_v_1");
        let names_it = json!({"call_sid": capitals});
        let reply = server.register(&names_it).await;
        assert_eq!((reply.status, &reply.json["code"]), (409, &json!("IDENTIFIER_TAKEN")), "{reply:?}");
        assert_eq!(texts(&server.log(&absorbed).await), ["v1", "v2", "v3", "v4", "p1", "v5"]);
        // Other UUIDs are ordinary identifiers.
        let foreign = uuid::Uuid::new_v4().to_string();
        assert_eq!(server.turn(&foreign, "user", "f1").await.json["call_sid"], foreign.as_str());
        assert_eq!(texts(&server.log(&foreign).await), ["f1"]);
        // A token for the call's id reads that call.
        let scoped = limited_token(&[&call_id]);
        let mut subscriber = Subscriber::connect(&server.embedded.url, &scoped).await;
        assert_eq!(subscriber.subscribe("EL_p_1").await["call_id"], call_id.as_str());
        assert_eq!(server.api_as(&scoped, Method::GET, &format!("/api/v1/calls/{call_id}")).await.0, 200);
        assert_eq!(server.api_as(&scoped, Method::GET, &format!("/api/v1/calls/{foreign}")).await.0, 403);
        // Deleting by the id deletes that very call.
        assert_eq!(server.delete(&call_id).await.status, 204);
        assert_eq!(server.api(Method::GET, "/api/v1/calls/EL_v_1", None).await.status, 404);
        assert_eq!(texts(&server.log(&foreign).await), ["f1"]);
    })
    .await;
}

/// A deletion by `call_id` applies to that record alone, also if a merge has absorbed it in the meantime.
#[tokio::test(flavor = "multi_thread")]
async fn deleting_an_absorbed_record_names_the_survivor_and_deletes_nothing() {
    on_each_engine(async |_, server| {
        server.turn("EL_gone_1", "user", "g").await;
        let gone = server.call_id("EL_gone_1").await;
        for text in ["a", "b"] {
            server.turn("EL_stays_1", "user", text).await;
        }
        let merge = json!({"identifiers": ["EL_gone_1"], "merge": true});
        let whole = server.patch("EL_stays_1", &merge).await.json;
        let reply = server.delete(&gone).await;
        assert_eq!((reply.status, &reply.json["code"]), (409, &json!("CALL_MERGED")), "{reply:?}");
        assert!(reply.json.to_string().contains(whole["call_id"].as_str().unwrap()), "{reply:?}");
        assert_eq!(texts(&server.log("EL_gone_1").await), ["a", "b", "g"]);
        assert_eq!(server.delete("EL_gone_1").await.status, 204, "the name leads to the survivor");
        assert_eq!(server.delete(&gone).await.status, 404);
    })
    .await;
}

/// However a sender marks its attempts, one delivery takes effect once.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_signed_cannot_double_an_effect() {
    on_each_engine(async |_, server| {
        let at = unix_secs();
        let keyed = json!({"call_sid": "EL_k_1", "speaker": "user", "message": "once", "turn_id": "t1"}).to_string();
        let plain = json!({"call_sid": "EL_k_1", "speaker": "user", "message": "also once"}).to_string();
        let end = web_result("conv_k", &json!({})).to_string();
        for (own, route, body) in
            [("k0", "transcription", &keyed), ("p0", "transcription", &plain), ("e0", "post-call", &end)]
        {
            let first = server.post_signed(route, body.as_bytes(), at, &[("Idempotency-Key", own)]).await;
            // Further attempts have another key, none, or an empty one.
            for headers in
                [&[("Idempotency-Key", "k1")][..], &[("Idempotency-Key", "k2")], &[], &[("Idempotency-Key", "")]]
            {
                assert_eq!(server.post_signed(route, body.as_bytes(), at, headers).await, first, "{body} {headers:?}");
            }
            // The same key with the same body, signed at another time, is a repeat too.
            assert_eq!(server.post_signed(route, body.as_bytes(), at - 1, &[("Idempotency-Key", own)]).await, first);
        }
        assert_eq!(texts(&server.log("EL_k_1").await), ["once", "also once"]);
        let log = server.log("conv_k").await;
        assert_eq!(log.iter().filter(|event| event["type"] == "call_completed").count(), 1);
        // A repeat occupies no key, so its key is free for another delivery. The key of the first attempt stays
        // occupied.
        let other = json!({"call_sid": "EL_k_1", "speaker": "user", "message": "another", "turn_id": "t2"}).to_string();
        let taken = server.post_signed("transcription", other.as_bytes(), at, &[("Idempotency-Key", "k0")]).await;
        assert_eq!((taken.status, &taken.json["code"]), (409, &json!("IDEMPOTENCY_CONFLICT")));
        assert_eq!(
            server.post_signed("transcription", other.as_bytes(), at, &[("Idempotency-Key", "k1")]).await.status,
            201
        );
        assert_eq!(server.log("EL_k_1").await.len(), 3);
    })
    .await;
}

/// A template without a value sends an empty text, which counts as absent.
#[tokio::test(flavor = "multi_thread")]
async fn empty_ids_and_keys_count_as_absent() {
    on_each_engine(async |_, server| {
        for (at, id) in ["", "", " ", "\t"].into_iter().enumerate() {
            let turn = json!({"call_sid": "EL_e_1", "speaker": "user", "message": format!("turn {at}"), "turn_id": id});
            assert_eq!(server.webhook("transcription", &turn).await.status, 201);
        }
        let null = json!({"call_sid": "EL_e_1", "speaker": "user", "message": "null", "turn_id": null});
        assert_eq!(server.webhook("transcription", &null).await.status, 201);
        for call in ["EL_e_2", "EL_e_3"] {
            let turn = json!({"call_sid": call, "speaker": "user", "message": call}).to_string();
            let headers = [("Idempotency-Key", "")];
            let at = unix_secs();
            assert_eq!(server.post_signed("transcription", turn.as_bytes(), at, &headers).await.status, 201);
        }
        assert_eq!(texts(&server.log("EL_e_1").await), ["turn 0", "turn 1", "turn 2", "turn 3", "null"]);
        // One id of two speakers makes two turns.
        for speaker in ["agent", "user"] {
            let turn = json!({"call_sid": "EL_e_4", "speaker": speaker, "message": speaker, "turn_id": "3"});
            assert_eq!(server.webhook("transcription", &turn).await.status, 201);
        }
        assert_eq!(texts(&server.log("EL_e_4").await), ["agent", "user"]);
    })
    .await;
}

/// If two records are one call, the survivor keeps its result and transcript, unless the other record's call ended
/// later.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_keeps_result_and_transcript_of_one_record() {
    on_each_engine(async |_, server| {
        // The columns are the status of the survivor `a`, the status of the absorbed record `b`, whether `b` ended
        // later, and the record whose result is kept.
        let cases = [
            ("done", "done", false, "a"),
            ("done", "done", true, "b"),
            ("done", "failed", true, "a"),
            ("failed", "done", true, "b"),
            ("failed", "failed", true, "b"),
        ];
        for (at, (status_a, status_b, is_later, kept)) in cases.into_iter().enumerate() {
            let end = |name: &str, status: &str, start: i64| {
                json!({"type": "post_call_transcription", "data": {"conversation_id": format!("conv_{name}_{at}"),
                    "status": status,
                    "transcript": [{"role": "agent", "message": format!("final of {name}")}],
                    "analysis": {"transcript_summary": format!("summary of {name}")},
                    "metadata": {"start_time_unix_secs": start, "call_duration_secs": 10}}})
            };
            let start = 1_790_000_000;
            let later = if is_later { start + 100 } else { start - 100 };
            for text in ["one", "two", "three"] {
                let turn = json!({"conversation_id": format!("conv_a_{at}"), "speaker": "user", "message": text});
                server.webhook("transcription", &turn).await;
            }
            server.webhook("post-call", &end("a", status_a, start)).await;
            server.webhook("post-call", &end("b", status_b, later)).await;
            let path = format!("/api/v1/calls/conv_a_{at}");
            let mut follower = server.subscriber().await;
            follower.subscribe(&format!("conv_a_{at}")).await;
            let merge = json!({"identifiers": [format!("conv_b_{at}")], "merge": true});
            let view = server.api(Method::PATCH, &path, Some(&merge)).await;
            assert_eq!(view.status, 200, "{view:?}");
            let status = if (if kept == "a" { status_a } else { status_b }) == "done" { "completed" } else { "failed" };
            let summary = json!(format!("summary of {kept}"));
            let found = (&view.json["status"], &view.json["call_data"]["transcript_summary"]);
            assert_eq!(found, (&json!(status), &summary), "{at}");
            let said = server.get(&format!("{path}/transcript?source=final")).await;
            assert_eq!(said["turns"][0]["message_text"], format!("final of {kept}"), "{at}");
            let log = server.log(&format!("conv_a_{at}")).await;
            let last = log.iter().rev().find(|event| event["type"] == "call_completed").unwrap();
            let found = (&last["call_data"]["transcript_summary"], &last["call_data"]["status"]);
            assert_eq!(found, (&summary, &json!(status)), "{at}");
            let last_status = log.iter().rev().find(|event| event["type"] == "call_status").unwrap();
            assert_eq!(last_status["status"], status, "{at}");
        }
    })
    .await;
}

/// A token is valid for the calls that its names lead to, in every request and by every name.
#[tokio::test(flavor = "multi_thread")]
async fn a_limited_token_reads_a_merged_call_by_every_route() {
    on_each_engine(async |_, server| {
        for (call, count) in [("EL_kept_1", 2), ("EL_gone_1", 1)] {
            for at in 0..count {
                server.turn(call, "user", &format!("{call} {at}")).await;
            }
        }
        let absorbed = server.call_id("EL_gone_1").await;
        let merge = json!({"identifiers": ["EL_gone_1"], "merge": true});
        let merged = server.patch("EL_kept_1", &merge).await;
        let kept = merged.json["call_id"].as_str().unwrap().to_owned();
        assert!(merged.status == 200 && kept != absorbed, "{merged:?}");
        for names in [[&absorbed], [&kept], [&"EL_kept_1".to_owned()], [&"EL_gone_1".to_owned()]] {
            let scoped = limited_token(&names.map(String::as_str));
            for id in [&absorbed, &kept, "EL_kept_1", "EL_gone_1"] {
                let (status, call) = server.api_as(&scoped, Method::GET, &format!("/api/v1/calls/{id}")).await;
                assert_eq!((status, &call["call_id"]), (200, &json!(kept)), "{names:?} {id}: {call}");
                let mut subscriber = Subscriber::connect(&server.embedded.url, &scoped).await;
                assert_eq!(subscriber.subscribe(id).await["call_id"], kept.as_str(), "{names:?} {id}");
            }
        }
    })
    .await;
}
