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

/// Time for a command to be answered.
const ANSWER_DEADLINE: Duration = Duration::from_millis(1_000);
/// Time to connect.
const CONNECT_DEADLINE: Duration = Duration::from_millis(2_000);
/// Channels that share the load of a Redis Cluster, each in a slot of its own.
const SHARD_CHANNELS: usize = 8;

/// Called with what Redis pushes, on the task that reads the connection, so it must not block.
pub(super) type OnPush = Arc<dyn Fn(Pushed<'_>) + Send + Sync>;

pub(super) enum Pushed<'p> {
    Message { channel: usize, payload: &'p [u8] },
    Lost,
}

/// A connection that is subscribed to all channels.
pub(super) enum Redis {
    One(MultiplexedConnection, Vec<String>),
    Sharded(ClusterConnection, Vec<String>),
}

/// The Redis URL cannot be read. The message says what is expected and does not show the URL, which may hold a
/// password.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("redis://[user:password@]host[:port][/number] or rediss://…")]
pub struct InvalidRedisUrl;

/// Reads a URL.
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
        let plain = Client::open(address.clone())?;
        let timing = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_DEADLINE))
            .set_response_timeout(Some(ANSWER_DEADLINE));
        let one = vec![format!("callscope:{name}")];
        let config = timing.set_push_sender(pusher(one.clone(), Arc::clone(&on_push), true));
        let mut connection = plain.get_multiplexed_async_connection_with_config(&config).await?;
        let info: String = redis::cmd("INFO").arg("cluster").query_async(&mut connection).await?;
        if !info.contains("cluster_enabled:1") {
            connection.subscribe(&one).await?;
            return Ok(Self::One(connection, one));
        }
        let channels: Vec<String> = (0..SHARD_CHANNELS).map(|shard| format!("callscope:{name}:{shard}")).collect();
        let client = ClusterClientBuilder::new([address.clone()])
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(CONNECT_DEADLINE)
            .response_timeout(ANSWER_DEADLINE)
            // The client itself reconnects to a part of the cluster that was lost.
            .push_sender(pusher(channels.clone(), on_push, false))
            .build()?;
        let mut connection = client.get_async_connection().await?;
        for channel in &channels {
            connection.ssubscribe(channel).await?;
        }
        Ok(Self::Sharded(connection, channels))
    }

    pub fn channels(&self) -> usize {
        match self {
            Self::One(_, channels) | Self::Sharded(_, channels) => channels.len(),
        }
    }

    /// Publishes each message in its channel, in order.
    pub async fn publish(&mut self, messages: &[(usize, String)]) -> Result<(), RedisError> {
        match self {
            Self::One(connection, channels) => {
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

fn pusher(
    channels: Vec<String>,
    on_push: OnPush,
    reports_loss: bool,
) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> + Send + Sync {
    move |push| {
        match (push.kind, &push.data[..]) {
            (PushKind::Message | PushKind::SMessage, [Value::BulkString(name), Value::BulkString(payload), ..]) => {
                if let Some(channel) = channels.iter().position(|channel| channel.as_bytes() == name) {
                    on_push(Pushed::Message { channel, payload });
                }
            }
            (PushKind::Disconnection, _) if reports_loss => on_push(Pushed::Lost),
            _ => {}
        }
        Ok(())
    }
}
