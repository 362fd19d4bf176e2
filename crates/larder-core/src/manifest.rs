//! Manifests: which chunks, in which order, are one version of one file.
//!
//! A node carries a [`Head`]. A short file's head lists its extents; a long file's head lists pages of extents, each
//! page itself a chunk, so that a change in one place writes one page anew and a node stays below 4 KiB.
//!
//! A page is a chunk whose plain bytes are its extents, one after the other:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 40·i | 32 | id of the chunk or page; zeros for a hole |
//! | 40·i + 32 | 8 | bytes of the file that it covers, little endian, at least 1 |

use crate::{ChunkId, Error, Result};
use serde::{Deserialize, Serialize};

/// The most extents that a head lists; 64 of them take about 2.3 KiB of a node.
pub const HEAD_MAX: usize = 64;
/// The extents of a full page: 40 KiB, and about 256 MiB of file a page.
pub const PAGE_EXTENTS: usize = 1024;
/// The bytes of one extent in a page.
pub const EXTENT_BYTES: usize = 40;
/// Levels of pages; 3 cover 16 PiB of average chunks.
pub const DEPTH_MAX: u8 = 4;

/// The most extents of one file: what two levels of pages hold, 16 TiB of average chunks. A page may repeat another, so
/// that a few bytes from elsewhere could otherwise promise more extents than any memory holds.
pub const EXTENTS_MAX: usize = HEAD_MAX * PAGE_EXTENTS * PAGE_EXTENTS;

/// A run of a file: a chunk, a page of extents, or a hole, and the bytes of the file that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// The chunk or page; [`ChunkId::HOLE`] for a hole.
    pub id: ChunkId,
    /// How much of the file it covers, at least 1.
    pub len_bytes: u64,
}

/// What a node keeps of its manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// Size of the file.
    pub size_bytes: u64,
    /// The size without holes.
    pub allocated_bytes: u64,
    /// 0 where `extents` are chunks; n where they are pages with n levels of pages in all.
    pub depth: u8,
    /// At most [`HEAD_MAX`].
    pub extents: Vec<Extent>,
}

impl Head {
    /// A strong validator: equal for equal manifests, different for different content. Source: RFC 9110 § 8.8.1.
    pub fn etag(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.size_bytes.to_le_bytes()).update(&[self.depth]).update(&encode(&self.extents));
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// The ordered extents of one version of one file, none of them a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    extents: Vec<Extent>,
    /// `ends[i]` is the offset just behind extent i.
    ends: Vec<u64>,
}

/// Where a run of a manifest lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Offset of the extent's first byte in the file.
    pub start: u64,
    /// The extent.
    pub extent: Extent,
}

impl Manifest {
    /// Adds `len_bytes` bytes of chunk `id` (or of a hole) at the end; neighbouring holes become one.
    pub fn push(&mut self, id: ChunkId, len_bytes: u64) {
        if len_bytes == 0 {
            return;
        }
        let end = self.size_bytes() + len_bytes;
        match self.extents.last_mut() {
            Some(last) if id.is_hole() && last.id.is_hole() => {
                last.len_bytes += len_bytes;
                *self.ends.last_mut().expect("as many ends as extents") = end;
            }
            _ => {
                self.extents.push(Extent { id, len_bytes });
                self.ends.push(end);
            }
        }
    }

    /// Size of the file.
    pub fn size_bytes(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The extents in order.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The number of the extent that holds byte `offset`; the number of extents where that is at or behind the end.
    pub fn index_at(&self, offset: u64) -> usize {
        self.ends.partition_point(|end| *end <= offset)
    }

    /// The extents from the one that holds `offset` on, each with its place.
    pub fn locate(&self, offset: u64) -> impl Iterator<Item = Located> + '_ {
        (self.index_at(offset)..self.extents.len())
            .map(|i| Located { start: self.ends[i] - self.extents[i].len_bytes, extent: self.extents[i] })
    }

