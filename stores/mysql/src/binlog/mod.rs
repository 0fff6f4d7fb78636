//! The servers' binary logs: what was written between two moments, row by row.
//!
//! [`dump`] asks a server for its log as a replica does, [`event`] and [`statement`] take it apart, [`image`] turns the images of rows into
//! rows as a SELECT sends them, so that one decoder reads both, and [`walk`] follows one log and puts changes into [`sink`]s.
//! [`changes`] is what happened between two cuts; [`closing`] makes one moment of several servers' snapshots.
//!
//! Invariant: rows of a transaction count when the log says that it was committed, and those of an XA branch when the branch was,
//! though its rows stand where it was prepared.

pub(crate) mod changes;
pub(crate) mod charset;
pub(crate) mod closing;
pub(crate) mod dump;
pub(crate) mod event;
pub(crate) mod image;
pub(crate) mod json;
pub(crate) mod marker;
pub(crate) mod server;
pub(crate) mod sink;
pub(crate) mod statement;
pub(crate) mod walk;

use crate::wire::WireError;
use arrow::error::ArrowError;
use keepfast_store::StoreError;

/// Why a log cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The server cannot be reached, or refuses.
    #[error(transparent)]
    Server(#[from] StoreError),
    /// It has what this version does not follow, or is not the log that was asked for.
    #[error("{0}")]
    Gone(String),
    #[error("changes cannot be kept for a while: {0}")]
    Kept(#[from] ArrowError),
}

/// Why the changes of one table cannot be given, though those of others can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A gap.
    Gone(String),
    /// Another definition.
    Altered(String),
}
