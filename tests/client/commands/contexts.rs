//! Contexts and tokens: `context`, `login`, `logout`, `whoami`, `token`.

use std::io::Write as _;
use std::process::Stdio;

use crate::server::{Ran, Server};

#[test]
fn contexts_are_stored_used_and_deleted() {
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
fn a_token_is_stored_once_the_server_accepts_it_and_never_shown() {
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