    /// Makes the head, handing each page to `put`, which stores it as a chunk.
    ///
    /// # Errors
    /// Those of `put`, and `Unsupported` over [`EXTENTS_MAX`] extents, which nobody could read again.
    pub fn to_head(&self, mut put: impl FnMut(ChunkId, &[u8]) -> Result<()>) -> Result<Head> {
        if self.extents.len() > EXTENTS_MAX {
            return Err(Error::unsupported(format!("a file of more than {EXTENTS_MAX} chunks and holes")));
        }
        let allocated_bytes = self.extents.iter().filter(|e| !e.id.is_hole()).map(|e| e.len_bytes).sum();
        let mut head =
            Head { size_bytes: self.size_bytes(), allocated_bytes, depth: 0, extents: self.extents.clone() };
        while head.extents.len() > HEAD_MAX {
            head.extents = head
                .extents
                .chunks(PAGE_EXTENTS)
                .map(|page| {
                    let body = encode(page);
                    let id = ChunkId::of(&body);
                    put(id, &body)?;
                    Ok(Extent { id, len_bytes: page.iter().map(|e| e.len_bytes).sum() })
                })
                .collect::<Result<_>>()?;
            head.depth += 1;
        }
        Ok(head)
    }

    pub(crate) fn reserve(&mut self, extents: usize) {
        self.extents.reserve_exact(extents);
        self.ends.reserve_exact(extents);
    }
}

/// Reads the extents of a page and adds them to `into`.
///
/// # Errors
/// `Corrupt` where `page` is no page.
pub fn decode(page: &[u8], into: &mut Vec<Extent>) -> Result<()> {
    let (extents, rest) = page.as_chunks::<EXTENT_BYTES>();
    if extents.is_empty() || !rest.is_empty() || extents.len() > PAGE_EXTENTS {
        return Err(Error::corrupt(format!("manifest page of {} bytes", page.len())));
    }
    into.extend(extents.iter().map(|bytes| Extent {
        id: ChunkId(bytes[..32].try_into().expect("32 of 40 bytes")),
        len_bytes: u64::from_le_bytes(bytes[32..].try_into().expect("8 of 40 bytes")),
    }));
    Ok(())
}

/// Writes extents as a page lists them.
pub fn encode(extents: &[Extent]) -> Vec<u8> {
    let mut page = Vec::with_capacity(extents.len() * EXTENT_BYTES);
    for extent in extents {
        page.extend_from_slice(&extent.id.0);
        page.extend_from_slice(&extent.len_bytes.to_le_bytes());
    }
    page
}

/// Refuses extents that do not add up to what lists them.
pub(crate) fn sum_is(extents: &[Extent], len_bytes: u64) -> Result<()> {
    let sum =
        extents.iter().try_fold(0u64, |sum, e| sum.checked_add(e.len_bytes).filter(|_| e.len_bytes > 0));
    if sum == Some(len_bytes) {
        return Ok(());
    }
    Err(Error::corrupt(format!("manifest covers {sum:?} bytes where {len_bytes} were promised")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(extents: u32) -> Manifest {
        let mut manifest = Manifest::default();
        for i in 0..extents {
            manifest.push(ChunkId::of(&i.to_le_bytes()), 100 + u64::from(i));
        }
        manifest
    }

    #[test]
    fn a_byte_is_found_in_its_extent() {
        let manifest = long(10);
        let at = |offset| manifest.locate(offset).next().map(|l| l.start);
        assert_eq!((at(0), at(99), at(100), at(201)), (Some(0), Some(0), Some(100), Some(201)));
        assert_eq!(at(manifest.size_bytes()), None);
    }

    #[test]
    fn page_layout_is_golden() {
        let extent = Extent { id: ChunkId([7; 32]), len_bytes: 0x0102 };
        let page = encode(&[extent]);
        assert_eq!(page[..32], [7; 32]);
        assert_eq!(page[32..], [2, 1, 0, 0, 0, 0, 0, 0]);
        let mut back = Vec::new();
        decode(&page, &mut back).expect("a page");
        assert_eq!(back, [extent]);
    }
}
