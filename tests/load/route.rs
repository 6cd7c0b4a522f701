//! The lower bound of a webhook's cost in Rocket: a route that verifies the signature, parses the JSON and stores
//! nothing.

use std::net::Ipv4Addr;

use callscope_common::signature::{HEADER, sign};
use callscope_tests::server::{SECRET, unix_secs};
use rocket::config::{Config, LogLevel};
use rocket::data::{Data, ToByteUnit};
use rocket::http::Status;
use rocket::outcome::Outcome;
use rocket::post;
use rocket::request::{FromRequest, Request};
use rocket::response::content::RawJson;
use serde::Deserialize;

struct Signature(String);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Signature {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> rocket::request::Outcome<Self, ()> {
        match request.headers().get_one(HEADER) {
            Some(value) => Outcome::Success(Self(value.to_owned())),
            None => Outcome::Error((Status::Unauthorized, ())),
        }
    }
}

#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(borrow)]
    call_sid: std::borrow::Cow<'a, str>,
    speaker: &'a str,
    #[serde(borrow)]
    message: std::borrow::Cow<'a, str>,
}

#[post("/webhooks/elevenlabs/transcription", data = "<data>")]
async fn accept_turn(signature: Signature, data: Data<'_>) -> Result<(Status, RawJson<String>), Status> {
    let body = data.open(1.mebibytes()).into_bytes().await.map_err(|_| Status::BadRequest)?;
    let signed_at = signature.0.strip_prefix("t=").and_then(|rest| rest.split(',').next()?.parse().ok());
    let signed_at: i64 = signed_at.ok_or(Status::Unauthorized)?;
    if (unix_secs() - signed_at).abs() > 1800 || sign(SECRET.as_bytes(), signed_at, &body) != signature.0 {
        return Err(Status::Unauthorized);
    }
    let turn: Turn<'_> = serde_json::from_slice(&body).map_err(|_| Status::BadRequest)?;
    let answer = format!(
        r#"{{"status":"success","call_sid":"{}","speaker":"{}","length":{}}}"#,
        turn.call_sid,
        turn.speaker,
        turn.message.len()
    );
    Ok((Status::Created, RawJson(answer)))
}

/// Serves until the process is killed.
pub async fn run(port: u16) -> Result<(), rocket::Error> {
    let config = Config {
        address: Ipv4Addr::LOCALHOST.into(),
        port,
        log_level: LogLevel::Off,
        keep_alive: 60,
        ..Config::release_default()
    };
    rocket::custom(config).mount("/", rocket::routes![accept_turn]).launch().await.map(|_| ())
}
