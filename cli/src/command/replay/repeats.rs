//! Whether what was sent had been sent before. A repeat is answered like the first, so the answers do not tell; the
//! server's list of deliveries does, to admins.

use callscope_common::api::{Verdict, WebhookRoute};

use crate::api::Client;
use crate::settings::Settings;

/// Says how many of the deliveries with these routes and lengths were repeats, where the server's newest ones are
/// just these. Where they are not, as when others send at the same time, or where the token is no admin's, nothing
/// is said.
pub(crate) async fn tell(settings: &Settings, mut sent: Vec<(WebhookRoute, usize)>) {
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
