//! What should happen: how fast bytes may move.
//!
//! Everything here is pure: time comes in as a [`Tick`] and waiting is the caller's. Only crates/larder turns the
//! answers into sleeping tasks.

pub mod bucket;
pub mod rate;
pub mod throttle;
pub mod tick;
pub mod timetable;

pub use rate::Rate;
pub use throttle::{Class, Step, Throttle, Ticket};
pub use tick::Tick;
pub use timetable::{Direction, Timetable, WeekMinute};
