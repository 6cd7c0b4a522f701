//! A hostile server: a real server behind it answers, and every text of the answers is replaced or lengthened by what a
//! terminal would act on. In other modes it answers with something else entirely.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::{WebSocketStream, connect_async};

/// What a terminal would act on: titles, the clipboard, links, screens, colours, bells, returns, C1, bidi, invisible
/// letters.
pub const WORST: &str = "\u{1b}]0;owned\u{7}\u{1b}]52;c;ZXZpbA==\u{1b}\\\u{1b}]8;;http://evil.example\u{1b}\\\u{1b}[?1049l\u{1b}c\
    \u{1b}[31;5mred\u{9b}2J\u{7}\u{8}\rfake\u{202e}drow\u{202c}\u{2066}x\u{2069}\u{200b}\u{feff}\u{1b}P+q544e\u{1b}\\\u{90}y\u{9c}\
    \u{2028}\u{85}\u{e0041}\u{1b}]0;never ends";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The real answer, with [`WORST`] after every text that needs no particular form.
    Fields,
    /// The real answer, with [`WORST`] in place of every text.
    Enums,
    /// An error with this status.
    Refusal(u16),
    /// An error with this status that is not JSON, and a reason phrase of its own.
    Page(u16),
    /// JSON that ends too early.
    BadJson,
    /// An answer with this status that never ends.
    Endless(u16),
    /// A redirect to another path.
    Redirect,
    /// Bytes that are not HTTP.
    Noise,
    /// An upgrade to a WebSocket that is closed with a reason.
    Close,
}

pub struct Hostile {
    pub url: String,
    _runtime: Runtime,
}

impl Hostile {
    /// Starts a server with this `mode` in front of the server at `upstream`, `http://127.0.0.1:PORT`.
    pub fn start(upstream: &str, mode: Mode) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream: SocketAddr = callscope_tests::socket::host(upstream).parse().unwrap();
        runtime.spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                // A client may close in the middle of an answer.
                tokio::spawn(async move { drop(answer(connection, upstream, mode).await) });
            }
        });
        Self { url, _runtime: runtime }
    }
}

