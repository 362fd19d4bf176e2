//! `larder rules`, `pin` and `unpin`: whom they ask, and what they tell.

use crate::args::{Command, RulesCommand};
use crate::client;
use crate::config::StoreSettings;
use crate::ordering::{remote, remotes};
use crate::request::{Request, RulesChange};
use larder_core::{Error, Kind, Result};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Rules are no longer than this.
const RULES_MAX_BYTES: u64 = 64 << 10;

/// Has one of these commands carried out; what to tell of it. `data` is the directory that the user named, if any; `store`
/// reads the settings of one.
///
/// # Errors
/// `Invalid` for a path in no mount of a server's project, and for rules with mistakes; those of the change.
pub fn run(
    command: Command,
    data: Option<PathBuf>,
    store: impl Fn(Option<PathBuf>) -> Result<StoreSettings>,
) -> Result<(String, Value)> {
    let (data, request) = match command {
        Command::Rules { place, device, command } => {
            let change = command.map(change_of).transpose()?.flatten();
            let data = match place {
                Some(path) => Some(remote(&path)?.0),
                None => data.map_or_else(usual, |data| Ok(Some(data)))?,
            };
            (data, Request::Rules { device, change })
        }
        Command::Pin { path } => {
            let (data, place) = remote(&path)?;
            (Some(data), Request::Pin { path: place.bytes() })
        }
        Command::Unpin { path } => {
            let (data, place) = remote(&path)?;
            (Some(data), Request::Unpin { path: place.bytes() })
        }
        other => unreachable!("{other:?} is no such command"),
    };
    let answer = client::ask(&store(data)?, request, &|_| {})?;
    Ok((told(&answer), answer))
}

/// The mount of a server's project that the user is in, else the only one there is, else the usual drive.
fn usual() -> Result<Option<PathBuf>> {
    if let Ok((data, _)) = remote(Path::new(".")) {
        return Ok(Some(data));
    }
    match remotes() {
        Ok(all) if all.len() == 1 => Ok(all.into_iter().next().map(|(data, _)| data)),
        Ok(_) => Err(Error::invalid("which mount? --in PATH names one")),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn change_of(command: RulesCommand) -> Result<Option<RulesChange>> {
    Ok(match command {
        RulesCommand::List => None,
        RulesCommand::Add { rule, no_subfolders } => Some(RulesChange::Add(line_of(&rule, no_subfolders))),
        RulesCommand::Remove { rule, no_subfolders } => {
            Some(RulesChange::Remove(line_of(&rule, no_subfolders)))
        }
        RulesCommand::Set { file } => Some(RulesChange::Set(text_of(&file)?)),
    })
}

/// Words of a shell as the one line that they are; one that was quoted there may be all of it.
fn line_of(words: &[String], no_subfolders: bool) -> String {
    let quoted = |word: &String| match word.contains(char::is_whitespace) && words.len() > 1 {
        true => format!("\"{}\"", word.replace('"', "\\\"")),
        false => word.clone(),
    };
    let flag = no_subfolders.then(|| "--no-subfolders".to_owned());
    words.iter().map(quoted).chain(flag).collect::<Vec<_>>().join(" ")
}

fn text_of(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().take(RULES_MAX_BYTES + 1).read_to_string(&mut text),
        false => std::fs::File::open(file)
            .and_then(|file| file.take(RULES_MAX_BYTES + 1).read_to_string(&mut text)),
    };
    read.map_err(|e| Error::io(file.display().to_string(), e))?;
    if text.len() as u64 > RULES_MAX_BYTES {
        return Err(Error::invalid(format!("{}: more than {RULES_MAX_BYTES} bytes", file.display())));
    }
    Ok(text)
}

fn told(answer: &Value) -> String {
    let text = |key: &str| answer[key].as_str().unwrap_or_default();
    let rules = answer["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<String> = rules
        .iter()
        .enumerate()
        .map(|(at, rule)| format!("{:>3}  {}", at + 1, rule.as_str().unwrap_or_default()))
        .collect();
    if lines.is_empty() {
        lines.push("No rules: everything is shown, and fetched when it is opened".into());
    }
    if !text("by").is_empty() {
        let on = if text("on").is_empty() { String::new() } else { format!(" on {}", text("on")) };
        lines.push(format!("version {} by {}{on}, {}", answer["version"], text("by"), text("changed")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell_are_one_rule() {
        let line = |words: &[&str], flag| {
            line_of(&words.iter().map(|word| String::from(*word)).collect::<Vec<_>>(), flag)
        };
        assert_eq!(line(&["exclude Videos"], false), "exclude Videos");
        assert_eq!(line(&["pin", "My Photos"], true), "pin \"My Photos\" --no-subfolders");
    }
}
