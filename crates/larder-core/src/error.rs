//! The one error type: a kind that every boundary maps, what failed, and why.
//!
//! Callers: all crates. An error never carries secrets; `what` names the thing as the user knows it.

use std::fmt;
use std::time::Duration;

/// The outcome of anything in Larder that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The twelve kinds of failure; each boundary maps them with one exhaustive `match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The thing named does not exist.
    NotFound,
    /// The name is taken.
    Exists,
    /// A folder was needed.
    NotADirectory,
    /// A folder was given where it cannot be.
    IsADirectory,
    /// The folder has entries.
    NotEmpty,
    /// The input breaks a rule of the interface.
    Invalid,
    /// The caller may not do this.
    Denied,
    /// The state changed, or a lock is held by somebody else.
    Conflict,
    /// The disk or a quota is full.
    NoSpace,
    /// The thing cannot be reached now; trying later may help.
    Unavailable,
    /// Stored bytes are not what was stored.
    Corrupt,
    /// This operation does not exist for this thing.
    Unsupported,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 12] = [
        Kind::NotFound,
        Kind::Exists,
        Kind::NotADirectory,
        Kind::IsADirectory,
        Kind::NotEmpty,
        Kind::Invalid,
        Kind::Denied,
        Kind::Conflict,
        Kind::NoSpace,
        Kind::Unavailable,
        Kind::Corrupt,
        Kind::Unsupported,
    ];

    /// The word for it that devices and servers use. Source: crates/larder-api/PROTOCOL.md.
    pub fn word(self) -> &'static str {
        match self {
            Kind::NotFound => "not-found",
            Kind::Exists => "exists",
            Kind::NotADirectory => "not-a-directory",
            Kind::IsADirectory => "is-a-directory",
            Kind::NotEmpty => "not-empty",
            Kind::Invalid => "invalid",
            Kind::Denied => "denied",
            Kind::Conflict => "conflict",
            Kind::NoSpace => "no-space",
            Kind::Unavailable => "unavailable",
            Kind::Corrupt => "corrupt",
            Kind::Unsupported => "unsupported",
        }
    }

    /// The kind that `word` stands for.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// A failure: its kind, what it happened to, and the error below it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind` about `what`, a short sentence without a full stop.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), retry_after: None, source: None }
    }

    /// Adds the error that caused this one.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds how long whoever failed asks to be left alone.
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// How long to wait before trying again, where somebody said so.
    pub fn asked_wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Makes an error about `what` from an operating-system error, keeping what its kind says.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        let kind = match source.kind() {
            E::NotFound => Kind::NotFound,
            E::AlreadyExists => Kind::Exists,
            E::PermissionDenied | E::ReadOnlyFilesystem => Kind::Denied,
            E::StorageFull | E::QuotaExceeded | E::FileTooLarge => Kind::NoSpace,
            E::NotADirectory => Kind::NotADirectory,
            E::IsADirectory => Kind::IsADirectory,
            E::DirectoryNotEmpty => Kind::NotEmpty,
            E::InvalidInput => Kind::Invalid,
            E::InvalidData | E::UnexpectedEof => Kind::Corrupt,
            E::Unsupported => Kind::Unsupported,
            _ => Kind::Unavailable,
        };
        Self::new(kind, what).because(source)
    }

    /// The kind, for a boundary to map.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it happened to.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What the user can do about it, where there is something to do for every error of the kind.
    pub fn hint(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Corrupt => Some("run `larder scrub` to list every affected path"),
            Kind::Unavailable => Some("try again later"),
            Kind::NoSpace => Some("free space, or run `larder gc`"),
            Kind::Conflict => Some("see what else changed it or has it, then try again"),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as _)
    }
}

macro_rules! shorthand {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {
        impl Error {
            $($(#[$doc])* pub fn $name(what: impl Into<String>) -> Self { Self::new(Kind::$kind, what) })*
        }
    };
}

shorthand! {
    /// Makes a [`Kind::NotFound`].
    not_found => NotFound;
    /// Makes a [`Kind::Exists`].
    exists => Exists;
    /// Makes a [`Kind::Invalid`].
    invalid => Invalid;
    /// Makes a [`Kind::Denied`].
    denied => Denied;
    /// Makes a [`Kind::Conflict`].
    conflict => Conflict;
    /// Makes a [`Kind::Corrupt`].
    corrupt => Corrupt;
    /// Makes a [`Kind::Unavailable`].
    unavailable => Unavailable;
    /// Makes a [`Kind::Unsupported`].
    unsupported => Unsupported;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_word(kind.word()), Some(kind));
        }
        assert_eq!(Kind::of_word("something"), None);
    }

    #[test]
    fn message_names_the_thing_and_every_cause() {
        let io = std::io::Error::from_raw_os_error(28);
        let error = Error::io("write segments/00000001", io);
        assert_eq!(error.kind(), Kind::NoSpace);
        assert!(error.to_string().starts_with("write segments/00000001: No space left"), "{error}");
    }
}
