//! Finds out whether deliveries were duplicates. The webhook's answer does not say so, but the list of deliveries does,
//! which only admins can read.

use callscope_common::api::{Verdict, WebhookRoute};

use crate::api::Client;
use crate::settings::Settings;

/// Prints how many deliveries were duplicates. `sent` holds the route and the body length of each. Nothing is printed
/// if the newest deliveries of the server are not these, as when others send at the same time, or if the token is not
/// an admin's.
pub(crate) async fn report(settings: &Settings, mut sent: Vec<(WebhookRoute, usize)>) {
    if settings.token.is_none() {
        return;
    }
    let query = [("limit", sent.len().to_string())];
    let Ok(client) = Client::new(settings) else { return };
    let Ok(page) = client.deliveries(&query).await else { return };
    let total = sent.len();
    let mut repeats = 0;
    for view in &page.into_values() {
        let bytes = usize::try_from(view.body_bytes).unwrap_or_default();
        let Some(place) = sent.iter().position(|(route, length)| view.route == *route && *length == bytes) else {
            return;
        };
        sent.swap_remove(place);
        repeats += usize::from(view.verdict == Verdict::Duplicate);
    }
    if !sent.is_empty() || repeats == 0 {
        return;
    }
    let which = match (repeats, total) {
        (1, 1) => "it was a repeat: it took".to_owned(),
        (_, _) if repeats == total => format!("all {total} were repeats: they took"),
        _ => format!("{repeats} of {total} were repeats: they took"),
    };
    settings.console.say(format!("  {which} effect before, and changed nothing; to make other calls of them: --fresh"));
}
