//! Row hashes and digests: an order-free, mergeable checksum of rows.
//!
//! A cell's hash is XXH3-128 of its canonical bytes, seeded with its column id; NULL has none. A row's hash is
//! XXH3-128 of the wrapping sum of its cells' hashes, so that a value moved to another row or column changes it. A
//! digest is the count and the wrapping sum of row hashes. The canonical bytes are in `docs/format.md`.

use crate::error::ModelError;
use crate::ids::ColumnId;
use crate::schema::TableSchema;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// Count and 128-bit sum of row hashes. Equal rows in any order and any grouping give equal digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest {
    /// Rows, with multiplicity.
    pub rows: u64,
    /// Wrapping sum of their hashes; 32 hex digits when written.
    #[serde(serialize_with = "sum_to_hex", deserialize_with = "sum_from_hex")]
    pub sum: u128,
}

fn sum_to_hex<S: Serializer>(sum: &u128, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{sum:032x}"))
}

fn sum_from_hex<'de, D: Deserializer<'de>>(d: D) -> Result<u128, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(d)?;
    u128::from_str_radix(&text, 16).map_err(D::Error::custom)
}

impl Digest {
    /// Adds one row.
    pub fn add_row(&mut self, row_hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(row_hash);
    }

    /// Adds many rows.
    pub fn add_rows(&mut self, row_hashes: &[u128]) {
        self.rows += row_hashes.len() as u64;
        self.sum = row_hashes.iter().fold(self.sum, |sum, h| sum.wrapping_add(*h));
    }

    /// The digest of both row sets together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, sum: self.sum.wrapping_add(other.sum) }
    }

    /// The digest without the rows of `other`, which must be among these.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self { rows: self.rows.wrapping_sub(other.rows), sum: self.sum.wrapping_sub(other.sum) }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.rows, self.sum)
    }
}

/// The hashes of a batch's rows.
#[derive(Clone, Debug, Default)]
pub struct RowHashes {
    /// One a row.
    pub rows: Vec<u128>,
    /// One a row: the hash that ends segments. Of the key columns, or of the whole row where there is no key.
    pub keys: Vec<u64>,
}

/// Hashes rows of one schema.
#[derive(Clone, Debug)]
pub struct RowHasher {
    /// Position in the batch, and id as the seed; key columns first.
    columns: Vec<(usize, ColumnId)>,
    key_columns: usize,
    types: Vec<DataType>,
}

impl RowHasher {
    /// A hasher for physical batches of this schema; a trailing `__keepfast_exact` column is hashed too.
    pub fn new(schema: &TableSchema) -> Self {
        let keys = schema.key_positions();
        let columns = keys
            .iter()
            .copied()
            .chain((0..schema.columns.len()).filter(|i| !keys.contains(i)))
            .map(|i| (i, schema.columns[i].id))
            .collect();
        Self {
            columns,
            key_columns: keys.len(),
            types: schema.columns.iter().map(|c| c.column_type.physical()).collect(),
        }
    }

    /// Hashes every row of a physical batch.
    ///
    /// # Errors
    /// [`ModelError::Batch`] when the batch's columns are not those of the schema.
    pub fn hash(&self, batch: &RecordBatch) -> Result<RowHashes, ModelError> {
        let n = batch.num_rows();
        let declared = self.types.len();
        if batch.num_columns() != declared && batch.num_columns() != declared + 1 {
            return Err(ModelError::Batch {
                column: "all".into(),
                expected: format!("{declared} columns"),
                found: format!("{} columns", batch.num_columns()),
            });
        }
        let mut sums = vec![0u128; n];
        let mut keys = Vec::new();
        for (i, (at, id)) in self.columns.iter().enumerate() {
            if i == self.key_columns && i > 0 {
                keys = sums.iter().map(|s| finish(*s) as u64).collect();
            }
            let array = batch.column(*at);
            if array.data_type() != &self.types[*at] && !same_layout(array.data_type(), &self.types[*at]) {
                return Err(ModelError::Batch {
                    column: batch.schema().field(*at).name().clone(),
                    expected: self.types[*at].to_string(),
                    found: array.data_type().to_string(),
                });
            }
            add_column(array.as_ref(), *id, &mut sums)?;
        }
        if self.key_columns > 0 && self.key_columns == self.columns.len() {
            keys = sums.iter().map(|s| finish(*s) as u64).collect();
        }
        if batch.num_columns() > declared {
            add_column(batch.column(declared).as_ref(), ColumnId::EXACT, &mut sums)?;
        }
        for sum in &mut sums {
            *sum = finish(*sum);
        }
        if self.key_columns == 0 {
            keys = sums.iter().map(|s| *s as u64).collect();
        }
        Ok(RowHashes { rows: sums, keys })
    }

