//! Heartbeats: each process refreshes its row in the table `nodes`.

use std::sync::Arc;
use std::time::Duration;

use callscope_common::CallId;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use super::Cluster;
use crate::store::nodes::{Heartbeat, Node};
use crate::store::{Maintenance, StoreError};

const INTERVAL: Duration = Duration::from_secs(4);
/// A process without a heartbeat for this long counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(12);
/// Timeout of reading the list of processes.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes heartbeats until the task is aborted.
pub async fn heartbeat_loop(cluster: Cluster) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = cluster.heartbeat(None).await {
            // The log writer has logged its failure as a warning.
            debug!(%error, "heartbeat failed; retrying");
        }
        if let Some(bus) = &cluster.shared.bus {
            let others = cluster.nodes().await.into_iter().map(|node| node.name);
            bus.set_expected_peers(others.filter(|node| node != cluster.node()).collect());
        }
    }
}

impl Cluster {
    /// Writes one heartbeat. After its commit, a `probe` is published: a call and a frame for its followers.
    ///
    /// # Errors
    /// Returns an error if the heartbeat could not be committed.
    pub async fn heartbeat(&self, probe: Option<(CallId, Arc<str>)>) -> Result<(), StoreError> {
        let heartbeat = Heartbeat {
            node: self.shared.node.clone(),
            version: env!("CARGO_PKG_VERSION"),
            address: self.address(),
            started_at: self.shared.started_at,
            probe,
        };
        self.shared.log_writer.maintain(Maintenance::Heartbeat(Box::new(heartbeat))).await
    }

    /// Removes this process from the table `nodes`.
    ///
    /// # Errors
    /// Returns an error if the removal could not be committed.
    pub async fn deregister(&self) -> Result<(), StoreError> {
        self.shared.log_writer.maintain(Maintenance::Deregister(self.shared.node.clone())).await
    }

    /// Lists the processes with a recent heartbeat, and this one in any case. If the database does not answer, returns
    /// the last list that was read.
    pub async fn nodes(&self) -> Vec<Node> {
        if let Ok(Ok(nodes)) = timeout(READ_TIMEOUT, self.shared.store.nodes(DEAD_AFTER)).await {
            *self.shared.last_nodes.lock() = nodes;
        }
        let mut nodes = self.shared.last_nodes.lock().clone();
        if !nodes.iter().any(|node| node.name == self.shared.node) {
            nodes.push(Node {
                name: self.shared.node.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
                address: self.address(),
                started_at: Some(self.shared.started_at),
                seen_micros_ago: 0,
            });
        }
        nodes
    }
}
