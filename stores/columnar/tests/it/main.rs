//! The embedded store: written, crashed, damaged, read through time and encrypted. One program, since linking is most of its build.

#[path = "../common/mod.rs"]
mod common;
mod crash;
mod damage;
mod encryption;
mod first_keys;
mod handles;
mod history;
mod key_changes;
mod leftovers;
mod writers;
