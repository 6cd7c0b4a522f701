//! `webhook`: sign and verify bodies by hand.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use callscope_common::signature::{self, SignatureHeader};

use crate::args::{Format, Webhook};
use crate::exit::{Exit, Failure, Result};
use crate::secret::{Secret, webhook_secret};
use crate::settings::Settings;

/// Runs it.
pub fn run(settings: &Settings, args: Webhook) -> Result {
    match args {
        Webhook::Sign { body, secret_file, at } => {
            let secret = secret(secret_file.as_ref())?;
            let value = signature::sign(secret.expose().as_bytes(), at.unwrap_or_else(now), &read(&body)?);
            settings.output(Format::Text).write(&format!("{value}\n"))?;
        }
        Webhook::Verify { body, header, secret_file, at, tolerance } => {
            let secret = secret(secret_file.as_ref())?;
            let body = read(&body)?;
            let wrong = |error: signature::SignatureError| Failure::new(Exit::CheckFailed, error.to_string());
            // People copy the whole header line as often as its value.
            let value = header.split_once(':').map_or(header.as_str(), |(_, value)| value);
            let parsed = SignatureHeader::parse(value).map_err(wrong)?;
            parsed.verify(&[secret.expose()], &body, at.unwrap_or_else(now), tolerance).map_err(wrong)?;
            settings.console.say("the signature fits");
        }
    }
    Ok(Exit::Ok)
}

fn secret(file: Option<&PathBuf>) -> Result<Secret> {
    webhook_secret(file)?.ok_or_else(|| {
        Failure::usage("no webhook secret")
            .hint("give a file that holds it: --secret-file FILE, or set CALLSCOPE_WEBHOOK_SECRET")
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        return read.map(|_| bytes).map_err(|error| Failure::error(format!("cannot read stdin: {error}")));
    }
    fs::read(path).map_err(|error| Failure::file("read", path, &error))
}

fn now() -> i64 {
    callscope_common::Timestamp::from_system_time(std::time::SystemTime::now()).as_unix_secs()
}
