//! Retention in a vault: what is to go is planned and shown first, logged second, and deleted last.
//!
//! [`plan`] makes a value; [`execute`] commits it and looks at it again whenever a rival was faster; [`crate::Vault::delete_condemned`]
//! removes what was condemned once its grace has passed. A condemned name is dead for ever, so that a deletion may come at
//! any time and any number of times. `docs/retention.md` is the written model; `tests/prune_model` checks it.

pub mod execute;
pub mod options;
pub mod plan;

mod delete;
mod drop;
pub(crate) mod reach;

pub use execute::PruneReport;
pub use options::{DEFAULT_GRACE, PruneOptions, Retention};
pub use plan::{DoomedObject, KeptPoint, PrunePlan, RemovedPoint};

/// Names that one record condemns at most, so that a record stays some megabytes long; more take more records.
pub const NAMES_A_RECORD: usize = 16_384;
