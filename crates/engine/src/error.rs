//! Errors of the engine, grouped by what the caller can do.

use keepfast_model::{Class, Code, Coded, ModelError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Wrong use, found before anything was opened.
    #[error("{what}: {reason}")]
    Usage {
        /// The argument or clause.
        what: String,
        /// Why it was refused.
        reason: String,
    },
    /// The restore point does not hold the table.
    #[error("restore point {point} does not hold table '{table}'; it holds {holds}")]
    NotInPoint {
        /// The table.
        table: String,
        /// The point.
        point: String,
        /// What it holds.
        holds: String,
    },
    /// A URL names a vault with several backups, or none, where exactly one is needed.
    #[error("{vault} holds {count} backups; name one as URL#name")]
    AmbiguousVault {
        /// The vault, without secrets.
        vault: String,
        /// How many.
        count: usize,
    },
    /// The rows read are not the rows that the store, or the vault, says there are.
    #[error("table '{table}' could not be certified: {reason}")]
    NotCertified {
        /// The table.
        table: String,
        /// What disagreed.
        reason: String,
    },
    /// What was loaded is not what the restore point holds.
    #[error("restored table '{table}' differs from its restore point: {reason}")]
    RestoreDiffers {
        /// The table.
        table: String,
        /// What disagreed.
        reason: String,
    },
    /// An incremental backup was asked for and is not possible.
    #[error("table '{table}' cannot be backed up incrementally: {reason}")]
    NotIncremental {
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// A name stands for a table that does not exist, in SQL or as a restore id.
    #[error("there is no {what} '{name}'")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something of that name exists already and the request said to fail.
    #[error("table '{table}' exists already")]
    Exists {
        /// The table.
        table: String,
    },
    /// The table is encrypted in another way in this backup already.
    #[error("table '{table}' is encrypted as '{fixed}' in this backup, and '{asked}' was asked for")]
    EncryptionFixed {
        /// The table.
        table: String,
        /// How it is.
        fixed: &'static str,
        /// How it should be.
        asked: &'static str,
    },
    /// Somebody asked to stop. Nothing was committed; the same command goes on where it stopped.
    #[error("interrupted")]
    Interrupted,
    /// A worker process failed at a task.
    #[error("task {task} failed: {reason}")]
    Task {
        /// The task's number.
        task: u32,
        /// What the worker said.
        reason: String,
    },
    /// What is asked for is not possible with this store or this version.
    #[error("{what} is not possible: {reason}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why.
        reason: String,
    },
    /// Fewer targets of a backup stand than were required.
    #[error("{stand} of {of} targets stand, and {required} must: {standing}; {target} failed")]
    TooFewTargets {
        /// Targets that stand.
        stand: usize,
        /// Targets in all.
        of: usize,
        /// Targets that must stand.
        required: usize,
        /// What stands.
        standing: String,
        /// The last target that failed, without secrets.
        target: String,
        /// Why.
        #[source]
        source: Box<EngineError>,
    },
    /// The local state in the data folder could not be read or written.
    #[error("cannot {what} {path}")]
    State {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A vault's log does not hold the newest record that was seen in it before.
    #[error(
        "{vault} was rolled back or replaced: its log does not hold record {seq} as it was seen here before"
    )]
    RolledBack {
        /// The vault, without secrets.
        vault: String,
        /// The record.
        seq: keepfast_model::LogSeq,
    },
    /// The query engine refused or failed.
    #[error("query failed: {message}")]
    Query {
        /// One line of what it said.
        message: String,
    },
    /// An expression over rows could not be evaluated.
    #[error("condition '{text}' is not valid: {reason}")]
    Condition {
        /// The condition.
        text: String,
        /// Why.
        reason: String,
    },
    /// The vault refused or failed.
    #[error(transparent)]
    Vault(#[from] keepfast_vault::VaultError),
    /// A store refused or failed.
    #[error(transparent)]
    Store(#[from] keepfast_store::StoreError),
    /// A segment or manifest could not be read or written.
    #[error(transparent)]
    Format(#[from] keepfast_format::FormatError),
    /// A statement could not be read.
    #[error(transparent)]
    Sql(#[from] keepfast_sql::SqlError),
    /// A file could not be imported or exported.
    #[error(transparent)]
    Files(#[from] keepfast_files::FilesError),
    /// A value of the model was not well formed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<datafusion::error::DataFusionError> for EngineError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        if let datafusion::error::DataFusionError::External(inner) = error {
            return match inner.downcast::<EngineError>() {
                Ok(own) => *own,
                Err(other) => Self::Query { message: one_line(&other.to_string()) },
            };
        }
        Self::Query { message: one_line(&error.strip_backtrace()) }
    }
}

impl From<arrow::error::ArrowError> for EngineError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Query { message: one_line(&error.to_string()) }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl EngineError {
    fn inner(&self) -> Option<&dyn Coded> {
        Some(match self {
            Self::Vault(e) => e,
            Self::Store(e) => e,
            Self::Format(e) => e,
            Self::Sql(e) => e,
            Self::Files(e) => e,
            Self::Model(e) => e,
            _ => return None,
        })
    }
}

impl Coded for EngineError {
    fn code(&self) -> Code {
        if let Some(inner) = self.inner() {
            return inner.code();
        }
        Code(match self {
            Self::Usage { .. } => 601,
            Self::NotInPoint { .. } => 604,
            Self::AmbiguousVault { .. } => 605,
            Self::NotCertified { .. } => 606,
            Self::RestoreDiffers { .. } => 607,
            Self::NotIncremental { .. } => 608,
            Self::Unknown { .. } => 609,
            Self::Exists { .. } => 610,
            Self::Interrupted => 611,
            Self::Task { .. } => 612,
            Self::Unsupported { .. } => 613,
            Self::State { .. } => 614,
            Self::TooFewTargets { .. } => 326,
            Self::Query { .. } => 615,
            Self::EncryptionFixed { .. } => 617,
            Self::RolledBack { .. } => 329,
            _ => 616,
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::Interrupted | Self::Task { .. } => Class::Retry,
            Self::TooFewTargets { source, .. } => source.class(),
            Self::NotCertified { .. } | Self::RestoreDiffers { .. } => Class::Retry,
            _ => self.inner().map_or(Class::Fix, Coded::class),
        }
    }

    fn next_step(&self) -> String {
        if let Some(inner) = self.inner() {
            return inner.next_step();
        }
        match self {
            Self::Usage { .. } => "See `keepfast help` for the right form.",
            Self::NotInPoint { .. } => "Name one of the tables that it holds.",
            Self::AmbiguousVault { .. } => "`keepfast list URL` shows the names.",
            Self::NotCertified { .. } => "Nothing was committed. Run the backup again; if it fails again, the store or its connection loses rows.",
            Self::RestoreDiffers { .. } => "Nothing was published. Run `keepfast verify` on the backup, then restore again.",
            Self::NotIncremental { .. } => "Use `--mode auto` or `--mode full`.",
            Self::Unknown { .. } => "Check the name; `keepfast sql -c 'SHOW TABLES'` lists tables, `keepfast list` backups.",
            Self::Exists { .. } => "Choose another name with `--into`, or allow `--if-exists replace`.",
            Self::Interrupted => "Run the same command again; it goes on where it stopped.",
            Self::Task { .. } => "Run the same command again; finished tasks are kept.",
            Self::Unsupported { .. } => "Choose another way; the message says what is possible.",
            Self::TooFewTargets { source, .. } => {
                return format!("What stands is whole and can be restored from. {}", source.next_step());
            }
            Self::State { .. } => "Check the folder's permissions and free space.",
            Self::Query { .. } => "Correct the statement.",
            Self::EncryptionFixed { .. } => "Leave the option out, or choose another name for the backup.",
            Self::RolledBack { .. } => "Points may be missing. `keepfast verify BACKUP --repair --repair-from URL` brings them back from another copy of the vault; if an older state was put there on purpose, `keepfast verify BACKUP --accept-head` takes it.",
            _ => "Correct the condition; it is an SQL expression over the table's columns.",
        }
        .to_owned()
    }
}
