//! Backup, restore, verification, difference and query: the only crate with DataFusion.
//!
//! A backup is a query, a restore is a query, a verification is a query. The engine sees stores only through the
//! traits of `keepfast_store` and backups only through `keepfast_vault`. Start with [`Engine`]; what callers ask and
//! get back is in [`api`].

pub mod api;
mod backup;
mod catalog;
mod certify;
mod compact;
mod condition;
mod copy;
mod damaged;
mod diff;
mod dispatch;
mod distinct;
mod encryption;
mod engine;
mod error;
mod files;
mod heads;
mod incremental;
mod keys;
mod order;
mod places;
mod plan;
mod point;
mod progress;
mod resolve;
mod restore;
mod resume;
mod retain;
mod retention;
mod run;
mod session;
mod shards;
mod shredded;
mod source;
mod statements;
mod stored;
mod surroundings;
mod task;
mod undo;
mod verify;
mod writes;

pub use engine::{Engine, EngineOptions, Outcome};
pub use error::EngineError;
pub use progress::{Cancel, NoProgress, Progress, Work};
pub use resolve::{StoreResolver, StoreSpec};
pub use session::parse_as_of;
pub use statements::{backup_request, restore_request, verify_request};
pub use surroundings::{AnyTarget, ProcessId, Processes, Surroundings, Targets, ThisMachine};
pub use task::{Task, TaskResult};

/// Result of an engine's call.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;
