//! Writing a whole file at once: bytes stream into chunks, and one commit publishes them.
//!
//! Dropping an upload aborts it: the old file stays, and the chunks already stored are swept.

use crate::{Actor, Drive};
use larder_core::{
    Chunker, Content, Error, Head, Kind, Manifest, Name, Node, NodeId, NodeKind, Result, Timestamp,
};
use larder_store::catalog::{NewNode, XattrMode};
use larder_store::{Durability, Expect, Lease, Op};
use std::sync::Arc;

/// How often an upload looks again after somebody else changed the name that it goes to.
const TRIES: usize = 8;

/// Takes the bytes of one file.
pub struct Upload {
    drive: Arc<Drive>,
    chunker: Chunker,
    manifest: Manifest,
    lease: Lease,
    written_bytes: u64,
}

/// Where an upload goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The folder.
    pub parent: NodeId,
    /// The name; a file of that name is replaced and keeps its id and attributes.
    pub name: Name,
    /// What must still hold at the commit.
    pub expect: Vec<Expect>,
    /// Last change of the content; `None` for now.
    pub mtime: Option<Timestamp>,
    /// Permission bits of a new file.
    pub mode: u16,
}

impl Drive {
    /// Starts an upload.
    pub fn upload(self: &Arc<Self>) -> Upload {
        let lease = self.chunks().lease();
        let (chunker, manifest) = (Chunker::new(), Manifest::default());
        Upload { drive: self.clone(), chunker, manifest, lease, written_bytes: 0 }
    }
}

impl Upload {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// `NoSpace` and those of the disk; the upload is worth nothing then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.chunker.push(bytes);
        self.written_bytes += bytes.len() as u64;
        while let Some((id, body)) = self.chunker.next_chunk() {
            self.drive.chunks().put(&self.lease, &id, &body)?;
            self.manifest.push(id, body.len() as u64);
        }
        Ok(())
    }

    /// Takes bytes `from` to `to` of a committed version; what it shares with that version is not stored again.
    ///
    /// # Errors
    /// `Invalid` where the range ends behind the end of the file; those of reading and storing.
    pub fn write_from(&mut self, reader: &crate::Reader, from: u64, to: u64) -> Result<()> {
        let mut offset = from;
        while offset < to {
            let max = usize::try_from(to - offset).unwrap_or(usize::MAX);
            let piece = reader.read(offset, max)?;
            if piece.is_empty() {
                return Err(Error::invalid("range ends behind the end of the file"));
            }
            offset += piece.len() as u64;
            self.write(&piece)?;
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Publishes the file in one durable commit.
    ///
    /// # Errors
    /// Those of [`Upload::seal`] and [`Sealed::publish`]; the old file stays.
    pub fn finish(self, actor: &Actor, target: Target) -> Result<Published> {
        self.seal()?.publish(actor, target, Vec::new())
    }

    /// Stores what is left, so that the content is known and only its publication is missing.
    ///
    /// # Errors
    /// As for [`Upload::write`].
    pub fn seal(mut self) -> Result<Sealed> {
        while let Some((id, body)) = self.chunker.finish() {
            self.drive.chunks().put(&self.lease, &id, &body)?;
            self.manifest.push(id, body.len() as u64);
        }
        let head =
            self.manifest.to_head(|id, page| self.drive.chunks().put(&self.lease, &id, page).map(drop))?;
        Ok(Sealed { drive: self.drive, head, _lease: self.lease })
    }
}

/// A whole content that no name shows yet.
pub struct Sealed {
    drive: Arc<Drive>,
    head: Head,
    _lease: Lease,
}

/// What an upload made.
#[derive(Clone, Debug)]
pub struct Published {
    /// The file.
    pub id: NodeId,
    /// The content that this upload gave it; others may have replaced it since.
    pub head: Head,
    /// The file is new.
    pub created: bool,
}

impl Sealed {
    /// Names the content.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Publishes the content, and sets extended attributes in the same durable commit.
    ///
    /// # Errors
    /// `IsADirectory` where the name is a folder's; `Conflict` where an expectation no longer holds; locked;
    /// `NoSpace`. The old file stays.
    pub fn publish(
        self,
        actor: &Actor,
        target: Target,
        xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Published> {
        for _ in 0..TRIES {
            let seen = match self.drive.catalog().lookup(target.parent, &target.name) {
                Ok(node) => Some(node),
                Err(error) if error.kind() == Kind::NotFound => None,
                Err(error) => return Err(error),
            };
            match self.attempt(actor, &target, &xattrs, seen.as_ref()) {
                Err(error) if error.kind() == Kind::Conflict && self.moved(&target, seen.as_ref()) => {}
                Err(error) => return Err(error),
                Ok(id) => return Ok(Published { id, head: self.head, created: seen.is_none() }),
            }
        }
        Err(Error::conflict(format!("{}: changed {TRIES} times while it was being written", target.name)))
    }

    fn attempt(
        &self,
        actor: &Actor,
        target: &Target,
        xattrs: &[(Vec<u8>, Vec<u8>)],
        seen: Option<&Node>,
    ) -> Result<NodeId> {
        let mut expect = target.expect.clone();
        expect.push(Expect::Name(target.parent, target.name.clone(), seen.map(|node| node.id)));
        let mtime = target.mtime.unwrap_or_else(|| self.drive.now());
        let (id, op) = match seen {
            Some(node) if node.is_file() => {
                let head = self.head.clone();
                (node.id, Op::SetContent { node: node.id, head, mtime, interim: None, base: None })
            }
            Some(node) if node.is_folder() => {
                return Err(Error::new(Kind::IsADirectory, format!("{}", target.name)));
            }
            Some(_) => return Err(Error::denied(format!("{} is no regular file", target.name))),
            None => self.creation(actor, target),
        };
        let kept = xattrs.iter().map(|(name, value)| Op::SetXattr {
            node: id,
            name: name.clone(),
            value: Some(value.clone()),
            mode: XattrMode::Any,
        });
        let ops = std::iter::once(op).chain(kept).collect();
        self.drive.commit(actor, expect, ops, Durability::Power)?;
        Ok(id)
    }

    fn creation(&self, actor: &Actor, target: &Target) -> (NodeId, Op) {
        let id = self.drive.catalog().new_id();
        let node = Box::new(NewNode {
            id,
            kind: NodeKind::File,
            mode: target.mode,
            uid: actor.uid,
            gid: actor.gid,
            content: Content::File(self.head.clone()),
            mtime: target.mtime,
            draft: false,
        });
        (id, Op::Create { parent: target.parent, name: target.name.clone(), node })
    }

    /// Says whether the name stands for something else than when it was looked at.
    fn moved(&self, target: &Target, seen: Option<&Node>) -> bool {
        let now = self.drive.catalog().lookup(target.parent, &target.name).ok();
        now.map(|node| node.id) != seen.map(|node| node.id)
    }
}
