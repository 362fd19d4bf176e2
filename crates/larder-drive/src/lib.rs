//! How a drive behaves: one place for reading, writing, committing, history and locks, whatever door a caller uses.
//!
//! Two views of the same drive: [`Drive`] shows committed versions only and serves WebDAV and the API;
//! the live view shows what open files hold as well and serves one kernel mount. Calls block; asynchronous callers
//! move them to a blocking thread.

pub mod actor;
mod base;
mod busy;
mod cache;
pub mod clock;
mod content;
mod copy;
mod drive;
mod events;
pub mod fetch;
mod follow;
mod history;
mod horizon;
mod kept;
mod locks;
pub mod mount;
mod pinning;
mod placing;
mod push;
mod read;
mod seen;
mod tree;
mod upload;
mod walk;

pub use actor::{Actor, Door};
pub use base::{Base, Parts};
pub use busy::{Busy, Writing};
pub use clock::Clock;
pub use copy::CopyDepth;
pub use drive::{Drive, Settings, Usage};
pub use events::{Event, Subscription};
pub use fetch::{Fetch, Here, Pinned};
pub use follow::{Follower, catch_up};
pub use history::{VersionEntry, Which};
pub use horizon::Hold;
pub use kept::Kept;
pub use larder_policy::rules::Placement;
pub use locks::{Lock, LockRequest, Locks, OWNER_MAX_BYTES as LOCK_OWNER_MAX_BYTES, is_locked};
pub use mount::{Allocate, Handle, MakeKind, Mount, OpenFlags, RenameFlags, Seek};
pub use pinning::Pinner;
pub use placing::{Book, Place, Placed, Placements, each_below};
pub use push::{After, Conflicts, Label, PushStatus, Pusher, Steps};
pub use read::Reader;
pub use tree::undisturbed;
pub use upload::{Published, Sealed, Target, Upload};
