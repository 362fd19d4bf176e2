//! WebDAV locks: they expire by the clock, survive a restart, and bind every door.
//!
//! Source: RFC 4918 § 6 and § 7. A lock belongs to a node; a deep lock covers all below it; a lock on a folder also
//! protects which names the folder has.

use crate::{Actor, Base, Door, Parts};
use larder_core::{Error, Node, NodeId, Result, Timestamp};
use larder_store::catalog::Table as Records;
use larder_store::{Catalog, Commit, Durability, Op};
use parking_lot::{RwLock, RwLockReadGuard};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The most locks at a time.
pub const LOCKS_MAX: usize = 10_000;
/// The longest that a lock lives without a refresh: a week, in seconds.
pub const TIMEOUT_MAX_S: u64 = 7 * 24 * 3600;
/// The longest description of an owner.
pub const OWNER_MAX_BYTES: usize = 8192;

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// `urn:uuid:…`. Source: RFC 4918 § 6.5, RFC 9562 § 5.4.
    pub token: String,
    /// The node it was taken on.
    pub root: NodeId,
    /// It covers all below the node.
    pub deep: bool,
    /// Others may share it.
    pub shared: bool,
    /// What the client says of its owner, XML as sent.
    pub owner_xml: String,
    /// Whose it is.
    pub user: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// What a lock is asked for with.
#[derive(Clone, Debug)]
pub struct LockRequest {
    /// The node.
    pub root: NodeId,
    /// Cover all below it.
    pub deep: bool,
    /// Allow others to share it.
    pub shared: bool,
    /// XML describing the owner, at most 8 KiB.
    pub owner_xml: String,
    /// Seconds it lives without a refresh; at most a week counts.
    pub timeout_s: u64,
}

/// The table of locks.
pub struct Locks {
    held: RwLock<Table>,
}

type Table = HashMap<String, Lock>;

/// The permission to commit: while it lives, nobody gets a lock.
pub(crate) struct Permit<'a>(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, Table>);

#[derive(Debug)]
struct Held;

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("close it or unlock it there first")
    }
}

impl std::error::Error for Held {}

/// Says whether an error means that a lock or an open file is in the way: 423 in WebDAV, EBUSY in a mount.
pub fn is_locked(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Held>())
}

fn locked(what: String) -> Error {
    Error::conflict(what).because(Held)
}

impl Locks {
    pub(crate) fn load(parts: &Parts) -> Result<Self> {
        let (now, mut held, mut ended) = (parts.clock.now(), Table::new(), Vec::new());
        for (_, bytes) in parts.catalog.records(Records::Locks)? {
            let lock: Lock =
                postcard::from_bytes(&bytes).map_err(|e| Error::corrupt("record of a lock").because(e))?;
            if lock.expires > now {
                held.insert(lock.token.clone(), lock);
            } else {
                ended.push(record(&lock.token, None));
            }
        }
        if !ended.is_empty() {
            save(&*parts.catalog, now, ended)?;
        }
        Ok(Locks { held: RwLock::new(held) })
    }

    /// Takes a lock; it is durable when this returns.
    ///
    /// # Errors
    /// A conflict with [`is_locked`] that names the holder; `NotFound`; `NoSpace` over 10,000 locks.
    pub fn acquire(&self, drive: &Base, actor: &Actor, request: LockRequest) -> Result<Lock> {
        if drive.catalog().node(request.root)?.draft {
            return Err(Error::not_found(format!("node {}", request.root)));
        }
        if request.owner_xml.len() > OWNER_MAX_BYTES {
            return Err(Error::invalid(format!("owner of a lock over {OWNER_MAX_BYTES} bytes")));
        }
        let mut held = self.held.write();
        // A file that is opened for writing from here on finds the lock.
        if is_busy(drive, request.root, request.deep)? {
            return Err(locked(format!("node {} is in use in a mount", request.root)));
        }
        let now = drive.now();
        let (live, ended): (Vec<&Lock>, Vec<&Lock>) = held.values().partition(|lock| lock.expires > now);
        if live.len() >= LOCKS_MAX {
            return Err(Error::new(larder_core::Kind::NoSpace, format!("more than {LOCKS_MAX} locks")));
        }
        for lock in live {
            let meets = covers(drive.catalog(), lock, request.root)?
                || (request.deep && lies_in(drive.catalog(), lock.root, request.root)?);
            if meets && !(lock.shared && request.shared) {
                return Err(locked(format!("locked by {}", lock.user)));
            }
        }
        let lock = Lock {
            token: token(drive),
            root: request.root,
            deep: request.deep,
            shared: request.shared,
            owner_xml: request.owner_xml,
            user: actor.user.clone(),
            expires: expiry(now, request.timeout_s),
        };
        let mut records: Vec<Op> = ended.into_iter().map(|lock| record(&lock.token, None)).collect();
        records.push(record(&lock.token, Some(&lock)));
        save(drive.catalog(), now, records)?;
        held.retain(|_, lock| lock.expires > now);
        held.insert(lock.token.clone(), lock.clone());
        // Nobody else waits for the disk.
        drop(held);
        drive.chunks().sync()?;
        Ok(lock)
    }

