//! Comparing all that a device knows with its server: where the feed does not reach back to what was heard last, and after a
//! change was refused, since names that were kept for its sake may have gone there meanwhile.
//!
//! It goes folder by folder and page by page, and what was compared stays so, as the feed is followed all the while: a
//! comparison that was broken off goes on where it was. What is marked is not touched by it.

use super::known::Known;
use super::mirror::{Mirror, adopt, cursor_record, record};
use crate::Op;
use crate::catalog::{Cursor, DOUBT, Doubt, Table};
use larder_core::{Error, Kind, Name, NodeId, Result};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Key of the [`Round`] in [`Table::Pushing`].
const ROUND: &[u8] = b"comparing";

/// How far a comparison got. Its record is JSON.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Round {
    /// What was in doubt when it began, and is not once it ends; nothing where the server had not been told enough.
    doubt: Option<Doubt>,
    /// Where the feed was when it began, if it is to be followed from there.
    cursor: Option<Vec<u8>>,
    /// The folder that was asked about last.
    folder: Option<u64>,
    /// The last of its names that was compared; nothing where that was the last of all.
    after: Option<Vec<u8>>,
}

/// What a comparison that is under way has still to ask for.
#[derive(Default)]
pub(super) struct Comparing {
    /// Nothing before it was looked up.
    folders: Option<VecDeque<NodeId>>,
}

impl Mirror {
    /// Compares everything that is kept with the server, where the feed does not reach back to what was heard last. What the
    /// server says holds, even where it has older versions: it may have been brought back from a backup. `commit` as for
    /// [`Mirror::follow`].
    ///
    /// # Errors
    /// Those of the server and of `commit`; what was compared by then is right, and the rest is compared the next time.
    pub fn compare(&self, mut commit: impl FnMut(Vec<Op>) -> Result<()>) -> Result<()> {
        let mut left = self.comparing.lock();
        let mut round = match self.round()?.filter(|round| round.cursor.is_some()) {
            Some(round) => round,
            None => {
                *left = Comparing::default();
                let doubt = self.doubt_to_end()?;
                Round { doubt, cursor: Some(self.origin.project()?.cursor.0), ..Round::default() }
            }
        };
        while !self.compare_page(&mut round, &mut left, &mut commit)? {}
        drop(left);
        // Who compares what is in doubt found this one at work.
        if let Some(ring) =
            self.rung.get().filter(|_| self.kept.queue_state().is_ok_and(|state| state.in_doubt))
        {
            ring();
        }
        Ok(())
    }

    /// Asks for up to `pages` of what is compared after a change was refused; says whether there is nothing more to do for now.
    /// `commit` as for [`Mirror::follow`].
    ///
    /// # Errors
    /// Those of the server and of `commit`.
    pub fn compare_some(&self, pages: usize, mut commit: impl FnMut(Vec<Op>) -> Result<()>) -> Result<bool> {
        if !self.kept.queue_state()?.in_doubt {
            return Ok(true);
        }
        // Somebody compares everything just now.
        let Some(mut left) = self.comparing.try_lock() else { return Ok(true) };
        let mut round = match self.round()? {
            Some(round) => round,
            None => {
                let doubt = self.doubt_to_end()?;
                if doubt.is_none() {
                    return Ok(true);
                }
                *left = Comparing::default();
                Round { doubt, ..Round::default() }
            }
        };
        for _ in 0..pages {
            if self.compare_page(&mut round, &mut left, &mut commit)? {
                // What came to be in doubt since is compared in another round.
                return Ok(!self.kept.queue_state()?.in_doubt);
            }
        }
        Ok(false)
    }

    fn round(&self) -> Result<Option<Round>> {
        let record = self.kept.record(Table::Pushing, ROUND)?;
        let read = |json: &[u8]| serde_json::from_slice(json);
        let round = record.as_deref().map(read).transpose();
        round.map_err(|e| Error::corrupt("record of a comparison").because(e))
    }

