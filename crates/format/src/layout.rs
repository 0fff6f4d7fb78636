//! From batches to one Parquet file: plain types, field ids, the columns' encodings, zstd pages where they are smaller.
//!
//! Invariant: every common reader reads it. Data pages are of version 1, and no Arrow schema is embedded.

use crate::Result;
use crate::encryption::FileKeys;
use crate::error::FormatError;
use crate::footer::PAGE_MAX;
use crate::identity::Domain;
use crate::profile::{ColumnProfile, Encoding, WriterProfile};
use crate::size::canonical_size;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, SchemaRef};
use bytes::Bytes;
use keepfast_model::{ColumnId, Hash256, ModelError, TableId, TableSchema, hidden};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding as PageEncoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::ColumnPath;

/// Key-value metadata of a file: the format's number.
pub const META_FORMAT: &str = "keepfast.format";
/// Key-value metadata of a file: the identity of its rows.
pub const META_IDENTITY: &str = "keepfast.identity";
/// Key-value metadata of a file: the table in the vault.
pub const META_TABLE: &str = "keepfast.table";

/// Bytes of a page before compression at most, roughly.
const PAGE_BYTES: usize = 1 << 20;

/// How files of one table and one set of columns are written.
#[derive(Debug)]
pub(crate) struct Layout {
    schema: SchemaRef,
    properties: WriterProperties,
    table: TableId,
    /// The Parquet path of each column.
    paths: Vec<(ColumnId, String)>,
}

impl Layout {
    /// `schema` has the columns of `table_schema`, and maybe the hidden one.
    pub(crate) fn new(
        schema: SchemaRef,
        table_schema: &TableSchema,
        profile: &WriterProfile,
        domain: &Domain,
    ) -> Result<Self> {
        let level =
            ZstdLevel::try_new(profile.zstd_level).map_err(|e| FormatError::encode("a writer profile", e))?;
        let mut builder = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(level))
            .set_dictionary_enabled(false)
            .set_encoding(PageEncoding::PLAIN)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_bloom_filter_enabled(false)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_data_page_row_count_limit(usize::MAX)
            .set_offset_index_disabled(true)
            .set_max_row_group_row_count(Some(profile.row_group_rows.max(1) as usize));
        let mut paths = vec![];
        for (at, field) in schema.fields().iter().enumerate() {
            let id = table_schema.columns.get(at).map_or(ColumnId::EXACT, |c| c.id);
            let (path, leaf) = leaf(field.name(), field.data_type());
            paths.push((id, path.string()));
            // Comparing every text costs more than anybody gains who reads the file for itself.
            let costly = takes_delta_length(leaf) && !table_schema.key.contains(&id);
            if costly || domain.encryption.hides(id) {
                builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
            }
            if let Some(column) = profile.columns.iter().find(|c| c.id == id) {
                builder = column_properties(builder, field.name(), field.data_type(), column);
            } else if field.name().starts_with(hidden::PREFIX) {
                builder = builder.set_column_dictionary_enabled(ColumnPath::from(field.name().clone()), true);
            }
        }
        Ok(Self { schema, properties: builder.build(), table: domain.table.clone(), paths })
    }

    /// One file of these batches, which have exactly the layout's schema; encrypted where there are keys.
    pub(crate) fn encode(
        &self,
        id: Hash256,
        batches: &[RecordBatch],
        keys: Option<&FileKeys>,
    ) -> Result<Bytes> {
        // A page holds at least a value, and a segment little more than its last row.
        let bytes: u64 = batches.iter().map(|b| canonical_size(b, 0, b.num_rows())).sum();
        if bytes > PAGE_MAX {
            return Err(FormatError::Unsupported { what: format!("a row of about {} MiB", bytes >> 20) });
        }
        // About as much as a file has: one that grows is copied each time.
        let room = bytes as usize / 2;
        let properties = match keys {
            Some(keys) => self
                .properties
                .clone()
                .into_builder()
                .with_file_encryption_properties(keys.encryption(&self.paths)?)
                .build(),
            None => self.properties.clone(),
        };
        let mut writer = self.write(batches, properties, room)?;
        for (key, value) in [
            (META_FORMAT, "1".to_owned()),
            (META_IDENTITY, id.to_string()),
            (META_TABLE, self.table.0.clone()),
        ] {
            writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        Ok(writer.into_inner().map_err(refuse)?.into())
    }

    /// Stored bytes of the values alone, without the file's footer.
    pub(crate) fn value_bytes(&self, batches: &[RecordBatch]) -> Result<u64> {
        let metadata = self.write(batches, self.properties.clone(), 0)?.close().map_err(refuse)?;
        Ok(metadata.row_groups().iter().map(|g| g.compressed_size().max(0) as u64).sum())
    }

    fn write(
        &self,
        batches: &[RecordBatch],
        properties: WriterProperties,
        room: usize,
    ) -> Result<ArrowWriter<Vec<u8>>> {
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let file = Vec::with_capacity(room);
        let mut writer =
            ArrowWriter::try_new_with_options(file, self.schema.clone(), options).map_err(refuse)?;
        for batch in batches {
            for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
                check_digits(field.name(), array.as_ref())?;
            }
            writer.write(batch).map_err(refuse)?;
        }
        Ok(writer)
    }
}