    /// Lets a lock live on for `timeout_s` seconds from now.
    ///
    /// # Errors
    /// `NotFound` where it has ended; `Denied` where it is another user's.
    pub fn refresh(&self, drive: &Base, actor: &Actor, token: &str, timeout_s: u64) -> Result<Lock> {
        let mut held = self.held.write();
        let now = drive.now();
        let lock = own(&mut held, actor, token, now)?;
        lock.expires = expiry(now, timeout_s);
        save(drive.catalog(), now, vec![record(token, Some(lock))])?;
        let lock = lock.clone();
        drop(held);
        drive.chunks().sync()?;
        Ok(lock)
    }

    /// Ends a lock.
    ///
    /// # Errors
    /// `NotFound` where it has ended; `Denied` where it is another user's.
    pub fn release(&self, drive: &Base, actor: &Actor, token: &str) -> Result<()> {
        let mut held = self.held.write();
        let now = drive.now();
        own(&mut held, actor, token, now)?;
        save(drive.catalog(), now, vec![record(token, None)])?;
        held.remove(token);
        drop(held);
        drive.chunks().sync()
    }

    /// Ends the locks on `top` and below it, which is deleted or moved: a lock stays with its place, and the place
    /// is gone. [`crate::Drive::remove`], [`crate::Drive::rename`] and [`crate::Drive::join`] do this by themselves.
    /// Source: RFC 4918 § 9.6.1 and § 9.9.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn end_in(&self, drive: &Base, top: NodeId) -> Result<()> {
        let mut gone = Vec::new();
        for lock in self.held.read().values() {
            if lies_in(drive.catalog(), lock.root, top)? {
                gone.push(lock.token.clone());
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let mut held = self.held.write();
        save(drive.catalog(), drive.now(), gone.iter().map(|token| record(token, None)).collect())?;
        held.retain(|token, _| !gone.contains(token));
        drop(held);
        drive.chunks().sync()
    }

    /// Returns the locks on the node and the deep ones above it.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn covering(&self, drive: &Base, node: NodeId) -> Result<Vec<Lock>> {
        let held = self.held.read();
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let now = drive.now();
        let mut found = Vec::new();
        for lock in held.values().filter(|lock| lock.expires > now) {
            if covers(drive.catalog(), lock, node)? {
                found.push(lock.clone());
            }
        }
        found.sort_by(|a, b| a.token.cmp(&b.token));
        Ok(found)
    }

    /// Asks whether `actor` may change `node`; `deep`: and all below it.
    ///
    /// # Errors
    /// A conflict with [`is_locked`] where a lock covers it whose token the actor does not carry.
    pub fn check(&self, drive: &Base, actor: &Actor, node: NodeId, deep: bool) -> Result<()> {
        check(&self.held.read(), drive, actor, node, deep)
    }

    /// As [`Locks::check`] for one node, once every commit that has its [`Permit`] is made.
    pub(crate) fn check_in_turn(&self, drive: &Base, actor: &Actor, node: NodeId) -> Result<()> {
        check(&self.held.write(), drive, actor, node, false)
    }

    /// Asks for every operation of a commit, which is to be applied while the answer lives, and not to be waited for.
    pub(crate) fn permit(&self, drive: &Base, actor: &Actor, ops: &[Op]) -> Result<Permit<'_>> {
        let held = self.held.read();
        let asks_busy = actor.door != Door::Mount;
        if !asks_busy && held.is_empty() {
            return Ok(Permit(held));
        }
        for op in ops {
            for Touched { node, deep, content } in touched(drive.catalog(), op) {
                if asks_busy && content && is_busy(drive, node, deep)? {
                    return Err(locked(format!("node {node} is open for writing, or locked, in a mount")));
                }
                check(&held, drive, actor, node, deep)?;
            }
        }
        Ok(Permit(held))
    }
}

fn check(held: &Table, drive: &Base, actor: &Actor, node: NodeId, deep: bool) -> Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    let now = drive.now();
    let mut shared: Option<(bool, &Lock)> = None;
    for lock in held.values().filter(|lock| lock.expires > now) {
        let covered = covers(drive.catalog(), lock, node)?;
        if !(covered || deep && lies_in(drive.catalog(), lock.root, node)?) {
            continue;
        }
        let carried = lock.user == actor.user && actor.lock_tokens.contains(&lock.token);
        match (carried, lock.shared) {
            (true, false) => {}
            (false, false) => return Err(locked(format!("locked by {}", lock.user))),
            // One token of those who share is enough. Source: RFC 4918 § 7.
            (_, true) => shared = Some((carried || shared.is_some_and(|(c, _)| c), lock)),
        }
    }
    match shared {
        Some((false, lock)) => Err(locked(format!("locked by {}", lock.user))),
        _ => Ok(()),
    }
}

