//! What a device sends: chunks that the server lacks, and its entries. Source: crates/larder-api/PROTOCOL.md § Writing.

use super::connection::Purpose;
use super::http::{HttpOrigin, news_of};
use super::{ASKED_MAX, PUSHED_MAX, PUSHED_MAX_BYTES, Pushed, RANGE_BITS, Refused, SENT_MAX, SENT_MAX_BYTES};
use crate::catalog::Entry;
use crate::wire::{WireChange, WireEntryOf};
use bytes::Bytes;
use http::Method;
use larder_core::{ChunkId, Error, Kind, Result};
use serde::Deserialize;

/// Bytes of a chunk's id.
const ID_BYTES: usize = 32;
/// Media type of ids and chunks.
const BINARY: &str = "application/octet-stream";

#[derive(Deserialize)]
struct WirePushed {
    done: usize,
    refused: Option<WireRefused>,
    changes: Vec<WireChange>,
}

#[derive(Deserialize)]
struct WireRefused {
    kind: String,
    what: String,
    /// Of chunks that the server lacks, in hexadecimal digits.
    #[serde(default)]
    lacks: Vec<String>,
}

#[derive(Deserialize)]
struct WireRange {
    range: u32,
}

impl HttpOrigin {
    pub(super) fn missing_of(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        debug_assert!(ids.len() <= ASKED_MAX, "a bound of the protocol");
        let body: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
        let missing = self.post("/chunks/missing", body, ids.len() * ID_BYTES)?;
        let missing: Vec<ChunkId> = read_ids(&missing).ok_or_else(|| self.strange("half an id"))?;
        let mut asked = ids.iter();
        match missing.iter().all(|id| asked.any(|asked| asked == id)) {
            true => Ok(missing),
            false => Err(self.strange("a chunk that nobody asked for")),
        }
    }

    pub(super) fn send_bodies(&self, bodies: &[Bytes]) -> Result<()> {
        let bytes = bodies.iter().map(|body| 4 + body.len()).sum();
        let mut frames = Vec::with_capacity(bytes);
        for body in bodies {
            frames.extend_from_slice(&(body.len() as u32).to_le_bytes());
            frames.extend_from_slice(body);
        }
        debug_assert!(bytes <= SENT_MAX_BYTES + 4 * bodies.len(), "a bound of the protocol");
        debug_assert!(bodies.len() <= SENT_MAX, "a bound of the protocol");
        let came = self.post("/chunks", frames, bodies.len() * ID_BYTES)?;
        let ids: Vec<ChunkId> = bodies.iter().map(|body| ChunkId::of(body)).collect();
        match read_ids(&came).is_some_and(|came| came == ids) {
            true => Ok(()),
            false => Err(self.strange("other ids than those of the chunks that it got")),
        }
    }

    pub(super) fn push_entries(&self, entries: &[Entry]) -> Result<Pushed> {
        debug_assert!(entries.len() <= PUSHED_MAX, "a bound of the protocol");
        let (body, told) = body_of(entries);
        let pushed: WirePushed = self.connection().json_later(&self.path("/commits"), body)?;
        let is_whole = match pushed.refused {
            Some(_) => pushed.done < told,
            None => pushed.done == told,
        };
        if !is_whole {
            return Err(self.strange("a count of entries that it was not sent"));
        }
        let refused = pushed.refused.map(refused).transpose()?;
        let news = pushed.changes.iter().map(news_of).collect::<Result<_>>()?;
        Ok(Pushed { done: pushed.done, refused, news })
    }

    pub(super) fn new_range(&self) -> Result<u32> {
        let WireRange { range } = self.json(Method::POST, "/ranges", b"{}".to_vec())?;
        if range == 0 || range >> (u64::BITS - RANGE_BITS) != 0 {
            return Err(self.strange("no range of ids"));
        }
        Ok(range)
    }

    /// Posts bytes, and returns those of the answer, at most `limit`.
    fn post(&self, path: &str, body: Vec<u8>, limit: usize) -> Result<Vec<u8>> {
        let path = self.path(path);
        self.connection().block_on(async {
            let (asked, purpose) =
                ((Method::POST, path.as_str()), Purpose { waits: true, ..Purpose::default() });
            let mut answer = self.connection().send(asked, BINARY, body, purpose).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = self.connection().piece(&mut answer).await? {
                if bytes.len() + piece.len() > limit {
                    return Err(self.strange("more than was asked for"));
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        })
    }
}

/// What tells the server of the first of `entries`, as many as it takes at once; and how many those are.
fn body_of(entries: &[Entry]) -> (Vec<u8>, usize) {
    let (mut body, mut told) = (br#"{"entries":["#.to_vec(), 0);
    for entry in entries {
        let entry = serde_json::to_vec(&WireEntryOf::new(entry)).expect("strings and numbers become JSON");
        if told > 0 {
            // With a comma before it and the two brackets at the end.
            if body.len() + entry.len() + 3 > PUSHED_MAX_BYTES {
                break;
            }
            body.push(b',');
        }
        body.extend_from_slice(&entry);
        told += 1;
    }
    body.extend_from_slice(b"]}");
    (body, told)
}

fn read_ids(bytes: &[u8]) -> Option<Vec<ChunkId>> {
    let (ids, rest) = bytes.as_chunks::<ID_BYTES>();
    rest.is_empty().then(|| ids.iter().copied().map(ChunkId).collect())
}

fn refused(wire: WireRefused) -> Result<Refused> {
    if wire.lacks.is_empty() {
        let kind = Kind::of_word(&wire.kind).unwrap_or(Kind::Invalid);
        return Ok(Refused::Failed(Error::new(kind, wire.what)));
    }
    let id = |text: &String| blake3::Hash::from_hex(text).map(|hash| ChunkId(*hash.as_bytes()));
    let lacks = wire.lacks.iter().map(id).collect::<std::result::Result<_, _>>();
    lacks.map(Refused::Lacks).map_err(|e| Error::corrupt("the server sent no id of a chunk").because(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Step;
    use larder_core::{NodeId, OpId};

    /// Entries of so many steps of about so many bytes.
    fn entries(count: usize, steps: usize, bytes: usize) -> Vec<Entry> {
        let (node, name, value) = (NodeId::ROOT, b"user.a".to_vec(), Some(vec![7; bytes]));
        let steps = vec![Step::Xattr { node, name, value }; steps];
        (0..count).map(|op| Entry { op_id: OpId(op as u128), steps: steps.clone() }).collect()
    }

    #[test]
    fn a_body_is_no_longer_than_the_server_takes() {
        for (count, steps, bytes) in [(PUSHED_MAX, 1, 1), (PUSHED_MAX, 1, 60_000), (3, 60, 60_000)] {
            let entries = entries(count, steps, bytes);
            let mut left = &entries[..];
            while !left.is_empty() {
                let (body, told) = body_of(left);
                assert!((1..=left.len()).contains(&told) && (told == 1 || body.len() <= PUSHED_MAX_BYTES));
                assert!(told == left.len() || body_of(&left[..told]).0 == body, "as many as fit");
                let said: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                let said = said["entries"].as_array().expect("entries").clone();
                let back = said.into_iter().map(serde_json::from_value::<WireEntryOf>);
                let back = back.map(|entry| entry.expect("an entry").read().expect("an entry"));
                assert!(back.eq(left[..told].iter().cloned()));
                left = &left[told..];
            }
        }
        assert_eq!(body_of(&entries(PUSHED_MAX, 1, 60_000)).1, 52);
    }
}
