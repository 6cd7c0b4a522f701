//! How the server reports a wrong setting.

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

/// A settings file in the working directory is meant for another server, so a demonstration ignores it.
#[test]
fn a_demonstration_reads_no_settings_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("callscope.toml"), "unknown_calls = \"reject\"\n").unwrap();
    let output = Command::new(program("callscope"))
        .env_clear()
        .args(["demo", "--speed", "max"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

#[test]
fn warnings_come_once_and_errors_in_a_file_show_no_contents() {
    let dir = tempfile::tempdir().unwrap();
    let start = |environment: &[(&str, &str)]| {
        let output = Command::new(program("callscope-server"))
            .env_clear()
            .env("CALLSCOPE_PORT", "1")
            .envs(environment.iter().copied())
            .current_dir(dir.path())
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    // The database URL is invalid, so the server ends after it has printed its warnings.
    let environment = [
        ("CALLSCOPE_WEBHOOK_TOLERENCE", "5"),
        ("CALLSCOPE_WEBHOOK_SECRETS", "short"),
        ("CALLSCOPE_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("CALLSCOPE_ADDRESS", "0.0.0.0"),
        ("CALLSCOPE_DATABASE_URL", "postgres://ada:hunter2@192.0.2.1:1/x?sslmode=bogus"),
    ];
    let (code, stderr) = start(&environment);
    assert_eq!(code, 2, "{stderr}");
    for warning in ["nearest one is CALLSCOPE_WEBHOOK_TOLERANCE", "fewer than 16 bytes"] {
        assert_eq!(stderr.matches(warning).count(), 1, "{warning}: {stderr}");
    }
    assert!(!stderr.contains("hunter2"), "{stderr}");
    std::fs::write(dir.path().join("callscope.toml"), "port = 1\njwt_secret = \"hunter2\n").unwrap();
    let (code, stderr) = start(&[]);
    assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
    assert!(stderr.contains("line 2") && !stderr.contains("hunter2"), "{stderr}");
}
