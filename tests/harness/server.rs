//! A server in the test's own process, and the requests that providers and admins send to it.

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

/// Lifetime of the tests' tokens: longer than any run of `tests/chaos`.
const TOKEN_LIFETIME_SECS: i64 = 7 * 24 * 3_600;

#[derive(Debug)]
pub struct Server {
    pub embedded: Embedded,
    http: reqwest::Client,
    /// The database, if it is deleted together with this handle.
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

/// Returns the current time in Unix seconds.
pub fn unix_secs() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Returns the texts of the turns among `events`.
pub fn texts(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["message_text"].as_str()).collect()
}

/// Returns a signature header with the current time, whose digest fits no body.
pub fn forged_signature() -> String {
    format!("t={},v0={}", unix_secs(), "0".repeat(64))
}

/// Returns a viewer's token that is limited to `calls`.
pub fn limited_token(calls: &[&str]) -> String {
    mint("limited", Role::Viewer, Some(calls))
}

/// Returns a token of an admin who may see every call.
pub fn admin_token(subject: &str) -> String {
    mint(subject, Role::Admin, None)
}

/// Returns a token that is valid for longer than any test or measurement runs, and only for `calls` if there are any
/// named.
pub fn mint(subject: &str, role: Role, calls: Option<&[&str]>) -> String {
    let calls =
        calls.map(|calls| calls.iter().map(|call| call.parse().expect("the calls are valid identifiers")).collect());
    let tokens = Tokens::new(&Secret::new(JWT_SECRET.into()));
    tokens.mint_for(subject, role, TOKEN_LIFETIME_SECS, calls).expect("the token's claims are in range")
}

/// Returns the environment variables of a server: those that all tests share, unless `variables` has another value, and
/// `variables`.
pub fn environment(database_url: &str, variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let shared = [
        ("CALLSCOPE_DATABASE_URL", database_url),
        ("CALLSCOPE_PORT", "0"),
        ("CALLSCOPE_WEBHOOK_SECRETS", SECRET),
        ("CALLSCOPE_JWT_SECRET", JWT_SECRET),
        // Tests connect thousands of subscribers from one address with one token.
        ("CALLSCOPE_MAX_CONNECTIONS_PER_TOKEN", "1000000"),
        ("CALLSCOPE_MAX_CONNECTIONS_PER_ADDRESS", "1000000"),
    ];
    shared
        .iter()
        .filter(|(key, _)| !variables.iter().any(|(name, _)| name == key))
        .chain(variables)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

impl Server {
    pub async fn start(database: &Database) -> Self {
        Self::start_with(database, &[]).await
    }

    /// Starts a server with these environment variables in addition to those of all tests.
    pub async fn start_with(database: &Database, variables: &[(&str, &str)]) -> Self {
        let settings = Settings::load_from(&Flags::new(), &environment(&database.url, variables)).unwrap();
        Self { embedded: Embedded::start_with(&settings).await.unwrap(), http: http(), _database: None }
    }

    /// Starts a server with these environment variables on a new SQLite database, which is deleted with the server.
    pub async fn on_sqlite(variables: &[(&str, &str)]) -> Self {
        let database = Database::new(Engine::Sqlite).await;
        let server = Self::start_with(&database, variables).await;
        Self { _database: Some(database), ..server }
    }

    /// Starts two servers on one new PostgreSQL database, without Redis.
    pub async fn pair_on_postgres() -> (Self, Self) {
        let database = Database::new(Engine::Postgres).await;
        (Self::start(&database).await, Self::start(&database).await)
    }

    /// Drains the server and waits until it has ended.
    pub async fn stop(self) {
        self.embedded.stop().await;
    }

    /// Posts a webhook with a current signature.
    pub async fn webhook(&self, route: &str, body: &Value) -> Reply {
        self.post_signed(route, body.to_string().as_bytes(), unix_secs(), &[]).await
    }

    /// Posts bytes with these headers and a signature of the time `signed_at`, in Unix seconds.
    pub async fn post_signed(&self, route: &str, body: &[u8], signed_at: i64, headers: &[(&str, &str)]) -> Reply {
        post_signed(&self.http, &self.embedded.url, route, body, signed_at, headers).await.expect("the server answers")
    }

    /// Posts bytes with these headers and no other signature.
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

    pub async fn register(&self, call: &Value) -> Reply {
        self.api(Method::POST, "/api/v1/calls", Some(call)).await
    }

    /// Changes the call that `id` leads to.
    pub async fn patch(&self, id: &str, change: &Value) -> Reply {
        self.api(Method::PATCH, &format!("/api/v1/calls/{id}"), Some(change)).await
    }

    /// Deletes the call that `id` leads to.
    pub async fn delete(&self, id: &str) -> Reply {
        self.api(Method::DELETE, &format!("/api/v1/calls/{id}"), None).await
    }

    /// Sends a request to the API with this token, and returns the status and the JSON of the answer.
    pub async fn api_as(&self, token: &str, method: Method, path: &str) -> (u16, Value) {
        let request = self.http.request(method, format!("{}{path}", self.embedded.url)).bearer_auth(token);
        let reply = reply(request).await.expect("the server answers");
        (reply.status, reply.json)
    }

    /// Sends a GET request with these headers as an admin, and returns the response, which need not be JSON.
    pub async fn fetch(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let request = self.http.get(format!("{}{path}", self.embedded.url)).bearer_auth(&self.embedded.token);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.expect("the server answers")
    }

    /// Sends a GET request to the API as an admin, and returns the JSON of the answer, whose status must be 200.
    pub async fn get(&self, path: &str) -> Value {
        let reply = self.api(Method::GET, path, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.json);
        reply.json
    }

    /// Returns the events of a call, at most 5,000, as the API lists them.
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
    // Only the first installation in a process succeeds, and all install the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// Posts a webhook with a current signature to the server at `url`.
///
/// # Errors
///
/// Returns an error if the server does not answer.
pub async fn post_webhook(
    http: &reqwest::Client,
    url: &str,
    route: &str,
    body: impl AsRef<str>,
) -> Result<Reply, reqwest::Error> {
    post_signed(http, url, route, body.as_ref().as_bytes(), unix_secs(), &[]).await
}

/// Posts bytes with these headers and a signature of the time `signed_at`, in Unix seconds, to the server at `url`.
///
/// # Errors
///
/// Returns an error if the server does not answer.
pub async fn post_signed(
    http: &reqwest::Client,
    url: &str,
    route: &str,
    body: &[u8],
    signed_at: i64,
    headers: &[(&str, &str)],
) -> Result<Reply, reqwest::Error> {
    let signature = signature::sign(SECRET.as_bytes(), signed_at, body);
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