/// Refuses decimals of more digits than their type has: Parquet's narrower words would cut them off unseen.
fn check_digits(column: &str, array: &dyn Array) -> Result<()> {
    match array.data_type() {
        DataType::Decimal128(precision, _) => {
            let decimals = array.as_primitive::<Decimal128Type>();
            let largest = 10u128.pow((*precision).min(38).into()) - 1;
            // All of them at once first, without a branch for each; what stands under a NULL does not count.
            if decimals.values().iter().fold(true, |fit, v| fit & (v.unsigned_abs() <= largest)) {
                return Ok(());
            }
            decimals.validate_decimal_precision(*precision).map_err(|e| {
                let expected = array.data_type().to_string();
                ModelError::Batch { column: column.to_owned(), expected, found: e.to_string() }.into()
            })
        }
        DataType::List(_) => check_digits(column, array.as_list::<i32>().values().as_ref()),
        _ => Ok(()),
    }
}

fn refuse(e: ParquetError) -> FormatError {
    FormatError::encode("a segment", e)
}

fn column_properties(
    mut builder: WriterPropertiesBuilder,
    name: &str,
    data_type: &DataType,
    column: &ColumnProfile,
) -> WriterPropertiesBuilder {
    let (path, leaf) = leaf(name, data_type);
    if !column.compressed {
        builder = builder.set_column_compression(path.clone(), Compression::UNCOMPRESSED);
    }
    if column.dictionary {
        builder = builder.set_column_dictionary_enabled(path.clone(), true);
    }
    let encoding = match column.encoding {
        Encoding::Plain => return builder,
        Encoding::Delta if takes_delta(leaf) => PageEncoding::DELTA_BINARY_PACKED,
        Encoding::DeltaLength if takes_delta_length(leaf) => PageEncoding::DELTA_LENGTH_BYTE_ARRAY,
        // A profile that asks for what the type cannot have is written plain.
        Encoding::Delta | Encoding::DeltaLength => return builder,
    };
    builder.set_column_encoding(path, encoding)
}

/// The path of a column's values, and their type.
fn leaf<'a>(name: &str, data_type: &'a DataType) -> (ColumnPath, &'a DataType) {
    let mut path = vec![name.to_owned()];
    let mut data_type = data_type;
    while let DataType::List(item) = data_type {
        path.push("list".to_owned());
        path.push(item.name().clone());
        data_type = item.data_type();
    }
    (ColumnPath::from(path), data_type)
}

/// Whether Parquet holds the type as INT32 or INT64.
pub(crate) fn takes_delta(leaf: &DataType) -> bool {
    match leaf {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => true,
        DataType::Date32 | DataType::Timestamp(_, _) => true,
        DataType::Decimal128(precision, _) => *precision <= 18,
        _ => false,
    }
}

/// Whether Parquet holds the type as BYTE_ARRAY.
pub(crate) fn takes_delta_length(leaf: &DataType) -> bool {
    matches!(leaf, DataType::Utf8 | DataType::Binary)
}
