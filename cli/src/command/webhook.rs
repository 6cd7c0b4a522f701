//! `webhook`: sign and verify bodies by hand.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use callscope_common::signature::diagnosis::{Diagnosis, Explanation, KnownSecret, Request, diagnose};
use callscope_common::signature::{self, SignatureHeader};
use clap::Subcommand;

use crate::clock;
use crate::exit::{Exit, Failure, Result};
use crate::payload::Payload;
use crate::render::{Format, Safe};
use crate::secret::{FoundSecret, find_webhook_secrets, webhook_secret};
use crate::settings::Settings;

/// `webhook`.
#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    /// Print the ElevenLabs-Signature header's value for a body
    Sign {
        /// The body; `-` for stdin
        #[arg(value_name = "FILE")]
        body: PathBuf,
        /// A file that holds the webhook secret
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// The time to sign with, in Unix seconds [default: now]
        #[arg(long, value_name = "UNIX", value_parser = clap::value_parser!(i64).range(0..))]
        at: Option<i64>,
    },
    /// Check a header's value against a body; exit code 8 when it does not fit
    Verify {
        /// The body; `-` for stdin; or a delivery with its headers (`callscope deliveries show ID -o json`)
        #[arg(value_name = "FILE")]
        body: PathBuf,
        /// The ElevenLabs-Signature header's value, or `Name: value`; more than once for all that may matter
        #[arg(long, value_name = "VALUE")]
        header: Vec<String>,
        /// A file that holds the webhook secret; --explain tries those of further ones as well
        #[arg(long, value_name = "FILE")]
        secret_file: Vec<PathBuf>,
        /// The time of receipt, in Unix seconds [default: now, or when the delivery came]
        #[arg(long, value_name = "UNIX", value_parser = clap::value_parser!(i64).range(0..))]
        at: Option<i64>,
        /// How many seconds the signed time may lie back
        #[arg(long, value_name = "SECS", default_value_t = 1800, value_parser = clap::value_parser!(i64).range(0..))]
        tolerance: i64,
        /// Try the likely causes of a mismatch, and name the one that fits
        #[arg(long)]
        explain: bool,
    },
}

/// How many bytes `--explain` may write and hash: enough to try every cause on a usual body, and a few seconds of work.
const EXPLAIN_BUDGET_BYTES: u64 = 512 << 20;

pub(crate) fn run(settings: &Settings, args: Webhook) -> Result {
    match args {
        Webhook::Sign { body, secret_file, at } => {
            let secret = webhook_secret(secret_file.as_ref())?.ok_or_else(no_secret)?;
            let value = signature::sign(secret.expose().as_bytes(), at.unwrap_or_else(clock::unix_secs), &read(&body)?);
            settings.output(Format::Text).write(&Safe::line(&value).with_newline())?;
            Ok(Exit::Ok)
        }
        Webhook::Verify { body, header, secret_file, at, tolerance, explain } => {
            let Incoming { headers, body, at: came } = incoming(&body, &header)?;
            let known = find_webhook_secrets(&secret_file)?;
            if known.is_empty() {
                return Err(no_secret());
            }
            let at = at.or(came).unwrap_or_else(clock::unix_secs);
            if explain {
                return explained(settings, &headers, &body, &known, (at, tolerance));
            }
            let wrong = |error: signature::SignatureError| {
                Failure::new(Exit::CheckFailed, error.to_string()).hint("see why: the same command with --explain")
            };
            let secrets: Vec<&str> =
                known.iter().filter(|known| known.in_use).map(|known| known.secret.expose()).collect();
            SignatureHeader::of(&headers)
                .and_then(|header| header.verify(&secrets, &body, at, tolerance))
                .map_err(wrong)?;
            settings.console.say("the signature fits");
            Ok(Exit::Ok)
        }
    }
}

fn no_secret() -> Failure {
    Failure::usage("no webhook secret")
        .hint("give a file that holds it: --secret-file FILE, or set CALLSCOPE_WEBHOOK_SECRET")
}

/// A request to be verified.
struct Incoming {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    at: Option<i64>,
}

/// Reads a body from a file, with the headers `given`. Without these, the file must be a saved delivery with headers.
fn incoming(path: &Path, given: &[String]) -> Result<Incoming> {
    let body = read(path)?;
    if !given.is_empty() {
        return Ok(Incoming { headers: given.iter().map(|line| header(line)).collect(), body, at: None });
    }
    let payloads = std::str::from_utf8(&body).ok().and_then(|text| Payload::read(text).ok()).unwrap_or_default();
    let recorded = match &payloads[..] {
        [payload] => payload.recorded.as_ref(),
        _ => None,
    };
    match recorded.and_then(|recorded| Some((recorded.at, recorded.raw_request.clone()?))) {
        Some((at, raw_request)) => {
            Ok(Incoming { headers: raw_request.headers, body: raw_request.bytes, at: at.map(|at| at.as_unix_secs()) })
        }
        None => {
            Err(Failure::usage(format!("{} is no delivery with headers of its own, so one is needed", path.display()))
                .hint("add --header 'ElevenLabs-Signature: t=…,v0=…', as it came"))
        }
    }
}

/// Parses `name: value`, or takes the whole text as the value of the signature header.
fn header(line: &str) -> (String, String) {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match line.split_once(':') {
        Some((name, value)) if is_name(name.trim()) => (name.trim().to_owned(), value.trim().to_owned()),
        _ => (signature::HEADER.to_owned(), line.trim().to_owned()),
    }
}

fn explained(
    settings: &Settings,
    headers: &[(String, String)],
    body: &[u8],
    known: &[FoundSecret],
    (received_at, tolerance_secs): (i64, i64),
) -> Result {
    let secrets: Vec<_> = known
        .iter()
        .map(|known| KnownSecret {
            label: &known.origin,
            secret: known.secret.expose().as_bytes(),
            in_use: known.in_use,
        })
        .collect();
    let diagnosis = diagnose(&Request {
        headers,
        body,
        received_at,
        tolerance_secs,
        secrets: &secrets,
        budget: EXPLAIN_BUDGET_BYTES,
    });
    let explanation = Explanation::from(&diagnosis);
    let mut output = settings.output(Format::Text);
    if output.is_json() {
        output.record(&explanation, &[])?;
    } else {
        output.write(&words(&explanation, known))?;
    }
    match diagnosis {
        Diagnosis::Accepted { .. } => Ok(Exit::Ok),
        _ => Err(Failure::new(Exit::CheckFailed, "")),
    }
}

fn words(explanation: &Explanation, known: &[FoundSecret]) -> Safe {
    let mut lines =
        vec![if explanation.accepted { "the signature fits" } else { "the signature does not fit" }.to_owned()];
    for cause in &explanation.causes {
        lines.push(format!("  cause:  {} [{}]", cause.what, cause.code));
        lines.push(format!("  remedy: {}", cause.remedy));
    }
    if !explanation.accepted && explanation.causes.is_empty() {
        lines.push("  none of the known causes fits".into());
        let labels: Vec<&str> = known.iter().map(|known| known.origin.as_str()).collect();
        lines.push(format!("  tried with the secrets of {}", labels.join(", ")));
        lines.extend(explanation.hints.iter().map(|hint| format!("  - {hint}")));
    }
    if explanation.unfinished {
        lines.push("  the body is so large that not all causes were tried".into());
    }
    lines.iter().map(|line| Safe::line(line).with_newline()).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        return read.map(|_| bytes).map_err(|error| Failure::error(format!("cannot read stdin: {error}")));
    }
    fs::read(path).map_err(|error| Failure::file("read", path, &error))
}
