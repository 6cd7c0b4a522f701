//! HTTP requests and WebSockets reach a server through the same proxies and TLS settings, and report problems alike.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use crate::hostile_server::{Hostile, Mode};
use crate::proxies::{Between, NAME, authority};
use crate::server::{Ran, Server, TOW};

/// One command uses HTTP, and the other one a WebSocket.
const BOTH: [&[&str]; 2] = [&["calls", "ls", "-o", "text"], &["tail", TOW, "--no-follow", "--no-reconnect"]];

fn server() -> Server {
    let server = Server::start();
    server.replay("tow-truck");
    server
}

fn address(server: &Server) -> SocketAddr {
    callscope_tests::socket::host(&server.url).parse().unwrap()
}

/// Runs the program for the server at `url`, with these variables.
fn run(server: &Server, url: &str, variables: &[(&str, String)], args: &[&str]) -> Ran {
    let mut command: Command = server.callscope(args);
    command.env("CALLSCOPE_SERVER", url);
    for (name, value) in variables {
        command.env(name, value);
    }
    command.output().unwrap().into()
}

#[test]
fn a_private_authority_is_trusted_by_http_and_websocket() {
    let server = server();
    let tls = Between::tls(address(&server));
    let url = format!("https://localhost:{}", tls.address.port());
    let trusted = [("SSL_CERT_FILE", authority())];
    for args in BOTH {
        let ran = run(&server, &url, &trusted, args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        assert!(!ran.stdout.is_empty(), "{args:?}");
        let ran = run(&server, &url, &[], args);
        assert_eq!(ran.code, 5, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("SSL_CERT_FILE"), "it says what to do: {}", ran.stderr);
    }
    let doctor = run(&server, &url, &trusted, &["doctor", "-o", "text"]);
    assert_eq!(doctor.code, 0, "{doctor:?}");
    assert!(doctor.stdout.contains("websocket\tok") && doctor.stdout.contains("tls\tok"), "{}", doctor.stdout);
    let doctor = run(&server, &url, &[], &["doctor", "-o", "text"]);
    assert_eq!(doctor.code, 8, "{doctor:?}");
    assert!(doctor.stdout.contains("tls\tFAILED") && doctor.stdout.contains("SSL_CERT_FILE"), "{}", doctor.stdout);
}

#[test]
fn http_and_websocket_reach_a_name_that_only_the_proxy_knows() {
    let server = server();
    let proxy = Between::proxy(address(&server), None);
    let url = format!("http://{NAME}:8000");
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let variables = [(variable, format!("http://{}", proxy.address))];
        for args in BOTH {
            let ran = run(&server, &url, &variables, args);
            assert_eq!(ran.code, 0, "{variable} {args:?}: {}", ran.stderr);
            assert!(!ran.stdout.is_empty(), "{variable} {args:?}");
        }
    }
    let asked = proxy.asked();
    assert!(asked.contains(&format!("CONNECT {NAME}:8000")), "the WebSocket tunnels: {asked:?}");
    let variables = [("HTTP_PROXY", format!("http://{}", proxy.address))];
    let doctor = run(&server, &url, &variables, &["doctor", "-o", "text"]);
    // The only warning is that the connection is not encrypted.
    assert_eq!(doctor.code, 0, "{doctor:?}");
    assert!(doctor.stdout.contains("websocket\tok") && doctor.stdout.contains("the proxy"), "{}", doctor.stdout);
    // An exception holds for both.
    for args in BOTH {
        let mut variables = variables.to_vec();
        variables.push(("no_proxy", "example.test".into()));
        assert_eq!(run(&server, &url, &variables, args).code, 5, "{args:?}");
    }
    assert_eq!(proxy.asked().iter().filter(|line| line.contains("CONNECT")).count(), 5, "{:?}", proxy.asked());
}

