//! The server's command line.

use std::io::{self, Write};
use std::process::ExitCode;

use callscope_common::Identifier;
use callscope_common::claims::Role;
use callscope_server::auth::Tokens;
use callscope_server::http::launch::{LaunchError, block_on};
use callscope_server::settings::{Flags, Settings, SettingsError};
use callscope_server::store::{OpenError, Store};
use callscope_server::transport::descriptors;
use callscope_server::{StartError, build, shutdown, telemetry};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use tracing::{info, warn};

/// Receive voice-call webhooks, keep the events of each call in a durable log and stream them live over WebSockets
///
/// Settings come from flags, CALLSCOPE_* environment variables and callscope.toml, in this order; `config show` lists
/// them.
#[derive(Debug, Parser)]
#[command(name = "callscope-server", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Debug, clap::Args)]
struct SettingFlags {
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, global = true, value_name = "IP")]
    address: Option<String>,
    /// Port to listen on, 0 for any free one [default: 8000]
    #[arg(long, global = true, value_name = "PORT")]
    port: Option<String>,
    /// Filter of the log, in tracing's syntax [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// Format of the log, text or json [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default)
    Serve,
    /// Create the database or migrate it to the newest version, then exit
    Migrate,
    /// Mint a token offline, with the server's own secret
    Token {
        /// Name of the token's holder
        #[arg(long)]
        sub: String,
        /// Role of the token's holder
        #[arg(long, default_value_t = Role::Viewer, value_parser = roles())]
        role: Role,
        /// Lifetime of the token: 90s, 15m, 8h, 30d
        #[arg(long, default_value = "8h", value_parser = parse_ttl)]
        ttl: i64,
        /// Limit the token to the calls with these identifiers
        #[arg(long = "call", num_args = 1.., value_name = "ID")]
        calls: Vec<Identifier>,
    },
    /// Show the settings
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the settings in force and the origin of each, with secrets hidden
    Show,
}

/// Runs the command and returns the exit code: 0, 1 if something failed, 2 if a setting is wrong.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::print_line(&format!("callscope-server: {error}"));
            ExitCode::from(if matches!(error, CommandError::Setting(_)) { 2 } else { 1 })
        }
    }
}

impl Arguments {
    fn run(self) -> Result<(), CommandError> {
        let settings = Settings::load(&self.settings.flags())?;
        match self.command.unwrap_or(Command::Serve) {
            Command::Serve => {
                settings.check_exposure()?;
                telemetry::start(&settings.log, &settings.log_format)
                    .map_err(|error| settings.error("log", error.to_string()))?;
                block_on(serve(settings))
            }
            Command::Migrate => block_on(migrate(settings)),
            Command::Token { sub, role, ttl, calls } => mint_token(&settings, &sub, role, ttl, calls),
            Command::Config(ConfigCommand::Show) => show_settings(&settings),
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Setting(#[from] SettingsError),
    #[error(transparent)]
    Database(OpenError),
    #[error("cannot catch signals: {0}")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Token(#[from] jsonwebtoken::errors::Error),
    #[error(transparent)]
    Output(#[from] io::Error),
}

async fn open_store(settings: &Settings) -> Result<Store, CommandError> {
    Store::open(settings.database_url.expose()).await.map_err(|error| match error.is_setting() {
        true => CommandError::Setting(settings.error("database_url", error.to_string())),
        false => CommandError::Database(error),
    })
}

async fn serve(settings: Settings) -> Result<(), CommandError> {
    if let Err(error) = descriptors::raise_limit() {
        warn!(%error, "cannot raise the limit of open descriptors");
    }
    for warning in settings.warnings() {
        warn!("{warning}");
    }
    if let Some(path) = &settings.secrets_file {
        warn!(path = %path.display(), "secrets were not set; the server keeps generated ones in this file");
    }
    let mut signals = shutdown::Signals::catch().map_err(CommandError::Signals)?;
    let store = open_store(&settings).await?;
    let engine = store.engine();
    let (server, listening) = build(&settings, store).await?;
    tokio::spawn(async move {
        if let Ok(address) = listening.await {
            info!(%address, url = %format!("http://{address}"), database = engine, "listening");
        }
    });
    let drain = settings.drain;
    let stop = async move {
        let signal = signals.wait().await;
        info!(signal, "shutting down");
        shutdown::exit_after(drain);
    };
    server.serve(stop).await?;
    info!("stopped");
    Ok(())
}

async fn migrate(settings: Settings) -> Result<(), CommandError> {
    let store = open_store(&settings).await?;
    telemetry::print_line(&format!("the {} database is up to date", store.engine()));
    store.close().await;
    Ok(())
}

fn mint_token(
    settings: &Settings,
    sub: &str,
    role: Role,
    ttl: i64,
    calls: Vec<Identifier>,
) -> Result<(), CommandError> {
    let calls = (!calls.is_empty()).then_some(calls);
    print_line(&Tokens::of(&settings.jwt_secrets).mint_for(sub, role, ttl, calls)?)
}

fn show_settings(settings: &Settings) -> Result<(), CommandError> {
    for setting in &settings.effective {
        print_line(&format!("{:<27} {:<32} {}", setting.key, setting.value, setting.origin))?;
    }
    Ok(())
}

/// Writes a line to stdout. A closed pipe is not an error.
fn print_line(line: &str) -> Result<(), CommandError> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Parses a role.
fn roles() -> impl TypedValueParser<Value = Role> {
    let values = [("viewer", "May only read"), ("admin", "May read and write")];
    PossibleValuesParser::new(values.map(|(role, help)| PossibleValue::new(role).help(help)))
        .try_map(|role| role.parse::<Role>())
}

/// Parses `90s`, `15m`, `8h`, `30d` or plain seconds. Returns seconds.
fn parse_ttl(text: &str) -> Result<i64, String> {
    let (number, unit) = match text.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((at, _)) => text.split_at(at),
        None => (text, "s"),
    };
    let unit_secs = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("takes a number and one of s, m, h, d, such as 8h".into()),
    };
    let number: i64 = number.parse().map_err(|_| "takes a number and one of s, m, h, d, such as 8h")?;
    number.checked_mul(unit_secs).filter(|secs| *secs > 0).ok_or_else(|| "is out of range".into())
}

impl SettingFlags {
    fn flags(&self) -> Flags {
        let flags =
            [("address", &self.address), ("port", &self.port), ("log", &self.log), ("log_format", &self.log_format)];
        flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect()
    }
}
