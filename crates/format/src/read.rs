//! From a Parquet file back to batches of the table's physical schema.
//!
//! Invariant: columns are matched by id, types are exact, and whatever the bytes are, the answer is rows or an error.

use crate::Result;
use crate::conform::{assemble, conform_array, exact_field};
use crate::encryption::{FileKeys, SegmentFile};
use crate::error::FormatError;
use crate::exact;
use crate::footer::{footer_fault, pages_fault};
use crate::layout::{META_FORMAT, META_IDENTITY};
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use keepfast_model::{ColumnId, Hash256, TableSchema, hidden};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Batches of one segment, in order.
pub struct SegmentBatches {
    object: String,
    schema: SchemaRef,
    /// For each column of `schema`: where it stands in the reader's batches; none is NULL everywhere.
    places: Vec<Option<usize>>,
    /// Columns whose key was dropped; they are NULL, and so are their exact values.
    shredded: Vec<u32>,
    /// None after an error.
    reader: Option<ParquetRecordBatchReader>,
    rows: u64,
    identity: Option<Hash256>,
}

impl fmt::Debug for SegmentBatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentBatches").field("object", &self.object).field("rows", &self.rows).finish()
    }
}

impl SegmentBatches {
    /// The Arrow schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Rows of the whole segment, as its footer says.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The identity that the file states for its rows; it must be that of its name.
    pub fn identity(&self) -> Option<Hash256> {
        self.identity
    }

    /// Gives batches under a schema that differs in metadata and nullability only.
    pub(crate) fn with_schema(mut self, schema: SchemaRef) -> Self {
        self.schema = schema;
        self
    }

    fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = self
            .schema
            .fields()
            .iter()
            .zip(&self.places)
            .map(|(field, place)| {
                let found = column(&self.object, field, place.map(|at| batch.column(at)), batch.num_rows())?;
                if self.shredded.is_empty() || field.name() != hidden::EXACT {
                    return Ok(found);
                }
                exact::without(&found, &self.shredded)
                    .ok_or_else(|| FormatError::damaged(&self.object, "its exact values cannot be read"))
            })
            .collect::<Result<Vec<_>>>()?;
        assemble(&self.schema, columns, batch.num_rows())
    }
}

fn column(object: &str, field: &Field, array: Option<&ArrayRef>, rows: usize) -> Result<ArrayRef> {
    match array {
        Some(array) => conform_array(field, array).map_err(|e| {
            FormatError::damaged(object, format!("a column does not hold what its footer says: {e}"))
        }),
        None => Ok(new_null_array(field.data_type(), rows)),
    }
}

impl Iterator for SegmentBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = self.reader.take()?;
        let batch = match guarded(&self.object, || Ok(reader.next())) {
            Ok(batch) => batch?,
            Err(e) => return Some(Err(e)),
        };
        let batch = batch
            .map_err(|e| FormatError::damaged(&self.object, e.to_string()))
            .and_then(|batch| self.conform(&batch));
        if batch.is_ok() {
            self.reader = Some(reader);
        }
        Some(batch)
    }
}

