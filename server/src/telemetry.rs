//! Logs to stderr, in structured lines without secrets and query strings.
//!
//! Logging never blocks the service ([`writer`]), a line is at most 2 KiB long (`line`), and refusals, which
//! strangers can cause, are logged at a limited rate ([`refusals`]).

pub mod line;
pub mod refusals;
pub mod writer;

use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not in `tracing`'s syntax.
    #[error(transparent)]
    Filter(#[from] ParseError),
    /// Logging was started before.
    #[error(transparent)]
    Subscriber(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging. `filter` is in `tracing`'s syntax, `format` is `text` or `json`.
///
/// # Errors
/// Returns an error if the filter cannot be read, or logging was started before.
pub fn start(filter: &str, format: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter)?;
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(|| writer::LineWriter);
    writer::use_json(format == "json");
    match format {
        "json" => logs.json().flatten_event(true).try_init()?,
        _ => logs.with_ansi(false).try_init()?,
    }
    // The standard library's hook would write to stderr itself, and block if the reader has stalled.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(place, panic = ?panic.payload_as_str().unwrap_or_default(), "a thread panicked");
    }));
    Ok(())
}

/// Prints a line to stderr outside the log, such as why the process ends. Never waits for the reader.
pub fn print_line(text: &str) {
    writer::write(line::bounded(text.as_bytes(), false));
}
