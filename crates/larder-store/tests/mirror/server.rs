//! A server in the same process.

use crate::{ROOT, name};
use larder_core::{ChunkId, Content, Error, Kind, Name, NodeId, NodeKind, Result, Timestamp};
use larder_store::catalog::{Cursor, Entry, NewNode, Step};
use larder_store::memory::MemoryKv;
use larder_store::origin::{Feed, Heard, News, Origin, Page, Project, Pushed, Refused, Role, Ruled};
use larder_store::wire::Described;
use larder_store::{Catalog, Change, Commit, Durability, KvCatalog, Op};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What happens between a question and its answer.
pub type Meanwhile = Box<dyn FnOnce(&Server) + Send>;

/// A server in this process: its catalog, and a count of what it was asked.
pub struct Server {
    /// What it has.
    pub catalog: KvCatalog<MemoryKv>,
    time: AtomicU64,
    asked: AtomicUsize,
    /// Done once, between reading a page and answering with it.
    pub meanwhile: Mutex<Option<Meanwhile>>,
    /// The feed reaches back no further than this.
    pub forgotten: Mutex<Option<Cursor>>,
    ranges: AtomicU32,
    /// Every node that was ever made by a device.
    pub made: Mutex<Vec<NodeId>>,
}

impl Server {
    /// One with an empty project.
    pub fn new() -> Arc<Self> {
        let catalog = KvCatalog::open(MemoryKv::default(), Timestamp(1), (0, 0)).expect("an empty catalog");
        Arc::new(Self {
            catalog,
            time: AtomicU64::new(1),
            asked: AtomicUsize::new(0),
            meanwhile: Mutex::default(),
            forgotten: Mutex::default(),
            ranges: AtomicU32::new(0),
            made: Mutex::default(),
        })
    }

    /// Changes something there.
    pub fn run(&self, op: Op) -> Result<()> {
        let at = Timestamp(self.time.fetch_add(1, Ordering::Relaxed) as i64 + 1);
        let durability = Durability::Process;
        self.catalog.commit(Commit { at, op_id: None, expect: vec![], ops: vec![op], durability }).map(drop)
    }

    /// Makes a file or folder there.
    pub fn make(&self, parent: NodeId, text: &str, kind: NodeKind) -> NodeId {
        let content = if kind == NodeKind::File { Content::File(Default::default()) } else { Content::None };
        let id = self.catalog.new_id();
        let (mode, uid, gid, mtime, draft) = (0o644, 1, 2, None, false);
        let node = Box::new(NewNode { id, kind, mode, uid, gid, content, mtime, draft });
        self.run(Op::Create { parent, name: name(text), node }).expect("a free name");
        id
    }

    fn described(&self, id: NodeId) -> Result<Described> {
        let node = self.catalog.node(id)?;
        let names = self.catalog.xattrs(id)?;
        let xattrs = names.into_iter().map(|name| Ok((name.clone(), self.catalog.xattr(id, &name)?)));
        Ok(Described { node, xattrs: xattrs.collect::<Result<_>>()? })
    }

