//! What of a drive a device shows, keeps and fetches: its rules, as they are now.
//!
//! What is excluded is hidden at the catalog ([`Placed`]), so that no door sees it, whichever it is. Rules come as text with
//! a version; a device keeps them in its own catalog, so that they hold without its server and after a restart.

mod changed;
mod path;
mod placed;

pub use path::Place;
pub use placed::Placed;

use changed::changed;
use larder_core::{DrivePath, Node, NodeId, NodeKind, Result};
use larder_policy::rules::{Decision, Placement, Rules};
use larder_store::catalog::Table;
use larder_store::origin::Ruled;
use larder_store::{Catalog, Change, Listed, Op};
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::sync::Arc;

/// The key of a device's own rules.
const OWN: &[u8] = b"own";
/// Names that subscribers are told of together.
const TOLD: usize = 1000;
/// Entries read at a time.
const PAGE: usize = 1024;

/// The rules of one device, which may change at any time.
pub struct Placements {
    book: RwLock<Arc<Book>>,
    /// One at a time asks for them and changes them.
    turn: Mutex<()>,
}

/// Rules as they were at some time.
#[derive(Debug, Default)]
pub struct Book {
    /// As they were written.
    pub ruled: Ruled,
    /// Ready for matching.
    pub rules: Rules,
}

impl Book {
    /// Reads rules. Those that this version of the program does not understand leave `before` as it is.
    fn read(ruled: Ruled, before: &Rules) -> Self {
        let rules = ruled.text.parse().unwrap_or_else(|error| {
            tracing::warn!(%error, "these rules are not understood here; those before them hold on");
            before.clone()
        });
        Self { ruled, rules }
    }

    /// Decides about a path.
    pub fn decide(&self, path: &DrivePath, kind: NodeKind) -> Decision {
        self.rules.placement(path, kind)
    }
}

/// Calls `visit` with `top`, if it is no folder, or with everything below it that is none and that `catalog` shows, in the folders
/// that `opens` says yes to.
///
/// # Errors
/// Those of the catalog and of `visit`.
pub fn each_below(
    catalog: &dyn Catalog,
    top: (Node, DrivePath),
    opens: impl Fn(&DrivePath) -> bool,
    mut visit: impl FnMut(&DrivePath, Node) -> Result<()>,
) -> Result<()> {
    let mut folders = Vec::new();
    match top {
        (node, path) if node.is_folder() => folders.push((node.id, path)),
        (node, path) => visit(&path, node)?,
    }
    while let Some((folder, path)) = folders.pop() {
        let mut after = None;
        // The last page is empty.
        while opens(&path) {
            let page = catalog.list(folder, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for Listed { name, node } in page {
                let at = path.join(name);
                match node.is_folder() {
                    true => folders.push((node.id, at)),
                    false => visit(&at, node)?,
                }
            }
        }
    }
    Ok(())
}

impl Placements {
    /// Those that hold for as long as this lives.
    pub fn fixed(ruled: Ruled) -> Self {
        let book = RwLock::new(Arc::new(Book::read(ruled, &Rules::default())));
        Self { book, turn: Mutex::default() }
    }

    /// What a device keeps of its own.
    ///
    /// # Errors
    /// Those of the index.
    pub fn load(catalog: &dyn Catalog) -> Result<Self> {
        Ok(Self::fixed(Ruled::decode(catalog.record(Table::Rules, OWN)?.as_deref())?))
    }

    /// The rules as they are now.
    pub fn book(&self) -> Arc<Book> {
        self.book.read().clone()
    }

    /// Decides about a node where it is, by the name that `catalog` says it has.
    ///
    /// # Errors
    /// Those of the index.
    pub fn decide(&self, catalog: &dyn Catalog, node: &Node) -> Result<Decision> {
        let path = Place::of(catalog, node)?.path();
        Ok(self.book().decide(&path, node.kind))
    }

    /// The rule behind a decision, for people.
    pub fn why(&self, decision: Decision) -> String {
        let book = self.book();
        let rule = decision.rule.and_then(|at| Some((at, book.rules.rules().get(at)?)));
        rule.map_or_else(
            || "no rule: fetched when it is opened".to_owned(),
            |(at, rule)| format!("rule {}: {rule}", at + 1),
        )
    }

    /// The files in `known` that are pinned, by any of their names.
    ///
    /// # Errors
    /// Those of the index.
    pub fn pinned(&self, known: &dyn Catalog) -> Result<HashSet<NodeId>> {
        let (book, mut pinned) = (self.book(), HashSet::new());
        let root = (known.node(NodeId::ROOT)?, DrivePath::default());
        each_below(
            known,
            root,
            |path| book.rules.may_pin_below(path),
            |at, node| {
                if book.decide(at, node.kind).placement == Placement::Pinned {
                    pinned.insert(node.id);
                }
                Ok(())
            },
        )?;
        Ok(pinned)
    }

    /// Has what `ask` returns hold from now on. `keep` keeps the record, `tell` hears of each name that appears or goes: of
    /// those that `known` has, as nobody has seen others. Returns the rules, and whether they are other ones.
    pub(crate) fn adopt(
        &self,
        ask: impl FnOnce() -> Result<Ruled>,
        known: &dyn Catalog,
        keep: impl FnOnce(Op) -> Result<()>,
        mut tell: impl FnMut(&[Change]),
    ) -> Result<(Ruled, bool)> {
        // Who asks first is done first: versions do not say which of two answers is older where a server came back from a
        // backup.
        let _turn = self.turn.lock();
        let ruled = ask()?;
        let before = self.book();
        if before.ruled == ruled {
            return Ok((ruled, false));
        }
        let (table, key) = (Table::Rules, OWN.to_vec());
        keep(Op::SetRecord { table, key, value: Some(ruled.encode()) })?;
        let book = Arc::new(Book::read(ruled.clone(), &before.rules));
        *self.book.write() = book.clone();
        let mut changes = Vec::new();
        changed(known, &before.rules, &book.rules, |change| {
            changes.push(change);
            if changes.len() >= TOLD {
                tell(&changes);
                changes.clear();
            }
        })?;
        tell(&changes);
        Ok((ruled, true))
    }
}
