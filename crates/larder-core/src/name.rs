//! Names and paths: what a user calls a node.
//!
//! A name is bytes, as in POSIX; most are UTF-8. Parsing happens at the edge; behind it every name is right.

use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// The longest name, in bytes. Source: NAME_MAX of limits.h(0P) on Linux.
pub const NAME_MAX_BYTES: usize = 255;

/// The deepest path, in names; bounds every walk along parents.
pub const DEPTH_MAX: usize = 2048;

/// One component of a path: 1 to 255 bytes, without `/` and NUL, and neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Takes `bytes` as a name.
    ///
    /// # Errors
    /// `Invalid` where the bytes are no name; the message tells which rule they break.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self> {
        let bytes = bytes.as_ref();
        let fault = match bytes {
            b"" => "is empty",
            b"." | b".." => "is reserved",
            _ if bytes.len() > NAME_MAX_BYTES => return Err(Error::invalid(TOO_LONG)),
            _ if bytes.contains(&b'/') => "has a slash",
            _ if bytes.contains(&0) => "has a NUL byte",
            _ => return Ok(Name(bytes.into())),
        };
        Err(Error::invalid(format!("name {:?} {fault}", String::from_utf8_lossy(bytes))))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name for people; bytes that are not UTF-8 are replaced.
    pub fn to_string_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

/// What [`Name::new`] says of a name over [`NAME_MAX_BYTES`]; a mount answers it with ENAMETOOLONG.
pub const TOO_LONG: &str = "name is longer than 255 bytes";

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string_lossy())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string_lossy())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Name::new(bytes).map_err(serde::de::Error::custom)
    }
}

/// A path from the root of a project: the names from the top down; none for the root itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrivePath(Vec<Name>);

impl DrivePath {
    /// Reads `a/b/c`; slashes at the ends and doubled ones count for nothing.
    ///
    /// # Errors
    /// `Invalid` for a component that is no name (so `..` never gets in) or for more than [`DEPTH_MAX`] of them.
    pub fn parse(path: impl AsRef<[u8]>) -> Result<Self> {
        let names: Vec<Name> = path
            .as_ref()
            .split(|b| *b == b'/')
            .filter(|c| !c.is_empty())
            .map(Name::new)
            .collect::<Result<_>>()?;
        if names.len() > DEPTH_MAX {
            return Err(Error::invalid(format!("path has more than {DEPTH_MAX} components")));
        }
        Ok(DrivePath(names))
    }

    /// The names from the top down.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// Says whether this is the root of the project.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of the containing folder and the last name; `None` for the root.
    pub fn split(&self) -> Option<(DrivePath, &Name)> {
        let (last, parents) = self.0.split_last()?;
        Some((DrivePath(parents.to_vec()), last))
    }

    /// The path of `name` in this folder.
    pub fn join(&self, name: Name) -> DrivePath {
        DrivePath(self.0.iter().cloned().chain([name]).collect())
    }

    /// Says whether `self` is `other` or lies above it.
    pub fn contains(&self, other: &DrivePath) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl From<Vec<Name>> for DrivePath {
    fn from(names: Vec<Name>) -> Self {
        DrivePath(names)
    }
}

impl fmt::Display for DrivePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        for good in [&b"a"[..], b"...", b"\xff\xfe", &[b'x'; 255]] {
            assert_eq!(Name::new(good).expect("a name").as_bytes(), good);
        }
    }

    #[test]
    fn paths_never_climb() {
        assert!(DrivePath::parse("a/../b").is_err());
        assert_eq!(DrivePath::parse("//a///b/").expect("a path").to_string(), "/a/b");
        assert!(DrivePath::parse("").expect("the root").is_root());
    }

    #[test]
    fn containment_goes_by_whole_names() {
        let parse = |s: &str| DrivePath::parse(s).expect("a path");
        assert!(parse("/a").contains(&parse("/a/b")));
        assert!(!parse("/a").contains(&parse("/ab")));
    }
}
