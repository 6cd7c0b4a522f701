//! A server in the test's own process, and the requests of a provider and of an admin.

use std::time::{SystemTime, UNIX_EPOCH};

use callscope_common::claims::Role;
use callscope_common::signature;
use callscope_server::auth::Tokens;
use callscope_server::embedded::Embedded;
use callscope_server::secret::Secret;
use callscope_server::settings::{Flags, Settings};
use reqwest::Method;
use serde_json::Value;

use crate::{Database, Engine, Subscriber};

/// The secret that signs webhooks in all tests.
pub const SECRET: &str = "wsec_tests";
/// The secret that signs tokens in all tests.
pub const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Longer than any run of `tests/chaos`.
const TOKEN_SECS: i64 = 7 * 24 * 3_600;

#[derive(Debug)]
pub struct Server {
    pub embedded: Embedded,
    http: reqwest::Client,
    /// The database, if it lives as long as the server.
    _database: Option<Database>,
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub retry_after: Option<String>,
    /// The body; null if it is empty.
    pub json: Value,
}

/// Returns the time in Unix seconds.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Returns what the turns among `events` say.
pub fn texts(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["message_text"].as_str()).collect()
}

/// Returns a current signature header that fits no body.
pub fn forged() -> String {
    format!("t={},v0={}", now(), "0".repeat(64))
}

/// Returns a viewer's token that is limited to `calls`.
pub fn limited_token(calls: &[&str]) -> String {
    mint("limited", Role::Viewer, Some(calls))
}

/// Returns a token of an admin who may see every call.
pub fn admin_token(subject: &str) -> String {
    mint(subject, Role::Admin, None)
}

/// Returns a token that is valid for longer than any test or measurement runs. `calls` limits it to these calls.
pub fn mint(subject: &str, role: Role, calls: Option<&[&str]>) -> String {
    let calls =
        calls.map(|calls| calls.iter().map(|call| call.parse().expect("the calls are valid identifiers")).collect());
    let tokens = Tokens::new(&Secret::new(JWT_SECRET.into()));
    tokens.mint_for(subject, role, TOKEN_SECS, calls).expect("the token's claims are in range")
}