/// Reads a segment as physical batches of `schema`, at most `batch_rows` rows each.
///
/// Columns are matched by id. A column that the file lacks is NULL; columns that the schema lacks are not read.
/// `columns` chooses columns, which come in schema order; none means all, and the hidden column `__keepfast_exact`
/// last where the file has it. Naming [`ColumnId::EXACT`] gives that column always.
///
/// # Errors
/// [`FormatError::Damaged`] when the bytes are not a segment, also later, from the iterator;
/// [`FormatError::NewerFormat`]; [`FormatError::Keys`] when a chosen column's key was dropped, unless the file's keys pass over that; [`FormatError::Columns`] when a column has another type than the schema says.
pub fn read_segment(
    file: impl Into<SegmentFile>,
    schema: &TableSchema,
    columns: Option<&[ColumnId]>,
    batch_rows: usize,
) -> Result<SegmentBatches> {
    let SegmentFile { bytes, keys } = file.into();
    let mut options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    if let Some(keys) = &keys {
        options = options.with_file_decryption_properties(keys.decryption()?);
    }
    if let Some(fault) = footer_fault(&bytes) {
        return Err(FormatError::damaged("segment", fault));
    }
    let metadata = guarded("segment", || {
        ArrowReaderMetadata::load(&bytes, options).map_err(|e| FormatError::parquet("segment", e))
    })?;
    let identity = identity_of(metadata.metadata())?;
    let object = identity.map_or_else(|| "segment".to_owned(), |id| format!("segment {id}"));
    check_footer(&object, metadata.metadata(), &bytes)?;

    let file_ids = field_ids(metadata.metadata());
    let place_in_file = |id: ColumnId| file_ids.iter().position(|f| *f == Some(id));
    let mut wanted: Vec<(FieldRef, ColumnId)> = schema
        .physical()
        .fields()
        .iter()
        .zip(&schema.columns)
        .filter(|(_, c)| columns.is_none_or(|chosen| chosen.contains(&c.id)))
        .map(|(field, c)| (field.clone(), c.id))
        .collect();
    let exact = match columns {
        Some(chosen) => chosen.contains(&ColumnId::EXACT),
        None => place_in_file(ColumnId::EXACT).is_some(),
    };
    if exact {
        wanted.push((exact_field(), ColumnId::EXACT));
    }

    let is_shredded = |id: ColumnId| keys.as_ref().is_some_and(|k| k.is_shredded(id));
    let pass_over = keys.as_ref().is_some_and(FileKeys::passes_over);
    if !pass_over && let Some((field, id)) = wanted.iter().find(|(_, id)| is_shredded(*id)) {
        let what = format!("column '{}' (id {})", field.name(), id.0);
        return Err(keepfast_keys::KeyError::Shredded { what }.into());
    }
    let shredded = schema.columns.iter().map(|c| c.id).filter(|id| is_shredded(*id)).map(|id| id.0).collect();
    let places: Vec<Option<usize>> =
        wanted.iter().map(|(_, id)| place_in_file(*id).filter(|_| !is_shredded(*id))).collect();
    let mut roots: Vec<usize> = places.iter().flatten().copied().collect();
    roots.sort_unstable();
    let places: Vec<Option<usize>> =
        places.iter().map(|p| p.and_then(|at| roots.binary_search(&at).ok())).collect();
    let file_schema = metadata.schema().clone();
    for ((field, _), place) in wanted.iter().zip(&places) {
        check_column(&object, field, place.map(|at| file_schema.field(roots[at])))?;
    }

    let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
    let rows = metadata.metadata().file_metadata().num_rows() as u64;
    let reader = guarded(&object, || {
        ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
            .with_projection(mask)
            .with_batch_size(batch_rows.max(1))
            .build()
            .map_err(|e| FormatError::parquet(&object, e))
    })?;
    let schema = Arc::new(Schema::new(wanted.into_iter().map(|(field, _)| field).collect::<Vec<_>>()));
    Ok(SegmentBatches { object, schema, places, shredded, reader: Some(reader), rows, identity })
}

/// The decoder checks much and not all: what it asserts inside becomes an error here.
fn guarded<T>(object: &str, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(FormatError::damaged(object, "its decoder gave up on it")))
}

fn identity_of(metadata: &ParquetMetaData) -> Result<Option<Hash256>> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let value = |key: &str| pairs?.iter().find(|p| p.key == key)?.value.as_deref();
    let identity = value(META_IDENTITY).and_then(Hash256::from_hex);
    match value(META_FORMAT) {
        Some("1") => Ok(identity),
        Some(found) => {
            Err(FormatError::NewerFormat { object: "segment".into(), found: found.to_owned(), known: 1 })
        }
        None => Err(FormatError::damaged("segment", "it was not written by keepfast")),
    }
}

/// The column ids of the file's columns.
fn field_ids(metadata: &ParquetMetaData) -> Vec<Option<ColumnId>> {
    let root = metadata.file_metadata().schema_descr().root_schema();
    root.get_fields()
        .iter()
        .map(|f| f.get_basic_info())
        .map(|info| info.has_id().then(|| ColumnId(info.id() as u32)))
        .collect()
}

/// Refuses a footer whose numbers cannot be those of a file of this length.
fn check_footer(object: &str, metadata: &ParquetMetaData, file: &[u8]) -> Result<()> {
    let mut rows = 0i64;
    for group in metadata.row_groups() {
        if group.num_rows() < 0 {
            return Err(FormatError::damaged(object, "a row group has fewer rows than none"));
        }
        rows = rows.saturating_add(group.num_rows());
        for column in group.columns() {
            let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
            let end = start.checked_add(column.compressed_size());
            let inside = start >= 0 && column.compressed_size() >= 0;
            let range = end.filter(|_| inside).map(|end| start as usize..end as usize);
            let Some(pages) = range.and_then(|range| file.get(range)) else {
                return Err(FormatError::damaged(object, "a column lies outside the file"));
            };
            // Encrypted ones are authenticated.
            if column.crypto_metadata().is_none()
                && let Some(fault) = pages_fault(pages)
            {
                return Err(FormatError::damaged(object, fault));
            }
        }
    }
    if rows != metadata.file_metadata().num_rows() {
        return Err(FormatError::damaged(object, "its row groups do not have the rows that it states"));
    }
    Ok(())
}

/// Refuses a column of another type, and a missing one that must have values.
fn check_column(object: &str, wanted: &Field, found: Option<&Field>) -> Result<()> {
    let refuse = |found: String| {
        Err(FormatError::Columns {
            object: object.to_owned(),
            column: wanted.name().clone(),
            expected: wanted.data_type().to_string(),
            found,
        })
    };
    match found {
        None if wanted.is_nullable() => Ok(()),
        None => refuse("none".into()),
        Some(found) => {
            let empty = arrow::array::new_empty_array(found.data_type());
            match conform_array(wanted, &empty) {
                Ok(_) => Ok(()),
                Err(_) => refuse(found.data_type().to_string()),
            }
        }
    }
}
