//! Why a configuration cannot be used.

use keepfast_model::{Class, Code, Coded};
use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file breaks the rules of its form.
    #[error("{}, line {line}: {reason}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Which rule.
        reason: String,
    },
    /// The file that was named could not be read.
    #[error("cannot read the configuration {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A store's secret is not where the configuration says.
    #[error("the password of store '{store}' is missing: {reason}")]
    Secret {
        /// The store.
        store: String,
        /// Which variable or file lacks it.
        reason: String,
    },
}

impl Coded for ConfigError {
    fn code(&self) -> Code {
        Code(match self {
            Self::Form { .. } => 702,
            Self::File { .. } => 703,
            Self::Secret { .. } => 709,
        })
    }

    fn class(&self) -> Class {
        Class::Fix
    }

    fn next_step(&self) -> String {
        match self {
            Self::Form { .. } => "Correct that line; docs/cli.md lists what may stand in the file.",
            Self::File { .. } => "Check the path and its permissions.",
            Self::Secret { .. } => "Set it where the configuration says, or correct the configuration.",
        }
        .into()
    }
}