/// Says whether a mount has the file open for writing or locked; `deep`: or one below the folder open for writing.
fn is_busy(drive: &Base, node: NodeId, deep: bool) -> Result<bool> {
    if drive.busy().is_busy(node) {
        return Ok(true);
    }
    if deep {
        for writer in drive.busy().writers() {
            if lies_in(drive.catalog(), writer, node)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A node that an operation needs the permission of locks for.
struct Touched {
    node: NodeId,
    deep: bool,
    /// Its content or its existence is at stake, not an attribute or a member only.
    content: bool,
}

/// The nodes that `op` changes. What does not exist any more is not among them: the commit itself will say so.
fn touched(catalog: &dyn Catalog, op: &Op) -> Vec<Touched> {
    let member = |node| Some(Touched { node, deep: false, content: false });
    let whole = |node: Option<Node>| node.map(|n| Touched { node: n.id, deep: n.is_folder(), content: true });
    let at = |(parent, name): &(NodeId, larder_core::Name)| catalog.lookup(*parent, name).ok();
    let all: [Option<Touched>; 4] = match op {
        Op::Create { parent, .. } | Op::Link { parent, .. } => [member(*parent), None, None, None],
        Op::Unlink { parent, name, .. } => {
            [member(*parent), whole(catalog.lookup(*parent, name).ok()), None, None]
        }
        Op::Rename { from, to, .. } | Op::Exchange { a: from, b: to } => {
            [member(from.0), whole(at(from)), member(to.0), whole(at(to))]
        }
        Op::SetContent { node, .. } => {
            [Some(Touched { node: *node, deep: false, content: true }), None, None, None]
        }
        Op::SetAttrs { node, .. } | Op::SetXattr { node, .. } => [member(*node), None, None, None],
        Op::Undelete { to, .. } | Op::Revive { to, .. } => [member(to.0), None, None, None],
        // What a server told has passed its own locks.
        Op::Adopt { .. } | Op::AdoptName { .. } | Op::AdoptGone { .. } => [None, None, None, None],
        Op::Distrust { .. } | Op::Begin { .. } => [None, None, None, None],
        Op::Here(op) => return touched(catalog, op),
        Op::Sent { .. } | Op::Answered { .. } | Op::Restate { .. } | Op::Compared { .. } => {
            [None, None, None, None]
        }
        Op::Touch { .. } | Op::SetRecord { .. } | Op::PurgeHistory { .. } => [None, None, None, None],
    };
    all.into_iter().flatten().collect()
}

fn covers(catalog: &dyn Catalog, lock: &Lock, node: NodeId) -> Result<bool> {
    if lock.deep { lies_in(catalog, node, lock.root) } else { Ok(lock.root == node) }
}

/// Says whether `node` is `top` or lies below it; a node that is gone lies nowhere.
fn lies_in(catalog: &dyn Catalog, node: NodeId, top: NodeId) -> Result<bool> {
    let mut at = node;
    while at != top {
        if at == NodeId::ROOT {
            return Ok(false);
        }
        match catalog.node(at) {
            Ok(node) if node.nlink == 0 => return Ok(false),
            Ok(node) => at = node.parent,
            Err(error) if error.kind() == larder_core::Kind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn own<'a>(
    held: &'a mut HashMap<String, Lock>,
    actor: &Actor,
    token: &str,
    now: Timestamp,
) -> Result<&'a mut Lock> {
    let lock = held.get_mut(token).filter(|lock| lock.expires > now);
    let lock = lock.ok_or_else(|| Error::not_found(format!("lock {token}")))?;
    if lock.user != actor.user {
        return Err(Error::denied(format!("the lock is held by {}", lock.user)));
    }
    Ok(lock)
}

/// The change of a lock's record; without the lock it goes.
fn record(token: &str, lock: Option<&Lock>) -> Op {
    let value = lock.map(|lock| postcard::to_stdvec(lock).expect("plain records always encode"));
    Op::SetRecord { table: Records::Locks, key: token.as_bytes().to_vec(), value }
}

/// Commits records without waiting for the disk.
fn save(catalog: &dyn Catalog, at: Timestamp, ops: Vec<Op>) -> Result<()> {
    let durability = Durability::Process;
    catalog.commit(Commit { at, op_id: None, expect: Vec::new(), ops, durability }).map(drop)
}

fn expiry(now: Timestamp, timeout_s: u64) -> Timestamp {
    Timestamp(now.0.saturating_add(timeout_s.min(TIMEOUT_MAX_S) as i64 * 1_000_000_000))
}

/// A random UUID. Source: RFC 9562 § 5.4.
fn token(drive: &Base) -> String {
    let mut bytes = [0; 16];
    drive.random(&mut bytes);
    let number = u128::from_be_bytes(bytes);
    let number = (number & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
