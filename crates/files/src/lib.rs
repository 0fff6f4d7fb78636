//! Import and export of CSV, JSON lines and Parquet files.
//!
//! [`open_import`] reads files as physical batches of a table whose schema is given or inferred; [`Exporter`] writes
//! them. Invariant: a value is the one that is written, exactly, or there is an error that names file, line or row,
//! and column; what is exported is imported to the same digest. Rules and forms are in `docs/import.md`.
//! Read [`import`] first.

mod calendar;
mod column;
mod csv;
pub mod error;
mod exact;
pub mod export;
mod guard;
pub mod import;
mod infer;
mod input;
mod json;
mod lines;
mod number;
pub mod options;
pub mod sql_dump;
mod text;

pub use error::{FilesError, Place, Refusal, Spot, Wrong};
pub use export::{Exported, Exporter};
pub use import::{Import, Rows, open_import, open_imports};
pub use options::{ExportOptions, Format, ImportOptions};
pub use sql_dump::{DumpedTable, open_sql_dump};

/// Parquet's key-value metadata: the table's schema as JSON, so that an import knows exact types, key and defaults.
const SCHEMA_METADATA: &str = "keepfast.schema";
