//! A vault: backups on any object store, in the layout of `docs/format.md`.
//!
//! Objects are created when absent and deleted, never changed; damaged ones are healed by the bytes that were there. What exists is what the log says: a restore point
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
pub mod hold;
pub mod layout;
pub mod lock;
pub mod log;
pub mod objects;
pub mod parity;
pub mod prune;
pub mod recover;
pub mod reencrypt;
pub mod repair;
pub mod staging;
pub mod testing;
pub mod vault;

mod keyring;
mod keys;
mod marker;
mod read_back;
mod rekey;
mod salt;
mod seal;

pub use check::{Behind, CheckOptions, CheckReport, Damage, DamageKind, Progress};
pub use commit::{NewObject, Revalidate, StillNewest};
pub use copy::{CopyOptions, CopyReport};
pub use delta::DeltaVersion;
pub use environment::{Clock, Environment, Random, SystemClock, SystemRandom};
pub use error::VaultError;
pub use hold::{Held, HoldTerms};
pub use keepfast_objects::Put;
pub use keyring::Secrecy;
pub use lock::Retain;
pub use log::{AsOf, Hold, LineInfo, Log, LogLine, Point};
pub use parity::Listed;
pub use prune::{PruneOptions, PrunePlan, PruneReport, Retention};
pub use recover::{RecoverOptions, RecoverReport, recover};
pub use reencrypt::{NewEncryption, ReencryptOptions, ReencryptReport};
pub use repair::{Healed, HealedBy, KeyGap, Lost, RepairReport};
pub use vault::{CreateOptions, Vault};

/// The result of this crate's calls.
pub type Result<T, E = VaultError> = std::result::Result<T, E>;
