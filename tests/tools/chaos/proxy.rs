//! A TCP proxy that resets, stalls and throttles the connections through it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const BUFFER_BYTES: usize = 16 * 1024;
/// Bytes that a throttled connection forwards before each [`THROTTLED_PAUSE`].
const THROTTLED_BYTES: usize = 512;
const THROTTLED_PAUSE: Duration = Duration::from_millis(20);

/// How fast bytes are forwarded, on all connections of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Bytes are forwarded at once.
    Unlimited,
    /// A few kilobytes a second are forwarded.
    Throttled,
    /// Nothing is forwarded and nothing is lost.
    Stalled,
}

/// A running proxy, which ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    flow: watch::Sender<Flow>,
    /// The number of cuts so far, and the `keep_every` of the last one.
    cut: watch::Sender<(u64, u64)>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts a proxy in front of `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", callscope_tests::process::free_port())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (flow, flow_receiver) = watch::channel(Flow::Unlimited);
        let (cut, cut_receiver) = watch::channel((0, 0));
        let task = tokio::spawn(async move {
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                number += 1;
                tokio::spawn(forward_connection(number, client, target, flow_receiver.clone(), cut_receiver.clone()));
            }
        });
        Self { address, flow, cut, task }
    }

    pub fn set_flow(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// Resets all connections but one in `keep_every`. With 0 all are reset, with 1 none.
    pub fn cut(&self, keep_every: u64) {
        self.cut.send_modify(|(count, kept)| (*count, *kept) = (*count + 1, keep_every));
    }
}

/// Connects `client` to `target` and copies bytes in both directions until either side closes or a cut hits it.
async fn forward_connection(
    number: u64,
    mut client: TcpStream,
    target: SocketAddr,
    flow: watch::Receiver<Flow>,
    mut cut: watch::Receiver<(u64, u64)>,
) {
    cut.mark_unchanged();
    // With a linger of zero, dropping the socket resets the connection instead of closing it in order.
    let Ok(mut server) = TcpStream::connect(target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let must_reset = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let both_directions = async {
            tokio::try_join!(
                copy(&mut from_client, &mut to_server, flow.clone()),
                copy(&mut from_server, &mut to_client, flow.clone())
            )
        };
        let hit_by_a_cut = async {
            while cut.changed().await.is_ok() {
                let (_, keep_every) = *cut.borrow();
                if keep_every == 0 || !number.is_multiple_of(keep_every) {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            result = both_directions => result.is_err(),
            () = hit_by_a_cut => true,
        }
    };
    if must_reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

async fn copy(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, mut flow: watch::Receiver<Flow>) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let max_bytes = if *flow.borrow() == Flow::Throttled { THROTTLED_BYTES } else { BUFFER_BYTES };
        let read = from.read(&mut buffer[..max_bytes]).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        // A stall may begin during the read. Then these bytes wait for its end.
        while *flow.borrow() == Flow::Stalled {
            if flow.changed().await.is_err() {
                return Ok(());
            }
        }
        to.write_all(&buffer[..read]).await?;
        if *flow.borrow() == Flow::Throttled {
            sleep(THROTTLED_PAUSE).await;
        }
    }
}
