//! News over a WebSocket. Source: RFC 6455.

use super::listener::{Listener, Told};
use crate::failure::Failure;
use crate::{Body, answer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use larder_core::Kind;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// The longest message of a peer: control frames have at most 125 bytes, and nothing else is taken.
const MESSAGE_MAX_BYTES: usize = 1024;
/// A peer that says nothing for so many signs of life is gone.
const SILENT_BEATS: u32 = 3;
/// The one version that there is. Source: RFC 6455 § 4.1.
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// A connection that becomes a WebSocket.
pub(super) struct Upgrade {
    on: OnUpgrade,
    accept: HeaderValue,
}

impl Upgrade {
    /// What the request asks for; nothing where it does not ask for a WebSocket, or this way to the server has none.
    ///
    /// # Errors
    /// 400 for a handshake that is none, 426 for another version. Source: RFC 6455 § 4.2.1, § 4.2.2.
    pub(super) fn asked(head: &request::Parts) -> Result<Option<Self>, Failure> {
        let Some(on) = head.extensions.get::<OnUpgrade>() else { return Ok(None) };
        let is_asked = holds(&head.headers, header::UPGRADE, "websocket");
        if !is_asked || head.version != Version::HTTP_11 {
            return Ok(None);
        }
        if !holds(&head.headers, header::CONNECTION, "upgrade") {
            return Err(Failure::invalid("Connection", "an upgrade is named there, too"));
        }
        if head.headers.get(header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
            let what = "Sec-WebSocket-Version: this takes 13";
            return Err(Failure::new(StatusCode::UPGRADE_REQUIRED, Kind::Unsupported, what)
                .header(header::SEC_WEBSOCKET_VERSION, VERSION));
        }
        let key = head.headers.get(header::SEC_WEBSOCKET_KEY).map_or(&[][..], HeaderValue::as_bytes);
        if STANDARD.decode(key).map_or(0, |nonce| nonce.len()) != 16 {
            return Err(Failure::invalid("Sec-WebSocket-Key", "16 bytes in Base64"));
        }
        let accept = HeaderValue::try_from(derive_accept_key(key)).expect("Base64");
        Ok(Some(Self { on: on.clone(), accept }))
    }

    /// The answer after which the connection tells what `listener` hears, until its end.
    pub(super) fn answer(self, listener: Listener) -> Response<Body> {
        let on = self.on;
        tokio::spawn(async move {
            match on.await {
                Ok(connection) => Session::new(TokioIo::new(connection), listener).await.run().await,
                Err(error) => tracing::debug!(%error, "no WebSocket"),
            }
        });
        let mut response = answer::empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        response
    }
}

/// Says whether one of the values of a field is `wanted`. Source: RFC 9110 § 5.6.1.
fn holds(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
}

type Connection = TokioIo<hyper::upgrade::Upgraded>;

/// One WebSocket.
struct Session {
    socket: WebSocketStream<Connection>,
    listener: Listener,
}

/// Why one ends.
enum End {
    /// Nobody is there who could be told.
    Gone,
    /// Told with this code.
    Told(CloseCode),
}

impl Session {
    async fn new(connection: Connection, listener: Listener) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_MAX_BYTES))
            .max_frame_size(Some(MESSAGE_MAX_BYTES))
            .read_buffer_size(MESSAGE_MAX_BYTES)
            .write_buffer_size(0);
        let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
        Self { socket, listener }
    }

    async fn run(mut self) {
        if let End::Told(code) = self.tell().await {
            let frame = CloseFrame { code, reason: "".into() };
            // Who does not hear that finds the connection closed.
            let _ = self.socket.close(Some(frame)).await;
        }
    }

    async fn tell(&mut self) -> End {
        // Who asks knows at once that frames come through.
        if self.say(Message::Ping(Default::default())).await.is_none() {
            return End::Gone;
        }
        let patience = self.listener.heartbeat() * SILENT_BEATS;
        let mut heard = Instant::now();
        loop {
            let said = tokio::select! {
                told = self.listener.next() => match told {
                    Ok(Some(told)) => self.say(message(&told)).await,
                    Ok(None) => return End::Told(CloseCode::Away),
                    Err(error) => {
                        tracing::warn!(%error, "news end");
                        return End::Told(CloseCode::Error);
                    }
                },
                message = timeout_at(heard + patience, self.socket.next()) => match message {
                    Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {
                        heard = Instant::now();
                        Some(())
                    }
                    Ok(Some(Ok(Message::Text(_) | Message::Binary(_)))) => {
                        return End::Told(CloseCode::Unsupported);
                    }
                    _ => None,
                },
            };
            if said.is_none() {
                return End::Gone;
            }
        }
    }

    /// Sends a message; nothing where that did not work.
    async fn say(&mut self, message: Message) -> Option<()> {
        self.socket.send(message).await.ok()
    }
}

fn message(told: &Told) -> Message {
    let mut json = serde_json::Map::new();
    json.extend(told.cursor.iter().map(|cursor| ("news".to_owned(), cursor.as_str().into())));
    json.extend(told.rules.iter().map(|version| ("rules".to_owned(), (*version).into())));
    match json.is_empty() {
        true => Message::Ping(Default::default()),
        false => Message::text(serde_json::Value::from(json).to_string()),
    }
}
