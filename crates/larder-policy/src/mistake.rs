//! Mistakes in what people write: which word is wrong, and where it stands.

use larder_core::Error;

/// Names a word of `text` that is wrong, and its place.
pub(crate) fn misplaced(what: &str, text: &str, word: &str, why: &str) -> Error {
    let at = word.as_ptr() as usize - text.as_ptr() as usize;
    let character = text[..at].chars().count() + 1;
    Error::invalid(format!("{what} {text:?}: {word:?} at character {character} {why}"))
}
