//! Selective sync: which placement a path has on a device.
//!
//! A device has an ordered list of rules; the last one that matches a path wins, and what none matches is on-demand. A
//! rule of a folder is for all that lies below it, or, without subfolders, for the folder and the files that lie
//! directly in it. Folders that are excluded are shown all the same where something below them may not be (such a
//! folder is a *passage*): a later rule can take one path out of an excluded folder.
//!
//! A rule is written `PLACEMENT PATTERN [--no-subfolders]`: `pin Photos`, `exclude "Videos/**"`,
//! `on-demand Work/old --no-subfolders`. A pattern with blanks stands in double quotes, or has a backslash before each.
//! What patterns are is said at [`Pattern`]. larder-drive asks for each path that it shows or fetches, and says by
//! [`Decision::rule`] why.

mod glob;
mod line;
mod pattern;

pub use pattern::{GLOB_NAMES_MAX, PATTERN_BYTES_MAX, Pattern};

use larder_core::{DrivePath, Error, NodeKind, Result};
use pattern::Names;

/// The most rules of a device: matching a path takes time in their number.
pub const RULES_MAX: usize = 1000;

/// What a rule says of a path on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Kept on the device.
    Pinned,
    /// Shown, and fetched when it is opened.
    #[default]
    OnDemand,
    /// Hidden, and never fetched.
    Excluded,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The paths that it is for.
    pub pattern: Pattern,
    /// Whether it is for all below them.
    pub include_subfolders: bool,
    /// What they are.
    pub placement: Placement,
}

impl Rule {
    fn matches(&self, path: &Names, is_folder: bool) -> bool {
        let reach = self.pattern.reach(path);
        reach.at || if self.include_subfolders { reach.above } else { reach.parent && !is_folder }
    }

    /// Says whether something below `folder` may match.
    fn may_match_below(&self, folder: &Names) -> bool {
        let reach = self.pattern.reach(folder);
        reach.at || reach.below || (self.include_subfolders && reach.above)
    }

    /// Says whether everything below `folder` matches.
    fn matches_all_below(&self, folder: &Names) -> bool {
        let reach = self.pattern.reach(folder);
        self.include_subfolders && (reach.at || reach.above || reach.children)
    }
}

/// What is to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its placement.
    pub placement: Placement,
    /// Which rule said so, from 0; `None` where none matched.
    pub rule: Option<usize>,
    /// An excluded folder that is shown for the sake of what may lie below it, and shows nothing else.
    pub is_passage: bool,
}

impl Decision {
    /// Says whether the path is shown.
    pub fn is_shown(self) -> bool {
        self.placement != Placement::Excluded || self.is_passage
    }
}

/// The rules of a device, made ready for matching once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Of each rule: whether it still decides anything. One path that a later rule has with all below it is not shown
    /// for an earlier rule's sake.
    is_alive: Vec<bool>,
}

impl Rules {
    /// Takes rules in their order.
    ///
    /// # Errors
    /// `Invalid` for more than [`RULES_MAX`].
    pub fn new(rules: Vec<Rule>) -> Result<Self> {
        if rules.len() > RULES_MAX {
            return Err(Error::invalid(format!(
                "a device has at most {RULES_MAX} rules, not {}",
                rules.len()
            )));
        }
        let is_overruled = |(index, rule): (usize, &Rule)| {
            let path = rule.pattern.path()?;
            Some(
                rules[index + 1..].iter().any(|later| later.include_subfolders && later.matches(&path, true)),
            )
        };
        let is_alive = rules.iter().enumerate().map(|rule| is_overruled(rule) != Some(true)).collect();
        Ok(Self { rules, is_alive })
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Decides about `path`, of which the caller knows what it is. Takes time in the number of rules and in the length
    /// of the path.
    pub fn placement(&self, path: &DrivePath, kind: NodeKind) -> Decision {
        let (names, is_folder) = (Names::of(path), kind == NodeKind::Folder);
        let rule = self.rules.iter().rposition(|rule| rule.matches(&names, is_folder));
        let placement = rule.map_or(Placement::default(), |rule| self.rules[rule].placement);
        let is_excluded_folder = is_folder && placement == Placement::Excluded;
        let is_passage = is_excluded_folder && (path.is_root() || self.may_show_below(&names));
        Decision { placement, rule, is_passage }
    }

    /// Says whether `self` and `other` may decide differently about something below `folder`.
    pub fn may_differ_below(&self, other: &Rules, folder: &DrivePath) -> bool {
        let (own, others) = (&self.rules[..], &other.rules[..]);
        let same = own.iter().zip(others).take_while(|(a, b)| a == b).count();
        let (own, others) = (&own[same..], &others[same..]);
        let last = own.iter().rev().zip(others.iter().rev()).take_while(|(a, b)| a == b).count();
        let names = Names::of(folder);
        let mut rest = own[..own.len() - last].iter().chain(&others[..others.len() - last]);
        rest.any(|rule| rule.may_match_below(&names))
    }

    /// Says whether something below `folder` may be pinned.
    pub fn may_pin_below(&self, folder: &DrivePath) -> bool {
        let names = Names::of(folder);
        self.rules.iter().any(|rule| rule.placement == Placement::Pinned && rule.may_match_below(&names))
    }

    /// Says whether something below `folder` may be hidden.
    pub fn may_hide_below(&self, folder: &DrivePath) -> bool {
        let names = Names::of(folder);
        self.rules.iter().any(|rule| rule.placement == Placement::Excluded && rule.may_match_below(&names))
    }

    /// Says whether everything is as it is without rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Says whether something below `folder` may be shown: the last rule that says anything of all there decides.
    fn may_show_below(&self, folder: &Names) -> bool {
        for (rule, is_alive) in self.rules.iter().zip(&self.is_alive).rev() {
            if rule.placement == Placement::Excluded {
                if rule.matches_all_below(folder) {
                    return false;
                }
            } else if *is_alive && rule.may_match_below(folder) {
                return true;
            }
        }
        true
    }
}
