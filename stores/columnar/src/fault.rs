//! Errors of the crates below, as errors of a store that name their object.

use keepfast_format::FormatError;
use keepfast_objects::ObjectsError;
use keepfast_store::StoreError;

/// A failed call on an object. A missing object is damage: names come from objects that promise it.
pub(crate) fn objects(error: ObjectsError) -> StoreError {
    let text = error.to_string();
    match error {
        ObjectsError::NotFound { path } => damaged(path, "it is missing"),
        ObjectsError::Denied { what, path, source } => {
            StoreError::Denied { what: what.into(), object: path, source }
        }
        ObjectsError::Unavailable { what, path, source } | ObjectsError::Full { what, path, source } => {
            StoreError::Unavailable { what: what.into(), object: path, source: text_with(text, source) }
        }
        other => StoreError::Unavailable { what: "access".into(), object: text, source: Box::new(other) },
    }
}

/// Keeps the sentence that a person understands before the cause.
fn text_with(
    text: String,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> Box<dyn std::error::Error + Send + Sync> {
    if text.contains(&source.to_string()) { source } else { text.into() }
}

/// A failed encoding or decoding of an object.
pub(crate) fn format(object: impl Into<String>, error: FormatError) -> StoreError {
    match error {
        FormatError::Model(e) => StoreError::Model(e),
        other => StoreError::Damaged { object: object.into(), reason: other.to_string() },
    }
}

pub(crate) fn damaged(object: impl Into<String>, reason: impl Into<String>) -> StoreError {
    StoreError::Damaged { object: object.into(), reason: reason.into() }
}

/// A worker thread that ended early: the runtime is shutting down, or it panicked.
pub(crate) fn worker(error: tokio::task::JoinError) -> StoreError {
    StoreError::Unavailable { what: "work".into(), object: "a worker thread".into(), source: Box::new(error) }
}
