//! Contexts and tokens: `context`, `login`, `logout`, `whoami`, `token`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::Value;

use crate::server::{Ran, Server};

#[test]
fn contexts_are_kept_used_and_forgotten() {
    let server = Server::start();
    let run = |args: &[&str]| -> Ran {
        server.callscope(args).env_remove("CALLSCOPE_SERVER").env_remove("CALLSCOPE_TOKEN").output().unwrap().into()
    };
    std::fs::write(format!("{}/token.txt", server.home()), format!("{}\n", server.token)).unwrap();
    assert_eq!(run(&["context", "add", "desk", &server.url, "--token-file", "token.txt"]).code, 0);
    let who = run(&["whoami"]);
    assert!(who.stdout.contains("the context desk in use") && who.stdout.contains("embedded"), "{who:?}");
    assert_eq!(run(&["context", "add", "other", "http://127.0.0.1:9"]).code, 0);
    assert_eq!(run(&["calls", "ls", "--context", "other"]).code, 5);
    assert_eq!(run(&["calls", "ls"]).code, 0, "the first is still in use");
    // A context's token goes to no other server.
    let elsewhere = run(&["calls", "ls", "--server", &server.url]);
    assert_eq!(elsewhere.code, 4, "{elsewhere:?}");
    assert_eq!(run(&["context", "use", "other"]).code, 0);
    assert_eq!(run(&["calls", "ls"]).code, 5);
    assert_eq!(run(&["context", "rm", "other"]).code, 0);
    assert_eq!(run(&["context", "use", "other"]).code, 3);
    let list = run(&["context", "ls", "-o", "json"]);
    assert!(list.stdout.contains("desk") && !list.stdout.contains(&server.token), "{list:?}");
}

#[test]
fn a_token_is_kept_after_the_server_took_it_and_shown_nowhere() {
    let server = Server::start();
    let login = |token: &str, server: &Server| -> Ran {
        let mut command = server.callscope(&["login", "--with-token", "--save-as", "desk"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    };
    let (head, _) = server.token.rsplit_once('.').unwrap();
    assert_eq!(login(&format!("{head}.AAAA"), &server).code, 4);
    let file = format!("{}/.config/callscope/config.toml", server.home());
    assert!(!std::path::Path::new(&file).exists(), "what the server refuses is not kept");
    let ran = login(&format!("{}\n", server.token), &server);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!format!("{ran:?}").contains(&server.token));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let who = server.callscope(&["whoami", "--context", "desk"]).env_remove("CALLSCOPE_TOKEN").output().unwrap();
    assert!(who.status.success());
    assert_eq!(server.run(&["logout", "desk"]).code, 0);
    assert!(!std::fs::read_to_string(&file).unwrap().contains("token"));
    let who = server.callscope(&["whoami", "--context", "desk"]).env_remove("CALLSCOPE_TOKEN").output().unwrap();
    assert_eq!(who.status.code(), Some(4));
}

/// No server has logins yet that this could be tried with; this one answers as the contract of the API says.
#[test]
fn a_password_goes_to_the_server_and_its_token_into_the_file() {
    let server = Server::start();
    let token = server.token.clone();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for body in
            [format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":60}}"#), r#"{"calls":[]}"#.into()]
        {
            let (mut connection, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push_str(&line);
            }
            let mut sent = vec![0; length];
            std::io::Read::read_exact(&mut reader, &mut sent).unwrap();
            requests.push((head, String::from_utf8(sent).unwrap()));
            let size = body.len();
            let _ = write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n{body}");
        }
        requests
    });
    let script = format!("echo hunter2 | callscope login --username ada --server {url} --save-as desk");
    let ran = server.bash(&script);
    assert_eq!(ran.code, 0, "{ran:?}");
    // Where the token was kept unasked, nobody waits for the second question any more.
    let _ = std::net::TcpStream::connect(callscope_tests::socket::host(&url));
    let requests = asked.join().unwrap();
    assert!(
        requests[1].0.starts_with("GET /api/v1/calls"),
        "the server is asked whether it takes the token: {requests:?}"
    );
    assert!(requests[0].0.starts_with("POST /api/v1/auth/login "), "{requests:?}");
    assert!(!requests[0].0.to_lowercase().contains("authorization"), "an old token is no part of the question");
    let body: Value = serde_json::from_str(&requests[0].1).unwrap();
    assert_eq!(body, serde_json::json!({"username": "ada", "password": "hunter2"}));
    let file = std::fs::read_to_string(format!("{}/.config/callscope/config.toml", server.home())).unwrap();
    assert!(file.contains(&server.token) && !file.contains("hunter2"));
    assert!(!format!("{ran:?}").contains("hunter2"));
}

#[test]
fn what_this_server_cannot_do_is_said_with_what_to_type_instead() {
    let server = Server::start();
    for (args, words) in [
        (
            &["token", "create", "--sub", "ada", "--call", "EL_a_1"][..],
            "callscope-server token --sub ada --role viewer --ttl 8h --call EL_a_1",
        ),
        (&["token", "ls"], "callscope token inspect"),
        (&["token", "revoke", "x"], "a token ends by itself"),
    ] {
        let ran = server.run(args);
        // Once the server has the route, the command does it instead.
        if ran.code != 0 {
            assert_eq!(ran.code, 1, "{ran:?}");
            assert!(ran.stderr.contains("no such route") && ran.stderr.contains(words), "{ran:?}");
        }
    }
}