    /// The newest doubt, if a comparison that begins now can end it.
    fn doubt_to_end(&self) -> Result<Option<Doubt>> {
        let doubt = Doubt::decode(self.kept.record(Table::Pushing, DOUBT)?.as_deref())?;
        let first = self.kept.queued(0, 1)?.first().map(|entry| entry.number);
        Ok(first.is_none_or(|first| first >= doubt.before).then_some(doubt))
    }

    /// The folders of which something is known, without those before the last one that was asked about.
    fn folders_behind(&self, round: &Round) -> Result<Comparing> {
        let marks = self.kept.records(Table::Mirror)?;
        let ids = marks.iter().filter_map(|(key, _)| key.as_slice().try_into().ok()).map(u64::from_be_bytes);
        let folders: VecDeque<NodeId> = ids.filter(|id| Some(*id) >= round.folder).map(NodeId).collect();
        Ok(Comparing { folders: Some(folders) })
    }

    /// Asks for one page more; says whether it was the last.
    fn compare_page(
        &self,
        round: &mut Round,
        left: &mut Comparing,
        commit: &mut impl FnMut(Vec<Op>) -> Result<()>,
    ) -> Result<bool> {
        if left.folders.is_none() {
            *left = self.folders_behind(round)?;
        }
        let Some(folder) = left.folders.as_ref().and_then(|folders| folders.front().copied()) else {
            self.end_round(round, commit)?;
            *left = Comparing::default();
            return Ok(true);
        };
        if round.folder.replace(folder.0) != Some(folder.0) {
            round.after = None;
        }
        self.compare_folder(folder, round, commit)?;
        if let Some(folders) = left.folders.as_mut().filter(|_| round.after.is_none()) {
            folders.pop_front();
        }
        Ok(false)
    }

    /// Asks for the next page of the folder of `round`. What is known of it beyond that stays known.
    fn compare_folder(
        &self,
        folder: NodeId,
        round: &mut Round,
        commit: &mut impl FnMut(Vec<Op>) -> Result<()>,
    ) -> Result<()> {
        // News that came meanwhile would be newer than the page.
        let _turn = self.exchange.lock();
        let from = round.after.take().map(|name| Name::new(name).map(Known::UpTo)).transpose()?;
        let mut ops = match self.more_entries(folder, &from.unwrap_or(Known::Nothing)) {
            // It is gone, and its name with it where that was. If it was made here, or changed, what comes of that is told in
            // due course.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => {
                match self.kept.is_queued(folder)? {
                    true => Vec::new(),
                    false => vec![record(&folder.0.to_be_bytes(), None)],
                }
            }
            ops => ops?,
        };
        let _keeping = self.keeping.lock();
        if let Some(Op::SetRecord { value: mark @ Some(_), .. }) = ops.last_mut() {
            let (compared, known) = (Known::decode(mark.as_deref())?, self.known(folder)?);
            if let Known::UpTo(last) = &compared {
                round.after = Some(last.as_bytes().to_vec());
                if known.covers(last) {
                    *mark = Some(known.encode());
                }
            }
        }
        self.asking.heard(&ops);
        let distrust = ops.iter().filter_map(|op| match op {
            Op::AdoptName { node: Some(told), .. } => Some(Op::Distrust { node: told.node.id }),
            _ => None,
        });
        commit(distrust.chain(ops.iter().cloned()).chain([round_record(Some(round))]).collect())
    }

    fn end_round(&self, round: &Round, commit: &mut impl FnMut(Vec<Op>) -> Result<()>) -> Result<()> {
        let _turn = self.exchange.lock();
        let project = self.origin.project()?;
        let _keeping = self.keeping.lock();
        let mut ops = vec![Op::Distrust { node: NodeId::ROOT }, adopt(project.root), round_record(None)];
        ops.extend(round.cursor.clone().map(|cursor| cursor_record(&Cursor(cursor))));
        ops.extend(round.doubt.map(|doubt| Op::Compared { doubt }));
        commit(ops)
    }
}

fn round_record(round: Option<&Round>) -> Op {
    let value = round.map(|round| serde_json::to_vec(round).expect("numbers become JSON"));
    Op::SetRecord { table: Table::Pushing, key: ROUND.to_vec(), value }
}