    /// What a name names there.
    pub fn named(&self, parent: NodeId, name: &Name) -> Result<Option<Described>> {
        match self.catalog.lookup(parent, name) {
            Ok(node) => self.described(node.id).map(Some),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn carry_out(&self, entry: Entry) -> Result<()> {
        for step in &entry.steps {
            if let Step::Create { node, .. } = step {
                self.made.lock().push(node.node.id);
            }
        }
        let at = Timestamp(self.time.fetch_add(1, Ordering::Relaxed) as i64 + 1);
        let (op_id, durability) = (Some(entry.op_id), Durability::Process);
        let (expect, ops) = entry.carried_out();
        self.catalog.commit(Commit { at, op_id, expect, ops, durability }).map(drop)
    }

    /// Says whether neither it nor a folder above it is deleted.
    fn is_alive(&self, mut id: NodeId) -> bool {
        while id != ROOT {
            match self.catalog.node(id) {
                Ok(node) if !node.is_folder() && (node.nlink > 1 || node.name.is_none()) => {
                    return node.nlink > 0;
                }
                Ok(node) if node.nlink > 0 => id = node.parent,
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }

    fn news_of(&self, id: NodeId) -> News {
        match self.described(id) {
            Ok(node) if self.is_alive(id) => News::Node(Box::new(node)),
            _ => News::Gone(id),
        }
    }

    fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }
}

impl Origin for Server {
    fn project(&self) -> Result<Project> {
        self.ask();
        Ok(Project { root: self.described(ROOT)?, role: Role::Owner, cursor: self.catalog.now() })
    }

    fn entries(&self, folder: NodeId, after: Option<&Name>, limit: usize) -> Result<Page> {
        self.ask();
        let mut listed = self.catalog.list(folder, after, limit + 1)?;
        let more = listed.len() > limit;
        listed.truncate(limit);
        let next = listed.last().filter(|_| more).map(|entry| entry.name.clone());
        let entries = listed.into_iter().map(|entry| Ok((entry.name, self.described(entry.node.id)?)));
        let page = Page { entries: entries.collect::<Result<_>>()?, next };
        let meanwhile = self.meanwhile.lock().take();
        if let Some(change) = meanwhile {
            change(self);
        }
        Ok(page)
    }

    fn find(&self, folder: NodeId, name: &Name) -> Result<Option<Described>> {
        self.ask();
        self.named(folder, name)
    }

    fn chunks(
        &self,
        _: NodeId,
        _: &[ChunkId],
        _: &larder_store::origin::Cancel,
        _: &mut dyn FnMut(usize, Option<bytes::Bytes>) -> Result<()>,
    ) -> Result<()> {
        unreachable!("no test reads a file")
    }

    fn changes(&self, after: &Cursor, limit: usize) -> Result<Feed> {
        self.ask();
        if self.forgotten.lock().as_ref() == Some(after) {
            return Err(Error::conflict("the feed begins later"));
        }
        let (changes, cursor) = self.catalog.changes(after, limit)?;
        let more = changes.len() == limit;
        let (mut news, mut touched) = (Vec::new(), BTreeSet::new());
        for change in changes {
            match change {
                Change::Named { parent, name, node } | Change::Unnamed { parent, name, node } => {
                    touched.extend([parent, node]);
                    let node = self.named(parent, &name)?.map(Box::new);
                    news.push(News::Name { parent, name, node });
                }
                Change::Content(id) | Change::Attrs(id) => drop(touched.insert(id)),
            }
        }
        // Names change their folders and their nodes as well.
        news.extend(touched.into_iter().map(|id| self.news_of(id)));
        Ok(Feed { news, cursor, more })
    }

    fn missing(&self, _: &[ChunkId]) -> Result<Vec<ChunkId>> {
        Ok(Vec::new())
    }

    fn send(&self, _: &[bytes::Bytes]) -> Result<()> {
        Ok(())
    }

    fn push(&self, entries: &[Entry]) -> Result<Pushed> {
        self.ask();
        let (mut names, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        let (mut done, mut refused) = (0, None);
        for entry in entries {
            for step in &entry.steps {
                let touched = step.touches();
                names.extend(touched.names);
                nodes.extend(touched.nodes);
            }
            if let Err(error) = self.carry_out(entry.clone()) {
                refused = Some(Refused::Failed(error));
                break;
            }
            done += 1;
        }
        let mut news = Vec::new();
        for (parent, name) in names {
            let node = self.named(parent, &name)?.map(Box::new);
            news.push(News::Name { parent, name, node });
        }
        news.extend(nodes.into_iter().map(|id| self.news_of(id)));
        Ok(Pushed { done, refused, news })
    }

    fn range(&self) -> Result<u32> {
        Ok(self.ranges.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn end(&self) {}

    fn wait(&self, after: &Cursor, _: u64, _: Duration) -> Result<Heard> {
        Ok(Heard { changes: self.catalog.now() != *after, rules: false })
    }

    fn rules(&self, _: Option<&str>) -> Result<Ruled> {
        Ok(Ruled::default())
    }

    fn set_rules(&self, _: Option<&str>, _: u64, _: &str) -> Result<Ruled> {
        unreachable!("no test writes rules")
    }
}
