//! A vault: backups on any object store, in the layout of `docs/format.md`.
//!
//! Objects are created when absent and deleted, never changed. What exists is what the log says: a restore point
//! becomes visible by one create-if-absent of the next log record, after everything it names is durable. Several
//! processes may write to one vault at once; they meet only at that number. Nothing here holds state that a crash
//! could lose: an open [`Vault`] is an address, its keys, and a cache of the log.
//!
//! Read [`vault`] first, then [`commit`] and [`log`].

pub mod check;
pub mod commit;
pub mod copy;
pub mod delta;
pub mod environment;
pub mod error;
pub mod layout;
pub mod lock;
pub mod log;
pub mod objects;
pub mod prune;
pub mod recover;
pub mod staging;
pub mod vault;

mod keys;
mod marker;
mod salt;
mod seal;

pub use check::{CheckOptions, CheckReport, Damage, DamageKind, Progress};
pub use commit::{NewObject, Revalidate};
pub use copy::CopyReport;
pub use delta::DeltaVersion;
pub use environment::{Clock, Environment, Random, SystemClock, SystemRandom};
pub use error::VaultError;
pub use keepfast_objects::Put;
pub use lock::Retain;
pub use log::{AsOf, Hold, Log, LogLine, Point};
pub use recover::{RecoverReport, recover};
pub use vault::{CreateOptions, Vault};

/// The result of this crate's calls.
pub type Result<T, E = VaultError> = std::result::Result<T, E>;
