//! The identity of rows: a keyed BLAKE3 by which a vault knows that it has a segment already.
//!
//! Invariant: it depends on the domain, the schema, the profile and the rows in their order, never on how the rows
//! were cut into batches, on slices, or on what stands under a NULL.

use crate::Result;
use crate::encryption::Protection;
use crate::error::FormatError;
use crate::profile::WriterProfile;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use keepfast_keys::SecretKey;
use keepfast_model::digest::canonical_value;
use keepfast_model::{ColumnId, Hash256, ModelError, TableId, TableSchema, point::Encryption};
use std::fmt;

// Arrow's buffers are hashed as they lie in memory, and the format says little-endian.
const _: () = assert!(cfg!(target_endian = "little"), "identities are of little-endian words");

/// The dedup secret that keys identities. Never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityKey(SecretKey);

impl IdentityKey {
    /// A key of these bytes, which the caller drew at random or read from the vault's keys.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(SecretKey::new(bytes))
    }

    /// Reads 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        Hash256::from_hex(text).map(|h| Self::new(h.0))
    }

    /// 64 hex digits, for the vault's key file only.
    pub fn to_hex(&self) -> String {
        Hash256(*self.0.bytes()).to_string()
    }

    /// The bytes, for hashing.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        self.0.bytes()
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(…)")
    }
}

/// Where identities are comparable: one table of one vault under one way of encryption and its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The table in the vault.
    pub table: TableId,
    /// How its segments are encrypted.
    pub encryption: Encryption,
    /// Ids of its keys; empty without encryption.
    pub key_ids: String,
}

impl Domain {
    /// A table without encryption.
    pub fn plain(table: TableId) -> Self {
        Self { table, encryption: Encryption::None, key_ids: String::new() }
    }

    /// The mode's name, as identities and people know it.
    pub fn mode(&self) -> &'static str {
        self.encryption.mode()
    }
}

/// What precedes the rows of a segment, and of a change segment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RowsOf {
    Segment,
    Changes,
}

/// Hashes rows of one domain, schema and profile.
#[derive(Clone)]
pub(crate) struct IdentityHasher {
    /// Everything that precedes the row count.
    prefix: blake3::Hasher,
}

impl fmt::Debug for IdentityHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityHasher(…)")
    }
}

impl IdentityHasher {
    /// `schema` is the table's, also for changes.
    pub(crate) fn new(
        of: RowsOf,
        protection: &Protection,
        schema: &TableSchema,
        profile: &WriterProfile,
    ) -> Result<Self> {
        let domain = &protection.domain;
        let mut prefix = blake3::Hasher::new_keyed(protection.identity.bytes());
        prefix.update(match of {
            RowsOf::Segment => b"keepfast segment 1",
            RowsOf::Changes => b"keepfast changes 1",
        });
        let schema = serde_json::to_vec(schema).map_err(|e| FormatError::encode("a schema", e))?;
        part(&mut prefix, domain.table.0.as_bytes());
        part(&mut prefix, domain.mode().as_bytes());
        part(&mut prefix, domain.key_ids.as_bytes());
        part(&mut prefix, &schema);
        prefix.update(&profile.id().0);
        Ok(Self { prefix })
    }

    /// The identity of these rows. All batches have the columns `ids`.
    pub(crate) fn rows(&self, ids: &[ColumnId], batches: &[RecordBatch]) -> Result<Hash256> {
        let mut hasher = self.prefix.clone();
        let rows: u64 = batches.iter().map(|b| b.num_rows() as u64).sum();
        hasher.update(&rows.to_le_bytes());
        for (at, id) in ids.iter().enumerate() {
            hasher.update(&id.0.to_le_bytes());
            let arrays: Vec<ArrayRef> = batches.iter().map(|b| b.column(at).clone()).collect();
            let values = without_nulls(&mut hasher, arrays)?;
            hash_values(&mut hasher, &values)?;
        }
        Ok(Hash256(*hasher.finalize().as_bytes()))
    }
}

/// A part of variable length: its u64 length, then itself.
fn part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// A part that stands in several pieces.
fn pieces<'a>(hasher: &mut blake3::Hasher, pieces: impl Iterator<Item = &'a [u8]> + Clone) {
    let length: u64 = pieces.clone().map(|p| p.len() as u64).sum();
    hasher.update(&length.to_le_bytes());
    for piece in pieces {
        hasher.update(piece);
    }
}