    /// The digest of a batch.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub fn digest(&self, batch: &RecordBatch) -> Result<Digest, ModelError> {
        let mut digest = Digest::default();
        digest.add_rows(&self.hash(batch)?.rows);
        Ok(digest)
    }
}

fn finish(sum: u128) -> u128 {
    xxh3_128(&sum.to_le_bytes())
}

/// Lists differ in their item's name and nullability without differing in values.
fn same_layout(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(a), DataType::List(b)) => same_layout(a.data_type(), b.data_type()),
        _ => a == b,
    }
}

/// Adds each row's cell hash to its sum.
fn add_column(array: &dyn Array, id: ColumnId, sums: &mut [u128]) -> Result<(), ModelError> {
    let seed = u64::from(id.0);
    let nulls = array.nulls().filter(|n| n.null_count() > 0);
    macro_rules! each {
        ($values:expr, $bytes:expr) => {{
            let bytes = $bytes;
            match nulls {
                None => {
                    for (sum, v) in sums.iter_mut().zip($values) {
                        *sum = sum.wrapping_add(xxh3_128_with_seed(bytes(v).as_ref(), seed));
                    }
                }
                Some(nulls) => {
                    for (i, (sum, v)) in sums.iter_mut().zip($values).enumerate() {
                        if nulls.is_valid(i) {
                            *sum = sum.wrapping_add(xxh3_128_with_seed(bytes(v).as_ref(), seed));
                        }
                    }
                }
            }
        }};
    }
    macro_rules! integers {
        ($t:ty) => {
            each!(array.as_primitive::<$t>().values().iter(), |v: &_| i64::from(*v).to_le_bytes())
        };
    }
    match array.data_type() {
        DataType::Boolean => {
            each!(array.as_boolean().values().iter(), |v: bool| [u8::from(v)])
        }
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::Date32 => integers!(Date32Type),
        DataType::Timestamp(TimeUnit::Microsecond, _) => integers!(TimestampMicrosecondType),
        DataType::Float32 => {
            each!(array.as_primitive::<Float32Type>().values().iter(), |v: &f32| v.to_bits().to_le_bytes())
        }
        DataType::Float64 => {
            each!(array.as_primitive::<Float64Type>().values().iter(), |v: &f64| v.to_bits().to_le_bytes())
        }
        DataType::Decimal128(_, _) => {
            each!(array.as_primitive::<Decimal128Type>().values().iter(), |v: &i128| v.to_le_bytes())
        }
        DataType::Utf8 => {
            let a = array.as_string::<i32>();
            each!(0..a.len(), |i: usize| a.value(i).as_bytes())
        }
        DataType::Binary => {
            let a = array.as_binary::<i32>();
            each!(0..a.len(), |i: usize| a.value(i))
        }
        DataType::List(_) => {
            let a = array.as_list::<i32>();
            let mut bytes = Vec::new();
            for (i, sum) in sums.iter_mut().enumerate() {
                if a.is_valid(i) {
                    bytes.clear();
                    for j in 0..a.value_length(i) as usize {
                        canonical_item(a.values().as_ref(), a.value_offsets()[i] as usize + j, &mut bytes)?;
                    }
                    *sum = sum.wrapping_add(xxh3_128_with_seed(&bytes, seed));
                }
            }
        }
        other => return Err(not_physical(other)),
    }
    Ok(())
}

fn not_physical(found: &DataType) -> ModelError {
    ModelError::Batch {
        column: "a column".into(),
        expected: "a physical type".into(),
        found: found.to_string(),
    }
}