#[test]
fn tls_is_tunnelled_through_a_proxy_with_a_login() {
    let server = server();
    let tls = Between::tls(address(&server));
    let proxy = Between::proxy(tls.address, Some("Basic YWRhOmh1bnRlcjI="));
    let url = format!("https://{NAME}");
    let with =
        |login: &str| [("HTTPS_PROXY", format!("http://{login}{}", proxy.address)), ("SSL_CERT_FILE", authority())];
    for args in BOTH {
        let ran = run(&server, &url, &with("ada:hunter2@"), args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        let refused = run(&server, &url, &with("ada:hunter3@"), args);
        assert_eq!(refused.code, 5, "{args:?}: {refused:?}");
        assert!(refused.stderr.contains("proxy") && !refused.stderr.contains("hunter3"), "{}", refused.stderr);
    }
    assert!(proxy.asked().iter().all(|line| *line == format!("CONNECT {NAME}:443")), "{:?}", proxy.asked());
}

#[test]
fn a_socks_proxy_resolves_names_for_http_and_websocket() {
    let server = server();
    let proxy = Between::socks(address(&server));
    for scheme in ["socks5", "socks5h"] {
        for args in BOTH {
            let variables = [("ALL_PROXY", format!("{scheme}://{}", proxy.address))];
            let ran = run(&server, &format!("http://{NAME}:81"), &variables, args);
            assert_eq!(ran.code, 0, "{scheme} {args:?}: {}", ran.stderr);
        }
    }
    assert!(proxy.asked().iter().all(|line| *line == format!("SOCKS {NAME}:81")), "{:?}", proxy.asked());
}

#[test]
fn a_redirect_is_reported_and_not_followed() {
    let server = server();
    let redirect = Between::redirect(server.url.clone());
    let url = format!("http://{}", redirect.address);
    for args in [BOTH[0], BOTH[1], &["listen"], &["calls", "watch"], &["whoami"], &["deliveries", "ls"], &["top"]] {
        let ran = run(&server, &url, &[], args);
        assert_eq!(ran.code, 1, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("redirects to"), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("use that URL: --server {}", server.url)), "{args:?}: {}", ran.stderr);
    }
    let doctor = run(&server, &url, &[], &["doctor"]);
    assert_eq!(doctor.code, 8);
    assert!(doctor.stdout.contains(&format!("--server {}", server.url)), "{}", doctor.stdout);
    let sent = run(&server, &url, &[], &["trigger", "turn"]);
    assert_eq!(sent.code, 1, "{sent:?}");
    assert!(sent.stdout.contains("redirects to") && sent.stdout.contains(&server.url), "{sent:?}");
}

#[test]
fn a_wrong_scheme_is_reported_with_the_right_one() {
    let server = server();
    let tls = Between::tls(address(&server));
    let (plain_port, tls_port) = (address(&server).port(), tls.address.port());
    for args in [BOTH[0], BOTH[1], &["listen"], &["whoami"]] {
        let ran = run(&server, &format!("https://127.0.0.1:{plain_port}"), &[], args);
        assert_eq!(ran.code, 5, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(&format!("--server http://127.0.0.1:{plain_port}")), "{args:?}: {}", ran.stderr);
        let ran = run(&server, &format!("http://127.0.0.1:{tls_port}"), &[], args);
        assert_eq!(ran.code, 5, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(&format!("--server https://127.0.0.1:{tls_port}")), "{args:?}: {}", ran.stderr);
    }
    let doctor = run(&server, &format!("http://127.0.0.1:{tls_port}"), &[], &["doctor", "-o", "text"]);
    assert!(doctor.stdout.contains(&format!("--server https://127.0.0.1:{tls_port}")), "{}", doctor.stdout);
    let sent = run(&server, &format!("https://127.0.0.1:{plain_port}"), &[], &["trigger", "turn"]);
    assert_eq!(sent.code, 5, "{sent:?}");
    assert!(sent.stderr.contains("http://127.0.0.1"), "{sent:?}");
}

#[test]
fn a_plain_server_behind_an_https_proxy_is_not_taken_for_a_tls_server() {
    let server = server();
    let refusing = Hostile::start(&server.url, Mode::Page(400));
    let proxy = Between::proxy(callscope_tests::socket::host(&refusing.url).parse().unwrap(), None);
    let tls = Between::tls(proxy.address);
    let url = format!("https://localhost:{}", tls.address.port());
    let variables = [("HTTP_PROXY", url), ("SSL_CERT_FILE", authority())];
    for args in BOTH {
        let ran = run(&server, &format!("http://{NAME}:8000"), &variables, args);
        assert!(ran.code != 0 && !ran.stderr.contains("TLS"), "{args:?}: {ran:?}");
    }
    assert!(!proxy.asked().is_empty());
}

