//! Redis Pub/Sub: plain on one server, sharded where the server is part of a Redis Cluster.
//!
//! One connection carries both directions (RESP3, Redis 6 or newer; sharded Pub/Sub requires Redis 7).

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, RedisError,
    RedisResult, Value,
};

const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1_000);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(2_000);
/// Channels that share the load of a Redis Cluster, each in a slot of its own.
const SHARD_CHANNELS: usize = 8;

/// Callback for what Redis pushes. It runs on the task that reads the connection, so it must not block.
pub(super) type OnPush = Arc<dyn Fn(Pushed<'_>) + Send + Sync>;

pub(super) enum Pushed<'p> {
    Message { channel: usize, payload: &'p [u8] },
    Disconnected,
}

/// A connection with the names of its channels, all of which it is subscribed to.
pub(super) enum Redis {
    Plain(MultiplexedConnection, Vec<String>),
    Sharded(ClusterConnection, Vec<String>),
}

/// The Redis URL is invalid. The message shows the expected form and not the URL, which may contain a password.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("redis://[user:password@]host[:port][/number] or rediss://…")]
pub struct InvalidRedisUrl;

/// Parses a Redis URL, and selects RESP3.
///
/// # Errors
/// Returns an error if it is not a Redis URL.
pub fn address(url: &str) -> Result<ConnectionInfo, InvalidRedisUrl> {
    let info = url.into_connection_info().map_err(|_| InvalidRedisUrl)?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings))
}

impl Redis {
    /// Connects and subscribes. `name` separates clusters that share one Redis.
    pub async fn connect(address: &ConnectionInfo, name: &str, on_push: OnPush) -> RedisResult<Self> {
        let client = Client::open(address.clone())?;
        let timeouts = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let channels = vec![format!("callscope:{name}")];
        let config = timeouts.set_push_sender(push_sender(channels.clone(), Arc::clone(&on_push), true));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let info: String = redis::cmd("INFO").arg("cluster").query_async(&mut connection).await?;
        if !info.contains("cluster_enabled:1") {
            connection.subscribe(&channels).await?;
            return Ok(Self::Plain(connection, channels));
        }
        let channels: Vec<String> = (0..SHARD_CHANNELS).map(|shard| format!("callscope:{name}:{shard}")).collect();
        let client = ClusterClientBuilder::new([address.clone()])
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            // Disconnections are not reported, because the client reconnects to the nodes of the cluster by itself.
            .push_sender(push_sender(channels.clone(), on_push, false))
            .build()?;
        let mut connection = client.get_async_connection().await?;
        for channel in &channels {
            connection.ssubscribe(channel).await?;
        }
        Ok(Self::Sharded(connection, channels))
    }

    pub fn channels(&self) -> usize {
        match self {
            Self::Plain(_, channels) | Self::Sharded(_, channels) => channels.len(),
        }
    }

    /// Publishes each message in its channel, in order.
    pub async fn publish(&mut self, messages: &[(usize, String)]) -> Result<(), RedisError> {
        match self {
            Self::Plain(connection, channels) => {
                let mut pipe = redis::pipe();
                for (channel, message) in messages {
                    pipe.publish(&channels[*channel], message).ignore();
                }
                pipe.exec_async(connection).await
            }
            Self::Sharded(connection, channels) => {
                for (channel, message) in messages {
                    let publish = redis::cmd("SPUBLISH").arg(&channels[*channel]).arg(message).to_owned();
                    connection.req_packed_command(&publish).await?;
                }
                Ok(())
            }
        }
    }
}

fn push_sender(
    channels: Vec<String>,
    on_push: OnPush,
    reports_disconnection: bool,
) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> + Send + Sync {
    move |push| {
        match (push.kind, &push.data[..]) {
            (PushKind::Message | PushKind::SMessage, [Value::BulkString(name), Value::BulkString(payload), ..]) => {
                if let Some(channel) = channels.iter().position(|channel| channel.as_bytes() == name) {
                    on_push(Pushed::Message { channel, payload });
                }
            }
            (PushKind::Disconnection, _) if reports_disconnection => on_push(Pushed::Disconnected),
            _ => {}
        }
        Ok(())
    }
}
