//! What a change segment says of a row: its operations and its hidden columns.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// Hidden columns of segments and change segments.
pub mod hidden {
    /// Every hidden column's name starts so.
    pub const PREFIX: &str = "__keepfast_";
    /// Exact values that the physical type cannot hold: a JSON object from column id to the store's own text; Utf8.
    pub const EXACT: &str = "__keepfast_exact";
    /// The operation, a [`super::ChangeOp`] as Int8.
    pub const OP: &str = "__keepfast_op";
    /// The shard's own order of changes, Int64; equal numbers never stand twice for one key of one shard.
    pub const SEQ: &str = "__keepfast_seq";
    /// The shard, Utf8.
    pub const SHARD: &str = "__keepfast_shard";
    /// The position in the change log after this change, as text, Utf8.
    pub const POSITION: &str = "__keepfast_position";
    /// The schema epoch, Int32.
    pub const EPOCH: &str = "__keepfast_epoch";
    /// For `patch`: a bitmap of the columns set, bit *i* of byte *i/8* for the column at position *i*; Binary.
    pub const MASK: &str = "__keepfast_mask";
    /// For bags: how many equal rows are added (positive) or removed (negative), Int64.
    pub const COUNT: &str = "__keepfast_count";
}

/// What a change does. The numbers are part of format 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum ChangeOp {
    /// The row is now exactly this; inserts and whole updates.
    PutRow = 0,
    /// The columns of the mask are now these; the others keep their values. A missing row appears.
    Patch = 1,
    /// The row is gone. Only key columns are set.
    DeleteRow = 2,
    /// Cells only: all versions of this row, family and column up to `timestamp` are gone.
    DeleteCell = 3,
    /// Cells only: the version with exactly this `timestamp` is gone.
    DeleteVersion = 4,
    /// Cells only: all cells of this row and family up to `timestamp` are gone.
    DeleteFamily = 5,
    /// Bags only: `count` equal rows more (or fewer, when negative).
    Count = 6,
}

impl ChangeOp {
    /// The operation with this number.
    pub fn from_i8(n: i8) -> Option<Self> {
        Some(match n {
            0 => Self::PutRow,
            1 => Self::Patch,
            2 => Self::DeleteRow,
            3 => Self::DeleteCell,
            4 => Self::DeleteVersion,
            5 => Self::DeleteFamily,
            6 => Self::Count,
            _ => return None,
        })
    }
}

/// The Arrow schema of change batches of a table: the hidden columns in the order op, seq, shard, position, epoch,
/// mask, count, then the table's physical columns, all nullable.
pub fn change_schema(table: &crate::TableSchema) -> SchemaRef {
    let mut fields = vec![
        Field::new(hidden::OP, DataType::Int8, false),
        Field::new(hidden::SEQ, DataType::Int64, false),
        Field::new(hidden::SHARD, DataType::Utf8, false),
        Field::new(hidden::POSITION, DataType::Utf8, true),
        Field::new(hidden::EPOCH, DataType::Int32, false),
        Field::new(hidden::MASK, DataType::Binary, true),
        Field::new(hidden::COUNT, DataType::Int64, true),
    ];
    fields.extend(table.physical().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(fields))
}

/// How many hidden columns stand before the table's own in a change batch.
pub const HIDDEN_COLUMNS: usize = 7;
