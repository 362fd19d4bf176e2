//! What is agreed with the kernel when a connection starts.

use fuser::{FopenFlags, InitFlags, KernelConfig};

/// Bytes of one write request; the kernel splits longer ones.
const WRITE_MAX_BYTES: u32 = 1 << 20;
/// Requests that the kernel sends ahead of anybody waiting (read-ahead, release). Its default of 12 stalls read-ahead.
const BACKGROUND_MAX: u16 = 64;
/// Bytes read ahead, in KiB, that root may set behind the kernel's own limit of 128.
pub(crate) const READ_AHEAD_KB: u32 = 1024;

/// How folders are opened: the kernel caches the listing, and goes on with the one that it has where `is_right`. Zero-message
/// opendir is not agreed: a handle holds the place.
pub(crate) fn folder_flags(is_right: bool) -> FopenFlags {
    let kept = if is_right { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
    FopenFlags::FOPEN_CACHE_DIR | kept
}

/// What we ask for where the kernel has it.
///
/// Not among them, with reasons: WRITEBACK_CACHE (size and times would be the kernel's, but other doors change files
/// too); POSIX_LOCKS and FLOCK_LOCKS (local locks stay in the kernel, where a waiter can be interrupted; other doors
/// read them from /proc/locks); POSIX_ACL (not stored); AUTO_INVAL_DATA (our own writes change mtime, and each would
/// drop the pages just written) and EXPLICIT_INVAL_DATA (a size that nobody here set comes with other pages); ASYNC_DIO
/// (the pieces of one O_DIRECT write to the end of a file would come in any order).
const WANTED: InitFlags = InitFlags::FUSE_ATOMIC_O_TRUNC
    // open_by_handle_at(2) and NFS: ids are never used twice
    .union(InitFlags::FUSE_EXPORT_SUPPORT)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_CACHE_SYMLINKS)
    // files opened just when another door changed them can be mapped too
    .union(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
    // without it each write asks for security.capability first
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2);

pub(crate) fn configure(config: &mut KernelConfig) {
    let has = WANTED & config.capabilities();
    if config.add_capabilities(has).is_err() || config.set_max_write(WRITE_MAX_BYTES).is_err() {
        tracing::warn!("the kernel refused what it offered");
    }
    if let Err(largest) = config.set_max_readahead(READ_AHEAD_KB * 1024) {
        // what this request itself takes is the largest that INIT offered
        let _ = config.set_max_readahead(largest);
    }
    if config.set_max_background(BACKGROUND_MAX).is_err() {
        tracing::warn!(BACKGROUND_MAX, "background requests not set");
    }
}
