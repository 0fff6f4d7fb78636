//! The engine over the awkward store: whatever a store does, a point is complete or there is none.

mod awkward;
mod copies;
mod harness;
mod no_lie;
mod points;
