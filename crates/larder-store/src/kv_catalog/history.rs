//! The history: what was deleted or replaced, how it comes back, and how it ends.

use super::txn::Txn;
use super::{KvCatalog, PAGE, keys, queue};
use crate::catalog::{Deleted, OldVersion, Op, Table};
use crate::chunks::ChunkStore;
use crate::kv::Kv;
use larder_core::{ChunkId, Error, Head, Kind, Name, Node, NodeId, Result, Timestamp, manifest};

/// Keys of history that has ended; looked for before the commit takes its lock, as that reads all of the history.
#[derive(Default)]
pub(super) struct Expired {
    versions: Vec<Vec<u8>>,
    deleted: Vec<Vec<u8>>,
}

impl<K: Kv> KvCatalog<K> {
    pub(super) fn expired(&self, ops: &[Op]) -> Result<Expired> {
        let mut expired = Expired::default();
        for op in ops {
            let Op::PurgeHistory { before, interim_before, limit } = op else { continue };
            self.older(b"w", *limit, &mut expired.versions, |bytes| {
                Ok(keys::decode::<OldVersion>(bytes)?.until < *interim_before)
            })?;
            self.older(b"v", *limit, &mut expired.versions, |bytes| {
                Ok(keys::decode::<OldVersion>(bytes)?.until < *before)
            })?;
            self.older(b"t", *limit, &mut expired.deleted, |bytes| {
                Ok(keys::decode::<Deleted>(bytes)?.at < *before)
            })?;
            self.older(b"i", *limit, &mut expired.versions, |bytes| {
                Ok(keys::decode::<Timestamp>(bytes)? < *before)
            })?;
        }
        Ok(expired)
    }

    fn older(
        &self,
        prefix: &[u8],
        limit: usize,
        into: &mut Vec<Vec<u8>>,
        ended: impl Fn(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.each(prefix, |key, value| {
            if ended(value)? {
                into.push(key.to_vec());
            }
            Ok(into.len() < limit)
        })
    }

    /// Calls `visit` for every pair below `prefix` until it says false.
    pub(super) fn each(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.kv.scan(prefix, after.as_deref(), PAGE)?;
            for (key, value) in &page {
                if !visit(key, value)? {
                    return Ok(());
                }
            }
            match page.last() {
                Some((last, _)) => after = Some(last.clone()),
                None => return Ok(()),
            }
        }
    }

    /// Calls `live` with every chunk that a node or an old version refers to, pages of manifests among them.
    ///
    /// A chunk that the catalog refers to when this begins is reported however commits go on meanwhile: nodes are
    /// read before versions, and content moves from a node to its versions, never back. History must not be purged
    /// meanwhile; chunks referred to since are held by leases. Pages that scrub set aside and that cannot be read are
    /// passed over and counted: where there are any, chunks that were not reported may be referred to.
    ///
    /// # Errors
    /// Those of the index and of reading other pages.
    pub fn mark(&self, chunks: &dyn ChunkStore, mut live: impl FnMut(&ChunkId)) -> Result<u64> {
        let mut unread = 0;
        // What a mirror has not fetched, it has no chunks below.
        let partial = self.kv.get(&keys::record(Table::Mirror as u8, crate::origin::CURSOR))?.is_some();
        self.each(b"n", |_, value| {
            if let Some(head) = keys::decode::<Node>(value)?.head() {
                unread += mark_head(head, chunks, partial, &mut live)?;
            }
            Ok(true)
        })?;
        for prefix in [b"v", b"w"] {
            self.each(prefix, |_, value| {
                if let Some(head) = keys::decode::<OldVersion>(value)?.node.head() {
                    unread += mark_head(head, chunks, partial, &mut live)?;
                }
                Ok(true)
            })?;
        }
        // Last: a content that the server's replaced here is in the queue by then.
        self.each(keys::QUEUE, |key, value| {
            for step in queue::decode(keys::queue_number(key)?, value)?.steps {
                if let Some(head) = step.head() {
                    unread += mark_head(head, chunks, partial, &mut live)?;
                }
            }
            Ok(true)
        })?;
        Ok(unread)
    }

