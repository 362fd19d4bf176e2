//! The log backend, from the outside.

mod fixture;
mod reopen;