#[test]
fn sending_a_token_unencrypted_to_another_machine_warns_once() {
    let server = server();
    let proxy = Between::proxy(address(&server), None);
    let variables = [("HTTP_PROXY", format!("http://{}", proxy.address))];
    for args in [BOTH[0], BOTH[1], &["tail", TOW, "conv_other", "--no-follow", "--no-reconnect"], &["top", "-q"]] {
        let ran = run(&server, &format!("http://{NAME}"), &variables, args);
        assert_eq!(ran.stderr.matches("unencrypted").count(), 1, "{args:?}: {}", ran.stderr);
        assert!(!run(&server, &server.url, &[], args).stderr.contains("unencrypted"), "{args:?}");
    }
}

#[test]
fn a_password_in_a_url_is_refused_and_never_echoed() {
    let server = Server::start();
    let with = server.url.replace("http://", "http://ada:hunter2@");
    let to: [&[&str]; 6] = [
        &["--server", &with, "calls", "ls"],
        &["context", "add", "desk", &with],
        &["trigger", "turn", "--to", &with],
        &["replay", "line-busy", "--to", &with, "--turns-to", &with],
        &["listen", "--forward-to", &with],
        &["--server", "http://ada:hunter2@host:99999", "doctor"],
    ];
    for args in to {
        let ran = server.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(!format!("{ran:?}").contains("hunter2"), "{args:?}: {ran:?}");
    }
    let ran = run(&server, &with, &[], &["whoami"]);
    assert!(ran.code == 2 && !format!("{ran:?}").contains("hunter2"), "{ran:?}");
}

#[test]
fn a_secret_that_others_can_read_is_reported() {
    let server = server();
    let script = "umask 077; printf %s \"$CALLSCOPE_TOKEN\" > token.txt; printf %s \"$CALLSCOPE_WEBHOOK_SECRET\" > secret.txt; echo '{}' > body.json
        callscope --token-file token.txt calls ls -q > list.txt; callscope webhook sign body.json --secret-file secret.txt > signed.txt
        chmod 644 token.txt secret.txt; echo open >&2
        callscope --token-file token.txt calls ls -q > list.txt; callscope webhook sign body.json --secret-file secret.txt > signed.txt";
    let ran = server.bash(script);
    let (closed, open) = ran.stderr.split_once("open\n").unwrap();
    assert_eq!(closed, "");
    assert!(open.contains("chmod 600 token.txt") && open.contains("chmod 600 secret.txt"), "{open}");
}

#[test]
fn endless_answers_are_refused_with_a_clear_error() {
    let server = server();
    for (mode, limit) in
        [(Mode::Endless(200), "64 MiB"), (Mode::Endless(500), "64 KiB"), (Mode::Endless(404), "64 KiB")]
    {
        let hostile = Hostile::start(&server.url, mode);
        for args in [BOTH[0], &["calls", "show", TOW], &["whoami"], &["deliveries", "ls"]] {
            let ran = run(&server, &hostile.url, &[], args);
            assert_eq!(ran.code, 1, "{mode:?} {args:?}: {ran:?}");
            assert!(ran.stderr.contains(limit), "{mode:?} {args:?}: {}", ran.stderr);
        }
    }
}

