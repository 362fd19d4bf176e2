//! Rules as lines of text.

use super::{Pattern, Placement, Rule, Rules};
use larder_core::{Error, Result};
use std::fmt;
use std::str::FromStr;

const PLACEMENTS: [(&str, Placement); 3] =
    [("pin", Placement::Pinned), ("on-demand", Placement::OnDemand), ("exclude", Placement::Excluded)];
const NO_SUBFOLDERS: &str = "--no-subfolders";

/// As rules are written.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, _) = PLACEMENTS.iter().find(|(_, placement)| placement == self).expect("all are listed");
        f.write_str(word)
    }
}

/// As [`Rule::from_str`] reads it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.placement, quoted(self.pattern.as_str()))?;
        if self.include_subfolders { Ok(()) } else { write!(f, " {NO_SUBFOLDERS}") }
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let misplaced = |at: usize, len: usize, why: &str| {
            let (word, character) = (&line[at..at + len], line[..at].chars().count() + 1);
            let marks = "^".repeat(word.chars().count().max(1));
            let marked = format!("  {line}\n  {}{marks}", " ".repeat(character - 1));
            Error::invalid(format!("rule {line:?}: {word:?} at character {character} {why}\n{marked}"))
        };
        let words = words(line)
            .map_err(|at| misplaced(at, line.len() - at, "has no closing quote before a blank"))?;
        let mut words = words.into_iter();
        let (at, word) = words.next().unwrap_or((line.len(), ""));
        let placement = PLACEMENTS.iter().find(|(name, _)| *name == word).map(|(_, placement)| *placement);
        let placement = placement
            .ok_or_else(|| misplaced(at, word.len(), "is no placement; write pin, on-demand or exclude"))?;
        let (start, pattern) = words.next().ok_or_else(|| {
            misplaced(line.len(), 0, "is no pattern; write a folder such as Photos or a glob")
        })?;
        let pattern = Pattern::read(pattern).map_err(|(at, len, why)| misplaced(start + at, len, &why))?;
        let include_subfolders = match words.next() {
            None => true,
            Some((_, NO_SUBFOLDERS)) => false,
            Some((at, word)) => return Err(misplaced(at, word.len(), UNKNOWN)),
        };
        match words.next() {
            None => Ok(Self { pattern, include_subfolders, placement }),
            Some((at, word)) => Err(misplaced(at, word.len(), UNKNOWN)),
        }
    }
}

const UNKNOWN: &str =
    "is too much; write --no-subfolders or nothing, and quotes around a pattern with blanks";

/// One rule a line; empty lines and those that start with `#` count for nothing.
impl FromStr for Rules {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let rule = line.parse();
                rules.push(
                    rule.map_err(|error: Error| Error::invalid(format!("line {}: {error}", index + 1)))?,
                );
            }
        }
        Rules::new(rules)
    }
}

/// As [`Rules::from_str`] reads it.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules().iter().try_for_each(|rule| writeln!(f, "{rule}"))
    }
}

/// The words of a line, each with the byte at which it starts; quotes around one are left out. A backslash and what
/// follows stay together, and stay: they are the pattern's.
///
/// # Errors
/// Where a quote opens that does not close before a blank or the end.
fn words(line: &str) -> Result<Vec<(usize, &str)>, usize> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at += line[at..].len() - line[at..].trim_start().len();
        if at == line.len() {
            return Ok(words);
        }
        let is_quoted = line[at..].starts_with('"');
        let start = at + usize::from(is_quoted);
        let ends = |letter: char| if is_quoted { letter == '"' } else { letter.is_whitespace() };
        let end = end_of(&line[start..], ends).map(|length| start + length);
        let end = if is_quoted { end.ok_or(at)? } else { end.unwrap_or(line.len()) };
        words.push((start, &line[start..end]));
        let behind = end + usize::from(is_quoted);
        if is_quoted && line[behind..].starts_with(|letter: char| !letter.is_whitespace()) {
            return Err(at);
        }
        at = behind;
    }
}

/// Where the first letter stands that `ends` a word and has no backslash before it.
fn end_of(text: &str, ends: impl Fn(char) -> bool) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, letter)| {
        let is_end = !is_escaped && ends(letter);
        is_escaped = letter == '\\' && !is_escaped;
        is_end.then_some(at)
    })
}

/// A pattern as one word.
fn quoted(pattern: &str) -> String {
    let is_plain = !pattern.starts_with(['"', '-', '#']) && !pattern.contains(char::is_whitespace);
    if is_plain {
        return pattern.to_owned();
    }
    let mut quoted = String::from('"');
    let mut is_escaped = false;
    for letter in pattern.chars() {
        quoted.extend((letter == '"' && !is_escaped).then_some('\\'));
        quoted.push(letter);
        is_escaped = letter == '\\' && !is_escaped;
    }
    quoted.push('"');
    quoted
}
