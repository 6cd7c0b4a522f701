//! Payloads back into webhooks: signed with the present time, at the call's own pace.
//!
//! [`source`] finds payloads, [`payload`] reads them, [`fresh`] makes another call of them, [`mod@script`] says what is sent when,
//! [`courier`] sends it until it is answered, and [`report`] tells of it.

mod courier;
mod expect;
mod fresh;
mod payload;
mod report;
mod scan;
mod script;
mod source;
mod speed;

use std::sync::Mutex;

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep_until};

pub use courier::Courier;
pub use expect::Expect;
pub use fresh::Fresh;
#[cfg(feature = "demo")]
pub use payload::{Kind, Payload};
pub use report::Report;
pub use script::Script;
pub use source::{Source, load};
pub use speed::Speed;

use crate::console::Console;
use crate::exit::{Failure, Result};

/// How payloads are sent.
#[derive(Debug, Clone)]
pub struct Options {
    /// How fast.
    pub speed: Speed,
    /// How often.
    pub repeat: u32,
    /// How many sources at once.
    pub concurrency: usize,
    /// Whether as another call each time.
    pub fresh: bool,
    /// Whether transcripts are spoken live first.
    pub turns: bool,
}

/// Sends every source `repeat` times. Outcomes go to `report` as they come.
///
/// # Errors
/// The failure that makes going on pointless: nobody answers, or the signature is refused.
pub async fn run(
    sources: &[Source],
    options: &Options,
    courier: &Courier,
    report: &Mutex<Report>,
    console: Console,
) -> Result<()> {
    let rounds: Vec<Option<Fresh>> = (0..options.repeat)
        .map(|_| options.fresh.then(|| Fresh::of(sources.iter().flat_map(|source| &source.payloads))))
        .collect();
    let jobs = rounds.iter().flat_map(|fresh| sources.iter().map(move |source| (fresh.as_ref(), source)));
    let mut running = futures_util::stream::iter(jobs)
        .map(|(fresh, source)| speak(source, fresh, options, courier, report, console))
        .buffer_unordered(options.concurrency);
    while let Some(done) = running.next().await {
        done?;
    }
    Ok(())
}

/// Sends one source, from its first delivery to its last.
async fn speak(
    source: &Source,
    fresh: Option<&Fresh>,
    options: &Options,
    courier: &Courier,
    report: &Mutex<Report>,
    console: Console,
) -> Result<()> {
    let script = script(source, fresh, options);
    for warning in &script.warnings {
        console.warn(format!("{}: {warning}", source.name));
    }
    let began = Instant::now();
    let total = script.steps.len();
    for (index, step) in script.steps.into_iter().enumerate() {
        sleep_until(began + options.speed.wait(step.at)).await;
        let delivery = step.deliver();
        let outcome = courier.deliver(&delivery).await;
        let fatal = outcome.fatal(courier);
        with(report, |report| report.add(source, &delivery, outcome, index + 1, total))?;
        if let Some(failure) = fatal {
            return Err(failure);
        }
    }
    Ok(())
}

/// What is sent of a source, as it is or as another call that begins now.
pub fn script(source: &Source, fresh: Option<&Fresh>, options: &Options) -> Script {
    match fresh {
        Some(fresh) => Script::new(&fresh.rewrite(&source.payloads), options.turns),
        None => Script::new(&source.payloads, options.turns),
    }
}

fn with<T>(report: &Mutex<Report>, work: impl FnOnce(&mut Report) -> Result<T>) -> Result<T> {
    let mut report = report.lock().map_err(|_| Failure::error("a part of the program failed before"))?;
    work(&mut report)
}
