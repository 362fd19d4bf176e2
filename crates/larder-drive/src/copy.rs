//! Copies inside the drive: new nodes over the same chunks, in one commit, without moving a byte.

use crate::{Actor, Drive};
use larder_core::{Error, Name, Node, NodeId, Result};
use larder_store::catalog::{NewNode, OPS_MAX, Replace, Unlink, XattrMode};
use larder_store::{Durability, Expect, Op};

/// How much of a folder a copy takes. Source: RFC 4918 § 9.8.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDepth {
    /// The folder without its members.
    Zero,
    /// All of it.
    Infinity,
}

impl Drive {
    /// Copies `source` to `to` where `expect` holds at the commit; what is replaced goes to the history in the same commit.
    /// Times of the content, permissions and extended attributes go along; the owner is the actor.
    ///
    /// # Errors
    /// `Exists` by `replace`; `Invalid` into itself or over a folder that holds it, or over 1,000,000 operations;
    /// `NotFound` for a missing parent; `Conflict` where an expectation no longer holds; locked.
    pub fn copy(
        &self,
        actor: &Actor,
        source: NodeId,
        to: (NodeId, Name),
        replace: Replace,
        depth: CopyDepth,
        mut expect: Vec<Expect>,
    ) -> Result<Node> {
        let _hold = self.hold();
        let source = self.node(source)?;
        let (parent, name) = to;
        let old = self.catalog().lookup(parent, &name).ok();
        self.apart(&source, parent, old.as_ref())?;
        let mut ops = Vec::new();
        if let Some(old) = &old {
            if replace == Replace::Nothing {
                return Err(Error::exists(format!("{name}")));
            }
            let what = match replace {
                Replace::Tree => Unlink::Tree,
                _ if old.is_folder() => Unlink::EmptyFolder,
                _ => Unlink::File,
            };
            ops.push(Op::Unlink { parent, name: name.clone(), what });
        }
        expect.push(Expect::Name(parent, name.clone(), old.map(|node| node.id)));
        let id = self.copy_node(actor, &source, parent, name, &mut ops)?;
        if depth == CopyDepth::Infinity && source.is_folder() {
            self.copy_members(actor, source.id, id, &mut ops)?;
        }
        self.commit(actor, expect, ops, Durability::Power)?;
        self.node(id)
    }

    /// Refuses a copy into the source itself and over a folder that holds the source.
    fn apart(&self, source: &Node, parent: NodeId, old: Option<&Node>) -> Result<()> {
        let meets = |from: NodeId, wanted: NodeId| -> Result<bool> {
            let mut at = from;
            while at != wanted {
                if at == NodeId::ROOT {
                    return Ok(false);
                }
                at = self.catalog().node(at)?.parent;
            }
            Ok(true)
        };
        let overwrites_source = match old {
            Some(old) => meets(source.id, old.id)?,
            None => false,
        };
        if overwrites_source || (source.is_folder() && meets(parent, source.id)?) {
            return Err(Error::invalid(
                "a copy cannot go into its own source or replace a folder that holds it",
            ));
        }
        Ok(())
    }

    fn copy_node(
        &self,
        actor: &Actor,
        source: &Node,
        parent: NodeId,
        name: Name,
        ops: &mut Vec<Op>,
    ) -> Result<NodeId> {
        let id = self.catalog().new_id();
        let node = Box::new(NewNode {
            id,
            kind: source.kind,
            mode: source.mode,
            uid: actor.uid,
            gid: actor.gid,
            content: source.content.clone(),
            mtime: Some(source.mtime),
            draft: false,
        });
        ops.push(Op::Create { parent, name, node });
        for xattr in self.catalog().xattrs(source.id)? {
            let value = self.catalog().xattr(source.id, &xattr)?;
            ops.push(Op::SetXattr { node: id, name: xattr, value: Some(value), mode: XattrMode::Any });
        }
        if ops.len() > OPS_MAX {
            return Err(Error::invalid(format!("a copy of more than {OPS_MAX} nodes: copy it in parts")));
        }
        Ok(id)
    }

    fn copy_members(&self, actor: &Actor, from: NodeId, to: NodeId, ops: &mut Vec<Op>) -> Result<()> {
        let mut folders = vec![(from, to)];
        while let Some((from, to)) = folders.pop() {
            self.each_entry(from, |entry| {
                let id = self.copy_node(actor, &entry.node, to, entry.name, ops)?;
                if entry.node.is_folder() {
                    folders.push((entry.node.id, id));
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
