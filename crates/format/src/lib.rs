//! What a backup's rows look like as stored bytes: segments, their writer profile, ends and identity, change
//! segments, manifests, and how changes merge into a base. Bytes in, bytes out; no I/O.
//!
//! Invariants: equal rows in equal order under one [`Domain`](identity::Domain), schema and profile have one
//! identity, whatever batches they came in; nothing that is read is trusted, and damage is an error, never a panic.
//! The bytes are described in `docs/format.md`, sections 2 to 5. Read [`split`], [`segment`] and [`merge`] in this order.

pub mod change;
mod conform;
pub mod encryption;
pub mod error;
mod exact;
mod footer;
pub mod identity;
pub mod layout;
pub mod manifest;
pub mod merge;
mod order;
pub mod parity;
pub mod profile;
pub mod read;
pub mod reencode;
pub mod segment;
mod size;
pub mod split;

pub use change::{ChangeWriter, change_digest, change_table, read_changes};
pub use conform::{exact_field, with_exact};
pub use encryption::{FileKeys, Protection, SegmentFile};
pub use error::FormatError;
pub use footer::{footer_fault, footer_length, page_length};
pub use identity::{Domain, IdentityKey};
pub use manifest::{Manifest, ManifestKind, SegmentEntry};
pub use merge::{BagAdditions, BagMerger, RowMerger, merge_cells, merge_keyed};
pub use parity::{ParityGroup, ParityShard};
pub use profile::{ColumnProfile, Encoding, WriterProfile, target_rows_for};
pub use read::{SegmentBatches, read_segment};
pub use reencode::Reencoder;
pub use segment::{EncodedSegment, SegmentWriter};
pub use split::{Chunk, Splitter};

/// Result of this crate's calls.
pub type Result<T, E = FormatError> = std::result::Result<T, E>;
