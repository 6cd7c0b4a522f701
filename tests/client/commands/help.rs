//! Every help page and every error that needs no server, as printed. `TRYCMD=overwrite cargo test -p callscope-tests
//! --test commands help` writes them again, and the diff shows the changes.

#[test]
fn help_pages_and_errors_are_as_recorded() {
    let home = std::env::temp_dir().join("callscope-no-such-home");
    let home = home.display().to_string();
    let cases = trycmd::TestCases::new();
    cases.register_bin("callscope", crate::server::callscope());
    cases.env("XDG_CONFIG_HOME", &home).env("HOME", &home).env("NO_COLOR", "1");
    // The environment of the user who runs the tests is hidden, and no server listens on port 9.
    cases.env("CALLSCOPE_TOKEN", "").env("CALLSCOPE_SERVER", "http://127.0.0.1:9").env("CALLSCOPE_WEBHOOK_SECRET", "");
    cases.insert_var("[HOME]", home).expect("a path");
    cases.case("client/commands/printed/*.trycmd");
}
