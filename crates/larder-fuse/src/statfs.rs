//! How full the drive is, as statfs(2) says it.

use larder_drive::Usage;

/// The unit of statfs(2).
pub(crate) const STATFS_BLOCK_BYTES: u32 = 4096;
/// What statfs(2) says of free file slots: there is no limit.
const FREE_FILES: u64 = 1 << 40;

/// Blocks, free blocks, blocks that users may take, files and free files.
pub(crate) fn statfs_numbers(usage: &Usage) -> [u64; 5] {
    let used = usage.used_bytes.div_ceil(u64::from(STATFS_BLOCK_BYTES));
    let free = usage.available_bytes / u64::from(STATFS_BLOCK_BYTES);
    [used + free, free, free, usage.nodes + FREE_FILES, FREE_FILES]
}
