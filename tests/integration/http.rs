//! Which heads of requests are refused, and what the head of an answer says.

use callscope_common::claims::Role;
use callscope_server::auth::Tokens;
use callscope_server::secret::Secret;
use callscope_tests::Server;
use callscope_tests::server::{JWT_SECRET, admin_token};
use callscope_tests::socket::{answer, host, send, status};
use reqwest::Method;
use serde_json::json;

/// Sends a request and returns the answer in lower case. `HOST` stands for the server's own host and port.
async fn send_raw(server: &Server, request: &str) -> String {
    let host = host(&server.embedded.url);
    let mut stream = send(host, request.replace("HOST", host).as_bytes()).await;
    answer(&mut stream).await.to_lowercase()
}

/// Sends a request of this method and path without a body, and with these headers.
async fn send_head(server: &Server, method_and_path: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    send_raw(server, &format!("{method_and_path} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: 0\r\n\r\n"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_must_name_its_host_once() {
    let server = Server::on_sqlite(&[]).await;
    for (headers, expected) in [
        (&["Host: HOST"][..], 200),
        (&[], 400),
        (&["Host: HOST", "Host: HOST"], 400),
        (&["Host: HOST", "Host: evil.test"], 400),
    ] {
        let answer = send_head(&server, "GET /healthz", headers).await;
        assert_eq!(status(&answer), expected, "{headers:?}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_path_lists_its_methods() {
    let server = Server::on_sqlite(&[]).await;
    for (line, expected, allow) in [
        ("GET /webhooks/elevenlabs/post-call", 405, "allow: options, post"),
        ("GET /webhooks/elevenlabs/transcription", 405, "allow: options, post"),
        ("HEAD /webhooks/elevenlabs/transcription", 405, "allow: options, post"),
        ("DELETE /healthz", 405, "allow: get, head, options"),
        ("PUT /api/v1/calls/x", 405, "allow: delete, get, head, options, patch"),
        ("POST /ws/calls/transcriptions", 405, "allow: get, head, options"),
        ("GET /nowhere", 404, ""),
        ("GET /-/refused", 404, ""),
        ("GET /api/v1/calls/x", 401, ""),
    ] {
        let answer = send_head(&server, line, &["Host: HOST"]).await;
        assert_eq!(status(&answer), expected, "{line}: {answer}");
        assert!(answer.contains(allow), "{line}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_name_the_missing_header_and_are_not_cached() {
    let server = Server::on_sqlite(&[]).await;
    let webhook = send_head(&server, "POST /webhooks/elevenlabs/transcription", &["Host: HOST"]).await;
    assert_eq!(status(&webhook), 401);
    assert!(!webhook.contains("www-authenticate"), "{webhook}");
    assert!(webhook.contains("cache-control: no-store"), "{webhook}");
    let api = send_head(&server, "GET /api/v1/calls", &["Host: HOST"]).await;
    assert!(status(&api) == 401 && api.contains("www-authenticate: bearer"), "{api}");
    assert!(api.contains("cache-control: no-store"), "{api}");
    let socket = send_head(&server, "GET /ws/calls/transcriptions", &["Host: HOST"]).await;
    assert!(status(&socket) == 426 && socket.contains("sec-websocket-version: 13"), "{socket}");
    assert!(socket.contains("cache-control: no-store"), "{socket}");
    let health = send_head(&server, "GET /healthz", &["Host: HOST"]).await;
    assert!(!health.contains("cache-control"), "{health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_of_another_origin_posts_webhooks() {
    for auth in ["required", "off"] {
        let variables = [("CALLSCOPE_WEBHOOK_AUTH", auth), ("CALLSCOPE_ALLOWED_ORIGINS", "*")];
        let server = Server::on_sqlite(&variables).await;
        let body = json!({"call_sid": "EL_http_1", "speaker": "user", "message": "x"}).to_string();
        let post = async |path: &str, headers: &str, host: &str| {
            let length = body.len();
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
            );
            status(&send_raw(&server, &request).await)
        };
        let turn = "/webhooks/elevenlabs/transcription";
        for path in [
            turn,
            "/webhooks/elevenlabs/post-call",
            "/webhooks/elevenlabs",
            "/webhooks/x/y",
            "//webhooks/elevenlabs/transcription",
        ] {
            for headers in ["Origin: https://evil.test\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
                assert_eq!(post(path, headers, "HOST").await, 403, "{path} {headers}");
            }
        }
        // A foreign name that resolves to the server's address (DNS rebinding) is not its own origin.
        assert_eq!(post(turn, "Origin: http://evil.test\r\n", "evil.test").await, 403);
        let passed = if auth == "off" { 201 } else { 401 };
        assert_eq!(post(turn, "", "HOST").await, passed);
        assert_eq!(post(turn, "Origin: http://HOST\r\nSec-Fetch-Site: same-origin\r\n", "HOST").await, passed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_cannot_name_another_method() {
    let server = Server::on_sqlite(&[]).await;
    assert_eq!(server.turn("EL_http_2", "user", "hello").await.status, 201);
    let token = &server.embedded.token;
    for form in ["_method=delete", "_method=DELETE&x=1", "&_method=delete", "_method=patch", "_method=get"] {
        let length = form.len();
        let answer = send_raw(
            &server,
            &format!(
                "POST /api/v1/calls/EL_http_2 HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
            ),
        )
        .await;
        assert_eq!(status(&answer), 405, "{form}: {answer}");
    }
    assert_eq!(server.api(Method::GET, "/api/v1/calls/EL_http_2", None).await.status, 200);
    assert_eq!(server.delete("EL_http_2").await.status, 204);
}

async fn upgrade(server: &Server, key: &str, headers: &str) -> String {
    let token = &server.embedded.token;
    let request = format!(
        "GET /ws/calls/transcriptions HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Authorization: Bearer {token}\r\n{key}{headers}\r\n"
    );
    send_raw(server, &request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_needs_a_valid_key_and_its_own_origin() {
    let server = Server::on_sqlite(&[]).await;
    let good = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (key, expected) in [
        (good, 101),
        ("", 400),
        ("Sec-WebSocket-Key: x\r\n", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400),
    ] {
        let answer = upgrade(&server, key, "Host: HOST\r\n").await;
        assert_eq!(status(&answer), expected, "{key}: {answer}");
    }
    for (headers, expected) in [
        ("Host: HOST\r\nOrigin: http://HOST\r\n", 101),
        ("Host: HOST\r\nOrigin: javascript://HOST\r\n", 403),
        ("Host: HOST\r\nOrigin: https://evil.test\r\n", 403),
        ("Host: evil.test\r\nOrigin: http://evil.test\r\n", 403),
        ("Host: HOST\r\nOrigin: null\r\n", 403),
    ] {
        assert_eq!(status(&upgrade(&server, good, headers).await), expected, "{headers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_every_configured_key_are_valid() {
    let old = "o".repeat(32);
    let keys = format!("{JWT_SECRET},{old}");
    let server = Server::on_sqlite(&[("CALLSCOPE_JWT_SECRET", &keys)]).await;
    let ask = async |secret: &str| {
        let token = Tokens::new(&Secret::new(secret.into())).mint_for("t", Role::Viewer, 60, None).unwrap();
        status(
            &send_head(&server, "GET /api/v1/calls", &["Host: HOST", &format!("Authorization: Bearer {token}")]).await,
        )
    };
    assert_eq!((ask(JWT_SECRET).await, ask(&old).await, ask(&"x".repeat(32)).await), (200, 200, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_given_twice_is_refused() {
    let server = Server::on_sqlite(&[]).await;
    for (path, twice) in [
        ("calls?status=failed&status=completed", "status"),
        ("calls?limit=1&q=a&limit=1", "limit"),
        ("admin/deliveries?verdict=rejected&verdict=unverified", "verdict"),
        ("calls/x/events?after=1&after=2", "after"),
        ("calls/x/transcript?format=txt&format=md", "format"),
    ] {
        let (status, error) = server.api_as(&admin_token("a"), Method::GET, &format!("/api/v1/{path}")).await;
        let message = format!("the parameter `{twice}` is given more than once");
        assert_eq!((status, &error["message"]), (400, &json!(message)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_parameter_of_the_deliveries_is_ignored() {
    let server = Server::on_sqlite(&[]).await;
    let list = "/api/v1/admin/deliveries?verdict=unverified";
    let replay = format!("/api/v1/admin/deliveries/{}/replay", uuid::Uuid::nil());
    for (method, path, message) in [
        (Method::GET, format!("{list}&cursor={}", uuid::Uuid::nil()), "`cursor` cannot be combined"),
        (Method::POST, format!("{replay}?as_new=maybe"), "`as_new` takes true or false"),
        (Method::POST, format!("{replay}?as_new=true&as_new=false"), "the parameter `as_new` is given more than once"),
        (Method::POST, format!("{replay}?asnew=true"), "this route has no parameter `asnew`"),
        (Method::POST, format!("{replay}?as_new=true"), "no such delivery"),
    ] {
        let (_, error) = server.api_as(&admin_token("a"), method, &path).await;
        assert!(error["message"].as_str().is_some_and(|text| text.contains(message)), "{path}: {error}");
    }
    server.register(&json!({"call_sid": "CA1"})).await;
    let (status, error) = server.api_as(&admin_token("a"), Method::GET, &format!("{list}&call=CA1")).await;
    assert_eq!(status, 400, "{error}");
}
