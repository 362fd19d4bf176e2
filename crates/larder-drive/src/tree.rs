//! The committed tree: paths, listings and changes of names.

use crate::{Actor, Drive};
use larder_core::{Content, DrivePath, Error, Kind, Name, Node, NodeId, NodeKind, Result, name};
use larder_store::catalog::{Attrs, NewNode, Replace, Unlink, XattrMode};
use larder_store::{Durability, Expect, Listed, Op};

/// Entries that a walk reads at a time.
pub(crate) const PAGE: usize = 1024;
/// How often a change of names looks again after somebody else was first.
pub(crate) const LOOKS_MAX: usize = 100;

/// Lets `attempt` look at the drive and change it until nobody else does in between, as `is_disturbed` tells; at most a
/// hundred times.
///
/// # Errors
/// Those of `attempt`.
pub fn undisturbed<T, E>(
    is_disturbed: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 1..LOOKS_MAX {
        match attempt() {
            Err(error) if is_disturbed(&error) => {}
            done => return done,
        }
    }
    attempt()
}

impl Drive {
    /// Returns the committed node.
    ///
    /// # Errors
    /// `NotFound`, also for a draft.
    pub fn node(&self, id: NodeId) -> Result<Node> {
        published(self.catalog().node(id)?)
    }

    /// Returns what `name` in `parent` names.
    ///
    /// # Errors
    /// `NotFound`, also for a draft; `NotADirectory`.
    pub fn lookup(&self, parent: NodeId, name: &Name) -> Result<Node> {
        published(self.catalog().lookup(parent, name)?)
    }

    /// Returns the node at `path` below the root of `home`; symlinks are not followed.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`; the message has the part of the path that failed.
    pub fn resolve(&self, path: &DrivePath) -> Result<Node> {
        let Some((last, folders)) = path.names().split_last() else { return self.node(NodeId::ROOT) };
        let mut parent = NodeId::ROOT;
        for name in folders {
            let node = self.lookup(parent, name).map_err(|e| in_path(path, e))?;
            if !node.is_folder() {
                return Err(Error::new(Kind::NotADirectory, format!("{path}: {name} is no folder")));
            }
            parent = node.id;
        }
        self.lookup(parent, last).map_err(|e| in_path(path, e))
    }

