//! Who asks, as the caller of this crate found out.

use crate::devices::Device;

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Owner,
    /// Read and write.
    Editor,
    /// Read.
    Viewer,
}

impl Role {
    /// The word for it in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Editor => "editor",
            Role::Viewer => "viewer",
        }
    }
}

/// How somebody showed who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By the password of the user.
    Password,
    /// By the token of this device.
    Token(Device),
}

/// A user who showed who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name.
    pub user: String,
    /// What they may do now.
    pub role: Role,
    /// How they showed it.
    pub proof: Proof,
}

impl Caller {
    /// The device that asks, if one does.
    pub fn device(&self) -> Option<&Device> {
        match &self.proof {
            Proof::Password => None,
            Proof::Token(device) => Some(device),
        }
    }
}

/// Why nobody is known to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No credentials, or wrong ones.
    Unknown,
    /// Too many tries; seconds to wait.
    TooMany(u64),
    /// Too busy to find out; seconds to wait.
    Busy(u64),
}

/// Which proof a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Password,
    Token,
    Either,
}
