//! Errors of stored forms, grouped by what the caller can do.

use arrow::error::ArrowError;
use keepfast_keys::KeyError;
use keepfast_model::{Class, Code, Coded, KeyBytes, ModelError};
use parquet::errors::ParquetError;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why rows could not be stored, read or merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Stored bytes are not what they should be.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// What the bytes should be, such as `segment 3f…`.
        object: String,
        /// What is wrong with them.
        reason: String,
        /// The decoder's own error.
        #[source]
        source: Option<Source>,
    },
    /// The bytes were written by a newer program.
    #[error("{object} has format {found}, and this program reads up to {known}")]
    NewerFormat {
        /// What was read.
        object: String,
        /// The format it states.
        found: String,
        /// The newest format known here.
        known: u32,
    },
    /// The format has a place for it, and this program does not fill it.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What was asked, such as `encryption mode 'full'`.
        what: String,
    },
    /// A stored segment has other columns than the table.
    #[error("{object} does not fit its table at column '{column}': expected {expected}, found {found}")]
    Columns {
        /// What was read.
        object: String,
        /// The column.
        column: String,
        /// The physical type expected.
        expected: String,
        /// The type found, or `none`.
        found: String,
    },
    /// Rows that must come in key order did not.
    #[error("rows of {object} are not in key order: key {second} came after {first}")]
    Order {
        /// What the rows belong to.
        object: String,
        /// The key that came first, encoded.
        first: KeyBytes,
        /// The smaller key that came after it.
        second: KeyBytes,
    },
    /// Two rows have one key.
    #[error("key {key} stands twice in {object}")]
    DuplicateKey {
        /// What the rows belong to.
        object: String,
        /// The key, encoded.
        key: KeyBytes,
    },
    /// A change contradicts its table, or the format.
    #[error("change {seq} of shard '{shard}' cannot be applied: {reason}")]
    Change {
        /// The shard.
        shard: String,
        /// Its number in the shard's own order.
        seq: i64,
        /// What contradicts.
        reason: String,
    },
    /// Changes remove rows that the base does not have.
    #[error(
        "{count} removed rows are not in the base; the first is removed by change {seq} of shard '{shard}'"
    )]
    MissingRow {
        /// How many, with multiplicity.
        count: u64,
        /// The shard of the first one.
        shard: String,
        /// The number of the change that removes it.
        seq: i64,
    },
    /// Rows could not be turned into Parquet.
    #[error("{what} could not be encoded")]
    Encode {
        /// What was encoded.
        what: String,
        /// The encoder's own error.
        #[source]
        source: Source,
    },
    /// An Arrow kernel refused rows that it must accept.
    #[error("rows could not be {what}")]
    Kernel {
        /// What was done with them.
        what: &'static str,
        /// The kernel's own error.
        #[source]
        source: ArrowError,
    },
    /// A key is missing, or does not open what it should.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A value of the model was not well formed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl FormatError {
    /// Damage of an object without a decoder's error.
    pub(crate) fn damaged(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Damaged { object: object.into(), reason: reason.into(), source: None }
    }

    /// Damage of an object as the Parquet decoder tells it.
    pub(crate) fn parquet(object: &str, source: ParquetError) -> Self {
        Self::Damaged {
            object: object.to_owned(),
            reason: source.to_string(),
            source: Some(Box::new(source)),
        }
    }

    /// A failed encoding.
    pub(crate) fn encode(what: &str, source: impl Into<Source>) -> Self {
        Self::Encode { what: what.to_owned(), source: source.into() }
    }

    /// For `map_err` after a kernel.
    pub(crate) fn kernel(what: &'static str) -> impl Fn(ArrowError) -> Self {
        move |source| Self::Kernel { what, source }
    }
}

impl Coded for FormatError {
    fn code(&self) -> Code {
        Code(match self {
            Self::Damaged { .. } => 101,
            Self::NewerFormat { .. } => 102,
            Self::Unsupported { .. } => 103,
            Self::Columns { .. } => 104,
            Self::Order { .. } => 105,
            Self::DuplicateKey { .. } => 106,
            Self::Change { .. } => 107,
            Self::MissingRow { .. } => 108,
            Self::Encode { .. } => 109,
            Self::Kernel { .. } => 110,
            Self::Keys(e) => return e.code(),
            Self::Model(e) => return e.code(),
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::Order { .. } | Self::Encode { .. } | Self::Kernel { .. } => Class::Bug,
            Self::Keys(e) => e.class(),
            Self::Model(e) => e.class(),
            _ => Class::Fix,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Damaged { .. } | Self::Columns { .. } => {
                "Run `keepfast verify` on the backup: it lists every damaged object and the points it touches; \
                 restore from another point or another copy."
                    .into()
            }
            Self::NewerFormat { .. } => "Use the newer keepfast that wrote it.".into(),
            Self::Unsupported { .. } => "Leave it out.".into(),
            Self::DuplicateKey { .. } => {
                "Remove one of the two rows, or declare a key that is unique, then back up again.".into()
            }
            Self::Change { .. } | Self::MissingRow { .. } => {
                "Back up with `--mode full`, which starts a new base; earlier points stay readable.".into()
            }
            Self::Order { .. } | Self::Encode { .. } | Self::Kernel { .. } => {
                "This is a defect of Keepfast or of a store; please report it with the code.".into()
            }
            Self::Keys(e) => e.next_step(),
            Self::Model(e) => e.next_step(),
        }
    }
}
