//! What is between the client and a server: TLS with a private certificate authority, proxies, redirects, and a server
//! whose name only the proxy can resolve.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, copy_bidirectional,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// A name that no resolver knows.
pub const NAME: &str = "calls.example.test";

/// Returns the path of the certificate of the tests' authority.
pub fn authority() -> String {
    format!("{}/client/commands/tls/authority.pem", env!("CARGO_MANIFEST_DIR"))
}

/// A listener that serves each connection in a task.
pub struct Between {
    pub address: SocketAddr,
    /// The requests in their order.
    pub log: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Between {
    fn start<F, S>(serve: S) -> Self
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
        S: Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static,
    {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&log);
        runtime.spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let served = serve(connection, Arc::clone(&notes));
                tokio::spawn(async move { drop(served.await) });
            }
        });
        Self { address, log, _runtime: runtime }
    }

    /// Speaks TLS, and forwards the plain bytes to `upstream`.
    pub fn tls(upstream: SocketAddr) -> Self {
        let folder = format!("{}/client/commands/tls", env!("CARGO_MANIFEST_DIR"));
        let certificate = CertificateDer::from_pem_file(format!("{folder}/server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(format!("{folder}/server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        Self::start(move |connection, _| {
            let acceptor = acceptor.clone();
            async move { pass(&mut acceptor.accept(connection).await?, upstream).await }
        })
    }

    /// Starts an HTTP proxy that knows nothing but [`NAME`], which is `known` on any port. `login` is the
    /// `Proxy-Authorization` that it requires.
    pub fn proxy(known: SocketAddr, login: Option<&'static str>) -> Self {
        Self::start(move |connection, log| proxy(connection, log, known, login))
    }

    /// Starts a SOCKS5 proxy that does the same.
    pub fn socks(known: SocketAddr) -> Self {
        Self::start(move |connection, log| socks(connection, log, known))
    }

    /// Starts a server that redirects everything to the same path at `to`.
    pub fn redirect(to: String) -> Self {
        Self::start(move |connection, _| {
            let to = to.clone();
            async move {
                let mut connection = BufReader::new(connection);
                let head = head(&mut connection).await?;
                let path = head.split(' ').nth(1).unwrap_or("/");
                let answer = format!(
                    "HTTP/1.1 308 Permanent Redirect\r\nLocation: {to}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                connection.write_all(answer.as_bytes()).await?;
                connection.shutdown().await
            }
        })
    }

    /// Starts a backend that answers 200 to everything, and records the first line and the headers.
    pub fn backend() -> Self {
        Self::start(|connection, log| async move {
            let mut connection = BufReader::new(connection);
            let head = head(&mut connection).await?;
            let length = head
                .to_lowercase()
                .split_once("content-length: ")
                .and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
            connection.read_exact(&mut vec![0; length.unwrap_or(0)]).await?;
            log.lock().unwrap().push(head);
            connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
            connection.shutdown().await
        })
    }

    /// Returns the requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

async fn pass(connection: &mut (impl AsyncRead + AsyncWrite + Unpin), to: SocketAddr) -> std::io::Result<()> {
    let mut onward = TcpStream::connect(to).await?;
    copy_bidirectional(connection, &mut onward).await.map(drop)
}

/// Reads the head of a request: its first line and its headers.
async fn head(connection: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

async fn proxy(
    connection: TcpStream,
    log: Arc<Mutex<Vec<String>>>,
    known: SocketAddr,
    login: Option<&'static str>,
) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    let head = head(&mut connection).await?;
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
    log.lock().unwrap().push(format!("{method} {target}"));
    let has_login =
        login.is_none_or(|login| head.to_lowercase().contains(&format!("proxy-authorization: {login}").to_lowercase()));
    let host = callscope_tests::socket::host(&target);
    let refusal = match (has_login, host.starts_with(NAME)) {
        (false, _) => "407 Proxy Authentication Required",
        (true, false) => "502 Bad Gateway",
        (true, true) if method == "CONNECT" => {
            connection.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            return pass(&mut connection, known).await;
        }
        (true, true) => {
            // The proxy forwards the request in the form that servers take, as every proxy does.
            let path = &host[host.find('/').unwrap_or(host.len())..];
            let onward = head.replacen(&target, path, 1).replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let mut server = TcpStream::connect(known).await?;
            server.write_all(onward.as_bytes()).await?;
            return copy_bidirectional(&mut connection, &mut server).await.map(drop);
        }
    };
    let answer = format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    connection.write_all(answer.as_bytes()).await?;
    connection.shutdown().await
}

async fn socks(mut connection: TcpStream, log: Arc<Mutex<Vec<String>>>, known: SocketAddr) -> std::io::Result<()> {
    let methods = [connection.read_u8().await?, connection.read_u8().await?][1];
    connection.read_exact(&mut vec![0; methods.into()]).await?;
    connection.write_all(&[5, 0]).await?;
    let mut asked = [0; 4];
    connection.read_exact(&mut asked).await?;
    // An address in place of a name means that the client resolved the name.
    assert_eq!(asked, [5, 1, 0, 3], "the proxy looks names up");
    let mut name = vec![0; connection.read_u8().await?.into()];
    connection.read_exact(&mut name).await?;
    let port = connection.read_u16().await?;
    log.lock().unwrap().push(format!("SOCKS {}:{port}", String::from_utf8_lossy(&name)));
    connection.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    pass(&mut connection, known).await
}
