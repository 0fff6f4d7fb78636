//! Random schemas and rows of every type, as plain values that tests compare.

#![allow(dead_code, reason = "each test file uses a part of it")]

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::*;
use keepfast_format::{Chunk, IdentityKey, Protection, SegmentWriter, WriterProfile};
use keepfast_model::{Column, ColumnId, ColumnType, RowHasher, TableId, TableSchema, TableShape};
use proptest::prelude::*;
use std::sync::Arc;

/// One value, floats by their bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Decimal(i128),
    Float32(u32),
    Float64(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
}

pub type Row = Vec<Value>;

/// Every type that a scalar column can have.
pub fn scalar_types() -> Vec<ColumnType> {
    use ColumnType::*;
    vec![
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float32,
        Float64,
        Decimal { precision: 5, scale: 2 },
        Decimal { precision: 15, scale: 4 },
        Decimal { precision: 38, scale: 10 },
        Char { length: 3 },
        Varchar { length: Some(20) },
        Varchar { length: None },
        Text,
        Binary { length: 4 },
        Varbinary { length: Some(9) },
        Blob,
        Date,
        Time,
        Timestamp { zone: false },
        Timestamp { zone: true },
        Json,
        Uuid,
    ]
}

/// All of them, and lists.
pub fn all_types() -> Vec<ColumnType> {
    let mut types = scalar_types();
    let lists: Vec<ColumnType> = types.iter().cloned().map(|t| ColumnType::List(Box::new(t))).collect();
    types.extend(lists);
    types.push("list(list(int32))".parse().unwrap());
    types.push("list(list(text))".parse().unwrap());
    types
}

pub fn schema_of(types: Vec<(ColumnType, bool)>) -> TableSchema {
    let columns = types
        .into_iter()
        .zip(1..)
        .map(|((column_type, nullable), id)| Column {
            id: ColumnId(id),
            name: format!("c.{id}"),
            column_type,
            nullable,
            default: None,
            origin: None,
        })
        .collect();
    TableSchema { columns, key: vec![], shape: TableShape::Rows }
}

pub fn any_schema() -> impl Strategy<Value = TableSchema> {
    prop::collection::vec((prop::sample::select(all_types()), any::<bool>()), 1..6).prop_map(schema_of)
}

pub fn value(t: &ColumnType, nullable: bool) -> BoxedStrategy<Value> {
    let plain: BoxedStrategy<Value> = match (t, t.physical()) {
        (ColumnType::List(item), _) => {
            prop::collection::vec(value(item, true), 0..4).prop_map(Value::List).boxed()
        }
        (_, DataType::Boolean) => any::<bool>().prop_map(Value::Bool).boxed(),
        (_, DataType::Int8) => any::<i8>().prop_map(|v| Value::Int(v.into())).boxed(),
        (_, DataType::Int16) => any::<i16>().prop_map(|v| Value::Int(v.into())).boxed(),
        (_, DataType::Int32 | DataType::Date32) => any::<i32>().prop_map(|v| Value::Int(v.into())).boxed(),
        (_, DataType::Int64 | DataType::Timestamp(_, _)) => {
            prop_oneof![any::<i64>(), -3..3i64, Just(i64::MIN), Just(i64::MAX)].prop_map(Value::Int).boxed()
        }
        (_, DataType::Float32) => prop_oneof![any::<u32>(), Just((-0.0f32).to_bits()), Just(0x7fc0_1234)]
            .prop_map(Value::Float32)
            .boxed(),
        (_, DataType::Float64) => {
            prop_oneof![any::<u64>(), Just((-0.0f64).to_bits()), Just(0x7ff8_0000_0000_4321)]
                .prop_map(Value::Float64)
                .boxed()
        }
        (_, DataType::Decimal128(precision, _)) => {
            let limit = 10i128.pow(u32::from(precision)) - 1;
            prop_oneof![-limit..=limit, -9..9i128, Just(limit), Just(-limit)].prop_map(Value::Decimal).boxed()
        }
        (_, DataType::Utf8) => "[a-cäß€\\x00]{0,6}".prop_map(Value::Text).boxed(),
        (_, DataType::Binary) => prop::collection::vec(any::<u8>(), 0..6).prop_map(Value::Bytes).boxed(),
        (t, _) => panic!("no values of {t}"),
    };
    if nullable { prop_oneof![3 => plain, 1 => Just(Value::Null)].boxed() } else { plain }
}

pub fn row(schema: &TableSchema) -> BoxedStrategy<Row> {
    schema.columns.iter().map(|c| value(&c.column_type, c.nullable)).collect::<Vec<_>>().boxed()
}

pub fn schema_and_rows(rows: std::ops::Range<usize>) -> impl Strategy<Value = (TableSchema, Vec<Row>)> {
    any_schema().prop_flat_map(move |schema| {
        let rows = prop::collection::vec(row(&schema), rows.clone());
        (Just(schema), rows)
    })
}

