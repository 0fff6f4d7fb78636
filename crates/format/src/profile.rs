//! How a table's segments are written: chosen once from its first rows, kept for ever, and part of identities.

use arrow::array::RecordBatch;
use keepfast_model::{ColumnId, Hash256, TableSchema};
use serde::{Deserialize, Serialize};

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
    /// A profile for a table whose first rows are `sample`; none is fine too.
    pub fn choose(schema: &TableSchema, sample: &[RecordBatch], target_rows: u32) -> Self {
        let _ = sample;
        Self {
            version: 1,
            zstd_level: 1,
            row_group_rows: target_rows.saturating_mul(8),
            target_rows,
            columns: schema
                .columns
                .iter()
                .map(|c| ColumnProfile { id: c.id, dictionary: false, encoding: Encoding::Plain })
                .collect(),
        }
    }

    /// Its identity: BLAKE3 of its JSON.
    pub fn id(&self) -> Hash256 {
        let json = serde_json::to_vec(self).expect("numbers, booleans and names have a JSON form");
        Hash256::of(&json)
    }
}

/// Rows that segments of a table aim at: a power of two that makes about 2,000 segments, from 8,192 to 32,768.
pub fn target_rows_for(expected_rows: u64) -> u32 {
    let rows = (expected_rows / 2_000).clamp(8_192, 32_768) as u32;
    if rows.is_power_of_two() { rows } else { rows.next_power_of_two() / 2 }
}