struct Request {
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

async fn read(reader: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> std::io::Result<Request> {
    let mut first = String::new();
    if reader.read_line(&mut first).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let request = Request { first: first.trim_end().to_owned(), headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    Ok(Request { body, ..request })
}

async fn answer(connection: TcpStream, upstream: SocketAddr, mode: Mode) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    let request = read(&mut connection).await?;
    let is_upgrade = request.header("upgrade").is_some();
    let error = |status: u16| {
        let body = serde_json::json!({"error": WORST, "message": WORST, "code": WORST, "details": WORST}).to_string();
        whole(status, "Bad", "application/json", body.as_bytes())
    };
    match mode {
        Mode::Fields | Mode::Enums | Mode::Close if is_upgrade => {
            return upgraded(connection, &request, upstream, mode).await;
        }
        Mode::Fields | Mode::Enums => {
            let (head, body) = ask(&request, upstream).await?;
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(200);
            let body = match serde_json::from_slice::<Value>(&body) {
                Ok(json) => worsened(json, mode).to_string().into_bytes(),
                Err(_) => body,
            };
            connection.write_all(&whole(status, "OK", "application/json", &body)).await?;
        }
        Mode::Close => connection.write_all(&error(404)).await?,
        Mode::Refusal(status) => connection.write_all(&error(status)).await?,
        Mode::Page(status) => {
            connection.write_all(&whole(status, "\u{9b}2J\u{202e}", "text/html", WORST.as_bytes())).await?;
        }
        Mode::BadJson => {
            let body = format!("{{\"calls\":[{{\"call_id\":\"{WORST}");
            connection.write_all(&whole(200, "OK", "application/json", body.as_bytes())).await?;
        }
        Mode::Endless(status) => {
            let head = format!("HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n\r\n{{\"calls\":[\"");
            connection.write_all(head.as_bytes()).await?;
            let more = WORST.repeat(500);
            while connection.write_all(more.as_bytes()).await.is_ok() {}
        }
        Mode::Redirect => {
            let head = "HTTP/1.1 302 Found\r\nLocation: http://evil.example/\u{9b}2J\u{202e}x\u{200b}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            connection.write_all(head.as_bytes()).await?;
        }
        Mode::Noise => connection.write_all(WORST.as_bytes()).await?,
    }
    connection.shutdown().await
}

fn whole(status: u16, reason: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Asks the server behind, whose answers have a length.
async fn ask(request: &Request, upstream: SocketAddr) -> std::io::Result<(String, Vec<u8>)> {
    let mut server = BufReader::new(TcpStream::connect(upstream).await?);
    let mut head = format!("{}\r\nConnection: close\r\n", request.first);
    for (name, value) in &request.headers {
        if !name.eq_ignore_ascii_case("connection") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    server.write_all(format!("{head}\r\n").as_bytes()).await?;
    server.write_all(&request.body).await?;
    let answer = read(&mut server).await?;
    Ok((answer.first, answer.body))
}

/// Returns `json` with the worst in its texts.
fn worsened(json: Value, mode: Mode) -> Value {
    match json {
        Value::String(text) if mode == Mode::Enums => {
            Value::String(if is_bytes(&text) { text } else { WORST.to_owned() })
        }
        Value::String(text) if has_form(&text) => Value::String(text),
        Value::String(text) => Value::String(text + WORST),
        Value::Array(items) => items.into_iter().map(|item| worsened(item, mode)).collect(),
        Value::Object(fields) => {
            let of_form = |name: &str| matches!(name, "body_base64" | "cursor" | "next_cursor");
            let field = |(name, value): (String, Value)| {
                if of_form(&name) { (name, value) } else { (name, worsened(value, mode)) }
            };
            fields.into_iter().map(field).collect()
        }
        other => other,
    }
}

/// Returns whether a text must keep its form, or nothing would be shown: an id, a time, one of a few words.
fn has_form(text: &str) -> bool {
    let is_word = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_time = text.len() >= 20 && text.as_bytes()[4] == b'-' && text.ends_with('Z');
    is_word || is_time || uuid::Uuid::parse_str(text).is_ok()
}

fn is_bytes(text: &str) -> bool {
    text.len() > 500
}

/// Forwards the messages of a WebSocket, the server's with the worst in them.
async fn upgraded(
    mut connection: BufReader<TcpStream>,
    request: &Request,
    upstream: SocketAddr,
    mode: Mode,
) -> std::io::Result<()> {
    let accept = derive_accept_key(request.header("sec-websocket-key").unwrap_or_default().as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await?;
    let mut client = WebSocketStream::from_raw_socket(connection.into_inner(), Role::Server, None).await;
    if mode == Mode::Close {
        let reason: String = WORST
            .chars()
            .scan(0, |length, c| {
                *length += c.len_utf8();
                (*length < 120).then_some(c)
            })
            .collect();
        let frame = CloseFrame { code: 4012.into(), reason: reason.into() };
        let _ = client.close(Some(frame)).await;
        while client.next().await.is_some_and(|message| message.is_ok()) {}
        return Ok(());
    }
    let path = request.first.split(' ').nth(1).unwrap_or("/");
    let mut onward = format!("ws://{upstream}{path}").into_client_request().unwrap();
    onward.headers_mut().insert("Authorization", request.header("authorization").unwrap_or_default().parse().unwrap());
    let Ok((mut server, _)) = connect_async(onward).await else { return Ok(()) };
    loop {
        let sent = tokio::select! {
            message = client.next() => match message {
                Some(Ok(message)) => server.send(message).await,
                _ => break,
            },
            message = server.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let json: Value = serde_json::from_str(&text).unwrap();
                    // The cursor of a stream stays, or the client would receive nothing after it.
                    client.send(Message::text(worsened(json, mode).to_string())).await
                }
                Some(Ok(message)) => client.send(message).await,
                _ => break,
            },
        };
        if sent.is_err() {
            break;
        }
    }
    Ok(())
}
