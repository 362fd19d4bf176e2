//! Hearing of news: over a WebSocket, or by server-sent events where something on the way has none.
//!
//! Sources: RFC 6455; WHATWG HTML, § 9.2 Server-sent events.

use super::Heard;
use super::connection::{Answer, Connection, PATIENCE, Purpose};
use futures_util::StreamExt;
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use larder_core::Result;
use serde::Deserialize;
use std::collections::VecDeque;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The type of a stream of events.
const EVENTS: &str = "text/event-stream";
/// The longest message, or line of an event.
const MESSAGE_MAX_BYTES: usize = 8 << 10;
/// What something on the way says that knows no WebSocket, and refuses a request for it instead of answering the rest of it.
const UNKNOWN: [StatusCode; 3] =
    [StatusCode::BAD_REQUEST, StatusCode::UPGRADE_REQUIRED, StatusCode::NOT_IMPLEMENTED];

/// An open stream of news. It is listened to again and again: what is told meanwhile waits in it.
pub(super) struct Ears {
    way: Way,
    /// The version of the rules that it told last, or was opened with.
    rules: u64,
    /// Something was heard.
    works: bool,
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

enum Way {
    Socket(Box<Socket>),
    Events(Box<Answer>, Events),
}

impl Ears {
    /// Opens a stream at `path`, for who has rules of version `rules`; a `plain` one is of events.
    pub(super) async fn open(connection: &Connection, path: &str, rules: u64, plain: bool) -> Result<Ears> {
        let purpose = Purpose { lasts: true, ..Purpose::default() };
        let key = generate_key();
        let upgrade = [
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, &*key),
        ];
        let ask = |fields| connection.ask((Method::GET, path), fields, Vec::new(), purpose);
        let mut begun = ask(if plain { &[] } else { &upgrade[..] }).await?;
        if begun.answer.status() == StatusCode::SWITCHING_PROTOCOLS && !plain {
            let socket = socket(connection, begun.answer, &key).await?;
            return Ok(Ears { way: Way::Socket(Box::new(socket)), rules, works: false });
        }
        if UNKNOWN.contains(&begun.answer.status()) && !plain {
            begun = ask(&[]).await?;
        }
        let answer = Box::new(connection.meant(begun, EVENTS, purpose).await?);
        Ok(Ears { way: Way::Events(answer, Events::default()), rules, works: false })
    }

    /// Says whether it goes on for who has rules of version `rules`.
    pub(super) fn serves(&self, rules: u64) -> bool {
        self.rules == rules
    }

    /// Says whether it is a WebSocket over which nothing ever came: something on the way may let none through.
    pub(super) fn is_deaf(&self) -> bool {
        !self.works && matches!(self.way, Way::Socket(_))
    }

    /// Waits for the next news.
    ///
    /// # Cancel safety
    /// What it was about to tell may be lost.
    pub(super) async fn hear(&mut self, connection: &Connection) -> Result<Heard> {
        let told = match &mut self.way {
            Way::Socket(socket) => message(connection, socket, &mut self.works).await?,
            Way::Events(answer, events) => loop {
                if let Some(told) = events.told.pop_front() {
                    break Some(told);
                }
                let Some(piece) = connection.piece(answer).await? else { break None };
                if !events.feed(&piece) {
                    return Err(connection.strange("an event without end"));
                }
            },
        };
        let told = told.ok_or_else(|| connection.unreachable("the stream of news ended"))?;
        self.rules = told.rules.unwrap_or(self.rules);
        Ok(Heard { changes: told.rules.is_none() || told.news.is_some(), rules: told.rules.is_some() })
    }
}

/// The WebSocket that a connection became. Source: RFC 6455 § 4.1.
async fn socket(connection: &Connection, answer: Response<Incoming>, key: &str) -> Result<Socket> {
    let accept = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accept != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(connection.strange("a WebSocket that was not asked for"));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|error| connection.unreachable(error))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX_BYTES))
        .max_frame_size(Some(MESSAGE_MAX_BYTES))
        .read_buffer_size(MESSAGE_MAX_BYTES);
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await)
}

/// The next message; nothing at the end. `works` is set once anything comes.
async fn message(connection: &Connection, socket: &mut Socket, works: &mut bool) -> Result<Option<Told>> {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await;
        let message = message.map_err(|_| connection.silent())?.transpose();
        match message.map_err(|error| connection.unreachable(error))? {
            None | Some(Message::Close(_)) => return Ok(None),
            // What it says beside that is of a later version, and is found where the changes are asked for.
            Some(Message::Text(text)) => return Ok(Some(serde_json::from_str(&text).unwrap_or_default())),
            Some(_) => *works = true,
        }
    }
}

/// What a message says.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct Told {
    news: Option<String>,
    rules: Option<u64>,
}

/// Events, line by line.
#[derive(Default)]
struct Events {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Option<String>,
    /// Those that ended.
    told: VecDeque<Told>,
}

impl Events {
    /// Takes in what came; says whether it is not too long.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            self.end_line();
        }
        self.line.len() <= MESSAGE_MAX_BYTES && self.told.len() <= MESSAGE_MAX_BYTES
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if let Some(name) = line.strip_prefix(b"event:") {
            self.name = name.trim_ascii().to_vec();
        } else if let Some(data) = line.strip_prefix(b"data:") {
            self.data = Some(String::from_utf8_lossy(data.trim_ascii()).into_owned());
        } else if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let Some(data) = self.data.take() else { return };
            let rules = data.parse().ok().filter(|_| name == b"rules");
            let news = rules.is_none().then_some(data);
            self.told.push_back(Told { news, rules });
        }
    }
}
