//! The key space of the catalog: which key holds what.
//!
//! Numbers are big endian so that byte order is numeric order; values are postcard behind a format byte.
//!
//! | key | value |
//! |---|---|
//! | `n` id:8 | `Node` |
//! | `d` parent:8 name | id:8 of the node named |
//! | `x` id:8 name | value of the extended attribute |
//! | `v` id:8 version:8 | `OldVersion` |
//! | `w` id:8 version:8 | `OldVersion` of a content that was interim |
//! | `t` parent:8 name 0 time:8 id:8 | `Deleted` |
//! | `o` id:8 | empty; the node is a draft |
//! | `r` table:1 key | record |
//! | `i` operation:16 | time of the commit |
//! | `m` | `Totals` |
//! | `p` number:8 | steps of an entry of the queue |
//! | `e` | `QueueState` |
//! | `k` id:8 | `Mark` of a node |
//! | `l` parent:8 name | `Mark` of a name |

use larder_core::{Error, Name, NodeId, OpId, Result, Timestamp};
use serde::{Serialize, de::DeserializeOwned};

/// First byte of every postcard value; another one is another format.
const FORMAT: u8 = 1;

/// Key of the totals.
pub const TOTALS: &[u8] = b"m";
/// Key of the state of the queue.
pub const QUEUE_STATE: &[u8] = b"e";
/// What the keys of the queue begin with. Not `c` or `q`: the log keeps keys of its own beside these.
pub const QUEUE: &[u8] = b"p";

pub fn node(id: NodeId) -> Vec<u8> {
    with_id(b'n', id, &[])
}

pub fn entry(parent: NodeId, name: &Name) -> Vec<u8> {
    with_id(b'd', parent, name.as_bytes())
}

pub fn entries(parent: NodeId) -> Vec<u8> {
    with_id(b'd', parent, &[])
}

pub fn xattr(id: NodeId, name: &[u8]) -> Vec<u8> {
    with_id(b'x', id, name)
}

pub fn versions(id: NodeId) -> Vec<u8> {
    with_id(b'v', id, &[])
}

pub fn version(id: NodeId, version: u64) -> Vec<u8> {
    with_id(b'v', id, &version.to_be_bytes())
}

pub fn interims(id: NodeId) -> Vec<u8> {
    with_id(b'w', id, &[])
}

pub fn interim(id: NodeId, version: u64) -> Vec<u8> {
    with_id(b'w', id, &version.to_be_bytes())
}

pub fn draft(id: NodeId) -> Vec<u8> {
    with_id(b'o', id, &[])
}

pub fn deleted_in(parent: NodeId) -> Vec<u8> {
    with_id(b't', parent, &[])
}

pub fn deleted_as(parent: NodeId, name: &Name) -> Vec<u8> {
    let mut key = with_id(b't', parent, name.as_bytes());
    key.push(0);
    key
}

pub fn deleted(parent: NodeId, name: &Name, at: Timestamp, id: NodeId) -> Vec<u8> {
    let mut key = deleted_as(parent, name);
    // The flipped sign bit puts times before 1970 first.
    key.extend_from_slice(&((at.0 as u64) ^ (1 << 63)).to_be_bytes());
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

pub fn record(table: u8, name: &[u8]) -> Vec<u8> {
    [&[b'r', table], name].concat()
}

pub fn operation(id: OpId) -> Vec<u8> {
    [&b"i"[..], &id.0.to_be_bytes()].concat()
}

pub fn queued(number: u64) -> Vec<u8> {
    [QUEUE, &number.to_be_bytes()].concat()
}

pub fn queue_number(key: &[u8]) -> Result<u64> {
    let number = key[1..].try_into().map_err(|_| Error::corrupt("an entry of the queue without a number"))?;
    Ok(u64::from_be_bytes(number))
}

pub fn mark_node(id: NodeId) -> Vec<u8> {
    with_id(b'k', id, &[])
}

pub fn mark_name((parent, name): &(NodeId, Name)) -> Vec<u8> {
    with_id(b'l', *parent, name.as_bytes())
}

/// Behind the nine bytes of kind and id: a name, or nothing.
pub fn name_of(key: &[u8]) -> Result<Name> {
    Name::new(&key[9..]).map_err(|e| Error::corrupt("catalog entry").because(e))
}

pub fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![FORMAT]).expect("plain records always encode")
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => {
            postcard::from_bytes(rest).map_err(|e| Error::corrupt("catalog record").because(e))
        }
        _ => Err(Error::corrupt("catalog record of an unknown format")),
    }
}

pub fn decode_id(bytes: &[u8]) -> Result<NodeId> {
    let id = bytes.try_into().map_err(|_| Error::corrupt("catalog entry without a node id"))?;
    Ok(NodeId(u64::from_be_bytes(id)))
}

fn with_id(kind: u8, id: NodeId, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + rest.len());
    key.push(kind);
    key.extend_from_slice(&id.0.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_golden() {
        let name = Name::new("ab").expect("a name");
        assert_eq!(node(NodeId(0x0102)), b"n\0\0\0\0\0\0\x01\x02");
        assert_eq!(entry(NodeId(1), &name), b"d\0\0\0\0\0\0\0\x01ab");
        assert_eq!(
            deleted(NodeId(1), &name, Timestamp(5), NodeId(2)),
            b"t\0\0\0\0\0\0\0\x01ab\0\x80\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x02"
        );
    }
}
