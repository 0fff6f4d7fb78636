//! Why an object could not be read or written, grouped by what the caller can do.

use keepfast_model::{Class, Code, Coded};
use std::error::Error;
use std::io;

type Source = Box<dyn Error + Send + Sync>;

/// Why a place of objects refused or failed. Paths are full, as the target shows them, and free of secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectsError {
    /// The location names no place that Keepfast can use.
    #[error("'{location}' is not a place for objects: {reason}")]
    Location {
        /// The location, without secrets.
        location: String,
        /// Why not.
        reason: String,
    },
    /// The object does not exist.
    #[error("{path} does not exist")]
    NotFound {
        /// The object.
        path: String,
    },
    /// An object of that name exists already.
    #[error("{path} exists already")]
    Exists {
        /// The object.
        path: String,
    },
    /// Access was refused: permissions, credentials, or a read-only file system.
    #[error("no permission to {what} {path}: {source}")]
    Denied {
        /// What was tried.
        what: &'static str,
        /// The object or folder.
        path: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// It could not be reached, or failed to answer.
    #[error("cannot {what} {path}: {source}")]
    Unavailable {
        /// What was tried.
        what: &'static str,
        /// The object or folder.
        path: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// No space or quota is left.
    #[error("no space is left to {what} {path}")]
    Full {
        /// What was tried.
        what: &'static str,
        /// The object or folder.
        path: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// The place let a second writer of one name through.
    #[error("{url} overwrites existing objects where it was asked to create them only when absent")]
    Overwrites {
        /// The place.
        url: String,
    },
    /// The name cannot be the name of an object.
    #[error("'{path}' is not an object's name: {reason}")]
    Name {
        /// The name.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The place cannot do this.
    #[error("cannot {what} {path}: the place does not support it ({reason})")]
    Unsupported {
        /// What was tried.
        what: &'static str,
        /// The object or place.
        path: String,
        /// What is missing.
        reason: String,
    },
    /// A folder was expected, and something else stands there.
    #[error("{path} is not a folder")]
    NotAFolder {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: Source,
    },
}

impl ObjectsError {
    /// Sorts an object store's error by what the caller can do. `path` is the object as it may be shown.
    pub fn of(what: &'static str, path: impl Into<String>, error: object_store::Error) -> Self {
        use object_store::Error as E;
        let path = path.into();
        match error {
            E::NotFound { .. } => Self::NotFound { path },
            E::AlreadyExists { .. } => Self::Exists { path },
            E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. } => {
                Self::Denied { what, path, source: strip(source) }
            }
            E::NotImplemented { operation, .. } => Self::Unsupported { what, path, reason: operation },
            E::NotSupported { source } => Self::Unsupported { what, path, reason: source.to_string() },
            E::InvalidPath { source } => Self::Name { path, reason: source.to_string() },
            // S3 deletes in bulk requests, whose refusals the library gives no kind of their own.
            E::Generic { store: "S3", source } if source.to_string().contains("code: AccessDenied") => {
                Self::Denied { what, path, source: strip(source) }
            }
            E::Generic { store: "S3", source }
                if source.to_string().contains("<Code>NoSuchBucket</Code>") =>
            {
                Self::Location { location: path, reason: "there is no such bucket; make it first".to_owned() }
            }
            other => Self::of_cause(what, path, Box::new(other)),
        }
    }

    /// Sorts an operating system's error.
    pub fn of_io(what: &'static str, path: impl Into<String>, error: io::Error) -> Self {
        Self::of_cause(what, path.into(), Box::new(error))
    }

    fn of_cause(what: &'static str, path: String, source: Source) -> Self {
        use io::ErrorKind as K;
        let kind = {
            let mut cause: Option<&(dyn Error + 'static)> = Some(source.as_ref());
            let mut kind = None;
            while let Some(e) = cause {
                kind = e.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
                cause = e.source();
            }
            kind
        };
        match kind {
            Some(K::NotFound) => Self::NotFound { path },
            Some(K::AlreadyExists) => Self::Exists { path },
            Some(K::PermissionDenied | K::ReadOnlyFilesystem) => {
                Self::Denied { what, path, source: strip(source) }
            }
            Some(K::StorageFull | K::QuotaExceeded | K::FileTooLarge) => {
                Self::Full { what, path, source: strip(source) }
            }
            Some(K::NotADirectory) => Self::NotAFolder { path, source: strip(source) },
            Some(K::Unsupported) => Self::Unsupported { what, path, reason: root(source.as_ref()) },
            _ => Self::Unavailable { what, path, source: strip(source) },
        }
    }

    /// Whether the object simply is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// An operating system's error says enough alone; wrappers around it repeat the path.
fn strip(source: Source) -> Source {
    let mut cause: Option<&(dyn Error + 'static)> = Some(source.as_ref());
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<io::Error>()
            && let Some(code) = io.raw_os_error()
        {
            return Box::new(io::Error::from_raw_os_error(code));
        }
        cause = e.source();
    }
    source
}

fn root(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

impl Coded for ObjectsError {
    fn code(&self) -> Code {
        Code(match self {
            Self::Location { .. } => 201,
            Self::NotFound { .. } => 202,
            Self::Exists { .. } => 203,
            Self::Denied { .. } => 204,
            Self::Unavailable { .. } => 205,
            Self::Full { .. } => 206,
            Self::Overwrites { .. } => 207,
            Self::Name { .. } => 208,
            Self::Unsupported { .. } => 209,
            Self::NotAFolder { .. } => 210,
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Retry,
            _ => Class::Fix,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Location { .. } => {
                "Give a folder, or a URL that starts with s3://, gs://, az://, abfss:// or oss://."
            }
            Self::NotFound { .. } => "Check the name and the place.",
            Self::Exists { .. } => "Choose another name; nothing was overwritten.",
            Self::Denied { .. } => "Grant the permission, or use another account or folder.",
            Self::Unavailable { .. } => "Check that the place is reachable, then run the same command again.",
            Self::Full { .. } => "Free some space or raise the quota, then run the same command again.",
            Self::Overwrites { .. } => {
                "Use a place that supports creating an object only when it is absent (If-None-Match)."
            }
            Self::Name { .. } => "Use letters, digits, '_', '-' and '.' in names.",
            Self::Unsupported { .. } => "Use another kind of place.",
            Self::NotAFolder { .. } => "Give a folder, or a path where a folder can be made.",
        }
        .to_owned()
    }
}
