//! `larder conflicts`: what was changed on this device and at its server, of which both sides were kept, and how one ends.

use crate::args::Keep;
use crate::data::Opened;
use crate::{actor, time};
use larder_core::{Content, DrivePath, Error, Kind, NodeId, Result};
use larder_drive::Drive;
use larder_store::catalog::{Expect, Unlink};
use larder_store::origin::{Conflict, Over};
use larder_store::{Durability, Op};
use serde_json::{Value, json};

/// Lists the conflicts at `path` and below it.
///
/// # Errors
/// `Invalid` for a drive of its own; those of the index.
pub fn list(opened: &Opened, path: &DrivePath) -> Result<Value> {
    let all = noted(opened)?.into_iter().filter_map(|conflict| {
        let shown = Shown::of(&opened.drive, conflict)?;
        let is_below = |inner: &DrivePath| inner.names().starts_with(path.names());
        (is_below(&shown.theirs) || is_below(&shown.ours)).then(|| shown.value())
    });
    Ok(Value::Array(all.collect()))
}

/// Ends the conflict of which `path` names one side.
///
/// # Errors
/// `NotFound` where there is none; `Unsupported` for what is no file, unless both sides stay; those of the commit.
pub fn settle(opened: &Opened, path: &DrivePath, keep: Keep) -> Result<Value> {
    let node = opened.drive.resolve(path)?.id;
    let mut all = noted(opened)?.into_iter();
    let mut own = all.by_ref().filter(|conflict| conflict.ours == node || conflict.theirs == node);
    let conflict = own.next().ok_or_else(|| Error::not_found(format!("no conflict is noted of {path}")))?;
    if own.next().is_some() {
        return Err(Error::invalid(format!("{path} has several copies: name the one that is meant")));
    }
    let gone = || Error::not_found(format!("the other side of {path}"));
    let shown = Shown::of(&opened.drive, conflict).ok_or_else(gone)?;
    let (expect, ops) = settled(&opened.drive, conflict, &shown, keep)?;
    opened.drive.commit(&actor::server(), expect, ops, Durability::Power)?;
    let mut value = shown.value();
    value["kept"] = json!(keep);
    Ok(value)
}

fn noted(opened: &Opened) -> Result<Vec<Conflict>> {
    let sync =
        opened.sync().ok_or_else(|| Error::invalid("only a mount of a server's project has conflicts"))?;
    sync.conflicts()
}

/// A conflict with its paths.
struct Shown {
    conflict: Conflict,
    theirs: DrivePath,
    ours: DrivePath,
}

impl Shown {
    /// Nothing where one side is gone meanwhile.
    fn of(drive: &Drive, conflict: Conflict) -> Option<Self> {
        let path = |id: NodeId| drive.path_of(id).ok();
        Some(Self { conflict, theirs: path(conflict.theirs)?, ours: path(conflict.ours)? })
    }

    fn value(&self) -> Value {
        json!({
            "path": self.theirs.to_string(),
            "copy": self.ours.to_string(),
            "over": match self.conflict.over {
                Over::Content => "content",
                Over::Name => "name",
            },
            "at": time::rfc3339(self.conflict.at),
        })
    }
}

/// What ends a conflict: the side that goes is a version or a deleted file, which `larder restore` brings back.
fn settled(drive: &Drive, conflict: Conflict, shown: &Shown, keep: Keep) -> Result<(Vec<Expect>, Vec<Op>)> {
    let forgotten = conflict.forgotten();
    if keep == Keep::Both {
        return Ok((Vec::new(), vec![forgotten]));
    }
    let catalog = drive.catalog();
    let (ours, theirs) = (catalog.node(conflict.ours)?, catalog.node(conflict.theirs)?);
    let (Content::File(head), Some(was)) = (&ours.content, theirs.head().cloned()) else {
        let what = format!("{} and {} are not both files", shown.theirs, shown.ours);
        return Err(Error::new(Kind::Unsupported, format!("{what}: move or remove one, or keep both")));
    };
    let (Some(name), [above @ .., _]) = (shown.ours.names().last().cloned(), shown.ours.names()) else {
        return Err(Error::invalid("the top folder is in no conflict"));
    };
    let parent = drive.resolve(&DrivePath::from(above.to_vec()))?.id;
    let expect = vec![
        Expect::Name(parent, name.clone(), Some(ours.id)),
        Expect::Content(ours.id, head.clone()),
        Expect::Content(theirs.id, was.clone()),
    ];
    let mut ops = vec![forgotten];
    if keep == Keep::Local {
        let (head, mtime) = (head.clone(), ours.mtime);
        ops.push(Op::SetContent { node: theirs.id, head, mtime, interim: None, base: Some(was) });
    }
    ops.push(Op::Unlink { parent, name, what: Unlink::File });
    Ok((expect, ops))
}
