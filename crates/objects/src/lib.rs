//! Places that hold objects, behind one location text, and a folder whose writes are durable.
//!
//! Keepfast creates objects that are absent, reads, lists and deletes. An object is overwritten only by the bytes that its name
//! or a record allows, where others stand: after a torn write, and in a repair ([`Target::replace_content`]). Everything
//! above this crate speaks to a [`Target`]: an object store, a prefix in it, and a form of its address that may be shown. Two promises hold on every target: [`Target::put_new`] lets exactly one of several writers of one name win,
//! and after it returns, this object and everything put before it through the same target survives a power failure.
//! Read [`target`] first, then [`folder`]. Tests put [`faulty`] between a caller and its place; [`bucket`] is one with
//! versions and locks.

pub mod bucket;
pub mod conformance;
pub mod error;
pub mod faulty;
pub mod folder;
pub mod immutability;
mod locks;
pub mod metered;
pub mod open;
mod read;
mod s3;
pub mod target;

pub use error::ObjectsError;
pub use folder::{Deferred, FolderStore};
pub use immutability::{Immutability, Locking, ObjectVersion};
pub use metered::{Metered, Requests};
pub use open::{Settings, open_target, open_target_with};
pub use target::{ObjectInfo, Put, Target};

/// The result of this crate's calls.
pub type Result<T, E = ObjectsError> = std::result::Result<T, E>;
