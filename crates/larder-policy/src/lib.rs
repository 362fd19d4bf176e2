//! What should happen: what moves next and how fast, when to try again, and what stays on a device.
//!
//! Everything here is pure: time comes in as a [`Tick`], randomness as a number, and waiting is the caller's.

pub mod ahead;
pub mod bucket;
mod mistake;
pub mod plan;
pub mod rate;
pub mod retry;
pub mod rules;
pub mod span;
pub mod throttle;
pub mod tick;
pub mod timetable;

pub use ahead::ReadAhead;
pub use rate::{Rate, parse_size};
pub use retry::Retry;
pub use span::parse_span;
pub use throttle::{Class, Level, Step, Throttle, Ticket};
pub use tick::Tick;
pub use timetable::{Direction, Timetable, WeekMinute};
