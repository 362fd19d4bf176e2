//! Matching one name: plain text, or with `*`, `?` and `[…]`.
//!
//! Names are compared as *units*: a character each, or a byte each where the bytes are no UTF-8. globset was looked at
//! and left out: its `?` and `[ä-ü]` go by bytes, so that `?.txt` does not match `é.txt`, and it cannot say whether
//! something below a folder could match.

use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization, is_nfc_quick};

/// Units of bytes that are no UTF-8 start behind the last character.
const BYTE_UNIT: u32 = char::MAX as u32 + 1;

/// The form in which names are compared: Unicode NFC, where they are UTF-8.
/// Source: Unicode Standard Annex #15; macOS writes decomposed names, everybody else composed ones.
pub(super) fn composed(name: &[u8]) -> Cow<'_, [u8]> {
    if name.is_ascii() {
        return Cow::Borrowed(name);
    }
    match std::str::from_utf8(name) {
        Ok(text) => match composed_text(text) {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
        Err(_) => Cow::Borrowed(name),
    }
}

/// The same of text.
pub(super) fn composed_text(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        unicode_normalization::IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    }
}

/// The units of a name.
pub(super) fn units(name: &[u8]) -> Vec<u32> {
    let chunks = name.utf8_chunks();
    chunks
        .flat_map(|chunk| {
            let bytes = chunk.invalid().iter().map(|byte| byte_unit(*byte));
            chunk.valid().chars().map(u32::from).chain(bytes)
        })
        .collect()
}

/// The unit of one byte that somebody wrote as a number.
pub(super) fn byte_unit(byte: u8) -> u32 {
    if byte.is_ascii() { u32::from(byte) } else { BYTE_UNIT + u32::from(byte) }
}

/// The bytes of units.
pub(super) fn bytes(units: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for unit in units {
        match char::from_u32(unit) {
            Some(letter) => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            None => bytes.push((unit - BYTE_UNIT) as u8),
        }
    }
    bytes
}

/// A part of a pattern of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// This unit.
    One(u32),
    /// `?`: any unit.
    Any,
    /// `*`: any number of units.
    Many,
    /// `[a-z]`, or with `!` anything else.
    Class { is_negated: bool, ranges: Vec<(u32, u32)> },
}

impl Token {
    fn matches(&self, unit: u32) -> bool {
        match self {
            Token::One(one) => *one == unit,
            Token::Any | Token::Many => true,
            Token::Class { is_negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&unit)) != *is_negated
            }
        }
    }
}

/// Says whether `tokens` match all of `name`. Only the last `*` is ever tried again: a longer match of an earlier one
/// finds nothing that this does not. So it costs the product of both lengths at most.
pub(super) fn matches(tokens: &[Token], name: &[u32]) -> bool {
    let (mut token, mut unit) = (0, 0);
    let mut again = None;
    while unit < name.len() {
        match tokens.get(token) {
            Some(Token::Many) => {
                token += 1;
                again = Some((token, unit));
            }
            Some(one) if one.matches(name[unit]) => (token, unit) = (token + 1, unit + 1),
            _ => {
                let Some((behind, from)) = again else { return false };
                (token, unit) = (behind, from + 1);
                again = Some((behind, from + 1));
            }
        }
    }
    tokens[token..].iter().all(|token| *token == Token::Many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_composed_and_other_bytes_stay() {
        assert_eq!(composed("e\u{301}te\u{301}".as_bytes()).as_ref(), "été".as_bytes());
        assert_eq!(composed(b"e\xcc\x81\xff").as_ref(), b"e\xcc\x81\xff");
        for name in [&b"plain"[..], "été".as_bytes(), b"\xff\xfea\xc3", b""] {
            assert_eq!(bytes(units(name).into_iter()), name);
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_the_product() {
        let tokens: Vec<Token> = (0..100).flat_map(|_| [Token::Many, Token::One(u32::from(b'a'))]).collect();
        let name = vec![u32::from(b'a'); 255];
        assert!(matches(&tokens, &name));
        let never: Vec<Token> = tokens.into_iter().chain([Token::One(u32::from(b'b'))]).collect();
        assert!(!matches(&never, &name));
    }
}
