//! A project at a server, over HTTP. Source: crates/larder-api/PROTOCOL.md.

use super::connection::{Answer, Connection, Purpose};
use super::ears::Ears;
use super::{Cancel, Feed, Heard, Link, News, Origin, Page, Project, Pushed, Role, Ruled};
use crate::catalog::{Cursor, Entry};
use crate::wire::{self, Described, WireChange, WireChanges, WireEntry, WireNode, WirePage};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use http::Method;
use larder_core::{ChunkId, Error, Name, NodeId, Result, chunker, manifest};
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest page of a manifest.
const PAGE_MAX_BYTES: usize = manifest::PAGE_EXTENTS * manifest::EXTENT_BYTES;
/// The longest chunk or page.
const BODY_MAX_BYTES: usize =
    if chunker::MAX_BYTES > PAGE_MAX_BYTES { chunker::MAX_BYTES } else { PAGE_MAX_BYTES };
/// The length that stands for a chunk that is not there.
const ABSENT: u32 = u32::MAX;

/// A project at a server, as one device asks for it.
pub struct HttpOrigin {
    connection: Connection,
    project: String,
    /// What the last wait listened to.
    ears: Mutex<Option<Ears>>,
    /// There are no WebSockets on the way to the server.
    plain: AtomicBool,
}

impl HttpOrigin {
    /// Will ask over `connection` for `project`.
    pub fn new(connection: Connection, project: &str) -> Self {
        let (ears, plain) = Default::default();
        Self { connection, project: project.to_owned(), ears, plain }
    }

    /// Uses the way to the server so from now on; calls under way that it does not allow are cut.
    pub fn set_link(&self, link: Link) {
        self.connection.set_link(link);
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The path of a call below the project.
    pub(super) fn path(&self, path: &str) -> String {
        format!("projects/{}{path}", self.project)
    }

    pub(super) fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T> {
        self.connection.json(method, &self.path(path), body)
    }

    pub(super) fn strange(&self, what: &str) -> Error {
        self.connection.strange(what)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(Method::GET, path, Vec::new())
    }
}

#[derive(Deserialize)]
struct WireProject {
    root: WireNode,
    role: String,
    cursor: String,
}

#[derive(Deserialize)]
struct WireFound {
    entries: Vec<WireEntry>,
}

impl Origin for HttpOrigin {
    fn project(&self) -> Result<Project> {
        let project: WireProject = self.get("")?;
        let role = match project.role.as_str() {
            "owner" => Role::Owner,
            "editor" => Role::Editor,
            _ => Role::Viewer,
        };
        Ok(Project { root: project.root.read()?, role, cursor: cursor_of(&project.cursor)? })
    }

    fn entries(&self, folder: NodeId, after: Option<&Name>, limit: usize) -> Result<Page> {
        let behind = after.map_or_else(String::new, |name| format!("&after={}", quoted(&[name])));
        let page: WirePage = self.get(&format!("/nodes/{folder}/entries?limit={limit}{behind}"))?;
        let entry = |entry: &WireEntry| Ok((wire::name_of(&entry.name)?, entry.node.read()?));
        let entries = page.entries.iter().map(entry).collect::<Result<Vec<_>>>()?;
        let is_sorted = entries.is_sorted_by(|a: &(Name, _), b: &(Name, _)| a.0 < b.0);
        let is_behind = after.is_none_or(|after| entries.first().is_none_or(|(first, _)| first > after));
        if !is_sorted || !is_behind || (page.more && entries.is_empty()) {
            return Err(self.connection.strange("a listing without order"));
        }
        let next = entries.last().filter(|_| page.more).map(|(name, _)| name.clone());
        Ok(Page { entries, next })
    }

    fn find(&self, folder: NodeId, name: &Name) -> Result<Option<Described>> {
        let found: WireFound = self.get(&format!("/nodes/{folder}/lookup?path={}", quoted(&[name])))?;
        found.entries.first().map(|entry| entry.node.read()).transpose()
    }

    fn chunks(
        &self,
        of: NodeId,
        ids: &[ChunkId],
        cancel: &Cancel,
        arrived: &mut dyn FnMut(usize, Option<Bytes>) -> Result<()>,
    ) -> Result<()> {
        let path = self.path(&format!("/nodes/{of}/chunks"));
        let body = ids.iter().flat_map(|id| id.0).collect();
        self.connection.block_unless(cancel, async {
            let purpose = Purpose { of: Some(of), urgency: Some(cancel), ..Purpose::default() };
            let asked = (Method::POST, path.as_str());
            let answer = self.connection.send(asked, "application/octet-stream", body, purpose).await?;
            let mut frames = Frames { answer, ahead: Bytes::new() };
            for at in 0..ids.len() {
                let length = frames.take(&self.connection, 4).await?;
                let length = u32::from_le_bytes(length[..].try_into().expect("four bytes were taken"));
                if length == ABSENT {
                    arrived(at, None)?;
                    continue;
                }
                if length as usize > BODY_MAX_BYTES {
                    return Err(self.connection.strange("a chunk of impossible length"));
                }
                let body = frames.take(&self.connection, length as usize).await?;
                arrived(at, Some(body))?;
            }
            Ok(())
        })
    }

