//! How much of a folder a device was told, as its mark in the catalog says.

use larder_core::{Error, Name, Result};

/// How much of a folder is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Only what was asked for by name.
    Nothing,
    /// Every name up to this one.
    UpTo(Name),
    /// Every name.
    All,
}

impl Known {
    pub(super) fn covers(&self, name: &Name) -> bool {
        match self {
            Known::Nothing => false,
            Known::UpTo(last) => name <= last,
            Known::All => true,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Known::Nothing => b"n".to_vec(),
            Known::UpTo(last) => [b"u", last.as_bytes()].concat(),
            Known::All => b"a".to_vec(),
        }
    }

    pub(super) fn decode(bytes: Option<&[u8]>) -> Result<Self> {
        Ok(match bytes {
            None | Some([b'n']) => Known::Nothing,
            Some([b'a']) => Known::All,
            Some([b'u', name @ ..]) => Known::UpTo(Name::new(name)?),
            Some(_) => return Err(Error::corrupt("mark of a folder")),
        })
    }
}
