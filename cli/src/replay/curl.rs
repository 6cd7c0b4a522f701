//! `--dry-run`: the requests of a replay as shell commands. They sign with `callscope webhook sign`, so they contain
//! no secret.

use std::fmt::Write as _;

use super::source::Source;
use super::work::{Job, Work};
use crate::clock;
use crate::render::{json_for_terminal, shell_word};
use crate::webhook::{Delivery, Sender, headers};

/// Recorded headers that hold credentials, so their values are not printed.
const CREDENTIAL_HEADERS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Returns a command for each delivery. `sign` holds the flags that follow `callscope webhook sign FILE`.
pub(crate) fn commands(work: &Work<'_>, sender: &Sender, sign: &str) -> String {
    let mut commands = String::new();
    for job in work.jobs() {
        let source = work.source(job);
        for (index, step) in work.script(job, |_, _| clock::unix_secs()).steps.into_iter().enumerate() {
            let at = step.at;
            let delivery = step.deliver(&work.key(job, index));
            let Some(url) = sender.url(delivery.route) else { continue };
            let _ = writeln!(
                commands,
                "# {} at {at:.0} s: {}\n{} {}",
                shell_word(&source.name),
                shell_word(&delivery.kind),
                command(work, job, source, &delivery, sign),
                shell_word(url.as_str()),
            );
        }
    }
    commands
}

fn command(work: &Work<'_>, job: Job, source: &Source, delivery: &Delivery, sign: &str) -> String {
    let whole = source.path.as_ref().filter(|_| work.source(job).payloads.len() == 1 && work.sends_files(delivery));
    let (prepare, data, file) = match whole {
        // A payload that is a whole file is sent from there: a command line has no room for a recording.
        Some(path) => {
            let path = path.display().to_string();
            (String::new(), shell_word(&format!("@{path}")), shell_word(&path))
        }
        None => {
            let body = String::from_utf8_lossy(&delivery.body);
            let prepare = format!("body={}; printf %s \"$body\" | ", shell_word(&json_for_terminal(&body)));
            (prepare, "@-".into(), "-".into())
        }
    };
    let mut flags = String::new();
    if let Some(recorded) = &delivery.headers {
        for (name, value) in headers::sendable(recorded) {
            let shown =
                if CREDENTIAL_HEADERS.contains(&name.to_ascii_lowercase().as_str()) { "(left out)" } else { value };
            let _ = write!(flags, " -H {}", shell_word(&format!("{name}: {shown}")));
        }
    } else {
        let input = if file == "-" { "printf %s \"$body\" | " } else { "" };
        let _ = write!(
            flags,
            " -H 'Content-Type: application/json' -H \"ElevenLabs-Signature: $({input}callscope webhook sign {file}{sign})\""
        );
    }
    if let Some(key) = &delivery.idempotency_key {
        let _ = write!(flags, " -H {}", shell_word(&format!("Idempotency-Key: {key}")));
    }
    format!("{prepare}curl -sS{flags} --data-binary {data}")
}
