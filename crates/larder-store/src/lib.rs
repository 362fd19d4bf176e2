//! Where bytes rest: chunks and the catalog, behind the two traits that are Larder's only `dyn` seams.
//!
//! Blocking calls throughout: an asynchronous caller moves them to a blocking thread.

pub mod bounded;
pub mod catalog;
pub mod chunks;
pub mod conformance;
pub mod faulty;
pub mod kv;
pub mod kv_catalog;
pub mod log;
pub mod memory;
pub mod origin;
pub mod recent;
pub mod wire;

pub use bounded::{Bounded, Room};
pub use catalog::{Catalog, Change, Commit, Committed, Durability, Expect, Listed, Op};
pub use chunks::{ChunkStore, Lease, Leases, Put};
pub use kv_catalog::KvCatalog;
pub use recent::Recent;