    /// Returns a path of the node.
    ///
    /// # Errors
    /// `NotFound` where the node, or a folder above it, is deleted.
    pub fn path_of(&self, id: NodeId) -> Result<DrivePath> {
        let mut names = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            let node = self.catalog().node(at)?;
            let (parent, name) = match node.name {
                Some(name) if self.catalog().lookup(node.parent, &name).is_ok_and(|n| n.id == at) => {
                    (node.parent, name)
                }
                _ if self.is_hidden(&node) => {
                    return Err(Error::not_found(format!("node {id} is not shown on this device")));
                }
                // The name it had last is gone, and it has another one.
                _ if node.nlink > 0 && !node.is_folder() => self.search(at)?,
                _ => return Err(Error::not_found(format!("node {id} is deleted"))),
            };
            names.push(name);
            if names.len() > name::DEPTH_MAX {
                return Err(Error::corrupt(format!("node {id} lies in a circle of folders")));
            }
            at = parent;
        }
        names.reverse();
        Ok(names.into())
    }

    /// Says whether rules hide the place where a node says it is.
    fn is_hidden(&self, node: &Node) -> bool {
        let decision = self.placements().map(|placements| placements.decide(self.catalog(), node));
        decision.is_some_and(|decision| decision.is_ok_and(|decision| !decision.is_shown()))
    }

    /// Finds a name of a file by walking the drive: rare, only after the newest of several hard links went.
    fn search(&self, id: NodeId) -> Result<(NodeId, Name)> {
        let mut folders = vec![NodeId::ROOT];
        while let Some(folder) = folders.pop() {
            let mut found = None;
            self.each_entry(folder, |entry| {
                if entry.node.id == id {
                    found = Some((folder, entry.name));
                } else if entry.node.is_folder() {
                    folders.push(entry.node.id);
                }
                Ok(())
            })?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(Error::not_found(format!("node {id} has no name")))
    }

    /// Returns up to `limit` entries of a folder in byte order of their names, behind `after`, without drafts.
    /// Fewer than `limit` may come before the end; none means the end.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn list(&self, folder: NodeId, after: Option<&Name>, limit: usize) -> Result<Vec<Listed>> {
        let mut after = after.cloned();
        loop {
            let page = self.catalog().list(folder, after.as_ref(), limit)?;
            let Some(last) = page.last() else { return Ok(page) };
            after = Some(last.name.clone());
            let shown: Vec<Listed> = page.into_iter().filter(|entry| !entry.node.draft).collect();
            if !shown.is_empty() {
                return Ok(shown);
            }
        }
    }

    /// Calls `visit` with every entry of a folder.
    pub(crate) fn each_entry(
        &self,
        folder: NodeId,
        mut visit: impl FnMut(Listed) -> Result<()>,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.list(folder, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name.clone());
            page.into_iter().try_for_each(&mut visit)?;
        }
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// `Exists`; `NotFound` and `NotADirectory` for the parent; locked.
    pub fn make_folder(&self, actor: &Actor, parent: NodeId, name: Name, mode: u16) -> Result<Node> {
        let id = self.catalog().new_id();
        let node = Box::new(NewNode {
            id,
            kind: NodeKind::Folder,
            mode,
            uid: actor.uid,
            gid: actor.gid,
            content: Content::None,
            mtime: None,
            draft: false,
        });
        self.commit(actor, Vec::new(), vec![Op::Create { parent, name, node }], Durability::Power)?;
        self.node(id)
    }

    /// Removes a name; with [`Unlink::Tree`] a folder goes with all it holds, in one commit whatever its size.
    ///
    /// # Errors
    /// Those of [`Op::Unlink`]; locked.
    pub fn remove(&self, actor: &Actor, parent: NodeId, name: &Name, what: Unlink) -> Result<()> {
        let node = self.catalog().lookup(parent, name)?;
        let op = Op::Unlink { parent, name: name.clone(), what };
        self.commit(actor, Vec::new(), vec![op], Durability::Power)?;
        self.locks().end_in(self, node.id)
    }

    /// Renames, in one commit whatever is replaced, where `expect` holds at that moment.
    ///
    /// # Errors
    /// Those of [`Op::Rename`]; `Conflict` where an expectation no longer holds; locked.
    pub fn rename(
        &self,
        actor: &Actor,
        from: (NodeId, Name),
        to: (NodeId, Name),
        replace: Replace,
        expect: Vec<Expect>,
    ) -> Result<()> {
        let node = self.lookup(from.0, &from.1)?;
        let replaced = self.catalog().lookup(to.0, &to.1).ok();
        self.commit(actor, expect, vec![Op::Rename { from, to, replace }], Durability::Power)?;
        replaced.map_or(Ok(()), |replaced| self.locks().end_in(self, replaced.id))?;
        self.locks().end_in(self, node.id)
    }

    /// Moves one name of `node` onto another one of it, where `expect` holds at that moment. rename(2) leaves both; here
    /// `from` is gone afterwards. Source: RFC 4918 § 9.9.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`; `Conflict` where `to` no longer names it or an expectation no longer holds; locked.
    pub fn join(
        &self,
        actor: &Actor,
        node: NodeId,
        from: (NodeId, Name),
        to: (NodeId, Name),
        mut expect: Vec<Expect>,
    ) -> Result<()> {
        expect.push(Expect::Name(to.0, to.1.clone(), Some(node)));
        let ops = vec![
            Op::Unlink { parent: to.0, name: to.1.clone(), what: Unlink::File },
            Op::Rename { from, to, replace: Replace::Nothing },
        ];
        self.commit(actor, expect, ops, Durability::Power)?;
        self.locks().end_in(self, node)
    }

    /// Sets attributes and returns the node as it is then.
    ///
    /// # Errors
    /// `NotFound`; locked.
    pub fn set_attrs(&self, actor: &Actor, id: NodeId, attrs: Attrs) -> Result<Node> {
        self.commit(actor, Vec::new(), vec![Op::SetAttrs { node: id, attrs }], Durability::Power)?;
        self.node(id)
    }

    /// Sets (or with `None` removes) extended attributes, all or none; removing one that is not there is no error.
    ///
    /// # Errors
    /// `NotFound` for the node; `Invalid` for a value that is too long; locked.
    pub fn set_xattrs(&self, actor: &Actor, id: NodeId, set: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<()> {
        let mut ops = Vec::with_capacity(set.len());
        for (name, value) in set {
            if value.is_some() || self.catalog().xattr(id, &name).is_ok() {
                ops.push(Op::SetXattr { node: id, name, value, mode: XattrMode::Any });
            }
        }
        self.commit(actor, Vec::new(), ops, Durability::Power).map(drop)
    }
}

fn published(node: Node) -> Result<Node> {
    if node.draft { Err(Error::not_found(format!("node {}", node.id))) } else { Ok(node) }
}

fn in_path(path: &DrivePath, error: Error) -> Error {
    match error.kind() {
        Kind::NotFound | Kind::NotADirectory => Error::new(error.kind(), format!("{path}")),
        _ => error,
    }
}
