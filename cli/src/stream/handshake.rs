//! Opens a WebSocket, and explains the answers to the upgrade request.

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

/// Longest message: a call's result with the whole analysis of the provider.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Longest wait that a server can ask for.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

pub(crate) type Socket = WebSocketStream<BoxedIo>;

/// Why a connection or the whole stream ended.
#[derive(Debug)]
pub(crate) enum Break {
    /// The stream has ended.
    Done(EndReason),
    /// The receiver of the updates is gone.
    ReceiverGone,
    /// The connection broke or could not be opened. A new one may succeed.
    Lost {
        reason: String,
        /// The wait that the server asked for.
        wait: Option<Duration>,
    },
}

impl Break {
    pub(crate) fn lost(reason: impl Into<String>) -> Self {
        Self::Lost { reason: reason.into(), wait: None }
    }

    /// Makes most failures retryable, for a server that has answered before: the server or its proxy may be restarting.
    /// A refused token stays final.
    pub(crate) fn retryable(self) -> Self {
        match self {
            Self::Done(EndReason::Failed(failure)) if matches!(failure.exit, Exit::Unreachable | Exit::Error) => {
                Self::lost(failure.message)
            }
            other => other,
        }
    }

    pub(crate) fn failed(failure: Failure) -> Self {
        Self::Done(EndReason::Failed(failure))
    }
}

/// Opens a WebSocket to `endpoint`.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Socket, Break> {
    let unusable = |why: String| Break::failed(Failure::usage(why));
    let mut url = api::stream_url(&endpoint.server);
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| unusable(format!("{url} cannot be a WebSocket")))?;
    let mut request = url.as_str().into_client_request().map_err(|error| unusable(error.to_string()))?;
    if let Some(token) = &endpoint.token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| unusable("the token has characters that no token has; is it the right file?".into()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(32 << 10)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let connector = ServerConnector::to(&endpoint.server).map_err(Break::failed)?;
    let lost = async |error: &(dyn std::error::Error + Send + Sync + 'static)| {
        let diagnosis = connector.diagnose(error).await;
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

/// Explains an answer that refuses the upgrade. `path` is the path of the request.
async fn refused(
    endpoint: &Endpoint,
    connector: &ServerConnector,
    path: &str,
    response: &Response<Option<Vec<u8>>>,
) -> Break {
    let status = response.status();
    let server = crate::net::display_url(&endpoint.server);
    let body = response.body().as_deref().unwrap_or_default();
    let body = serde_json::from_slice::<callscope_common::api::ErrorBody>(body);
    if let Some(failure) = net::redirect_failure(&endpoint.server, path, status, response.headers()) {
        return Break::failed(failure);
    }
    if body.is_err()
        && let Some(diagnosis) = connector.diagnose_answer(status).await
    {
        return Break::failed(diagnosis.to_failure(connector));
    }
    let message = body.map_or_else(|_| format!("it answered {status}"), |body| body.message);
    match status {
        StatusCode::UNAUTHORIZED => {
            let token = if endpoint.token.is_some() { "the token was refused" } else { "there is no token" };
            Break::failed(
                Failure::new(Exit::NotAllowed, format!("not logged in at {server}: {token} ({message})"))
                    .hint(TOKEN_HINT),
            )
        }
        StatusCode::FORBIDDEN => {
            Break::failed(Failure::new(Exit::NotAllowed, format!("not allowed at {server}: {message}")))
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            let wait = net::retry_after(response.headers()).map(|wait| wait.min(MAX_RETRY_AFTER));
            Break::Lost { reason: message, wait }
        }
        _ => Break::failed(
            Failure::error(format!("{server} does not accept WebSockets at {}: it answered {status}", protocol::PATH))
                .hint("is that a Callscope server? name another with --server URL"),
        ),
    }
}
