//! An echo server that reads and writes frames with the code of the server's sessions, for WebSocket
//! conformance suites.
//!
//! `callscope-echo [PORT]` listens on loopback, by default on any free port, and prints the address as its first line.

#![allow(clippy::print_stdout)]

use std::io;
use std::pin::Pin;

use callscope_server::testing::echo;
use rocket::config::{LogLevel, Shutdown};
use rocket::data::{IoHandler, IoStream};
use rocket::fairing::AdHoc;
use rocket::request::Request;
use rocket::response::{self, Responder, Response};
use rocket::{Config, get, routes, tokio};

/// Limit of a message. The suite sends messages of 16 MiB, far beyond the limit of the server.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// The answer to an upgrade, with its `Sec-WebSocket-Accept`.
struct Upgrade(String);

/// Upgrades as the server does, but without a token.
#[get("/")]
fn upgrade(ws: rocket_ws::WebSocket) -> Upgrade {
    Upgrade(ws.accept_key().to_owned())
}

impl<'r> Responder<'r, 'r> for Upgrade {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'r> {
        let accept = self.0.clone();
        Response::build().raw_header("Sec-WebSocket-Accept", accept).upgrade("websocket", self).ok()
    }
}

#[rocket::async_trait]
impl IoHandler for Upgrade {
    async fn io(self: Pin<Box<Self>>, io: IoStream) -> io::Result<()> {
        tokio::spawn(echo::run(io, MAX_MESSAGE_BYTES));
        Ok(())
    }
}

#[rocket::main]
async fn main() -> Result<(), Box<rocket::Error>> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let shutdown = Shutdown { grace: 0, mercy: 0, ..Shutdown::default() };
    let config = Config { port, log_level: LogLevel::Off, shutdown, ..Config::release_default() };
    let print_address = AdHoc::on_liftoff("address", |rocket| {
        println!("listening on 127.0.0.1:{}", rocket.config().port);
        Box::pin(async {})
    });
    rocket::custom(Config { address: std::net::Ipv4Addr::LOCALHOST.into(), ..config })
        .mount("/", routes![upgrade])
        .attach(print_address)
        .launch()
        .await
        .map(drop)
        .map_err(Box::new)
}
