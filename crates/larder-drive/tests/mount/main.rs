//! What the live view of a drive promises: files, names, and many threads at once.

mod file_machine;
mod world;
