//! The way to a WebSocket: the upgrade request, and what answers to it mean.

use std::time::Duration;

use callscope_common::protocol;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{EndReason, Endpoint};
use crate::api::{self, TOKEN_HINT};
use crate::exit::{Exit, Failure};
use crate::net::{self, BoxedIo, ServerConnector};

/// Longest message taken: a call's result with all the provider's analysis.
const LONGEST_MESSAGE: usize = 64 << 20;

/// Longest wait that a server may ask for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(600);

pub(crate) type Socket = WebSocketStream<BoxedIo>;

/// Why a connection is over.
#[derive(Debug)]
pub(crate) enum Break {
    /// The stream ends here.
    Done(EndReason),
    /// No one listens any more.
    Unheard,
    /// It broke; another may be made.
    Lost {
        reason: String,
        /// How long the server asked to wait.
        wait: Option<Duration>,
    },
}

impl Break {
    /// Broken, for this `reason`.
    pub(crate) fn lost(reason: impl Into<String>) -> Self {
        Self::Lost { reason: reason.into(), wait: None }
    }

    /// The same for a server that has answered before: not to reach it now may pass, and so may what a proxy
    /// answers while the server behind it is replaced. That the token is refused does not.
    pub(crate) fn passing(self) -> Self {
        match self {
            Self::Done(EndReason::Failed(failure)) if matches!(failure.exit, Exit::Unreachable | Exit::Error) => {
                Self::lost(failure.message)
            }
            other => other,
        }
    }

    /// Over for good.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self::Done(EndReason::Failed(failure))
    }
}

/// Upgrades a connection to `endpoint`.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Socket, Break> {
    let unusable = |why: String| Break::failed(Failure::usage(why));
    let mut url = api::stream_url(&endpoint.server);
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| unusable(format!("{url} cannot be a WebSocket")))?;
    let mut request = url.as_str().into_client_request().map_err(|error| unusable(error.to_string()))?;
    if let Some(token) = &endpoint.token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| unusable("the token holds characters that no token has; is it the right file?".into()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(32 << 10)
        .max_message_size(Some(LONGEST_MESSAGE))
        .max_frame_size(Some(LONGEST_MESSAGE));
    let connector = ServerConnector::to(&endpoint.server).map_err(Break::failed)?;
    let lost = async |error: &(dyn std::error::Error + Send + Sync + 'static)| {
        let diagnosis = connector.diagnose(error).await;
        // What is wrong with a certificate or a scheme does not pass by waiting.
        if diagnosis.is_permanent {
            Break::failed(diagnosis.to_failure(&connector))
        } else {
            Break::lost(diagnosis.problem)
        }
    };
    let io = match connector.connect().await {
        Ok(io) => io,
        Err(error) => return Err(lost(error.as_ref()).await),
    };
    match tokio_tungstenite::client_async_with_config(request, io, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => Err(refused(endpoint, &connector, url.path(), &response).await),
        Err(error) => Err(lost(&error).await),
    }
}

/// What an answer that is no upgrade means.
async fn refused(
    endpoint: &Endpoint,
    connector: &ServerConnector,
    asked: &str,
    response: &Response<Option<Vec<u8>>>,
) -> Break {
    let status = response.status();
    let server = crate::net::display_url(&endpoint.server);
    let body = response.body().as_deref().unwrap_or_default();
    let body = serde_json::from_slice::<callscope_common::api::ErrorBody>(body);
    if let Some(failure) = net::redirect_failure(&endpoint.server, asked, status, response.headers()) {
        return Break::failed(failure);
    }
    if body.is_err()
        && let Some(diagnosis) = connector.diagnose_answer(status).await
    {
        return Break::failed(diagnosis.to_failure(connector));
    }
    let said = body.map_or_else(|_| format!("it answered {status}"), |body| body.message);
    match status {
        StatusCode::UNAUTHORIZED => {
            let token = if endpoint.token.is_some() { "the token was refused" } else { "there is no token" };
            Break::failed(
                Failure::new(Exit::NotAllowed, format!("not logged in at {server}: {token} ({said})")).hint(TOKEN_HINT),
            )
        }
        StatusCode::FORBIDDEN => {
            Break::failed(Failure::new(Exit::NotAllowed, format!("not allowed at {server}: {said}")))
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            let wait = net::retry_after(response.headers()).map(|wait| wait.min(LONGEST_WAIT));
            Break::Lost { reason: said, wait }
        }
        _ => Break::failed(
            Failure::error(format!("{server} does not take WebSockets at {}: it answered {status}", protocol::PATH))
                .hint("is that a Callscope server? name another with --server URL"),
        ),
    }
}
