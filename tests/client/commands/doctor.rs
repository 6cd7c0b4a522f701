//! `doctor` with a working server, and with problems on the way to a server.

use std::io::{BufRead as _, BufReader, Write as _};

use serde_json::Value;

use crate::server::{Ran, Server};

fn checks(ran: &Ran) -> Vec<(String, String)> {
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let check =
        |check: &Value| (check["name"].as_str().unwrap().to_owned(), check["state"].as_str().unwrap().to_owned());
    json["checks"].as_array().unwrap().iter().map(check).collect()
}

fn state(ran: &Ran, name: &str) -> String {
    checks(ran).into_iter().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn doctor_finds_a_server_in_order() {
    let server = Server::start();
    let ran = server.run(&["doctor", "-o", "json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for name in ["settings", "tcp", "server", "clock", "ready", "token", "websocket"] {
        assert_eq!(state(&ran, name), "ok", "{name}: {}", ran.stdout);
    }
    assert_eq!(checks(&ran).len(), 10);
}

#[test]
fn doctor_says_what_is_wrong_and_what_to_do() {
    let mut server = Server::start();
    let wrong_token =
        server.callscope(&["doctor", "-o", "json"]).env("CALLSCOPE_TOKEN", "hunter2").output().unwrap().into();
    assert_eq!(state(&wrong_token, "token"), "failed");
    assert_eq!(state(&wrong_token, "websocket"), "skipped");
    assert_eq!(wrong_token.code, 8);
    assert!(!wrong_token.stdout.contains("hunter2"), "{}", wrong_token.stdout);
    // A token of another server is right in everything but its signature.
    let (head, _) = server.token.rsplit_once('.').unwrap();
    let forged = format!("{head}.AAAA");
    let forged: Ran =
        server.callscope(&["doctor", "-o", "json"]).env("CALLSCOPE_TOKEN", forged).output().unwrap().into();
    assert_eq!((state(&forged, "token").as_str(), forged.code), ("failed", 8));
    assert!(forged.stdout.contains("the server refuses it"), "{}", forged.stdout);
    let https: Ran = server.run(&["doctor", "-o", "json", "--server", &server.url.replace("http:", "https:")]);
    assert_eq!((state(&https, "tls").as_str(), https.code), ("failed", 8));
    assert!(
        https.stdout.contains(&format!("--server {}", server.url)),
        "it names the address that works: {}",
        https.stdout
    );
    server.stop();
    let dead = server.run(&["doctor"]);
    assert_eq!(dead.code, 8);
    assert!(dead.stdout.contains("refused") && dead.stdout.contains("callscope-server"), "{}", dead.stdout);
    let nowhere = server.run(&["doctor", "-o", "json", "--server", "http://no-such-host.invalid", "--timeout", "5"]);
    assert_eq!((state(&nowhere, "dns").as_str(), state(&nowhere, "tcp").as_str()), ("failed", "skipped"));
}

#[test]
fn doctor_tells_another_program_from_a_callscope_server() {
    let server = Server::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            // The server's clock is years behind, and another page is not an API at all.
            let answer = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    let ran = server.run(&["doctor", "-o", "json", "--server", &format!("http://{address}")]);
    assert_eq!(state(&ran, "server"), "failed");
    assert_eq!(state(&ran, "clock"), "failed");
    assert_eq!(state(&ran, "websocket"), "skipped");
}
