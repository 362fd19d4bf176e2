//! The log backend, from the outside.

mod collect;
mod damage;
mod evict;
mod failing_disk;
mod feed;
mod fixture;
mod full_disk;
mod group_commit;
mod holes;
mod image;
mod kill;
mod power_cut;
mod reopen;
