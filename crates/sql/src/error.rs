//! Errors of this crate: each names a place in the text and what would have been right.

use crate::moment::MomentError;
use keepfast_model::{Class, Code, Coded, ModelError};
use std::fmt;

/// A place in the text of the statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextPosition {
    /// The line, from 1.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
}

impl fmt::Display for TextPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A text that is not a statement of Keepfast, or one that it does not carry out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// A statement goes on in a way that the grammar does not know.
    #[error("expected {expected}, found {found} at {at}")]
    Syntax {
        /// What would have been right.
        expected: String,
        /// What stands there.
        found: String,
        /// Where.
        at: TextPosition,
    },
    /// A string, a quoted name or a comment has no end, or characters make no word.
    #[error("{reason} at {at}")]
    Characters {
        /// What is wrong with them.
        reason: String,
        /// Where it begins.
        at: TextPosition,
    },
    /// Well-formed SQL that would lose its meaning here.
    #[error("{what} is not supported, at {at}: {instead}")]
    Unsupported {
        /// The clause or the statement.
        what: String,
        /// Why, or what to write in its place.
        instead: String,
        /// Where.
        at: TextPosition,
    },
    /// A key in `WITH (…)` is unknown, stands twice, or has a value that it does not take.
    #[error("option '{key}' {reason}, at {at}")]
    Option {
        /// The key as typed.
        key: String,
        /// What is wrong, with what is valid.
        reason: String,
        /// Where.
        at: TextPosition,
    },
    /// A table's name cannot be used.
    #[error("{source}, at {at}")]
    Name {
        /// Where.
        at: TextPosition,
        /// Why.
        source: ModelError,
    },
    /// A type is unknown, or its length is out of range.
    #[error("column type {text} {reason}, at {at}")]
    Type {
        /// The type as typed.
        text: String,
        /// What is wrong.
        reason: String,
        /// Where.
        at: TextPosition,
    },
    /// `AS OF` names no moment.
    #[error("{source}, at {at}")]
    Moment {
        /// Where.
        at: TextPosition,
        /// Why.
        source: MomentError,
    },
    /// The statement is nested deeper, or chains more operators, than any stack should carry.
    #[error("the statement is nested too deeply, at {at}")]
    Depth {
        /// Where.
        at: TextPosition,
    },
    /// A table's definition contradicts itself.
    #[error("{source}, at {at}")]
    Definition {
        /// Where the definition begins.
        at: TextPosition,
        /// The contradiction.
        source: ModelError,
    },
    /// A name stands twice in a list that takes each once.
    #[error("{what} '{name}' stands twice, at {at}")]
    Doubled {
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
        /// Where the second stands.
        at: TextPosition,
    },
}

impl SqlError {
    /// Where in the text.
    pub fn at(&self) -> TextPosition {
        match self {
            Self::Syntax { at, .. }
            | Self::Characters { at, .. }
            | Self::Unsupported { at, .. }
            | Self::Option { at, .. }
            | Self::Name { at, .. }
            | Self::Type { at, .. }
            | Self::Moment { at, .. }
            | Self::Depth { at }
            | Self::Definition { at, .. }
            | Self::Doubled { at, .. } => *at,
        }
    }
}

/// Makers of the variants that hold names as typed: a name may be a store's URL with a password.
impl SqlError {
    pub(crate) fn doubled(what: &'static str, name: &str, at: TextPosition) -> Self {
        Self::Doubled { what, name: without_secrets(name), at }
    }

    pub(crate) fn name(source: ModelError, at: TextPosition) -> Self {
        Self::Name { at, source: shown(source) }
    }

    pub(crate) fn definition(source: ModelError, at: TextPosition) -> Self {
        Self::Definition { at, source: shown(source) }
    }
}

fn shown(error: ModelError) -> ModelError {
    match error {
        ModelError::Name { what, text, reason } => {
            ModelError::Name { what, text: without_secrets(&text), reason }
        }
        ModelError::Schema { table, reason } => {
            ModelError::Schema { table: without_secrets(&table), reason: without_secrets(&reason) }
        }
        other => other,
    }
}

impl Coded for SqlError {
    fn code(&self) -> Code {
        Code(match self {
            Self::Syntax { .. } => 501,
            Self::Characters { .. } => 502,
            Self::Unsupported { .. } => 503,
            Self::Option { .. } => 504,
            Self::Name { .. } => 505,
            Self::Type { .. } => 506,
            Self::Moment { .. } => 507,
            Self::Depth { .. } => 508,
            Self::Definition { .. } => 509,
            Self::Doubled { .. } => 510,
        })
    }

    fn class(&self) -> Class {
        Class::Fix
    }

    fn next_step(&self) -> String {
        match self {
            Self::Syntax { .. } => "Correct the statement there; docs/sql.md has the grammar.",
            Self::Characters { .. } => "Close the quote or the comment that begins there.",
            Self::Unsupported { .. } => {
                "Write the statement as the message says; docs/sql.md lists what is supported."
            }
            Self::Option { .. } => "Use one of the options and values that the message lists.",
            Self::Name { .. } => {
                "Write table, database.table or store.database.table, each part in double quotes if need be."
            }
            Self::Type { .. } => "Use one of the types listed in docs/sql.md.",
            Self::Moment { .. } => "Write a date, or a date and a time, in UTC or with its offset.",
            Self::Depth { .. } => "Split the statement, or write long OR chains as IN (…).",
            Self::Definition { .. } => "Correct the column list or the key.",
            Self::Doubled { .. } => "Leave one of them out.",
        }
        .to_owned()
    }
}

/// The text with what may be a secret in a URL left out: the part before `@` after `://`, and everything from `?` on.
pub(crate) fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    // The last `@` counts, as a password may hold one. One behind the host belongs to a password with a `/` in it,
    // or to a point such as `name@3`.
    let in_path = || rest.rfind('@').filter(|at| rest[..*at].contains(':'));
    let found = match rest.contains("://") {
        // Another URL inside: nothing before its `@` is shown either.
        true => rest.rfind('@'),
        false => rest[..end].rfind('@').or_else(in_path),
    };
    let rest = match found {
        Some(at) => format!("***@{}", &rest[at + 1..]),
        None => rest.to_owned(),
    };
    match rest.split_once('?') {
        Some((path, _)) => format!("{scheme}://{path}?***"),
        None => format!("{scheme}://{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_urls_are_not_shown() {
        for (text, shown) in [
            ("example_backup", "example_backup"),
            ("s3://bucket/x#name", "s3://bucket/x#name"),
            ("mysql://u:p@h:3306/d", "mysql://***@h:3306/d"),
            ("mysql://u:p@ss@h/d", "mysql://***@h/d"),
            ("mysql://u:p/q@h/d", "mysql://***@h/d"),
            ("s3://bucket/x#name@3", "s3://bucket/x#name@3"),
            ("s3://b/p?secret=1#n", "s3://b/p?***"),
            ("x://u:p@h\"x://u:p@h", "x://***@h"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
    }
}
