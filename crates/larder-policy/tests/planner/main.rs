//! What the planner promises, one test each, and a model that it is compared with.

mod failures;
mod model;
mod order;
mod pausing;
mod world;
