//! What the live view of a drive promises: files, names, and many threads at once.

mod commits;
mod faults;
mod file_machine;
mod files;
mod handles;
mod limits;
mod others;
mod threads;
mod tree_machine;
mod tree_model;
mod world;