#[test]
fn a_hostile_servers_texts_are_shown_harmless() {
    let server = server();
    let hostile = Hostile::start(&server.url, Mode::Fields);
    // The words between the escape sequences are printed, so the test does see what the server says.
    for args in [&["calls", "show", TOW][..], BOTH[1], &["calls", "export", TOW]] {
        let ran = run(&server, &hostile.url, &[], args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        assert!(ran.stdout.contains("drow"), "{args:?}: {ran:?}");
    }
    // The JSON is equivalent: what is removed elsewhere is escaped here.
    let ran = run(&server, &hostile.url, &[], &["calls", "show", TOW, "-o", "json"]);
    assert!(ran.stdout.contains(r"\u202edrow") && ran.stdout.contains(r"\u009b2J"), "{}", ran.stdout);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(json["call_sid"].as_str().unwrap().contains('\u{202e}'), "{json}");
    let sent = run(&server, &Hostile::start(&server.url, Mode::Refusal(400)).url, &[], &["trigger", "turn"]);
    assert!(sent.stdout.contains("drow"), "{sent:?}");
}

/// Runs `listen` until it prints a line that satisfies `is`, and returns the line.
fn listen(server: &Server, url: &str, args: &[&str], is: impl Fn(&str) -> bool) -> Option<String> {
    let mut command = server.callscope(&[&["listen"], args].concat());
    command.env("CALLSCOPE_SERVER", url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (said, heard) = sync_channel(256);
    for stream in
        [Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>, Box::new(child.stderr.take().unwrap())]
    {
        let said = said.clone();
        std::thread::spawn(move || {
            BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| said.send(line))
        });
    }
    drop(said);
    let found = heard.iter().find(|line| is(line));
    child.kill().unwrap();
    child.wait().unwrap();
    found
}

#[test]
fn each_of_two_backends_has_its_own_proxy_settings() {
    let server = server();
    let backend = Between::backend();
    let tls = Between::tls(backend.address);
    let (plain, encrypted) =
        (format!("http://{}/hook", backend.address), format!("https://localhost:{}/turns", tls.address.port()));
    let trusted = [("SSL_CERT_FILE", authority())];
    for (to, turns_to) in [(&plain, &encrypted), (&encrypted, &plain)] {
        let args = ["replay", "tow-truck", "--speed", "max", "--to", to, "--turns-to", turns_to];
        let ran = run(&server, &server.url, &trusted, &args);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    assert_eq!(backend.asked().len(), 22);
}

#[test]
fn listen_treats_a_redirect_as_a_failure_and_names_its_target() {
    let server = server();
    let target = Between::redirect("http://other.example".into());
    let to = format!("http://{}/hook", target.address);
    let line = listen(&server, &server.url, &["--history", "--forward-to", &to, "-o", "ndjson"], |line| {
        line.contains("forwarded")
    })
    .unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["status"], &line["ok"]), (&308.into(), &false.into()), "{line}");
    assert!(line["answer"].as_str().unwrap().contains("http://other.example/hook"), "{line}");
}

#[test]
fn a_server_cannot_choose_where_listen_posts() {
    let server = server();
    // The routes and headers there are not those of any Callscope server.
    let hostile = Hostile::start(&server.url, Mode::Fields);
    let target = Between::backend();
    let to = format!("http://{}/hooks/{{route}}", target.address);
    let line = listen(&server, &hostile.url, &["--history", "--forward-to", &to], |line| {
        line.contains("{route}") && line.contains("left out")
    })
    .unwrap();
    assert!(line.contains("post-call"), "{line}");
    assert!(target.asked().iter().all(|head| head.starts_with("POST /hooks/transcription ")), "{:?}", target.asked());
    let to = format!("http://{}/hook", target.address);
    let sent = |line: &str| line.contains("\"forwarded\"") && line.contains("post_call");
    listen(&server, &hostile.url, &["--history", "--forward-to", &to, "-o", "ndjson"], sent).unwrap();
    let asked = target.asked();
    let hooks = || asked.iter().filter(|head| !head.starts_with("POST /hooks/transcription "));
    assert!(hooks().count() > 0 && hooks().all(|head| head.starts_with("POST /hook ")), "{asked:?}");
}

#[test]
fn listen_shows_what_the_server_refused() {
    let server = server();
    let target = Between::backend();
    let to = format!("http://{}/hook", target.address);
    assert_eq!(server.bash("umask 077; printf wrong > wrong.txt").code, 0);
    for (args, sign) in
        [(&["--forward-to", to.as_str()][..], "refused"), (&["--verdict", "unverified", "-o", "ndjson"], "\"refused\"")]
    {
        let is_seen = AtomicBool::new(false);
        let line = std::thread::scope(|scope| {
            // Requests that were refused before the client began to look are not shown, so there are more of them until
            // one is shown.
            scope.spawn(|| {
                while !is_seen.load(Ordering::Relaxed) {
                    server.run(&["trigger", "turn", "--secret-file", "wrong.txt", "-q"]);
                }
            });
            let line = listen(&server, &server.url, args, |line| line.contains(sign));
            is_seen.store(true, Ordering::Relaxed);
            line
        });
        let line = line.unwrap();
        assert!(line.contains("transcription") && line.contains("127.0.0.1"), "{line}");
    }
}
