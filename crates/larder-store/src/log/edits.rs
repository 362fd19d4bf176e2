//! The payload of a META record: edits of the index and entries of the feed.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | number of edits |
//! | | | each edit: length of the key (2), of the value (4; all ones: the key goes), the key, the value |
//! | | rest | entries of the feed as a postcard sequence; nothing where there are none |
//!
//! A batch is cut into parts so that a record stays small. A value too long for the index is alone in its part: the
//! index then points to the record, and reading the value reads little else.

use crate::catalog::Change;
use crate::kv::Batch;
use larder_core::{Error, Result};

/// A part is closed once it is so long.
const PART_BYTES: usize = 1 << 20;
/// Longer values stay in the log. sled puts values over its limit into files that it never syncs.
pub const INLINE_MAX_BYTES: usize = 3 << 10;
const NO_VALUE: u32 = u32::MAX;
const CHANGES_PER_PART: usize = 8192;

/// One change of the index: the key, and its value unless it goes.
pub type Edit<'a> = (&'a [u8], Option<&'a [u8]>);

/// One payload, and how many of the batch's edits it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The payload.
    pub bytes: Vec<u8>,
    /// Edits in it.
    pub edits: usize,
}

/// Says whether the index points to a value of this length instead of holding it.
pub fn is_long(value: &[u8]) -> bool {
    value.len() > INLINE_MAX_BYTES
}

/// Cuts `batch` into payloads, in order.
pub fn encode(batch: &Batch) -> Vec<Encoded> {
    let mut parts = Vec::new();
    let mut part = Part::default();
    for (key, value) in &batch.edits {
        let alone = value.as_ref().is_some_and(|value| is_long(value));
        if alone || part.bytes.len() > PART_BYTES {
            parts.extend(part.close(&[]));
        }
        part.push(key, value.as_deref());
        if alone {
            parts.extend(part.close(&[]));
        }
    }
    // The feed goes last, so that whoever reads up to its entries has read what they tell of.
    for changes in batch.changes.chunks(CHANGES_PER_PART) {
        parts.extend(part.close(changes));
    }
    parts.extend(part.close(&[]));
    parts
}

#[derive(Default)]
struct Part {
    edits: u32,
    bytes: Vec<u8>,
}

impl Part {
    fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&[0; 4]);
        }
        self.edits += 1;
        self.bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(&value.map_or(NO_VALUE, |value| value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    fn close(&mut self, changes: &[Change]) -> Option<Encoded> {
        let Part { edits, mut bytes } = std::mem::take(self);
        if edits == 0 && changes.is_empty() {
            return None;
        }
        if bytes.is_empty() {
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes[..4].copy_from_slice(&edits.to_le_bytes());
        if !changes.is_empty() {
            bytes = postcard::to_extend(changes, bytes).expect("plain records always encode");
        }
        Some(Encoded { bytes, edits: edits as usize })
    }
}

/// A payload, taken apart.
pub struct Decoded<'a> {
    /// The edits in order.
    pub edits: Vec<Edit<'a>>,
    changes: &'a [u8],
}

impl Decoded<'_> {
    /// The entries of the feed.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn changes(&self) -> Result<Vec<Change>> {
        if self.changes.is_empty() {
            return Ok(Vec::new());
        }
        postcard::from_bytes(self.changes).map_err(|e| Error::corrupt("feed entries in the log").because(e))
    }
}

/// Takes a payload apart.
///
/// # Errors
/// `Corrupt` where it is no payload of a META record.
pub fn decode(payload: &[u8]) -> Result<Decoded<'_>> {
    let corrupt = || Error::corrupt("META record of the log");
    let mut rest = payload;
    let count = u32::from_le_bytes(*take::<4>(&mut rest).ok_or_else(corrupt)?);
    let mut edits = Vec::with_capacity(count.min(1 << 16) as usize);
    for _ in 0..count {
        let key_len = u16::from_le_bytes(*take::<2>(&mut rest).ok_or_else(corrupt)?);
        let value_len = u32::from_le_bytes(*take::<4>(&mut rest).ok_or_else(corrupt)?);
        let key = rest.split_off(..usize::from(key_len)).ok_or_else(corrupt)?;
        let value = match value_len {
            NO_VALUE => None,
            len => Some(rest.split_off(..len as usize).ok_or_else(corrupt)?),
        };
        edits.push((key, value));
    }
    Ok(Decoded { edits, changes: rest })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_core::NodeId;

    #[test]
    fn payload_is_golden() {
        let batch = Batch {
            edits: vec![(b"ab".to_vec(), Some(b"xyz".to_vec())), (b"c".to_vec(), None)],
            changes: vec![Change::Content(NodeId(5))],
        };
        let parts = encode(&batch);
        assert_eq!(parts[0].bytes, *b"\x02\0\0\0\x02\0\x03\0\0\0abxyz\x01\0\xff\xff\xff\xffc\x01\x02\x05");
        assert_eq!((parts.len(), parts[0].edits), (1, 2));
        let back = decode(&parts[0].bytes).expect("whole");
        assert_eq!(back.edits, [(&b"ab"[..], Some(&b"xyz"[..])), (b"c", None)]);
        assert_eq!(back.changes().expect("whole"), batch.changes);
    }

    #[test]
    fn long_values_are_alone_and_long_batches_are_cut() {
        let mut batch = Batch::default();
        for i in 0..3000u32 {
            let len = if i == 7 { INLINE_MAX_BYTES + 1 } else { 1000 };
            batch.edits.push((i.to_be_bytes().to_vec(), Some(vec![1; len])));
        }
        let parts = encode(&batch);
        let decoded: Vec<Decoded<'_>> =
            parts.iter().map(|part| decode(&part.bytes).expect("whole")).collect();
        assert!(parts.len() >= 4 && parts.iter().all(|part| part.bytes.len() < PART_BYTES + 4096));
        assert_eq!(decoded[1].edits.len(), 1);
        let back: Vec<Edit<'_>> = decoded.iter().flat_map(|d| d.edits.iter().copied()).collect();
        assert!(back.iter().zip(&batch.edits).all(|(b, e)| b.0 == e.0 && b.1 == e.1.as_deref()));
    }

    #[test]
    fn cut_payloads_are_corrupt() {
        let batch = Batch { edits: vec![(b"ab".to_vec(), Some(b"xyz".to_vec()))], changes: Vec::new() };
        let part = &encode(&batch)[0].bytes;
        for len in 0..part.len() {
            assert!(decode(&part[..len]).is_err(), "{len} bytes");
        }
    }
}
