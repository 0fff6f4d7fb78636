//! Errors of stores, grouped by what the caller can do.

use keepfast_keys::KeyError;
use keepfast_model::{Class, Code, Coded, ModelError};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a store refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The table does not exist.
    #[error("table '{table}' does not exist in {store}")]
    NoTable {
        /// The table.
        table: String,
        /// The store, without secrets.
        store: String,
    },
    /// Something of that name exists already.
    #[error("table '{table}' exists already in {store}")]
    TableExists {
        /// The table.
        table: String,
        /// The store, without secrets.
        store: String,
    },
    /// A live cut's session is lost; its partitions can no longer be read.
    #[error("the session that held the cut of {store} is lost: {reason}")]
    CutLost {
        /// The store, without secrets.
        store: String,
        /// What happened.
        reason: String,
    },
    /// The change log no longer reaches back to the position.
    #[error("changes of table '{table}' since {position} are gone: {reason}")]
    ChangesGone {
        /// The table.
        table: String,
        /// The position asked for.
        position: String,
        /// Why it is gone: purged, compacted, another server.
        reason: String,
    },
    /// The table's definition changed between the two positions in a way that needs a new base.
    #[error("table '{table}' was altered since {position}: {reason}")]
    SchemaChanged {
        /// The table.
        table: String,
        /// The position asked for.
        position: String,
        /// What changed.
        reason: String,
    },
    /// One key stands in two shards at the cut.
    #[error("key {key} of table '{table}' stands in shards '{first}' and '{second}'")]
    DuplicateKey {
        /// The table.
        table: String,
        /// The key, readable.
        key: String,
        /// One shard.
        first: String,
        /// The other.
        second: String,
    },
    /// Another writer changed the same rows first; nothing of this call is visible.
    #[error("another writer changed table '{table}' first: {reason}")]
    Conflict {
        /// The table.
        table: String,
        /// What clashed.
        reason: String,
    },
    /// Rows were refused: a duplicate key, NULL where it is not allowed, a value too long.
    #[error("row refused by table '{table}': {reason}")]
    Row {
        /// The table.
        table: String,
        /// Which constraint, with the value.
        reason: String,
    },
    /// The store cannot do this.
    #[error("{store} cannot {what}")]
    Unsupported {
        /// The store, without secrets.
        store: String,
        /// What was asked.
        what: String,
    },
    /// The store or its data is damaged.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The object, with its path.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// It could not be reached or did not answer; the same call may succeed.
    #[error("{what} failed on {object}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// The object or server.
        object: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// Access was refused.
    #[error("no permission to {what} {object}")]
    Denied {
        /// What was tried.
        what: String,
        /// The object or server.
        object: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// It has keys, and nobody gave one.
    #[error("{store} is encrypted, and no passphrase or identity was given")]
    Locked {
        /// The store, without secrets.
        store: String,
    },
    /// It has keys, and none of those that were given is one of them.
    #[error("none of the given passphrases and identities opens {store} (its recipients: {recipients})")]
    WrongKey {
        /// The store, without secrets.
        store: String,
        /// Names of those who can open it.
        recipients: String,
    },
    /// Keys were to be changed where there are none.
    #[error("{store} has no keys: nothing in it is encrypted")]
    NoKeys {
        /// The store, without secrets.
        store: String,
    },
    /// Key files that newer ones replaced are still there.
    #[error(
        "older key files of {store} could not be deleted, and whoever could open them still can: {objects}"
    )]
    OldKeys {
        /// The store, without secrets.
        store: String,
        /// The key files.
        objects: String,
        /// The cause.
        #[source]
        source: Source,
    },
    /// A key was refused.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A value of the model was not well formed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Coded for StoreError {
    fn code(&self) -> Code {
        Code(match self {
            Self::NoTable { .. } => 301,
            Self::TableExists { .. } => 302,
            Self::CutLost { .. } => 303,
            Self::ChangesGone { .. } => 304,
            Self::SchemaChanged { .. } => 305,
            Self::DuplicateKey { .. } => 306,
            Self::Conflict { .. } => 307,
            Self::Row { .. } => 308,
            Self::Unsupported { .. } => 309,
            Self::Damaged { .. } => 310,
            Self::Unavailable { .. } => 311,
            Self::Denied { .. } => 312,
            Self::Locked { .. } => 401,
            Self::WrongKey { .. } => 402,
            Self::NoKeys { .. } => 403,
            Self::OldKeys { .. } => 404,
            Self::Keys(e) => return e.code(),
            Self::Model(e) => return e.code(),
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::CutLost { .. } | Self::Conflict { .. } | Self::Unavailable { .. } => Class::Retry,
            Self::Model(e) => e.class(),
            Self::Keys(e) => e.class(),
            _ => Class::Fix,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoTable { .. } => {
                "Check the name; `keepfast sql -c 'SHOW TABLES'` lists the tables.".into()
            }
            Self::TableExists { .. } => "Choose another name, or drop the table first.".into(),
            Self::CutLost { .. } => "Run the same command again; nothing was committed.".into(),
            Self::ChangesGone { .. } | Self::SchemaChanged { .. } => {
                "Back up with `--mode full` (or `auto`), which starts a new base.".into()
            }
            Self::DuplicateKey { .. } => {
                "Remove one of the two rows, or declare a key that is unique over all shards.".into()
            }
            Self::Conflict { .. } => "Run the same statement again.".into(),
            Self::Row { .. } => "Correct the value, or the column's definition.".into(),
            Self::Unsupported { .. } => "Choose a way that this store offers.".into(),
            Self::Damaged { .. } => "Restore the table from its newest backup.".into(),
            Self::Unavailable { .. } => {
                "Check that it is reachable and has room, then run the same command again.".into()
            }
            Self::Denied { .. } => "Grant the permission, or use another account or folder.".into(),
            Self::Locked { .. } => {
                "Set KEEPFAST_PASSPHRASE, or give --passphrase-file FILE or --identity FILE; a store of keepfast.toml can name its own files."
                    .into()
            }
            Self::WrongKey { .. } => "Give the passphrase or the identity of one of these recipients.".into(),
            Self::NoKeys { .. } => "`keepfast key add --store STORE` gives it keys.".into(),
            Self::OldKeys { .. } => {
                "Delete them, or run the command again as somebody who may; every change of keys does it first.".into()
            }
            Self::Keys(e) => e.next_step(),
            Self::Model(e) => e.next_step(),
        }
    }
}
