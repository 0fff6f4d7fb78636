//! Processes that go wrong at any operation, over a store and a vault in memory.
//!
//! `KEEPFAST_LONG=1` runs the same code longer: every fault at every operation, and random actions for an hour.

mod actions;
mod cuts;
mod dropped;
mod model;
mod random;
mod resuming;
mod shredded;
mod shrink;
mod world;

/// Whether the long variant is asked for.
fn long() -> bool {
    std::env::var_os("KEEPFAST_LONG").is_some_and(|value| value == "1")
}
