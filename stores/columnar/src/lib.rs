//! The embedded Table Store: columnar tables in a folder or a bucket, without a server.
//!
//! A table is a list of immutable segments in key order. Every change is a new version of that list, which becomes
//! visible by creating one catalog entry; readers keep the version they opened. Invariants: there is one history of
//! catalog entries, so a cut over any tables is one entry; nothing a kept version refers to is ever removed; and what
//! was written before a crash is either wholly visible or not at all.
//!
//! `docs/columnar.md` describes the objects. Read [`catalog`], [`version`] and [`change`] in this order; [`store`] is
//! the front door, [`cut`], [`load`] and [`edit`] are the traits that the engine sees.

mod apply;
mod bag;
mod build;
pub mod catalog;
pub mod change;
mod commit;
mod compact;
pub mod cut;
mod diff;
pub mod edit;
mod encrypt;
mod fault;
mod find;
pub mod handle;
mod head;
mod join;
mod keyring;
mod keys;
pub mod load;
mod names;
mod place;
mod plain;
mod resume;
mod rows;
mod scan;
mod scratch;
mod seal;
mod shared;
mod sink;
mod spill;
mod stage;
pub mod store;
pub mod table;
mod tend;
mod undo;
pub mod vacuum;
pub mod version;
mod walk;

pub use catalog::{Catalog, CatalogTable};
pub use change::Change;
pub use names::WriterId;
pub use seal::KeysRef;
pub use store::{ColumnarStore, Options};
pub use table::{Table, TableVersion};
pub use vacuum::{Removed, Retention};
pub use version::{ChangeNote, PageRef, VersionFile};

/// The result of this crate's calls.
pub type Result<T, E = keepfast_store::StoreError> = std::result::Result<T, E>;
