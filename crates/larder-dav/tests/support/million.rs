//! A folder of a million names, the longest that is promised to work, made as other doors do.

use larder_core::{Content, Head, Name, NodeId, NodeKind};
use larder_drive::{Actor, Drive};
use larder_store::catalog::NewNode;
use larder_store::{Durability, Op};

/// How many names there are.
pub const NAMES: u64 = 1_000_000;
/// Names made by one commit.
const BATCH: u64 = 10_000;

/// The name of a number.
pub fn text(number: u64) -> String {
    format!("{number:08}")
}

/// Fills `parent` with empty files, named by their numbers.
pub fn fill(drive: &Drive, actor: &Actor, parent: NodeId) {
    let create = |number| {
        let node = Box::new(NewNode {
            id: drive.catalog().new_id(),
            kind: NodeKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            content: Content::File(Head::default()),
            mtime: None,
            draft: false,
        });
        Op::Create { parent, name: Name::new(text(number)).expect("a name"), node }
    };
    for start in (0..NAMES).step_by(BATCH as usize) {
        let ops = (start..start + BATCH).map(create).collect();
        drive.commit(actor, Vec::new(), ops, Durability::Process).expect("committed");
    }
}
