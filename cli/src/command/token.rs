//! `token`: access tokens.

use std::io::{self, Read as _};
use std::path::Path;

use clap::Subcommand;

use crate::api::TOKEN_HINT;
use crate::clock;
use crate::exit::{Exit, Failure, Result};
use crate::render::{Format, format_utc};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::token::{calls_in_words, left_in_words, read_claims};

/// `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// What a token says: whose, for what, until when; needs no server
    Inspect {
        /// A file that holds it, or `-` for stdin [default: the token in force]
        #[arg(value_name = "FILE")]
        file: Option<String>,
    },
}

/// Runs `token`.
pub(crate) fn run(settings: &Settings, args: Token) -> Result {
    let Token::Inspect { file } = args;
    inspect(settings, file.as_deref())
}

fn inspect(settings: &Settings, file: Option<&str>) -> Result {
    let (token, from) = match file {
        Some("-") => {
            let mut text = String::new();
            io::stdin()
                .lock()
                .take(64 << 10)
                .read_to_string(&mut text)
                .map_err(|error| Failure::error(format!("cannot read stdin: {error}")))?;
            (Secret::new(text.trim()), "stdin".to_owned())
        }
        Some(path) => (Secret::read(Path::new(path))?, path.to_owned()),
        None => {
            let token = settings.token.clone();
            let token = token.ok_or_else(|| Failure::new(Exit::NotAllowed, "there is no token").hint(TOKEN_HINT))?;
            (token, settings.origin.token.clone())
        }
    };
    let claims = read_claims(&token)?;
    let now = clock::now();
    settings.output(Format::Table).record(
        &claims,
        &[
            ("user", claims.sub.clone()),
            ("user id", claims.uid.clone().unwrap_or_default()),
            ("role", claims.role.to_string()),
            ("calls", calls_in_words(&claims)),
            ("until", claims.expires().map(format_utc).unwrap_or_default()),
            ("valid", left_in_words(&claims, now)),
            ("id", claims.jti.clone().unwrap_or_default()),
            ("token from", from),
        ],
    )?;
    settings.console.say("only the server can tell whether it is genuine: callscope whoami");
    Ok(Exit::Ok)
}
