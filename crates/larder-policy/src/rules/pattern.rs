//! Patterns of paths: a folder path, or a glob of names.
//!
//! The grammar is that of .gitignore, without its negation: `*`, `?`, `[a-z]`, `[!a-z]` within a name, `**` for any
//! number of folders, a backslash before what is meant as itself, and `\xHH` for a byte. A pattern without `*`, `?` and
//! `[` is a path from the top of the project; one with them is so if it has a slash, and else may match in any folder.
//! Alternatives in braces are refused, not taken as plain text: users of rclone would take them for granted.
//! Source: gitignore(5) § PATTERN FORMAT.

use super::glob::{self, Token};
use larder_core::{DrivePath, Error, Name, Result};
use std::fmt::Write;

/// The longest pattern, in bytes. Source: PATH_MAX of limits.h(0P) on Linux.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// The most names of a glob: its state is a bit for each in a word.
pub const GLOB_NAMES_MAX: usize = 60;

/// A pattern, as it was written and compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    written: String,
    parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Parts {
    Path(Vec<Box<[u8]>>),
    Glob(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`
    Folders,
    Name(Vec<Token>),
}

/// A path, ready to be compared.
pub(super) struct Names {
    composed: Vec<Vec<u8>>,
    units: Vec<Vec<u32>>,
}

impl Names {
    pub(super) fn of(path: &DrivePath) -> Self {
        Self::new(path.names().iter().map(|name| glob::composed(name.as_bytes()).into_owned()).collect())
    }

    fn new(composed: Vec<Vec<u8>>) -> Self {
        let units = composed.iter().map(|name| glob::units(name)).collect();
        Self { composed, units }
    }
}

/// How a pattern lies to a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// It matches the path.
    pub(super) at: bool,
    /// It matches the folder that the path is in.
    pub(super) parent: bool,
    /// It matches any folder above the path.
    pub(super) above: bool,
    /// It could match something below the path.
    pub(super) below: bool,
    /// It matches everything that lies directly in the path.
    pub(super) children: bool,
}

/// What is wrong with a pattern: at which byte, how long, and why.
pub(super) type Fault = (usize, usize, String);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `Invalid`, naming what is wrong and where it stands.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text).map_err(|(at, len, why)| {
            let character = text[..at].chars().count() + 1;
            let word = &text[at..at + len];
            Error::invalid(format!("pattern {text:?}: {word:?} at character {character} {why}"))
        })
    }

    /// The pattern of exactly this path.
    ///
    /// # Errors
    /// `Invalid` where it would be longer than [`PATTERN_BYTES_MAX`].
    pub fn of_path(path: &DrivePath) -> Result<Self> {
        let mut written = String::from("/");
        for name in path.names() {
            written.extend((written.len() > 1).then_some('/'));
            match std::str::from_utf8(name.as_bytes()) {
                Ok(text) => text.chars().for_each(|letter| write_letter(&mut written, letter)),
                // Letters in such a name are compared as bytes, too.
                Err(_) => name.as_bytes().iter().for_each(|byte| match byte.is_ascii() {
                    true => write_letter(&mut written, char::from(*byte)),
                    false => write_byte(&mut written, *byte),
                }),
            }
        }
        Self::parse(&written)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Says whether it names one path.
    pub fn is_path(&self) -> bool {
        matches!(self.parts, Parts::Path(_))
    }

    pub(super) fn read(text: &str) -> Result<Self, Fault> {
        if text.is_empty() {
            return Err((0, 0, "is empty; write / for the whole project".into()));
        }
        if text.len() > PATTERN_BYTES_MAX {
            let word = text.chars().next().map_or(0, char::len_utf8);
            return Err((0, word, format!("starts more than {PATTERN_BYTES_MAX} bytes")));
        }
        let read = parts(text)?;
        // Composed as a whole, so that letters compose in classes, too; read before, so that faults have their place.
        let composed = glob::composed_text(text);
        let parts = if *composed == *text { read } else { parts(&composed)? };
        Ok(Self { written: text.to_owned(), parts })
    }

    /// The path that it names.
    pub(super) fn path(&self) -> Option<Names> {
        match &self.parts {
            Parts::Path(names) => Some(Names::new(names.iter().map(|name| name.to_vec()).collect())),
            Parts::Glob(_) => None,
        }
    }

    pub(super) fn reach(&self, path: &Names) -> Reach {
        match &self.parts {
            Parts::Path(names) => reach_of_path(names, &path.composed),
            Parts::Glob(parts) => reach_of_glob(parts, &path.units),
        }
    }
}

fn reach_of_path(names: &[Box<[u8]>], path: &[Vec<u8>]) -> Reach {
    let shared = names.iter().zip(path).all(|(name, other)| **name == **other);
    Reach {
        at: shared && names.len() == path.len(),
        parent: shared && names.len() + 1 == path.len(),
        above: shared && names.len() < path.len(),
        below: shared && names.len() > path.len(),
        children: false,
    }
}

/// Follows all ways through the pattern at once: a bit for each place in it that the names so far can lead to.
fn reach_of_glob(parts: &[Part], path: &[Vec<u32>]) -> Reach {
    let end = 1u64 << parts.len();
    let mut places = skip_folders(parts, 1);
    let mut reach = Reach { at: places & end != 0, ..Reach::default() };
    for name in path {
        reach.parent = reach.at;
        reach.above |= reach.at;
        let mut next = 0;
        for (index, part) in parts.iter().enumerate().filter(|(index, _)| places >> index & 1 == 1) {
            match part {
                Part::Folders => next |= 1 << index,
                Part::Name(tokens) if glob::matches(tokens, name) => next |= 1 << (index + 1),
                Part::Name(_) => {}
            }
        }
        places = skip_folders(parts, next);
        reach.at = places & end != 0;
    }
    reach.below = places & (end - 1) != 0;
    reach.children =
        (0..parts.len()).any(|index| places >> index & 1 == 1 && is_one_any_name(&parts[index..]));
    reach
}

/// `**` matches no folder, too.
fn skip_folders(parts: &[Part], mut places: u64) -> u64 {
    for (index, part) in parts.iter().enumerate() {
        if *part == Part::Folders && places >> index & 1 == 1 {
            places |= 1 << (index + 1);
        }
    }
    places
}

/// Says whether any one name goes through: one `*`, and else `**` only.
fn is_one_any_name(parts: &[Part]) -> bool {
    let is_any = |part: &&Part| matches!(part, Part::Name(tokens) if tokens[..] == [Token::Many]);
    let folders = parts.iter().filter(|part| **part == Part::Folders).count();
    parts.iter().filter(is_any).count() == 1 && folders + 1 == parts.len()
}

fn write_letter(written: &mut String, letter: char) {
    match letter {
        '\\' | '*' | '?' | '[' | ']' | '{' | '}' | '"' => written.extend(['\\', letter]),
        control if control.is_ascii_control() => write_byte(written, control as u8),
        letter => written.push(letter),
    }
}

fn write_byte(written: &mut String, byte: u8) {
    write!(written, "\\x{byte:02X}").expect("a String takes all");
}

fn parts(text: &str) -> Result<Parts, Fault> {
    let mut parts = Vec::new();
    let mut at = 0;
    for name in text.split('/') {
        match name {
            "" => {}
            "**" => parts.push(Part::Folders),
            name => parts.push(Part::Name(tokens(at, name)?)),
        }
        at += name.len() + 1;
    }
    let is_one = |token: &Token| matches!(token, Token::One(_));
    let is_plain = |part: &Part| matches!(part, Part::Name(tokens) if tokens.iter().all(is_one));
    if parts.iter().all(is_plain) {
        return Ok(Parts::Path(parts.iter().map(plain_name).collect()));
    }
    if !text.trim_end_matches('/').contains('/') {
        parts.insert(0, Part::Folders);
    }
    parts.dedup_by(|next, last| *next == Part::Folders && *last == Part::Folders);
    if parts.last() == Some(&Part::Folders) {
        // What ends in /** matches what is inside, not the folder itself.
        parts.push(Part::Name(vec![Token::Many]));
    }
    if parts.len() > GLOB_NAMES_MAX {
        return Err((0, text.len(), format!("has more than {GLOB_NAMES_MAX} names")));
    }
    Ok(Parts::Glob(parts))
}

fn plain_name(part: &Part) -> Box<[u8]> {
    let units = match part {
        Part::Name(tokens) => tokens.iter().filter_map(|token| match token {
            Token::One(unit) => Some(*unit),
            _ => None,
        }),
        Part::Folders => unreachable!("plain parts are names"),
    };
    glob::composed(&glob::bytes(units)).into()
}

/// Reads one name of a pattern, which stands at byte `at` of it.
fn tokens(at: usize, name: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut rest = name;
    while let Some(letter) = rest.chars().next() {
        let here = at + name.len() - rest.len();
        let fault = |len: usize, why: &str| Err((here, len, why.to_owned()));
        let (token, len) = match letter {
            '*' if rest.starts_with("**") => return fault(2, "is no name; write ** between slashes"),
            '*' => (Token::Many, 1),
            '?' => (Token::Any, 1),
            '[' => class(rest)
                .ok_or_else(|| (here, 1, "opens a class such as [a-z] that has no end".to_owned()))?,
            '{' | '}' => {
                return fault(
                    1,
                    "would be an alternative; write a rule for each, or \\{ and \\} for themselves",
                );
            }
            '\\' => escaped(rest).map_err(|(len, why)| (here, len, why.to_owned()))?,
            letter => (Token::One(u32::from(letter)), letter.len_utf8()),
        };
        tokens.push(token);
        rest = &rest[len..];
    }
    let is_plain = tokens.iter().all(|token| matches!(token, Token::One(_)));
    let plain = is_plain.then(|| plain_name(&Part::Name(tokens.clone())));
    match plain.map(Name::new) {
        Some(Err(error)) => Err((at, name.len(), format!("is no name: {error}"))),
        _ => Ok(tokens),
    }
}

/// A backslash and what follows, with its length.
fn escaped(rest: &str) -> Result<(Token, usize), (usize, &'static str)> {
    let letter = rest[1..].chars().next().ok_or((1, "has nothing behind it"))?;
    if letter != 'x' {
        return Ok((Token::One(u32::from(letter)), 1 + letter.len_utf8()));
    }
    let digits = rest.get(2..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    match byte.ok_or((2, "is not followed by two hexadecimal digits"))? {
        0 | b'/' => Err((4, "is in no name")),
        byte => Ok((Token::One(glob::byte_unit(byte)), 4)),
    }
}

/// A class, with its length; a `]` that comes first is a member.
fn class(rest: &str) -> Option<(Token, usize)> {
    let is_negated = rest[1..].starts_with(['!', '^']);
    let mut at = 1 + usize::from(is_negated);
    let (first, mut ranges) = (at, Vec::new());
    loop {
        let low = rest[at..].chars().next()?;
        if low == ']' && at > first {
            return Some((Token::Class { is_negated, ranges }, at + 1));
        }
        at += low.len_utf8();
        let high =
            rest[at..].strip_prefix('-').and_then(|rest| rest.chars().next()).filter(|high| *high != ']');
        at += high.map_or(0, |high| 1 + high.len_utf8());
        ranges.push((u32::from(low), u32::from(high.unwrap_or(low))));
    }
}