/// Returns the settings that all tests share, followed by those of `given`.
pub fn environment(database_url: &str, given: &[(&str, &str)]) -> Vec<(String, String)> {
    let shared = [
        ("CALLSCOPE_DATABASE_URL", database_url),
        ("CALLSCOPE_PORT", "0"),
        ("CALLSCOPE_WEBHOOK_SECRETS", SECRET),
        ("CALLSCOPE_JWT_SECRET", JWT_SECRET),
        // Tests connect thousands of subscribers from one address with one token.
        ("CALLSCOPE_MAX_CONNECTIONS_PER_TOKEN", "1000000"),
        ("CALLSCOPE_MAX_CONNECTIONS_PER_ADDRESS", "1000000"),
    ];
    shared.iter().chain(given).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Server {
    pub async fn start(database: &Database) -> Self {
        Self::with(database, &[]).await
    }

    /// Starts a server with further settings.
    pub async fn with(database: &Database, given: &[(&str, &str)]) -> Self {
        let mut environment = environment(&database.url, given);
        // The last value of a name counts, as in a shell.
        environment.reverse();
        let settings = Settings::from(&Flags::new(), &environment).unwrap();
        Self { embedded: Embedded::with(&settings).await.unwrap(), http: http(), _database: None }
    }

    /// Starts a server with further settings, on an SQLite database of its own.
    pub async fn alone(given: &[(&str, &str)]) -> Self {
        let database = Database::new(Engine::Sqlite).await;
        let server = Self::with(&database, given).await;
        Self { _database: Some(database), ..server }
    }

    /// Starts two servers on one PostgreSQL, without Redis.
    pub async fn pair() -> (Self, Self) {
        let database = Database::new(Engine::Postgres).await;
        (Self::start(&database).await, Self::start(&database).await)
    }

    /// Drains the server and waits until it is gone.
    pub async fn stop(self) {
        self.embedded.stop().await;
    }

    /// Posts a webhook with a current signature.
    pub async fn webhook(&self, route: &str, body: &Value) -> Reply {
        self.signed(route, body.to_string().as_bytes(), now(), &[]).await
    }

    /// Posts bytes with a signature of the time `at` and further headers.
    pub async fn signed(&self, route: &str, body: &[u8], at: i64, headers: &[(&str, &str)]) -> Reply {
        post_signed(&self.http, &self.embedded.url, route, body, at, headers).await.expect("the server answers")
    }

    /// Posts bytes with these headers, which may sign them or not.
    pub async fn post(&self, route: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        post(&self.http, &self.embedded.url, route, headers, body).await.expect("the server answers")
    }

    /// Posts one turn with a current signature.
    pub async fn turn(&self, call_sid: &str, speaker: &str, message: &str) -> Reply {
        self.webhook(
            "transcription",
            &serde_json::json!({"call_sid": call_sid, "speaker": speaker, "message": message}),
        )
        .await
    }

    /// Sends a request to the API as an admin.
    pub async fn api(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let mut request =
            self.http.request(method, format!("{}{path}", self.embedded.url)).bearer_auth(&self.embedded.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        reply(request).await.expect("the server answers")
    }

    /// Registers a call.
    pub async fn register(&self, call: &Value) -> Reply {
        self.api(Method::POST, "/api/v1/calls", Some(call)).await
    }

    /// Changes a call.
    pub async fn patch(&self, id: &str, change: &Value) -> Reply {
        self.api(Method::PATCH, &format!("/api/v1/calls/{id}"), Some(change)).await
    }

    /// Deletes a call.
    pub async fn delete(&self, id: &str) -> Reply {
        self.api(Method::DELETE, &format!("/api/v1/calls/{id}"), None).await
    }

    /// Sends a request to the API with this token.
    pub async fn api_with(&self, token: &str, method: Method, path: &str) -> (u16, Value) {
        let request = self.http.request(method, format!("{}{path}", self.embedded.url)).bearer_auth(token);
        let reply = reply(request).await.expect("the server answers");
        (reply.status, reply.json)
    }

    /// GETs something that is not JSON, as an admin.
    pub async fn fetch(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let request = self.http.get(format!("{}{path}", self.embedded.url)).bearer_auth(&self.embedded.token);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.expect("the server answers")
    }

    /// GETs JSON from the API as an admin.
    pub async fn get(&self, path: &str) -> Value {
        let reply = self.api(Method::GET, path, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.json);
        reply.json
    }

    /// Returns a call's log as the API shows it.
    pub async fn log(&self, id: &str) -> Vec<Value> {
        self.get(&format!("/api/v1/calls/{id}/events?limit=5000")).await["events"].as_array().unwrap().clone()
    }

    pub async fn call_id(&self, id: &str) -> String {
        self.get(&format!("/api/v1/calls/{id}")).await["call_id"].as_str().unwrap().to_owned()
    }

    /// Connects a subscriber with an admin's token.
    pub async fn subscriber(&self) -> Subscriber {
        Subscriber::connect(&self.embedded.url, &self.embedded.token).await
    }

    /// Connects a subscriber that follows `id` and has received its first `count` events.
    pub async fn follower(&self, id: &str, count: usize) -> Subscriber {
        let mut follower = self.subscriber().await;
        follower.subscribe(id).await;
        follower.events(1, count).await;
        follower
    }
}

/// Returns an HTTP client.
pub fn http() -> reqwest::Client {
    // Only the first call in a process has an effect.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// Posts a webhook with a current signature to the server at `url`.
///
/// # Errors
///
/// Returns an error if no answer came.
pub async fn post_webhook(
    http: &reqwest::Client,
    url: &str,
    route: &str,
    body: impl AsRef<str>,
) -> Result<Reply, reqwest::Error> {
    post_signed(http, url, route, body.as_ref().as_bytes(), now(), &[]).await
}

/// Posts signed bytes to the server at `url`.
///
/// # Errors
///
/// Returns an error if no answer came.
pub async fn post_signed(
    http: &reqwest::Client,
    url: &str,
    route: &str,
    body: &[u8],
    at: i64,
    headers: &[(&str, &str)],
) -> Result<Reply, reqwest::Error> {
    let signature = signature::sign(SECRET.as_bytes(), at, body);
    post(http, url, route, &[&[(signature::HEADER, &*signature)], headers].concat(), body).await
}

async fn post(
    http: &reqwest::Client,
    url: &str,
    route: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Reply, reqwest::Error> {
    let request = http.post(format!("{url}/webhooks/elevenlabs/{route}")).body(body.to_vec());
    reply(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

async fn reply(request: reqwest::RequestBuilder) -> Result<Reply, reqwest::Error> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").map(|after| after.to_str().unwrap().to_owned());
    let text = response.text().await?;
    let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) };
    Ok(Reply { status, retry_after, json })
}

/// Runs a test for each engine, with a server on a new database.
pub async fn on_each_engine(test: impl AsyncFn(Engine, Server)) {
    for engine in Engine::ALL {
        let database = Database::new(engine).await;
        test(engine, Server::start(&database).await).await;
    }
}
