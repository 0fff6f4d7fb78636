//! What every error of Keepfast carries: a stable code with a page in `docs/errors/`, a class that says what the
//! caller does next, and one sentence of advice.

use std::fmt;

/// A stable error code, shown as `KF0123`.
///
/// Ranges: 00xx model, 01xx format, 02xx vault, 03xx store, 04xx columnar, 05xx sql, 06xx engine, 07xx command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KF{:04}", self.0)
    }
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same call may succeed when it is made again.
    Retry,
    /// It will succeed later, when something else has finished.
    Wait,
    /// A person has to change the input, the configuration or the environment.
    Fix,
    /// Keepfast is wrong.
    Bug,
}

/// An error with a code, a class and a next step.
pub trait Coded: std::error::Error {
    /// The stable code; `docs/errors/<code>.md` is its page.
    fn code(&self) -> Code;
    /// What the caller does next.
    fn class(&self) -> Class;
    /// One sentence that tells a person what to do.
    fn next_step(&self) -> String;
}

/// A value of this crate that is not well formed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A table, backup or point name cannot be read.
    #[error("'{text}' is not a {what}: {reason}")]
    Name {
        /// What was expected, such as "backup name".
        what: &'static str,
        /// The text as given.
        text: String,
        /// Why it was refused.
        reason: String,
    },
    /// A column type's text form cannot be read.
    #[error("'{text}' is not a column type")]
    Type {
        /// The text as given.
        text: String,
    },
    /// A schema contradicts itself.
    #[error("schema of table '{table}' is not valid: {reason}")]
    Schema {
        /// The table.
        table: String,
        /// What contradicts.
        reason: String,
    },
    /// A batch does not have the columns or types that its schema promises.
    #[error("rows do not fit their schema at column '{column}': expected {expected}, found {found}")]
    Batch {
        /// The column, or its position.
        column: String,
        /// The physical type promised.
        expected: String,
        /// The type found.
        found: String,
    },
    /// A value does not fit its column.
    #[error("column '{column}', row {row}: {value} is refused, {reason}")]
    Value {
        /// The column.
        column: String,
        /// The row in its batch, from 0.
        row: u64,
        /// The value as text, cut where it is long.
        value: String,
        /// What the column asks for.
        reason: String,
    },
}

impl Coded for ModelError {
    fn code(&self) -> Code {
        Code(match self {
            Self::Name { .. } => 1,
            Self::Type { .. } => 2,
            Self::Schema { .. } => 3,
            Self::Batch { .. } => 4,
            Self::Value { .. } => 5,
        })
    }
    fn class(&self) -> Class {
        match self {
            Self::Batch { .. } => Class::Bug,
            _ => Class::Fix,
        }
    }
    fn next_step(&self) -> String {
        match self {
            Self::Name { .. } => "Use letters, digits, '_', '-' and '.', and quote SQL names that need it.",
            Self::Type { .. } => "Use one of the types listed in docs/format.md.",
            Self::Schema { .. } => "Correct the column list or the key.",
            Self::Batch { .. } => {
                "This is a defect of Keepfast or of a store; please report it with the code."
            }
            Self::Value { .. } => "Correct the value, or change the column's definition.",
        }
        .to_owned()
    }
}