    fn changes(&self, after: &Cursor, limit: usize) -> Result<Feed> {
        let from = URL_SAFE_NO_PAD.encode(&after.0);
        let changes: WireChanges = self.get(&format!("/changes?after={from}&limit={limit}"))?;
        let news = changes.changes.iter().map(news_of).collect::<Result<_>>()?;
        let cursor = cursor_of(&changes.cursor)?;
        if changes.more && cursor == *after {
            return Err(self.connection.strange("changes that do not go on"));
        }
        Ok(Feed { news, cursor, more: changes.more })
    }

    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        self.missing_of(ids)
    }

    fn send(&self, bodies: &[Bytes]) -> Result<()> {
        self.send_bodies(bodies)
    }

    fn push(&self, entries: &[Entry]) -> Result<Pushed> {
        self.push_entries(entries)
    }

    fn range(&self) -> Result<u32> {
        self.new_range()
    }

    fn end(&self) {
        self.connection.end();
    }

    fn wait(&self, after: &Cursor, rules: u64, limit: Duration) -> Result<Heard> {
        let kept = self.ears.lock().take().filter(|ears| ears.serves(rules));
        let hear = async |mut ears: Ears| match tokio::time::timeout(limit, ears.hear(&self.connection)).await
        {
            Err(_) => Ok(Heard::default()),
            Ok(Ok(heard)) => {
                *self.ears.lock() = Some(ears);
                Ok(heard)
            }
            Ok(Err(error)) => {
                self.plain.fetch_or(ears.is_deaf(), Ordering::Relaxed);
                Err(error)
            }
        };
        let listen = async {
            // A server gives up whom it does not hear for long; that is no sign that it cannot be reached.
            if let Some(ears) = kept
                && let Ok(heard) = hear(ears).await
            {
                return Ok(heard);
            }
            let after = URL_SAFE_NO_PAD.encode(&after.0);
            let path = self.path(&format!("/news?after={after}&rules={rules}"));
            let plain = self.plain.load(Ordering::Relaxed);
            hear(Ears::open(&self.connection, &path, rules, plain).await?).await
        };
        self.connection.block_on(listen)
    }

    fn rules(&self, device: Option<&str>) -> Result<Ruled> {
        self.connection.json(Method::GET, &rules_path(device), Vec::new())
    }

    fn set_rules(&self, device: Option<&str>, was: u64, text: &str) -> Result<Ruled> {
        let body = serde_json::json!({ "text": text, "version": was }).to_string();
        self.connection.json(Method::PUT, &rules_path(device), body.into_bytes())
    }
}

fn rules_path(device: Option<&str>) -> String {
    format!("devices/{}/rules", device.unwrap_or("current"))
}

/// An answer that is read piece by piece.
struct Frames {
    answer: Answer,
    /// What is left of the last piece.
    ahead: Bytes,
}

impl Frames {
    /// The next `len` bytes, copied once where they came in several pieces.
    async fn take(&mut self, connection: &Connection, len: usize) -> Result<Bytes> {
        if self.ahead.len() >= len {
            return Ok(self.ahead.split_to(len));
        }
        let mut bytes = BytesMut::with_capacity(len);
        bytes.extend_from_slice(&self.ahead);
        while bytes.len() < len {
            let piece = connection.piece(&mut self.answer).await?;
            let mut piece = piece.ok_or_else(|| connection.unreachable("the answer broke off"))?;
            bytes.extend_from_slice(&piece.split_to(piece.len().min(len - bytes.len())));
            self.ahead = piece;
        }
        Ok(bytes.freeze())
    }
}

pub(super) fn news_of(change: &WireChange) -> Result<News> {
    Ok(match change {
        WireChange::Name { parent, name, node } => News::Name {
            parent: NodeId(wire::number(parent)?),
            name: wire::name_of(name)?,
            node: node.as_ref().map(|node| node.read().map(Box::new)).transpose()?,
        },
        WireChange::Node(node) => News::Node(Box::new(node.read()?)),
        WireChange::Gone(id) => News::Gone(NodeId(wire::number(id)?)),
    })
}

fn cursor_of(text: &str) -> Result<Cursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text);
    bytes.map(Cursor).map_err(|e| Error::corrupt("the server sent no cursor").because(e))
}

/// Names as a path of wire names, quoted for a query. Source: RFC 3986 § 2.3 and § 3.4.
fn quoted(names: &[&Name]) -> String {
    let names: Vec<String> = names.iter().map(|name| wire::text_of(name.as_bytes())).collect();
    let mut text = String::new();
    for byte in names.join("/").bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}