/// Appends one list item: `0` for NULL, else `1`, the length of its canonical bytes as u32 LE, and the bytes.
fn canonical_item(array: &dyn Array, i: usize, out: &mut Vec<u8>) -> Result<(), ModelError> {
    if array.is_null(i) {
        out.push(0);
        return Ok(());
    }
    out.push(1);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    canonical_value(array, i, out)?;
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Appends the canonical bytes of one non-NULL value.
///
/// # Errors
/// [`ModelError::Batch`] when the array's type is not a physical one.
pub fn canonical_value(array: &dyn Array, i: usize, out: &mut Vec<u8>) -> Result<(), ModelError> {
    macro_rules! integer {
        ($t:ty) => {
            out.extend_from_slice(&i64::from(array.as_primitive::<$t>().value(i)).to_le_bytes())
        };
    }
    match array.data_type() {
        DataType::Boolean => out.push(u8::from(array.as_boolean().value(i))),
        DataType::Int8 => integer!(Int8Type),
        DataType::Int16 => integer!(Int16Type),
        DataType::Int32 => integer!(Int32Type),
        DataType::Int64 => integer!(Int64Type),
        DataType::Date32 => integer!(Date32Type),
        DataType::Timestamp(TimeUnit::Microsecond, _) => integer!(TimestampMicrosecondType),
        DataType::Float32 => {
            out.extend_from_slice(&array.as_primitive::<Float32Type>().value(i).to_bits().to_le_bytes());
        }
        DataType::Float64 => {
            out.extend_from_slice(&array.as_primitive::<Float64Type>().value(i).to_bits().to_le_bytes());
        }
        DataType::Decimal128(_, _) => {
            out.extend_from_slice(&array.as_primitive::<Decimal128Type>().value(i).to_le_bytes());
        }
        DataType::Utf8 => out.extend_from_slice(array.as_string::<i32>().value(i).as_bytes()),
        DataType::Binary => out.extend_from_slice(array.as_binary::<i32>().value(i)),
        DataType::List(_) => {
            let a = array.as_list::<i32>();
            let start = a.value_offsets()[i] as usize;
            for j in 0..a.value_length(i) as usize {
                canonical_item(a.values().as_ref(), start + j, out)?;
            }
        }
        other => return Err(not_physical(other)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column_type::ColumnType;
    use arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn schema() -> TableSchema {
        TableSchema::of(
            vec![
                ("id".into(), ColumnType::Int32, false),
                ("a".into(), ColumnType::Text, true),
                ("b".into(), ColumnType::Text, true),
                ("x".into(), ColumnType::Float64, true),
            ],
            &["id"],
        )
        .unwrap()
    }

    type Row = (i32, Option<String>, Option<String>, Option<f64>);

    fn digest(rows: &[Row]) -> Digest {
        let schema = schema();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0))),
            Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1.as_deref()))),
            Arc::new(StringArray::from_iter(rows.iter().map(|r| r.2.as_deref()))),
            Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.3))),
        ];
        let batch = RecordBatch::try_new(schema.physical(), columns).unwrap();
        RowHasher::new(&schema).digest(&batch).unwrap()
    }

    fn row() -> impl Strategy<Value = Row> {
        let text = || proptest::option::of("[ab]{0,3}");
        (0..50i32, text(), text(), proptest::option::of(any::<f64>()))
    }

    proptest! {
        #[test]
        fn order_and_grouping_never_matter(rows in prop::collection::vec(row(), 0..40), cut in 0usize..40) {
            let mut turned = rows.clone();
            turned.reverse();
            prop_assert_eq!(digest(&rows), digest(&turned));
            let (left, right) = rows.split_at(cut.min(rows.len()));
            prop_assert_eq!(digest(&rows), digest(left).merge(digest(right)));
            prop_assert_eq!(digest(&rows).without(digest(left)), digest(right));
        }

        #[test]
        fn a_changed_lost_doubled_or_moved_value_changes_the_digest(rows in prop::collection::vec(row(), 2..20), at in 0usize..20) {
            let at = at % rows.len();
            let before = digest(&rows);
            let mut changed = rows.clone();
            changed[at].1 = Some(format!("{}c", rows[at].1.clone().unwrap_or_default()));
            prop_assert_ne!(before, digest(&changed));
            let mut lost = rows.clone();
            lost.remove(at);
            prop_assert_ne!(before, digest(&lost));
            let mut doubled = rows.clone();
            doubled.push(rows[at].clone());
            prop_assert_ne!(before, digest(&doubled));
            if rows[at].1 != rows[at].2 {
                let mut moved = rows.clone();
                let r = &mut moved[at];
                std::mem::swap(&mut r.1, &mut r.2);
                prop_assert_ne!(before, digest(&moved));
            }
            let other = (at + 1) % rows.len();
            if rows[at].1 != rows[other].1 && (rows[at].0, &rows[at].2, rows[at].3.map(f64::to_bits)) != (rows[other].0, &rows[other].2, rows[other].3.map(f64::to_bits)) {
                let mut swapped = rows.clone();
                swapped[at].1 = rows[other].1.clone();
                swapped[other].1 = rows[at].1.clone();
                prop_assert_ne!(before, digest(&swapped));
            }
        }
    }

    #[test]
    fn zero_and_minus_zero_and_nan_payloads_differ() {
        let of = |x: f64| digest(&[(1, None, None, Some(x))]);
        assert_ne!(of(0.0), of(-0.0));
        assert_ne!(of(f64::NAN), of(f64::from_bits(f64::NAN.to_bits() ^ 1)));
        assert_ne!(of(0.0), digest(&[(1, None, None, None)]));
        assert_ne!(digest(&[(1, Some(String::new()), None, None)]), digest(&[(1, None, None, None)]));
    }
}
