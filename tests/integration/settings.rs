//! The server's word on a wrong setting.

use std::process::Command;

use callscope_tests::process::program;

fn run(environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(program("callscope-server"))
        .env_clear()
        .envs(environment.iter().copied())
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_wrong_setting_is_one_line_and_exit_code_2() {
    for environment in [
        [("CALLSCOPE_PORT", "http"), ("CALLSCOPE_LOG", "off")],
        [("CALLSCOPE_ADDRESS", "0.0.0.0"), ("CALLSCOPE_PORT", "0")],
        [("CALLSCOPE_CONFIG", "nowhere.toml"), ("CALLSCOPE_LOG", "off")],
    ] {
        let (code, stdout, stderr) = run(&environment, &[]);
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (2, "", 1), "{stderr}");
        assert!(stderr.contains("setting `"), "{stderr}");
    }
}

#[test]
fn tokens_and_settings_are_shown_without_secrets() {
    let secret = "sekrit-sekrit-sekrit-sekrit-sekrit";
    let environment = [("CALLSCOPE_JWT_SECRET", secret), ("CALLSCOPE_WEBHOOK_SECRETS", secret)];
    let (code, stdout, stderr) = run(&environment, &["config", "show"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(!stdout.contains(secret) && stdout.contains("environment CALLSCOPE_JWT_SECRET"), "{stdout}");
    let (code, token, _) = run(&environment, &["token", "--sub", "ada", "--ttl", "8h"]);
    assert_eq!((code, token.trim().split('.').count()), (0, 3));
}