/// An array of these values. What stands under a NULL is not zero.
pub fn array(data_type: &DataType, values: &[Value]) -> ArrayRef {
    let nulls = arrow::buffer::NullBuffer::from_iter(values.iter().map(|v| *v != Value::Null));
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    let int = |v: &Value| match v {
        Value::Int(n) => *n,
        _ => 77,
    };
    macro_rules! ints {
        ($t:ty) => {
            Arc::new(
                PrimitiveArray::<$t>::try_new(values.iter().map(|v| int(v) as _).collect(), nulls)
                    .unwrap()
                    .with_data_type(data_type.clone()),
            )
        };
    }
    match data_type {
        DataType::Boolean => {
            Arc::new(BooleanArray::new(values.iter().map(|v| *v != Value::Bool(false)).collect(), nulls))
        }
        DataType::Int8 => ints!(Int8Type),
        DataType::Int16 => ints!(Int16Type),
        DataType::Int32 => ints!(Int32Type),
        DataType::Int64 => ints!(Int64Type),
        DataType::Date32 => ints!(Date32Type),
        DataType::Timestamp(_, _) => ints!(TimestampMicrosecondType),
        DataType::Float32 => Arc::new(Float32Array::new(
            values.iter().map(|v| if let Value::Float32(b) = v { f32::from_bits(*b) } else { 7.0 }).collect(),
            nulls,
        )),
        DataType::Float64 => Arc::new(Float64Array::new(
            values.iter().map(|v| if let Value::Float64(b) = v { f64::from_bits(*b) } else { 7.0 }).collect(),
            nulls,
        )),
        DataType::Decimal128(_, _) => Arc::new(
            Decimal128Array::new(
                values.iter().map(|v| if let Value::Decimal(n) = v { *n } else { 7 }).collect(),
                nulls,
            )
            .with_data_type(data_type.clone()),
        ),
        DataType::Utf8 => {
            let texts: Vec<&str> =
                values.iter().map(|v| if let Value::Text(t) = v { t.as_str() } else { "junk" }).collect();
            let plain = StringArray::from(texts);
            Arc::new(StringArray::new(plain.offsets().clone(), plain.values().clone(), nulls))
        }
        DataType::Binary => {
            let bytes: Vec<&[u8]> =
                values.iter().map(|v| if let Value::Bytes(t) = v { t.as_slice() } else { b"junk" }).collect();
            let plain = BinaryArray::from(bytes);
            Arc::new(BinaryArray::new(plain.offsets().clone(), plain.values().clone(), nulls))
        }
        DataType::List(item) => {
            let junk = [Value::Null];
            let items: Vec<&[Value]> =
                values.iter().map(|v| if let Value::List(l) = v { l.as_slice() } else { &junk }).collect();
            let offsets = OffsetBuffer::from_lengths(items.iter().map(|i| i.len()));
            let values = array(item.data_type(), &items.concat());
            Arc::new(ListArray::new(item.clone(), offsets, values, nulls))
        }
        other => panic!("no array of {other}"),
    }
}

pub fn batch(schema: &SchemaRef, rows: &[Row]) -> RecordBatch {
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, f)| array(f.data_type(), &rows.iter().map(|r| r[i].clone()).collect::<Vec<_>>()))
        .collect();
    RecordBatch::try_new_with_options(
        schema.clone(),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(rows.len())),
    )
    .unwrap()
}

pub fn value_at(array: &dyn Array, i: usize) -> Value {
    if array.is_null(i) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(i)),
        DataType::Int8 => Value::Int(array.as_primitive::<Int8Type>().value(i).into()),
        DataType::Int16 => Value::Int(array.as_primitive::<Int16Type>().value(i).into()),
        DataType::Int32 => Value::Int(array.as_primitive::<Int32Type>().value(i).into()),
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(i)),
        DataType::Date32 => Value::Int(array.as_primitive::<Date32Type>().value(i).into()),
        DataType::Timestamp(_, _) => Value::Int(array.as_primitive::<TimestampMicrosecondType>().value(i)),
        DataType::Float32 => Value::Float32(array.as_primitive::<Float32Type>().value(i).to_bits()),
        DataType::Float64 => Value::Float64(array.as_primitive::<Float64Type>().value(i).to_bits()),
        DataType::Decimal128(_, _) => Value::Decimal(array.as_primitive::<Decimal128Type>().value(i)),
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(i).to_owned()),
        DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(i).to_owned()),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(i);
            Value::List((0..items.len()).map(|j| value_at(items.as_ref(), j)).collect())
        }
        other => panic!("no value of {other}"),
    }
}

pub fn rows_of(batches: &[RecordBatch]) -> Vec<Row> {
    batches
        .iter()
        .flat_map(|b| {
            (0..b.num_rows()).map(|i| b.columns().iter().map(|c| value_at(c.as_ref(), i)).collect())
        })
        .collect()
}

/// Rows as several batches, each a slice of a larger one.
pub fn sliced(schema: &SchemaRef, rows: &[Row], cuts: &[usize]) -> Vec<RecordBatch> {
    let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (rows.len() + 1)).chain([0, rows.len()]).collect();
    cuts.sort_unstable();
    let whole = batch(schema, rows);
    cuts.windows(2).map(|w| whole.slice(w[0], w[1] - w[0])).collect()
}

pub fn protection() -> Protection {
    Protection::plain(TableId("0123456789abcdef0123456789abcdef".into()), key())
}

pub fn key() -> IdentityKey {
    IdentityKey::new([7; 32])
}

pub fn writer(schema: &TableSchema, profile: &WriterProfile) -> SegmentWriter {
    SegmentWriter::new(Arc::new(schema.clone()), Arc::new(profile.clone()), protection())
}

/// A chunk of these batches, without keys.
pub fn chunk(schema: &TableSchema, batches: Vec<RecordBatch>) -> Chunk {
    let hasher = RowHasher::new(schema);
    let digest = batches
        .iter()
        .map(|b| hasher.digest(b).unwrap())
        .fold(Default::default(), |a: keepfast_model::Digest, b| a.merge(b));
    Chunk { rows: digest.rows, digest, batches, min: None, max: None }
}
