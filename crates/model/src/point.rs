//! What the vault's log records: restore points and everything that is done to them. Part of format 1.

use crate::certificate::Certificate;
use crate::cut::Cut;
use crate::digest::Digest;
use crate::ids::{ByteCount, ColumnId, Hash256, LogSeq, RunId, TableId};
use crate::lock::PointLock;
use crate::name::{BackupName, TableName};
use crate::parity::Parity;
use crate::schema::TableSchema;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Which part of a store table a backup holds. A changed selection is another table in the vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Selection {
    /// Chosen columns in table order; none means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// SQL condition on rows; none means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

impl Selection {
    /// Whether it selects the whole table.
    pub fn is_all(&self) -> bool {
        self.columns.is_none() && self.filter.is_none()
    }
}

/// How a table of a point was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// A new base; it stands alone.
    Full,
    /// Changes since an earlier point.
    Incremental,
    /// A base made from an earlier base and its changes, without the store.
    Synthetic,
}

/// Names a manifest of segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ManifestRef {
    /// Its identity, and its file name in `manifests/`.
    pub id: Hash256,
    /// BLAKE3 of its stored bytes.
    pub stored: Hash256,
    /// Its stored size.
    pub bytes: ByteCount,
    /// Rows of the segments it lists.
    pub rows: u64,
    /// Segments it lists.
    pub segments: u32,
}

/// Names a manifest of change segments, oldest changes first in a point.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChangeManifestRef {
    /// The manifest.
    #[serde(flatten)]
    pub manifest: ManifestRef,
    /// The point that wrote these changes.
    pub written_by: Option<LogSeq>,
}

/// One table of a restore point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePoint {
    /// Its id in the vault.
    pub id: TableId,
    /// Its name in the store.
    pub name: TableName,
    /// Which part of it.
    #[serde(default)]
    pub selection: Selection,
    /// Columns and key at the cut.
    pub schema: TableSchema,
    /// How it was written.
    pub mode: WriteMode,
    /// The base: manifests of segments, in key order.
    pub base: Vec<ManifestRef>,
    /// Changes up to the cut, oldest first.
    #[serde(default)]
    pub changes: Vec<ChangeManifestRef>,
    /// Digest of the rows at the cut.
    pub digest: Digest,
    /// Stored bytes of everything it needs.
    pub bytes: ByteCount,
    /// Segments new in this point.
    pub segments_new: u32,
    /// Stored bytes new in this point.
    pub bytes_new: ByteCount,
    /// Proof of completeness.
    pub certificate: Certificate,
    /// How its segments are encrypted; fixed for the table's life in this vault.
    #[serde(default)]
    pub encryption: Encryption,
    /// Ids of the keys under which its segments are encrypted; empty without encryption.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key_ids: String,
    /// What of this is secret, sealed with the table's key, where nobody opened it; everything that is in it is then left out
    /// above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// Store definitions that come back with the table (indexes, views, …), as the store's own text.
    #[serde(default)]
    pub dependents: Vec<Dependent>,
    /// Rows a segment aims at; fixed for the table's life in this vault.
    pub target_rows: u32,
    /// The writer profile's identity.
    pub profile: Hash256,
    /// Parity of its segments; fixed for the table's life in this vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
}

/// How a table's segments are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Encryption {
    /// Ordinary Parquet.
    #[default]
    None,
    /// Plaintext footer; these columns under their own keys, without statistics or key bounds in clear.
    Columns {
        /// Secret columns by id.
        columns: Vec<ColumnId>,
    },
    /// Everything, the footer too.
    Full,
}

impl Encryption {
    /// Its name, as people type it and identities know it.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Columns { .. } => "columns",
            Self::Full => "full",
        }
    }

    /// Whether a column has a key of its own. The hidden column of exact values tells of any column.
    pub fn hides(&self, id: ColumnId) -> bool {
        matches!(self, Self::Columns { columns } if columns.contains(&id) || id == ColumnId::EXACT)
    }
}

/// What must come back with a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependent {
    /// What it is: `index`, `view`, `trigger`, `sequence`, …
    pub kind: String,
    /// Its name in the store.
    pub name: String,
    /// The store's own definition.
    pub definition: String,
}

/// One committed, immutable state of the tables of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPoint {
    /// The backup it belongs to.
    pub backup: BackupName,
    /// The run that made it.
    pub run: RunId,
    /// The store's kind, such as `columnar`.
    pub store: String,
    /// Its cut.
    pub cut: Cut,
    /// Its tables, sorted by name.
    pub tables: Vec<TablePoint>,
    /// Milliseconds from start to commit.
    pub elapsed_ms: u64,
    /// The program that wrote it, such as `keepfast 0.1.0`.
    pub program: String,
    /// What is locked, where the vault's place locks objects and this backup asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<PointLock>,
}

/// One entry of a log record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A restore point; its number is the log record's.
    Point(Box<BackupPoint>),
    /// Points that are no longer visible, and objects condemned to be deleted after a grace.
    Prune {
        /// Points that vanish.
        points: Vec<LogSeq>,
        /// Full paths of objects that will be deleted, relative to the vault.
        condemned: Vec<String>,
        /// Nothing is deleted before.
        delete_after: Timestamp,
    },
    /// A backup and all its points are no longer visible.
    Drop {
        /// The backup.
        backup: BackupName,
    },
    /// Something must stay: a point, or all of a backup.
    Hold {
        /// A random id, by which it is released.
        id: String,
        /// The backup.
        backup: BackupName,
        /// The point; none means the whole backup.
        point: Option<LogSeq>,
        /// Until when; none means until released.
        until: Option<Timestamp>,
        /// Why: `user`, or the long reader that took it.
        reason: String,
    },
    /// A hold ends.
    Release {
        /// The hold's id.
        id: String,
    },
    /// A generation of keys came into force.
    Keys {
        /// The generation.
        generation: u64,
        /// Of the first: BLAKE3 of its key file's stored bytes. Of later ones: BLAKE3 of what every copy of the vault has
        /// of its key file, which is all but its recipients.
        stored: Hash256,
    },
}
