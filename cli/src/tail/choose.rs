//! Asks which call to follow if the command line names none.

use std::io::{self, Write as _};

use callscope_common::api::CallView;
use callscope_common::{Identifier, Timestamp, text};

use crate::api::Client;
use crate::exit::{Exit, Failure, Result};
use crate::render::{cut, format_utc};
use crate::settings::Settings;
use crate::term::prompt;

/// Asks on the terminal which of the live calls to follow. The only live call is taken without a question.
pub(crate) async fn choose_live_call(settings: &Settings) -> Result<Vec<Identifier>> {
    let client = Client::new(settings)?;
    let live = client.live_calls().await?;
    let chosen = match live.as_slice() {
        [] => {
            return Err(Failure::not_found("no call is live now")
                .hint("see the ended ones: callscope calls ls; or wait for one: callscope tail --wait ID"));
        }
        [only] => only,
        several => &several[ask(several).await?],
    };
    let identifier = Identifier::parse(&chosen.call_sid).map_err(|error| Failure::error(error.to_string()))?;
    Ok(vec![identifier])
}

async fn ask(calls: &[CallView]) -> Result<usize> {
    let width = crate::term::screen::size().0.into();
    let mut stderr = io::stderr();
    for (number, call) in calls.iter().enumerate() {
        let _ = writeln!(stderr, "{}", cut(&line(number + 1, call), Some(width)));
    }
    loop {
        let answer = prompt::line(&format!("which call? 1 to {}: ", calls.len())).await?;
        let Some(answer) = answer else { return Err(Failure::new(Exit::Interrupted, "no call was chosen")) };
        match answer.parse::<usize>() {
            Ok(number) if (1..=calls.len()).contains(&number) => return Ok(number - 1),
            _ => continue,
        }
    }
}

fn line(number: usize, call: &CallView) -> String {
    let started: Timestamp = call.created_at;
    let subject = call.subject.as_deref().unwrap_or_default();
    let line = format!(
        "{number:3}  {}  {}  {} turns  {}  {subject}",
        format_utc(started),
        call.status,
        call.turns,
        call.call_sid
    );
    text::one_line(line.trim_end()).into_owned()
}
