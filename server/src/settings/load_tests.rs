//! Settings are read, refused and printed as documented.

use std::net::{IpAddr, Ipv4Addr};

use url::Url;

use super::keys::PREFIX;
use super::sources::{RawSettings, hide_password};
use super::{Flags, Settings};
use crate::secret::Secret;

fn load(environment: &[(&str, &str)]) -> Result<Settings, String> {
    let dir = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", dir.path().join("x.db").display());
    let mut variables = vec![("CALLSCOPE_DATABASE_URL".to_owned(), url)];
    variables.splice(0..0, environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Settings::load_from(&Flags::new(), &variables).map_err(|error| error.to_string())
}

#[test]
fn the_environment_is_read_and_named_as_the_origin() {
    let settings = load(&[("CALLSCOPE_PORT", "0"), ("CALLSCOPE_WEBHOOK_SECRETS", "123, 456")]).expect("settings");
    assert_eq!(settings.port, 0);
    assert_eq!(settings.webhook_secrets, [Secret::new("123".into()), Secret::new("456".into())]);
    let port = settings.effective.iter().find(|setting| setting.key == "port").expect("`port` is listed");
    assert_eq!(port.origin.to_string(), "environment CALLSCOPE_PORT");
}

#[test]
fn a_flag_takes_precedence_over_the_environment() {
    let environment = [("CALLSCOPE_PORT".to_owned(), "1".to_owned())];
    let flags = vec![("port", "2".to_owned())];
    let raw = RawSettings::gather(&flags, &environment, None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(raw.text("port").ok().as_deref(), Some("2"));
    assert_eq!(raw.origin("port").to_string(), "flag --port");
}

#[test]
fn an_error_names_the_key_and_the_origin_and_never_the_value() {
    for (variable, value) in [
        ("CALLSCOPE_PORT", "70000"),
        ("CALLSCOPE_ADDRESS", "nowhere"),
        ("CALLSCOPE_WEBHOOK_AUTH", "maybe"),
        ("CALLSCOPE_WEBHOOK_TOLERANCE", "-1"),
        ("CALLSCOPE_JWT_SECRET", "hunter2"),
        ("CALLSCOPE_ALLOWED_ORIGINS", "nowhere.test"),
        ("CALLSCOPE_PING_INTERVAL", "-3"),
        ("CALLSCOPE_DATABASE_URL", "mysql://u:pw@h/d"),
        ("CALLSCOPE_JWT_SECRET", "0123456789abcdef0123456789abcdef,hunter2"),
        ("CALLSCOPE_MAX_POST_CALL_MIB", "-7"),
        ("CALLSCOPE_MAX_CONNECTIONS", "many"),
        ("CALLSCOPE_MAX_CONNECTIONS_PER_TOKEN", "-7"),
        ("CALLSCOPE_PUBLIC_URL", "javascript://calls.example"),
        ("CALLSCOPE_PUBLIC_URL", "https://calls.example/?key=1"),
        ("CALLSCOPE_PUBLIC_URL", "https://user:pw@calls.example/"),
    ] {
        let error = load(&[(variable, value)]).expect_err(variable);
        let key = variable.trim_start_matches(PREFIX).to_lowercase();
        assert!(error.contains(&format!("`{key}` (environment {variable})")), "{error}");
        assert!(!error.contains(value) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn an_error_in_the_file_names_the_line_and_never_its_contents() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("callscope.toml");
    let environment = [("CALLSCOPE_CONFIG".to_owned(), path.display().to_string())];
    for (text, line, named) in [
        ("port = 1\njwt_secret = 'hunter2-hunter2", "line 2", "file"),
        ("jwt_secret = hunter2-hunter2\n", "line 1", "file"),
        ("\n\nhunter2-hunter2\n", "line 3", "file"),
        ("port = 1\nhunter2-hunter2-hunter2 = 1\n", "line 2", "file"),
        ("port = 1\nport = 'hunter2'\n", "line 2", "file"),
        ("'hunter2\u{1b}[31m' = 1\n", "line 1", "file"),
        ("[hunter2]\nx = 1\n", "line 1", "file"),
        ("webhook_tolerence = 5\n", "line 1", "webhook_tolerence"),
        ("port = ['hunter2']\n", "takes a port", "port"),
        ("port = {hunter2 = 1}\n", "takes a text", "port"),
    ] {
        std::fs::write(&path, text).expect("written");
        let error = Settings::load_from(&Flags::new(), &environment).expect_err(text).to_string();
        assert!(error.contains(line) && error.contains(&format!("setting `{named}` (file ")), "{text}: {error}");
        assert!(!error.contains("hunter2") && !error.contains(['\n', '\u{1b}']), "{text}: {error}");
    }
}

#[test]
fn an_unknown_variable_causes_a_warning_with_the_nearest_setting() {
    let secrets = [("CALLSCOPE_JWT_SECRET", "0123456789abcdef0123456789abcdef"), ("CALLSCOPE_WEBHOOK_SECRETS", "s")];
    let warnings = |environment: &[(&str, &str)]| load(environment).expect("settings").unknown_variables;
    let typo = [secrets[0], secrets[1], ("CALLSCOPE_WEBHOOK_TOLERENCE", "5"), ("CALLSCOPE_TOKEN", "t")];
    let [warning] = &warnings(&typo)[..] else { panic!("one warning") };
    assert!(warning.contains("WEBHOOK_TOLERENCE") && warning.ends_with("CALLSCOPE_WEBHOOK_TOLERANCE"), "{warning}");
    // The client's variable is set, and the server's own is not.
    let [warning] = &warnings(&[("CALLSCOPE_WEBHOOK_SECRET", "abc")])[..] else { panic!("one warning") };
    assert!(warning.ends_with("CALLSCOPE_WEBHOOK_SECRETS") && !warning.contains("abc"), "{warning}");
    assert_eq!(warnings(&[secrets[0], secrets[1], ("CALLSCOPE_WEBHOOK_SECRET", "abc")]), [""; 0]);
}

#[test]
fn several_jwt_secrets_a_public_url_and_limits_are_read() {
    let keys = "0123456789abcdef0123456789abcdef, fedcba9876543210fedcba9876543210";
    let settings = load(&[("CALLSCOPE_JWT_SECRET", keys), ("CALLSCOPE_PUBLIC_URL", "https://calls.example/base/")]);
    let settings = settings.expect("settings");
    assert_eq!(settings.jwt_secrets.len(), 2);
    assert_eq!(settings.public_url.as_ref().map(Url::as_str), Some("https://calls.example/base/"));
    assert_eq!((settings.max_post_call_mib, settings.max_connections), (128, None));
    assert_eq!((settings.max_connections_per_token, settings.max_connections_per_address), (1_000, 5_000));
}

#[test]
fn generated_secrets_lie_beside_the_database() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("a dir")).expect("a folder");
    let url = format!("sqlite://{}/a%20dir/y.db", dir.path().display());
    load(&[("CALLSCOPE_DATABASE_URL", &url)]).expect("settings");
    assert!(dir.path().join("a dir/callscope.secrets.toml").is_file());
    for path in ["nodir/x.db", "q?x/y.db", "a%20dir"] {
        let url = format!("sqlite://{}/{path}", dir.path().display());
        let error = load(&[("CALLSCOPE_DATABASE_URL", &url)]).expect_err(path);
        assert!(error.starts_with("setting `database_url` (environment CALLSCOPE_DATABASE_URL): "), "{error}");
    }
}

#[test]
fn secrets_are_generated_once_and_kept_private() {
    let dir = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", dir.path().join("x.db").display());
    let environment = [("CALLSCOPE_DATABASE_URL".to_owned(), url)];
    let first = Settings::load_from(&Flags::new(), &environment).unwrap_or_else(|error| panic!("{error}"));
    let second = Settings::load_from(&Flags::new(), &environment).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(first.jwt_secrets, second.jwt_secrets);
    assert_eq!(first.webhook_secrets, second.webhook_secrets);
    assert!(first.secrets_file.is_some() && first.check_exposure().is_ok());
    let exposed = Settings { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), ..first };
    assert!(exposed.check_exposure().is_err());
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(dir.path().join("callscope.secrets.toml")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn secrets_are_hidden_in_debug_output_and_urls() {
    let settings = load(&[("CALLSCOPE_JWT_SECRET", &"s3cr3t".repeat(8)), ("CALLSCOPE_WEBHOOK_SECRETS", "s3cr3t")])
        .expect("settings");
    assert!(!format!("{settings:?}").contains("s3cr3t"));
    assert_eq!(hide_password("postgres://u:s3cr3t@h/d?password=s3cr3t"), "postgres://u:[secret]@h/d?[hidden]");
}
