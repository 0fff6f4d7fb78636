//! How a table's segments are written: chosen once from its first rows, kept for ever, and part of identities.

use crate::conform::{Conform, assemble};
use crate::identity::Domain;
use crate::layout::{Layout, takes_delta, takes_delta_length};
use crate::split::ROWS_MAX_FACTOR;
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use keepfast_model::{Column, ColumnId, Hash256, TableId, TableSchema};
use serde::{Deserialize, Serialize};

/// Fast, and on most columns as small as level 3.
const ZSTD_LEVEL: i32 = 1;
/// Rows of a sample that are looked at.
const SAMPLE_ROWS_MAX: usize = 8_192;
/// Rows that a sample needs to show anything.
const SAMPLE_ROWS_MIN: usize = 256;

/// How values of a column are laid out before compression, where no dictionary is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// One after the other.
    #[default]
    Plain,
    /// Integers as bit-packed differences (DELTA_BINARY_PACKED).
    Delta,
    /// Text and bytes as bit-packed lengths, then the bytes (DELTA_LENGTH_BYTE_ARRAY).
    DeltaLength,
}

/// How one column is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// The column.
    pub id: ColumnId,
    /// Whether values are replaced by numbers of a dictionary.
    pub dictionary: bool,
    /// The layout without a dictionary.
    pub encoding: Encoding,
    /// Whether pages are compressed with zstd; packed values often do not get smaller.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub compressed: bool,
}

fn yes() -> bool {
    true
}

fn is_yes(compressed: &bool) -> bool {
    *compressed
}

/// How a table's segments are written. Fixed at the table's first base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WriterProfile {
    /// Version of the profile; 1.
    pub version: u32,
    /// Level of zstd.
    pub zstd_level: i32,
    /// Rows a row group at most.
    pub row_group_rows: u32,
    /// Rows a segment aims at; a power of two.
    pub target_rows: u32,
    /// One a column, in schema order. A column that is not listed is plain.
    pub columns: Vec<ColumnProfile>,
}

impl WriterProfile {
    /// A profile for a table whose first rows are `sample`, in physical batches; none is fine too.
    ///
    /// Each column of the sample is encoded in every way that its type allows, and the smallest wins; what is faster to
    /// write and read has a lead. Packed pages of which zstd takes off less than a twentieth are not compressed. A sample
    /// of few rows shows nothing: columns then have the layout of their type.
    pub fn choose(schema: &TableSchema, sample: &[RecordBatch], target_rows: u32) -> Self {
        let target_rows = target_rows.max(1);
        let mut profile = Self {
            version: 1,
            zstd_level: ZSTD_LEVEL,
            row_group_rows: target_rows.saturating_mul(ROWS_MAX_FACTOR as u32),
            target_rows,
            columns: schema.columns.iter().map(usual).collect(),
        };
        let rows = sample_rows(schema, sample);
        if rows.iter().map(RecordBatch::num_rows).sum::<usize>() >= SAMPLE_ROWS_MIN {
            profile.columns = (0..schema.columns.len()).map(|at| best(schema, &profile, &rows, at)).collect();
        }
        profile
    }

    /// Its identity: BLAKE3 of its JSON.
    pub fn id(&self) -> Hash256 {
        let json = serde_json::to_vec(self).expect("numbers, booleans and names have a JSON form");
        Hash256::of(&json)
    }
}

/// The layout of a column's type when nothing is known of its values.
fn usual(column: &Column) -> ColumnProfile {
    let physical = column.column_type.physical();
    let leaf = leaf_type(&physical);
    let encoding = if takes_delta(leaf) {
        Encoding::Delta
    } else if takes_delta_length(leaf) {
        Encoding::DeltaLength
    } else {
        Encoding::Plain
    };
    ColumnProfile { id: column.id, dictionary: false, encoding, compressed: true }
}

fn leaf_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::List(item) => leaf_type(item.data_type()),
        other => other,
    }
}

/// The first rows, under exactly the physical schema. Batches that do not fit it show nothing.
fn sample_rows(schema: &TableSchema, sample: &[RecordBatch]) -> Vec<RecordBatch> {
    let conform = Conform::new(schema.physical());
    let mut left = SAMPLE_ROWS_MAX;
    let mut rows = Vec::new();
    for batch in sample {
        let batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
        rows.extend(conform.batch(&batch).ok());
    }
    rows
}

/// The best way to write one column, as far as the sample shows.
fn best(schema: &TableSchema, profile: &WriterProfile, sample: &[RecordBatch], at: usize) -> ColumnProfile {
    let usual = &profile.columns[at];
    let plain = ColumnProfile { encoding: Encoding::Plain, ..usual.clone() };
    let dictionary = ColumnProfile { dictionary: true, ..usual.clone() };
    // In percent of their size: bit-packed numbers cost half the time of plain ones, dictionaries more than both.
    let ways = [(usual, 90), (&plain, 100), (&dictionary, 110)];
    let size = |way: &ColumnProfile| trial(schema, profile, sample, at, way);
    let costs = ways.iter().filter_map(|(way, percent)| Some((size(way)? * percent, *way)));
    let Some((_, chosen)) = costs.min_by_key(|(cost, _)| *cost) else { return usual.clone() };
    if !chosen.dictionary && chosen.encoding != Encoding::Delta {
        // Later values may be nothing like the first ones; what is not packed then has only zstd to keep it small.
        return chosen.clone();
    }
    let bare = ColumnProfile { compressed: false, ..chosen.clone() };
    match (size(&bare), size(chosen)) {
        (Some(bare_size), Some(size)) if bare_size * 95 <= size * 100 => bare,
        _ => chosen.clone(),
    }
}

/// Stored bytes of the sample's column, written in this way.
fn trial(
    schema: &TableSchema,
    profile: &WriterProfile,
    sample: &[RecordBatch],
    at: usize,
    way: &ColumnProfile,
) -> Option<u64> {
    let one = TableSchema { columns: vec![schema.columns[at].clone()], key: vec![], shape: schema.shape };
    let profile = WriterProfile { columns: vec![way.clone()], ..profile.clone() };
    let layout = Layout::new(one.physical(), &one, &profile, &Domain::plain(TableId(String::new()))).ok()?;
    let column =
        |batch: &RecordBatch| assemble(&one.physical(), vec![batch.column(at).clone()], batch.num_rows());
    let batches = sample.iter().map(column).collect::<Result<Vec<_>, _>>().ok()?;
    layout.value_bytes(&batches).ok()
}

/// Rows that segments of a table aim at: a power of two that makes about so many segments, from 4,096 to 32,768.
pub fn target_rows_for(expected_rows: u64, segments: u64) -> u32 {
    let rows = (expected_rows / segments.max(1)).clamp(4_096, 32_768) as u32;
    if rows.is_power_of_two() { rows } else { rows.next_power_of_two() / 2 }
}
