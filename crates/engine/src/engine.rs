//! The engine, and what a statement gives. Its verbs are methods, each in the module of its name.

use crate::Result;
use crate::api::*;
use crate::progress::{Cancel, Progress};
use crate::resolve::StoreResolver;
use crate::surroundings::Surroundings;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use std::path::PathBuf;
use std::sync::Arc;

/// What an engine works with. Nothing is global.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The data folder: `store/`, `vault/` and local state.
    pub data: PathBuf,
    /// Opens stores.
    pub stores: Arc<dyn StoreResolver>,
    /// Threads that compute, or worker processes at once.
    pub threads: usize,
    /// Memory for sorting and joining, in bytes; more spills to disk.
    pub memory: usize,
    /// The program and arguments that run one task from standard input; none runs tasks in this process.
    pub worker: Option<Vec<String>>,
    /// Hears how far a command is.
    pub progress: Arc<dyn Progress>,
    /// Asks to stop.
    pub cancel: Cancel,
    /// Places, time, random bytes and processes.
    pub surroundings: Surroundings,
    /// What holds for backups that do not say otherwise.
    pub defaults: BackupDefaults,
}

/// Backup, restore, verification, difference and query over stores and vaults.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) options: Arc<EngineOptions>,
}

/// What a statement gave.
pub enum Outcome {
    /// Rows of a query.
    Rows {
        /// Their columns, in native types.
        schema: SchemaRef,
        /// Batches as they come.
        batches: BoxStream<'static, Result<RecordBatch>>,
    },
    /// Rows changed by INSERT, UPDATE or DELETE.
    Changed {
        /// `inserted`, `updated` or `deleted`.
        verb: &'static str,
        /// How many.
        rows: u64,
    },
    /// Something was done that has no rows: CREATE, DROP.
    Done(String),
    /// BACKUP.
    Backup(BackupOutcome),
    /// EXPLAIN BACKUP.
    BackupPlan(BackupPlan),
    /// RESTORE.
    Restore(RestoreReport),
    /// EXPLAIN RESTORE.
    RestorePlan(RestorePlan),
    /// VERIFY BACKUP.
    Verify(VerifyReport),
    /// SHOW BACKUPS.
    Backups(Vec<BackupSummary>),
    /// SHOW RESTORE POINTS.
    Points(Vec<PointSummary>),
    /// DESCRIBE BACKUP.
    Point(Box<PointReport>),
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Rows { .. } => "Rows",
            Self::Changed { .. } => "Changed",
            Self::Done(_) => "Done",
            Self::Backup(_) => "Backup",
            Self::BackupPlan(_) => "BackupPlan",
            Self::Restore(_) => "Restore",
            Self::RestorePlan(_) => "RestorePlan",
            Self::Verify(_) => "Verify",
            Self::Backups(_) => "Backups",
            Self::Points(_) => "Points",
            Self::Point(_) => "Point",
        };
        f.write_str(name)
    }
}

impl Engine {
    /// An engine over a data folder. Nothing is opened or created yet.
    pub fn new(options: EngineOptions) -> Self {
        Self { options: Arc::new(options) }
    }
}
