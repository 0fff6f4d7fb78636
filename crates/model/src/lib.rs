//! The words of Keepfast as types: names, column types, schemas, keys, digests, cuts, positions, partitions,
//! certificates and restore points. Pure values and pure functions, no I/O.
//!
//! Invariant: everything here that is stored (serde) is part of format 1 and described in `docs/format.md`.
//! Read [`schema`] first, then [`digest`] and [`point`].

pub mod certificate;
pub mod change;
pub mod column_type;
pub mod convert;
pub mod cut;
pub mod digest;
pub mod error;
pub mod ids;
pub mod key;
pub mod key_text;
pub mod lock;
pub mod name;
pub mod parity;
pub mod partition;
pub mod point;
pub mod random;
pub mod retention;
pub mod schema;

pub use certificate::{Certificate, ProofKind, SourceProof};
pub use change::{ChangeOp, hidden};
pub use column_type::ColumnType;
pub use cut::{Cut, Exactness, Position, ShardPosition};
pub use digest::{Digest, RowHasher, RowHashes};
pub use error::{Class, Code, Coded, ModelError};
pub use ids::{ByteCount, ColumnId, Hash256, LogSeq, RunId, ShardId, TableId, VaultId};
pub use key::{KeyBytes, KeyRange, encode_keys};
pub use key_text::key_text;
pub use lock::{LockMode, PointLock, retention_time};
pub use name::{BackupName, PointId, TableName};
pub use parity::{Parity, ParityChoice};
pub use partition::Partition;
pub use point::{
    BackupPoint, ChangeManifestRef, Dependent, Encryption, ManifestRef, Record, Selection, TablePoint,
    WriteMode,
};
pub use retention::{Period, RetentionPolicy};
pub use schema::{Column, TableSchema, TableShape};
