//! Errors of the command line itself; those of the parts below pass through.

use keepfast_model::{Class, Code, Coded};
use std::path::{Path, PathBuf};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// The arguments are not those of a verb.
    #[error("{message}")]
    Arguments {
        /// What is wrong with which argument.
        message: String,
        /// The right form.
        usage: Option<String>,
    },
    /// A file that was named could not be read, or a folder not used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Standard output or input failed.
    #[error("cannot {what}")]
    Stream {
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// No error has that code.
    #[error("there is no error code '{code}'")]
    NoPage {
        /// The code as typed.
        code: String,
    },
    /// A step of the demo did not show what it should.
    #[error("the demo's step '{step}' failed: {reason}")]
    Demo {
        /// The step's title.
        step: String,
        /// What was expected, and what happened.
        reason: String,
    },
    /// The terminal refused line editing.
    #[error("the interactive shell cannot use this terminal")]
    Terminal {
        /// The cause.
        #[source]
        source: rustyline::error::ReadlineError,
    },
    /// The system gives no threads.
    #[error("cannot start {threads} threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A statement could not be read; found before any of them ran.
    #[error(transparent)]
    Sql(#[from] keepfast_sql::SqlError),
    /// A name could not be read; found before anything was opened.
    #[error(transparent)]
    Model(#[from] keepfast_model::ModelError),
    /// A passphrase or identity cannot be used.
    #[error(transparent)]
    Key(#[from] keepfast_keys::KeyError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] keepfast_config::ConfigError),
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] keepfast_engine::EngineError),
    /// A vault refused or failed.
    #[error(transparent)]
    Vault(#[from] keepfast_vault::VaultError),
    /// A store refused or failed.
    #[error(transparent)]
    Store(#[from] keepfast_store::StoreError),
}

impl CliError {
    /// A file that could not be used.
    pub fn file(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { what, path: path.to_owned(), source }
    }

    /// Wrong use of an argument, with what the right form is.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Arguments { message: message.into(), usage: None }
    }

    /// Whether a passphrase may help, and none was given.
    pub fn wants_passphrase(&self) -> bool {
        matches!(self.code(), Code(240 | 401)) || self.wants_new_passphrase()
    }

    /// What the passphrase opens.
    pub fn locked_thing(&self) -> &'static str {
        if self.code() == Code(401) { "the store" } else { "the vault" }
    }

    /// Whether a first passphrase is to be chosen.
    pub fn wants_new_passphrase(&self) -> bool {
        matches!(self.code(), Code(255))
    }

    fn inner(&self) -> Option<&dyn Coded> {
        Some(match self {
            Self::Sql(e) => e,
            Self::Model(e) => e,
            Self::Key(e) => e,
            Self::Config(e) => e,
            Self::Engine(e) => e,
            Self::Vault(e) => e,
            Self::Store(e) => e,
            _ => return None,
        })
    }

    /// Whether it only says that nobody reads standard output any more.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Stream { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl From<std::io::Error> for CliError {
    /// Reports write to standard output alone, so that a bare I/O error is one of it.
    fn from(source: std::io::Error) -> Self {
        Self::Stream { what: "write to standard output", source }
    }
}

impl Coded for CliError {
    fn code(&self) -> Code {
        if let Some(inner) = self.inner() {
            return inner.code();
        }
        Code(match self {
            Self::Arguments { .. } => 701,
            Self::File { .. } => 703,
            Self::Stream { .. } => 704,
            Self::NoPage { .. } => 705,
            Self::Demo { .. } => 706,
            Self::Terminal { .. } => 707,
            Self::Threads { .. } => 708,
            _ => 799,
        })
    }

    fn class(&self) -> Class {
        self.inner().map_or(Class::Fix, Coded::class)
    }

    fn next_step(&self) -> String {
        if let Some(inner) = self.inner() {
            return inner.next_step();
        }
        match self {
            Self::Arguments { usage: Some(usage), .. } => usage.clone(),
            Self::Arguments { .. } => "See `keepfast help VERB` for the right form.".into(),
            Self::File { .. } => "Check the path and its permissions.".into(),
            Self::Stream { .. } => {
                "Check where standard input and output lead, and whether there is room.".into()
            }
            Self::NoPage { .. } => "`keepfast explain` lists all codes.".into(),
            Self::Demo { .. } => {
                "Run `keepfast demo --keep DIR` and look into DIR; if it fails again, please report it."
                    .into()
            }
            Self::Terminal { .. } => {
                "Use `keepfast sql -c` or `-f`, or give the statements on standard input.".into()
            }
            Self::Threads { .. } => "Ask for fewer with `--threads`.".into(),
            _ => "This is a defect of Keepfast; please report it with the line above.".into(),
        }
    }
}

/// The code of a defect: a place that no input should reach.
pub const DEFECT: u16 = 799;

/// The error and its causes on one line; a cause that the line says already is left out.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_joined_into_one_line_and_none_is_said_twice() {
        let io = || std::io::Error::new(std::io::ErrorKind::NotFound, "no such\nfile");
        let error = CliError::file("read", Path::new("a.sql"), io());
        assert_eq!(one_line(&error), "cannot read a.sql: no such file");
        let error = CliError::Stream { what: "no such\nfile", source: io() };
        assert_eq!(one_line(&error), "cannot no such file");
    }
}
