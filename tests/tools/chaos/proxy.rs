//! A TCP proxy that cuts, stalls and throttles the connections through it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const BUFFER: usize = 16 * 1024;
/// Bytes that a throttled connection forwards at once, and the pause after them.
const SIP: usize = 512;
const REST: Duration = Duration::from_millis(20);

/// How connections are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Everything is forwarded at once.
    Free,
    /// A few kilobytes a second are forwarded.
    Slow,
    /// Nothing is forwarded and nothing is lost.
    Still,
    /// New connections are reset.
    Closed,
}

/// A running proxy, which ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    flow: watch::Sender<Flow>,
    /// The number of cuts, and which connections the last one spared.
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
        let (flow, flows) = watch::channel(Flow::Free);
        let (cut, cuts) = watch::channel((0, 0));
        let task = tokio::spawn(async move {
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                number += 1;
                tokio::spawn(carry(number, client, target, flows.clone(), cuts.clone()));
            }
        });
        Self { address, flow, cut, task }
    }

    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// Resets all connections, or all but one in `spare`.
    pub fn cut(&self, spare: u64) {
        self.cut.send_modify(|(count, spared)| (*count, *spared) = (*count + 1, spare));
    }
}

async fn carry(
    number: u64,
    mut client: TcpStream,
    target: SocketAddr,
    flow: watch::Receiver<Flow>,
    mut cut: watch::Receiver<(u64, u64)>,
) {
    cut.mark_unchanged();
    let server = if *flow.borrow() == Flow::Closed { None } else { TcpStream::connect(target).await.ok() };
    let Some(mut server) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let is_cut = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let both = async {
            tokio::try_join!(
                pump(&mut from_client, &mut to_server, flow.clone()),
                pump(&mut from_server, &mut to_client, flow.clone())
            )
        };
        let doom = async {
            while cut.changed().await.is_ok() {
                let (_, spare) = *cut.borrow();
                if spare == 0 || !number.is_multiple_of(spare) {
                    return;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = both => ended.is_err(),
            () = doom => true,
        }
    };
    if is_cut {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

async fn pump(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, mut flow: watch::Receiver<Flow>) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let most = if *flow.borrow() == Flow::Slow { SIP } else { BUFFER };
        let read = from.read(&mut buffer[..most]).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        // What was read just before the stall is held back too.
        while *flow.borrow() == Flow::Still {
            if flow.changed().await.is_err() {
                return Ok(());
            }
        }
        to.write_all(&buffer[..read]).await?;
        if *flow.borrow() == Flow::Slow {
            sleep(REST).await;
        }
    }
}
