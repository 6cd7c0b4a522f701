//! Senders without a valid signature cost little, and do not delay senders that have one.

use std::time::Duration;

use callscope_common::signature::sign;
use callscope_server::settings::{Flags, Settings};
use callscope_server::store::Store;
use callscope_tests::server::{SECRET, environment, forged_signature, http, post_webhook, unix_secs};
use callscope_tests::socket::{answer, host, send};
use callscope_tests::{Database, Engine, Server, until};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const UNVERIFIED: &str = "/api/v1/admin/deliveries?verdict=unverified";

fn request_head(route: &str, headers: &[(&str, &str)]) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("POST /webhooks/elevenlabs/{route} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// Writes `request` as it is and returns the answer.
async fn send_raw(server: &Server, request: &str) -> String {
    answer(&mut send(host(&server.embedded.url), request.as_bytes()).await).await
}

async fn newest_delivery(server: &Server) -> Value {
    let list = server.get("/api/v1/admin/deliveries").await;
    server.get(&format!("/api/v1/admin/deliveries/{}", list["deliveries"][0]["delivery_id"].as_str().unwrap())).await
}

/// Rocket reads the first bytes of every body before any route (for `_method`). Nothing is sent beyond these, so an
/// answer shows that the server waited for no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_cannot_be_valid_is_refused_before_the_body() {
    let server = Server::on_sqlite(&[]).await;
    let expired = sign(SECRET.as_bytes(), unix_secs() - 7200, b"{}");
    let future = sign(SECRET.as_bytes(), unix_secs() + 7200, b"{}");
    for (header, reason, cause) in [
        (None, "signature missing", "no_signature"),
        (Some("nonsense"), "signature wrong", "malformed_header"),
        (Some("t=1"), "signature wrong", "malformed_header"),
        (Some(&*expired), "signature too old", "too_old"),
        (Some(&*future), "signature too old", "from_the_future"),
    ] {
        for route in ["transcription", "post-call"] {
            for length in
                [("Content-Length", "1000000"), ("Transfer-Encoding", "chunked"), ("Content-Length", "99999999999")]
            {
                let mut headers = vec![length];
                headers.extend(header.map(|value| ("ElevenLabs-Signature", value)));
                let beginning = request_head(route, &headers)
                    + if length.1 == "chunked" { "f\r\n{\"type\": \"post_c\r\n" } else { "{\"type\": \"post_c" };
                let said = send_raw(&server, &beginning).await;
                assert!(said.starts_with("HTTP/1.1 401 ") && said.contains(reason), "{header:?}: {said}");
                assert!(!said.contains(cause), "the sender is told the cause: {said}");
                let listed = server.get(UNVERIFIED).await;
                assert_eq!(listed["unverified"][0]["diagnosis"], cause, "{listed}");
            }
        }
    }
    // A body that was sent anyway does not hide the answer.
    for length in [0, 100, 500_000] {
        assert_eq!(server.post("post-call", &[], &vec![b'x'; length]).await.status, 401, "{length}");
    }
    assert_eq!(server.get("/api/v1/admin/deliveries").await["deliveries"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_in_several_lines_counts_as_one() {
    let server = Server::on_sqlite(&[]).await;
    for (number, is_split) in [false, true].into_iter().enumerate() {
        let body = json!({"call_sid": "EL_lines_1", "speaker": "user", "message": format!("m{number}")}).to_string();
        let signed = sign(SECRET.as_bytes(), unix_secs(), body.as_bytes());
        let (time, digest) = signed.split_once(',').unwrap();
        let bad = forged_signature();
        let lines: Vec<&str> = if is_split { vec![digest, time] } else { vec![&bad, &signed] };
        let length = body.len().to_string();
        let mut headers = vec![("Content-Length", &*length)];
        headers.extend(lines.iter().map(|line| ("ElevenLabs-Signature", *line)));
        let said = send_raw(&server, &(request_head("transcription", &headers) + &body)).await;
        assert!(said.starts_with("HTTP/1.1 201 "), "{lines:?}: {said}");
    }
    assert_eq!(server.log("EL_lines_1").await.len(), 2);
}

/// Several hundred senders occupy all memory for bodies. Their bodies never end, and their signatures could be valid
/// until the end.
#[tokio::test(flavor = "multi_thread")]
async fn slow_unsigned_senders_delay_no_signed_turn() {
    let database = Database::new(Engine::Sqlite).await;
    let environment = environment(&database.url, &[("CALLSCOPE_MAX_POST_CALL_MIB", "1")]);
    // The default is half a GiB, which takes long to fill.
    let settings = Settings { body_memory: 4 << 20, ..Settings::load_from(&Flags::new(), &environment).unwrap() };
    let store = Store::open(settings.database_url.expose()).await.unwrap();
    let (server, listening) = callscope_server::build(&settings, store).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(server.serve(async move { drop(stopped.await) }));
    let address = listening.await.unwrap().to_string();

    let request =
        request_head("post-call", &[("ElevenLabs-Signature", &forged_signature()), ("Content-Length", "1000000")]);
    let unsigned_senders: Vec<TcpStream> = join_all((0..300).map(|_| async {
        let mut stream = send(&address, request.as_bytes()).await;
        stream.write_all(&[b' '; 20_000]).await.unwrap();
        stream
    }))
    .await;
    let url = format!("http://{address}");
    let turns = (0..40).map(|number| {
        let (http, url) = (http(), &url);
        async move {
            let message = format!("{number}{}", "x".repeat(if number % 2 == 0 { 40_000 } else { 100 }));
            let body = json!({"call_sid": "EL_room_1", "speaker": "user", "message": message}).to_string();
            post_webhook(&http, url, "transcription", &body).await.unwrap().status
        }
    });
    assert_eq!(join_all(turns).await, [201; 40]);
    // Some unsigned senders had to make room, and received a 503.
    let refused = join_all(unsigned_senders.into_iter().map(|mut stream| async move {
        let said = tokio::time::timeout(Duration::from_millis(10), answer(&mut stream)).await.unwrap_or_default();
        said.starts_with("HTTP/1.1 503 ") && said.to_lowercase().contains("retry-after:")
    }))
    .await;
    assert!(refused.into_iter().any(|is_refused| is_refused));
    drop(stop);
    served.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_kept_and_refused_with_a_reason() {
    let server = Server::on_sqlite(&[]).await;
    let body = b"\x1f\x8b\x08 as it came";
    let answer = server.post_signed("post-call", body, unix_secs(), &[("Content-Encoding", "gzip")]).await;
    assert_eq!((answer.status, &answer.json["message"]), (415, &json!("the body has a Content-Encoding")));
    let kept = server.get("/api/v1/admin/deliveries").await;
    assert_eq!(kept["deliveries"][0]["verdict"], "rejected", "{kept}");
}

/// `NaN` is what Python writes for a missing number.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_with_nan_is_accepted_and_kept_unchanged() {
    let server = Server::on_sqlite(&[]).await;
    let body = br#"{"type": "post_call_transcription", "data": {"conversation_id": "conv_nan", "metadata": {"cost": NaN, "x": -Infinity}}}"#;
    assert_eq!(server.post_signed("post-call", body, unix_secs(), &[]).await.status, 200);
    let call = server.get("/api/v1/calls/conv_nan").await;
    assert_eq!(call["call_data"]["metadata"], json!({"cost": null, "x": null}), "{call}");
    let kept = newest_delivery(&server).await;
    assert_eq!(kept["body"].as_str().unwrap().as_bytes(), body);
}

/// A header that may hold an unknown credential reaches neither the database nor a reader of deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn only_headers_that_explain_a_delivery_are_kept() {
    let database = Database::new(Engine::Sqlite).await;
    let server = Server::start(&database).await;
    let request_headers = [
        ("Authorization", "Bearer hunter2"),
        ("Cookie", "session=hunter2"),
        ("X-Api-Key", "hunter2"),
        ("CF-Access-Client-Secret", "hunter2"),
        ("X-Unheard-Of", "hunter2"),
        ("Content-Type", "application/json"),
        ("X-Request-Id", "r-1"),
        ("traceparent", "00-1"),
    ];
    let turn = json!({"call_sid": "EL_kept_1", "speaker": "user", "message": "hello"}).to_string();
    assert_eq!(server.post_signed("transcription", turn.as_bytes(), unix_secs(), &request_headers).await.status, 201);
    let kept = newest_delivery(&server).await;
    let headers: Vec<(String, String)> = serde_json::from_value(kept["headers"].clone()).unwrap();
    let has = |name: &str| headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
    for name in ["Content-Type", "X-Request-Id", "traceparent", "ElevenLabs-Signature", "Host", "Content-Length"] {
        assert!(has(name), "{name} in {headers:?}");
    }
    assert!(!kept.to_string().contains("hunter2"), "{kept}");
    server.stop().await;
    let path = database.url.strip_prefix("sqlite://").unwrap();
    for file in [path.to_owned(), format!("{path}-wal")] {
        let bytes = std::fs::read(&file).unwrap_or_default();
        assert!(!bytes.windows(7).any(|bytes| bytes == b"hunter2"), "{file}");
    }
}

/// The refused request is answered first. Its attempt is listed at once, and explained when the cause is known.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_are_refused_and_explained_in_bounds() {
    let server = Server::on_sqlite(&[]).await;
    let bodies = ["[".repeat(100_000), r#"{"a":"#.repeat(40_000), "[".repeat(16_000) + &"]".repeat(16_000)];
    for body in bodies {
        let headers = [("ElevenLabs-Signature", &*forged_signature())];
        assert_eq!(server.post("transcription", &headers, body.as_bytes()).await.status, 401);
        until("the attempt is explained", async || {
            let listed: Value = server.get(UNVERIFIED).await;
            listed["unverified"][0]["diagnosis"] == "unexplained"
        })
        .await;
    }
    assert_eq!(server.get(UNVERIFIED).await["total"], 3);
}
