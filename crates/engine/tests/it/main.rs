//! The engine over the awkward store: whatever a store does, a point is complete or there is none. And over places
//! that go wrong at every operation: see [`simulation`].

mod awkward;
mod copies;
mod harness;
mod no_lie;
mod points;
mod prune;
mod retain;
mod simulation;
