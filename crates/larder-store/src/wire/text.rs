//! Names, numbers and bytes in the text of JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use larder_core::{Error, Name, NodeId, Result};

/// Bytes as text: `%` and what is not UTF-8 as `%XX`.
pub fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '%' => text.push_str("%25"),
                letter => text.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    }
    text
}

/// Reads [`text_of`] back.
///
/// # Errors
/// `Corrupt` for a `%` without two hexadecimal digits.
pub fn bytes_of(text: &str) -> Result<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).ok_or_else(|| strange("a lone %"))?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex);
        bytes.push(byte.ok_or_else(|| strange("a lone %"))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Ok(bytes)
}

/// Reads a name.
///
/// # Errors
/// `Corrupt` where it is none: `..`, a slash, NUL, over 255 bytes.
pub fn name_of(text: &str) -> Result<Name> {
    Name::new(bytes_of(text)?).map_err(|error| strange("no name").because(error))
}

/// Reads the id of a node.
///
/// # Errors
/// `Corrupt` where it is none.
pub(super) fn id_of(text: &str) -> Result<NodeId> {
    number(text).map(NodeId).and_then(|id| if id.0 == 0 { Err(strange("no node")) } else { Ok(id) })
}

/// Reads a decimal number.
///
/// # Errors
/// `Corrupt` where it is none.
pub fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| strange("no number"))
}

/// Reads base64 with padding.
///
/// # Errors
/// `Corrupt` where it is none.
pub(super) fn base64_of(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|error| strange("no base64").because(error))
}

/// What does not come from a server of ours.
pub(super) fn strange(what: &str) -> Error {
    Error::corrupt(format!("the other side sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_become_text_and_come_back() {
        for bytes in [&b""[..], b"%", b"%41", b"\xff%\xc3\xa4\xc3", "ä€%".as_bytes(), &[0, 255, 254]] {
            assert_eq!(bytes_of(&text_of(bytes)).expect("text"), bytes);
        }
    }
}