/// Hashes which rows are NULL, and gives the others.
fn without_nulls(hasher: &mut blake3::Hasher, arrays: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    if arrays.iter().all(|a| a.null_count() == 0) {
        hasher.update(&[0]);
        return Ok(arrays);
    }
    let mut bits = BooleanBufferBuilder::new(arrays.iter().map(|a| a.len()).sum());
    for array in &arrays {
        match array.nulls() {
            Some(nulls) => bits.append_buffer(nulls.inner()),
            None => bits.append_n(array.len(), true),
        }
    }
    let rows = bits.len();
    hasher.update(&[1]);
    part(hasher, &bits.finish().into_inner().as_slice()[..rows.div_ceil(8)]);
    arrays
        .into_iter()
        .map(|array| match array.nulls().filter(|n| n.null_count() > 0) {
            // Texts without NULLs are the same bytes already.
            Some(nulls) if !empty_under(nulls, array.as_ref()) => {
                let valid = BooleanArray::new(nulls.inner().clone(), None);
                arrow::compute::filter(array.as_ref(), &valid).map_err(FormatError::kernel("compacted"))
            }
            _ => Ok(array),
        })
        .collect()
}

/// Whether an array has values of variable length, and those under NULL have none.
fn empty_under(nulls: &NullBuffer, array: &dyn Array) -> bool {
    let offsets = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value_offsets(),
        DataType::Binary => array.as_binary::<i32>().value_offsets(),
        _ => return false,
    };
    offsets.windows(2).zip(nulls).all(|(ends, valid)| valid || ends[0] == ends[1])
}

fn hash_values(hasher: &mut blake3::Hasher, arrays: &[ArrayRef]) -> Result<()> {
    let Some(first) = arrays.first() else {
        part(hasher, &[]);
        return Ok(());
    };
    match first.data_type() {
        DataType::Int8 => words::<Int8Type>(hasher, arrays),
        DataType::Int16 => words::<Int16Type>(hasher, arrays),
        DataType::Int32 => words::<Int32Type>(hasher, arrays),
        DataType::Int64 => words::<Int64Type>(hasher, arrays),
        DataType::Float32 => words::<Float32Type>(hasher, arrays),
        DataType::Float64 => words::<Float64Type>(hasher, arrays),
        DataType::Date32 => words::<Date32Type>(hasher, arrays),
        DataType::Timestamp(TimeUnit::Microsecond, _) => words::<TimestampMicrosecondType>(hasher, arrays),
        DataType::Decimal128(_, _) => words::<Decimal128Type>(hasher, arrays),
        DataType::Boolean => {
            let bytes: Vec<u8> =
                arrays.iter().flat_map(|a| a.as_boolean().values().iter().map(u8::from)).collect();
            part(hasher, &bytes);
        }
        DataType::Utf8 => variable(
            hasher,
            arrays.iter().map(|a| {
                let a = a.as_string::<i32>();
                (a.value_offsets(), a.value_data(), a.nulls())
            }),
        ),
        DataType::Binary => variable(
            hasher,
            arrays.iter().map(|a| {
                let a = a.as_binary::<i32>();
                (a.value_offsets(), a.value_data(), a.nulls())
            }),
        ),
        DataType::List(_) => {
            let mut lengths = Vec::new();
            let mut bytes = Vec::new();
            for array in arrays {
                for i in 0..array.len() {
                    let start = bytes.len();
                    canonical_value(array.as_ref(), i, &mut bytes)?;
                    lengths.push((bytes.len() - start) as u32);
                }
            }
            part(hasher, Buffer::from_vec(lengths).as_slice());
            part(hasher, &bytes);
        }
        other => {
            return Err(ModelError::Batch {
                column: "a column".into(),
                expected: "a physical type".into(),
                found: other.to_string(),
            }
            .into());
        }
    }
    Ok(())
}

fn words<T: ArrowPrimitiveType>(hasher: &mut blake3::Hasher, arrays: &[ArrayRef]) {
    pieces(hasher, arrays.iter().map(|a| a.as_primitive::<T>().values().inner().as_slice()));
}

/// Offsets, bytes and NULLs of values.
type Variable<'a> = (&'a [i32], &'a [u8], Option<&'a NullBuffer>);

/// u32 lengths of all values, then their bytes.
fn variable<'a>(hasher: &mut blake3::Hasher, arrays: impl Iterator<Item = Variable<'a>> + Clone) {
    let mut lengths: Vec<u32> = Vec::new();
    for (offsets, _, nulls) in arrays.clone() {
        let all = offsets.windows(2).map(|w| (w[1] - w[0]) as u32);
        match nulls {
            None => lengths.extend(all),
            Some(nulls) => {
                lengths.extend(all.zip(nulls).filter_map(|(length, valid)| valid.then_some(length)))
            }
        }
    }
    part(hasher, Buffer::from_vec(lengths).as_slice());
    pieces(
        hasher,
        arrays.map(|(offsets, data, _)| {
            let first = offsets.first().map_or(0, |o| *o as usize);
            let last = offsets.last().map_or(0, |o| *o as usize);
            &data[first..last]
        }),
    );
}