    /// Returns the nodes, deleted ones too, whose content or old content `refers` accepts: those that use a chunk.
    ///
    /// # Errors
    /// Those of the index and of reading pages; a page that cannot be read counts as accepted by the caller's choice.
    pub fn referring(
        &self,
        chunks: &dyn ChunkStore,
        mut refers: impl FnMut(&ChunkId) -> bool,
    ) -> Result<Vec<NodeId>> {
        let mut found = Vec::new();
        for prefix in [b"n", b"v", b"w"] {
            self.each(prefix, |_, value| {
                let node = if prefix == b"n" {
                    keys::decode(value)?
                } else {
                    keys::decode::<OldVersion>(value)?.node
                };
                let mut hit = false;
                if let Some(head) = node.head() {
                    // A page that cannot be read is itself among the chunks asked for.
                    let _ = mark_head(head, chunks, false, &mut |id| hit |= refers(id));
                }
                if hit {
                    found.push(node.id);
                }
                Ok(true)
            })?;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// Returns how many pages could not be read and were set aside. In a `partial` store others may never have been there.
pub(super) fn mark_head(
    head: &Head,
    chunks: &dyn ChunkStore,
    partial: bool,
    live: &mut impl FnMut(&ChunkId),
) -> Result<u64> {
    let (mut level, mut unread) = (head.extents.clone(), 0);
    for depth in (0..=head.depth).rev() {
        level.iter().filter(|extent| !extent.id.is_hole()).for_each(|extent| live(&extent.id));
        if depth > 0 {
            let mut below = Vec::new();
            for page in &level {
                match chunks.get(&page.id) {
                    Ok(bytes) => manifest::decode(&bytes, &mut below)?,
                    Err(error) if partial && error.kind() == Kind::NotFound => {}
                    // Scrub set it aside; it may be readable again some day, so what it lists must not go.
                    Err(error) if !chunks.missing(&[page.id])?.is_empty() => {
                        tracing::warn!(page = %page.id, %error, "a page of a manifest cannot be read");
                        unread += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
            level = below;
        }
    }
    Ok(unread)
}

impl<K: Kv> Txn<'_, K> {
    pub(super) fn undelete(&mut self, id: NodeId, to: (NodeId, Name)) -> Result<()> {
        let mut node = self.node(id)?;
        let was = node.name.clone().filter(|_| node.nlink == 0);
        let was = was.ok_or_else(|| Error::invalid(format!("node {id} is not deleted")))?;
        self.folder(to.0)?;
        if self.entry(to.0, &to.1)?.is_some() {
            return Err(Error::exists(format!("{}", to.1)));
        }
        let suffix = id.0.to_be_bytes();
        let gone = self.keys_below(&keys::deleted_as(node.parent, &was), usize::MAX)?;
        for key in gone.into_iter().filter(|key| key.ends_with(&suffix)) {
            self.write(key, None);
        }
        node.nlink = if node.is_folder() { 2 + self.subfolders(id)? } else { 1 };
        node.parent = to.0;
        node.name = Some(to.1.clone());
        self.save_changed(node.clone());
        self.name_node(to.0, to.1, &node)
    }

    fn subfolders(&self, id: NodeId) -> Result<u32> {
        let mut count = 0;
        for key in self.keys_below(&keys::entries(id), usize::MAX)? {
            count += u32::from(self.named(id, &keys::name_of(&key)?)?.is_folder());
        }
        Ok(count)
    }

    pub(super) fn purge(&mut self, expired: &Expired, limit: usize) -> Result<()> {
        for key in expired.versions.iter().take(limit) {
            self.write(key.clone(), None);
            self.committed.purged += 1;
        }
        if self.queue_state()?.len > 0 {
            // What was deleted may have to come back, with what was written into it.
            return Ok(());
        }
        for key in &expired.deleted {
            let Some(bytes) = self.read(key)? else { continue };
            let gone: Deleted = keys::decode(&bytes)?;
            match self.node_if(gone.node)? {
                Some(node) if node.nlink == 0 => {
                    if !self.purge_tree(node, limit)? {
                        return Ok(());
                    }
                    self.write(key.clone(), None);
                }
                _ => self.write(key.clone(), None),
            }
        }
        Ok(())
    }

    /// Forgets `top` and all it holds, deepest first; false where `limit` ended it early, to go on in another commit.
    fn purge_tree(&mut self, top: Node, limit: usize) -> Result<bool> {
        // A node with the key of the entry that names it; the entry goes when its node goes, not before.
        let mut stack: Vec<(Node, Option<Vec<u8>>)> = vec![(top, None)];
        while let Some((node, _)) = stack.last() {
            let room = limit.saturating_sub(self.committed.purged);
            if room == 0 {
                return Ok(false);
            }
            let children =
                if node.is_folder() { self.keys_below(&keys::entries(node.id), room)? } else { Vec::new() };
            if children.is_empty() {
                let (node, entry) = stack.pop().expect("looked at just now");
                self.purge_node(node, entry)?;
                continue;
            }
            let parent = node.id;
            for key in children {
                let child = self.named(parent, &keys::name_of(&key)?)?;
                stack.push((child, Some(key)));
            }
        }
        Ok(true)
    }

    fn purge_node(&mut self, node: Node, entry: Option<Vec<u8>>) -> Result<()> {
        if let Some(key) = entry {
            self.write(key, None);
        }
        self.committed.purged += 1;
        // Another name of it may have been purged since it was looked at.
        let mut node = self.node(node.id)?;
        if !node.is_folder() && node.nlink > 1 {
            node.nlink -= 1;
            self.save(&node);
            return Ok(());
        }
        self.forget(&node)
    }
}
