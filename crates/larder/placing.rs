//! What `rules`, `pin` and `unpin` do on the drive that is open: a device asks its server, a server has the rules itself.

use crate::origin::Sync;
use crate::request::RulesChange;
use larder_api::devices::{self, Device};
use larder_api::rules::{self, Writer};
use larder_core::{DrivePath, Error, Kind, Result, Timestamp};
use larder_drive::Drive;
use larder_policy::rules::{Pattern, Placement, Rule, Rules};
use larder_store::origin::Ruled;
use serde_json::{Value, json};

/// How often somebody else may change rules first.
const TRIES: usize = 8;
/// Who changes rules at the server itself.
const OPERATOR: &str = "the server's operator";

/// Whose rules, and where they are.
pub struct Book<'a> {
    drive: &'a Drive,
    sync: Option<&'a Sync>,
    device: Option<Device>,
    /// Its id at a server that is elsewhere; `None` for this device.
    id: Option<String>,
}

impl<'a> Book<'a> {
    /// The rules of `device`, its id or at the server itself also its name; without one those of this device.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where no device is named and this is none.
    pub fn of(drive: &'a Drive, sync: Option<&'a Sync>, device: Option<&str>) -> Result<Self> {
        let here = match (sync, device) {
            (Some(_), _) => None,
            (None, Some(device)) => Some(named(drive, device)?),
            (None, None) => {
                return Err(Error::invalid(
                    "whose rules? --device ID names a device, as `larder device list` shows it",
                ));
            }
        };
        Ok(Self { drive, sync, device: here, id: device.map(str::to_owned) })
    }

    fn read(&self) -> Result<Ruled> {
        match (&self.device, self.sync) {
            (Some(device), _) => rules::of(self.drive, &device.id),
            (None, Some(sync)) => sync.origin().rules(self.id.as_deref()),
            (None, None) => Ok(Ruled::default()),
        }
    }

    fn write(&self, was: u64, text: String) -> Result<Ruled> {
        match (&self.device, self.sync) {
            (Some(device), _) => {
                rules::set(self.drive, device, was, text, &Writer { user: OPERATOR, on: "" })
            }
            (None, Some(sync)) => match &self.id {
                None => sync.set_rules(self.drive, was, &text),
                Some(id) => sync.origin().set_rules(Some(id), was, &text),
            },
            (None, None) => Ok(Ruled::default()),
        }
    }

    /// The rules as they are: of this device also where the server is away.
    ///
    /// # Errors
    /// Those of asking the server about another device.
    pub fn shown(&self) -> Result<Value> {
        let own = self.drive.placements().filter(|_| self.id.is_none() && self.sync.is_some());
        Ok(shown(&own.map_or_else(|| self.read(), |own| Ok(own.book().ruled.clone()))?))
    }

    /// Changes them, where they are kept.
    ///
    /// # Errors
    /// `Invalid` for what are no rules, with the place marked; `NotFound` for a rule that is not there; `Unavailable` where
    /// the server is away: it keeps the rules, and others may change them meanwhile.
    pub fn change(&self, change: &RulesChange) -> Result<Value> {
        for _ in 1..TRIES {
            match self.attempt(change) {
                Err(error) if error.kind() == Kind::Conflict => {}
                Err(error) if error.kind() == Kind::Unavailable => {
                    let what = "rules are kept by the server, which is away: they stay as they are";
                    return Err(Error::unavailable(what).because(error));
                }
                done => return done,
            }
        }
        self.attempt(change)
    }

    fn attempt(&self, change: &RulesChange) -> Result<Value> {
        let ruled = self.read()?;
        let text = changed(&ruled.text, change)?;
        match text == ruled.text {
            true => Ok(shown(&ruled)),
            false => Ok(shown(&self.write(ruled.version, text)?)),
        }
    }
}

fn named(drive: &Drive, device: &str) -> Result<Device> {
    match devices::by_id(drive, device, None) {
        Err(error) if error.kind() == Kind::NotFound => {
            let mut same = devices::list(drive)?;
            same.retain(|known| known.name == device);
            if same.len() > 1 {
                return Err(Error::invalid(format!(
                    "{} devices are called {device}: give an id",
                    same.len()
                )));
            }
            same.pop().ok_or(error)
        }
        found => found,
    }
}

/// Rules with a change made to them; comments stay.
fn changed(text: &str, change: &RulesChange) -> Result<String> {
    let is_rule = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
    let mut lines: Vec<&str> = text.lines().collect();
    let next = match change {
        RulesChange::Set(text) => text.clone(),
        RulesChange::Add(line) => {
            let rule: Rule = line.parse()?;
            // Once is enough, and the last place is where it counts.
            lines.retain(|old| old.trim().parse::<Rule>().ok().as_ref() != Some(&rule));
            lines.push(line);
            lines.iter().flat_map(|line| [*line, "\n"]).collect()
        }
        RulesChange::Remove(what) => {
            let gone = match what.parse::<usize>() {
                Ok(number) => {
                    let rules = lines.iter().enumerate().filter(|(_, line)| is_rule(line));
                    rules.map(|(at, _)| at).nth(number.wrapping_sub(1))
                }
                Err(_) => {
                    let rule: Rule = what.parse()?;
                    lines.iter().position(|line| line.trim().parse::<Rule>().ok().as_ref() == Some(&rule))
                }
            };
            lines.remove(gone.ok_or_else(|| Error::not_found(format!("there is no rule {what}")))?);
            lines.iter().flat_map(|line| [*line, "\n"]).collect()
        }
    };
    next.parse::<Rules>()?;
    Ok(next)
}

/// The rule that pins `path` and nothing else.
///
/// # Errors
/// `Invalid` for a path that is too long for a rule.
pub fn pinning(path: &DrivePath) -> Result<String> {
    let pattern = Pattern::of_path(path)?;
    Ok(Rule { pattern, include_subfolders: true, placement: Placement::Pinned }.to_string())
}

fn shown(ruled: &Ruled) -> Value {
    let is_rule = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let lines: Vec<&str> = ruled.text.lines().map(str::trim).filter(is_rule).collect();
    let changed = ruled.changed.parse().ok().map(|ns| crate::time::rfc3339(Timestamp(ns)));
    json!({
        "version": ruled.version,
        "rules": lines,
        "text": ruled.text,
        "by": ruled.by,
        "on": ruled.on,
        "changed": changed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_added_once_and_removed_by_number_or_by_word() {
        let text = "# mine\nexclude Videos\npin Photos\n";
        let change = |change| changed(text, &change);
        let add = change(RulesChange::Add("exclude /Videos".into())).expect("another way to write it");
        assert_eq!(add, "# mine\nexclude Videos\npin Photos\nexclude /Videos\n");
        let again = change(RulesChange::Add("exclude Videos".into())).expect("a rule");
        assert_eq!(again, "# mine\npin Photos\nexclude Videos\n");
        for what in ["1", "exclude  Videos"] {
            let removed = change(RulesChange::Remove(what.into())).expect(what);
            assert_eq!(removed, "# mine\npin Photos\n");
        }
        for what in ["0", "3", "pin Videos"] {
            let error = change(RulesChange::Remove(what.into())).expect_err(what);
            assert_eq!(error.kind(), Kind::NotFound);
        }
        let error = change(RulesChange::Set("pin a\nexlude b\n".into())).expect_err("no rule").to_string();
        assert!(error.contains("line 2") && error.ends_with("\n  exlude b\n  ^^^^^^"), "{error}");
    }
}
