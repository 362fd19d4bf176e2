//! A device in the same process: its mirror, and what a user does on it.

use crate::server::Server;
use crate::{commit, follow, mirror_over, name, tree};
use larder_core::{ChunkId, Content, Extent, Head, NodeId, NodeKind, Result, Timestamp};
use larder_store::catalog::{NewNode, Queued, Replace, Unlink, Waiting};
use larder_store::kv::{Batch, Kv};
use larder_store::memory::MemoryKv;
use larder_store::origin::{Mirror, Policy, Refused, Resolving};
use larder_store::{Catalog, Commit, Durability, KvCatalog, Op};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Answers after which everything must have been told.
const ROUNDS_MAX: usize = 2000;

/// A device.
pub struct Device<K: Kv = MemoryKv> {
    /// What it shows.
    pub mirror: Mirror,
    /// What it keeps.
    pub kept: Arc<dyn Catalog>,
    store: Arc<KvCatalog<K>>,
    /// How its conflicts end.
    pub policy: Policy,
}

impl Device {
    /// One that is logged in.
    pub fn new(server: &Arc<Server>) -> Self {
        Self::over(MemoryKv::default(), server)
    }

    /// A copy of all that it keeps.
    pub fn backup(&self) -> MemoryKv {
        let edits = self.store.kv().scan(b"", None, usize::MAX).expect("pairs");
        let edits = edits.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let copy = MemoryKv::default();
        copy.apply(Batch { edits, changes: Vec::new() }).expect("copied");
        copy
    }
}

impl<K: Kv + 'static> Device<K> {
    /// The device that kept this.
    pub fn over(kv: K, server: &Arc<Server>) -> Self {
        let (mirror, store) = mirror_over(kv, server);
        Self { mirror, kept: store.clone(), store, policy: Policy::KeepBoth }
    }

    /// Changes something.
    pub fn run(&self, op: Op) -> Result<()> {
        let (expect, durability) = (vec![], Durability::Process);
        let commit = Commit { at: Timestamp(1), op_id: None, expect, ops: vec![op], durability };
        self.mirror.prepare(&commit.ops)?;
        self.mirror.commit(commit).map(drop)
    }

    /// Makes a file, or without content a folder.
    pub fn make(&self, parent: NodeId, text: &str, content: Option<u8>) -> Result<NodeId> {
        let id = self.mirror.new_id();
        let (kind, content) = match content {
            Some(content) => (NodeKind::File, Content::File(head(content))),
            None => (NodeKind::Folder, Content::None),
        };
        let (mode, uid, gid, mtime, draft) = (0o644, 1, 2, None, false);
        let node = Box::new(NewNode { id, kind, mode, uid, gid, content, mtime, draft });
        self.run(Op::Create { parent, name: name(text), node }).map(|()| id)
    }

    /// Gives a file new content.
    pub fn write(&self, node: NodeId, content: u8) -> Result<()> {
        self.write_at(node, content, 1)
    }

    /// Gives a file new content and this mtime.
    pub fn write_at(&self, node: NodeId, content: u8, mtime: i64) -> Result<()> {
        let mtime = Timestamp(mtime);
        self.run(Op::SetContent { node, head: head(content), mtime, interim: None, base: None })
    }

    /// Renames.
    pub fn rename(&self, from: (NodeId, &str), to: (NodeId, &str)) -> Result<()> {
        let (from, to) = ((from.0, name(from.1)), (to.0, name(to.1)));
        self.run(Op::Rename { from, to, replace: Replace::Posix })
    }

    /// Removes a file.
    pub fn remove(&self, parent: NodeId, text: &str) -> Result<()> {
        self.run(Op::Unlink { parent, name: name(text), what: Unlink::File })
    }

    /// Looks a name up.
    pub fn look(&self, parent: NodeId, text: &str) -> NodeId {
        self.mirror.lookup(parent, &name(text)).expect("there").id
    }

    /// Tells the server of up to `limit` changes; says whether there were any.
    pub fn push(&self, limit: usize) -> bool {
        self.push_past(limit, None)
    }

    /// The same, while the one at this place of the queue has to wait.
    pub fn push_past(&self, limit: usize, held: Option<usize>) -> bool {
        let mut waiting = Waiting::default();
        let entries = self.mirror.take(0, limit).expect("a queue").into_iter().enumerate();
        let entries = entries.filter(|(place, entry)| {
            let waits = held == Some(*place) || waiting.holds_up(entry);
            if waits {
                waiting.add(entry);
            }
            !waits
        });
        let entries: Vec<Queued> = entries.map(|(_, entry)| entry).collect();
        let keep = |ops| commit(&self.kept, ops).map(drop);
        let answer = self.mirror.push(&entries, keep).expect("an answer");
        if let Some((refused, news)) = answer.refused {
            let Refused::Failed(why) = refused else { panic!("this server has every chunk") };
            let entry = &entries[answer.done];
            let policy = self.policy;
            let how = |is_last| Resolving { label: "conflict", policy, is_last, at: Timestamp(1) };
            let resolve = |last| self.mirror.resolve(entry, &why, &news, &how(last)).expect("resolved");
            let restated = resolve(false).or_else(|| resolve(true));
            let restated = restated.unwrap_or_else(|| panic!("{entry:?} is refused for ever: {why:?}"));
            self.mirror.restate(restated, news, keep).expect("restated");
        }
        self.compare_some(1);
        !entries.is_empty()
    }

    /// Compares what is in doubt, up to so many pages; says whether that is all for now.
    pub fn compare_some(&self, pages: usize) -> bool {
        self.mirror.compare_some(pages, |ops| commit(&self.kept, ops).map(drop)).expect("compared")
    }

    /// Tells the server of everything.
    pub fn push_all(&self) {
        let rounds = (0..ROUNDS_MAX).take_while(|_| self.push(3)).count();
        assert!(rounds < ROUNDS_MAX, "the queue does not end: {:?}", self.mirror.take(0, 9));
    }

    /// Tells the server of everything, and hears of everything.
    pub fn settle(&self) {
        self.push_all();
        while !self.compare_some(2) {}
        assert!(!self.mirror.queue_len().expect("a state").in_doubt, "everything is told and compared");
        follow(&self.mirror, &self.kept);
    }

    /// The contents of all files, by their sizes.
    pub fn contents(&self) -> BTreeSet<u64> {
        tree(&self.mirror).into_values().filter_map(|told| told.node.head().map(|h| h.size_bytes)).collect()
    }
}

/// A content that is told from others by its size.
pub fn head(content: u8) -> Head {
    let size = u64::from(content) + 1;
    let extents = vec![Extent { id: ChunkId([content; 32]), len_bytes: size }];
    Head { size_bytes: size, allocated_bytes: size, depth: 0, extents }
}
