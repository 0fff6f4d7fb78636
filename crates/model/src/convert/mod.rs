//! From Arrow as programs hand it over to the exact physical form that segments hold, and back.
//!
//! [`to_physical`] accepts the native form (what SQL sees), the physical form, and the wider or narrower forms that
//! readers give (views, large and dictionary strings, other time units, other integers). It checks what the exact type
//! promises: NOT NULL, lengths, ranges, digits, UUID and JSON. Invariant: a batch it returns fits its schema; a value
//! that does not fit is an error that names column, row and value, and is never changed silently. Two roundings are
//! allowed, as SQL has them: decimals to the column's scale, and times to whole microseconds (cut, not rounded up).

mod check;

use crate::change::hidden;
use crate::column_type::ColumnType;
use crate::error::ModelError;
use crate::schema::{Column, TableSchema};
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, LargeListArray, ListArray, RecordBatch, RecordBatchOptions,
    StringBuilder,
};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;

/// The batch in the physical form of `schema`: its columns by position, and `__keepfast_exact` last where it stands
/// after them.
///
/// # Errors
/// [`ModelError::Batch`] for a wrong number of columns or a type that cannot be converted;
/// [`ModelError::Value`] for the first value that the column does not take.
pub fn to_physical(schema: &TableSchema, batch: &RecordBatch) -> Result<RecordBatch, ModelError> {
    let declared = schema.columns.len();
    let exact = batch.num_columns() == declared + 1 && batch.schema().field(declared).name() == hidden::EXACT;
    if batch.num_columns() != declared && !exact {
        return Err(ModelError::Batch {
            column: "all".into(),
            expected: format!("{declared} columns"),
            found: format!("{} columns", batch.num_columns()),
        });
    }
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, array) in schema.columns.iter().zip(batch.columns()) {
        columns.push(column_to_physical(column, array)?);
    }
    let mut arrow_schema = schema.physical();
    if exact {
        columns.push(cast_array(hidden::EXACT, &DataType::Utf8, batch.column(declared))?);
        let mut fields: Vec<Field> = arrow_schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.push(Field::new(hidden::EXACT, DataType::Utf8, true));
        arrow_schema = Arc::new(Schema::new(fields));
    }
    assemble(arrow_schema, columns, batch.num_rows())
}

/// One column in its physical form. Rows are counted from 0 in errors.
///
/// # Errors
/// As [`to_physical`].
pub fn column_to_physical(column: &Column, array: &ArrayRef) -> Result<ArrayRef, ModelError> {
    let array = convert(&column.name, &column.column_type, array)?;
    if !column.nullable && array.null_count() > 0 {
        let row = (0..array.len()).find(|i| array.is_null(*i)).unwrap_or(0);
        return Err(refused(&column.name, row, "NULL".into(), "the column is NOT NULL".into()));
    }
    Ok(array)
}

/// The batch in the native form, which SQL sees: unsigned integers and TIME as themselves. A trailing
/// `__keepfast_exact` column is left out.
///
/// # Errors
/// [`ModelError::Batch`] when the batch is not in the physical form of `schema`; [`ModelError::Value`] when a value
/// lies outside its exact type, which only damage can cause.
pub fn to_native(schema: &TableSchema, batch: &RecordBatch) -> Result<RecordBatch, ModelError> {
    if batch.num_columns() < schema.columns.len() {
        return Err(ModelError::Batch {
            column: "all".into(),
            expected: format!("{} columns", schema.columns.len()),
            found: format!("{} columns", batch.num_columns()),
        });
    }
    let columns = schema
        .columns
        .iter()
        .zip(batch.columns())
        .map(|(c, a)| native_array(&c.name, &c.column_type, a))
        .collect::<Result<Vec<_>, _>>()?;
    assemble(schema.native(), columns, batch.num_rows())
}

/// One physical column in its native form.
///
/// # Errors
/// As [`to_native`].
pub fn column_to_native(column: &Column, array: &ArrayRef) -> Result<ArrayRef, ModelError> {
    native_array(&column.name, &column.column_type, array)
}

fn native_array(name: &str, column_type: &ColumnType, array: &ArrayRef) -> Result<ArrayRef, ModelError> {
    let target = column_type.native();
    if array.data_type() == &target {
        return Ok(array.clone());
    }
    match column_type {
        ColumnType::List(item) => rebuild_list(name, item, array, native_array),
        _ => cast_array(name, &target, array),
    }
}

fn assemble(schema: Arc<Schema>, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ModelError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|e| ModelError::Batch {
        column: "all".into(),
        expected: "columns that fit the schema".into(),
        found: e.to_string(),
    })
}

/// Casts and checks, but for NOT NULL.
fn convert(name: &str, column_type: &ColumnType, array: &ArrayRef) -> Result<ArrayRef, ModelError> {
    let array = &plain(name, array)?;
    let physical = column_type.physical();
    let cast = match (column_type, array.data_type()) {
        (_, found) if *found == physical => array.clone(),
        (
            ColumnType::List(item),
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _),
        ) => {
            return rebuild_list(name, item, array, convert);
        }
        (ColumnType::List(_), _) => return Err(unfit(name, &physical, array)),
        (t, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _))
            if !matches!(t, ColumnType::List(_)) =>
        {
            return Err(unfit(name, &physical, array));
        }
        (ColumnType::Uuid, DataType::FixedSizeBinary(16)) => uuid_text(array),
        (t, found) if is_integer(t) && (found.is_floating() || has_fraction(found)) => {
            let cast = cast_array(name, &physical, array)?;
            whole_numbers_only(name, array, &cast)?;
            cast
        }
        (_, DataType::Boolean) if physical.is_numeric() => return Err(unfit(name, &physical, array)),
        (ColumnType::Boolean, found) if found.is_numeric() => return Err(unfit(name, &physical, array)),
        // The cast reads days and moments as plain numbers and back, which is a mistake more often than a wish.
        (t, found) if found.is_temporal() && is_number(t) => return Err(unfit(name, &physical, array)),
        (t, found) if found.is_numeric() && is_temporal(t) => return Err(unfit(name, &physical, array)),
        (ColumnType::Time, _) => {
            let native = cast_array(name, &ColumnType::Time.native(), array)?;
            cast_array(name, &physical, &native)?
        }
        (ColumnType::UInt64, found) if !found.is_integer() => {
            let native = cast_array(name, &DataType::UInt64, array)?;
            cast_array(name, &physical, &native)?
        }
        _ => cast_array(name, &physical, array)?,
    };
    check::values(name, column_type, cast)
}

/// Dictionaries and runs laid out plainly.
fn plain(name: &str, array: &ArrayRef) -> Result<ArrayRef, ModelError> {
    match array.data_type() {
        DataType::Dictionary(_, value) => cast_array(name, value, array),
        DataType::RunEndEncoded(_, value) => cast_array(name, value.data_type(), array),
        DataType::ListView(field) => cast_array(name, &DataType::List(field.clone()), array),
        DataType::LargeListView(field) => cast_array(name, &DataType::LargeList(field.clone()), array),
        _ => Ok(array.clone()),
    }
}

fn is_integer(t: &ColumnType) -> bool {
    use ColumnType::*;
    matches!(t, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64)
}

fn is_number(t: &ColumnType) -> bool {
    is_integer(t) || matches!(t, ColumnType::Float32 | ColumnType::Float64 | ColumnType::Decimal { .. })
}

fn is_temporal(t: &ColumnType) -> bool {
    matches!(t, ColumnType::Date | ColumnType::Time | ColumnType::Timestamp { .. })
}

fn has_fraction(t: &DataType) -> bool {
    matches!(t, DataType::Decimal32(_, s) | DataType::Decimal64(_, s) | DataType::Decimal128(_, s) | DataType::Decimal256(_, s) if *s > 0)
}

fn whole_numbers_only(name: &str, from: &ArrayRef, to: &ArrayRef) -> Result<(), ModelError> {
    let differs: Box<dyn Fn(usize) -> bool> = if from.data_type().is_floating() {
        let from = cast_array(name, &DataType::Float64, from)?;
        let back = cast_array(name, &DataType::Float64, to)?;
        Box::new(move |i| {
            from.as_primitive::<Float64Type>().value(i) != back.as_primitive::<Float64Type>().value(i)
        })
    } else {
        let back = cast_array(name, from.data_type(), to)?;
        let differ =
            arrow::compute::kernels::cmp::neq(from, &back).map_err(|_| unfit(name, to.data_type(), from))?;
        Box::new(move |i| differ.value(i))
    };
    match (0..from.len()).find(|i| from.is_valid(*i) && differs(*i)) {
        Some(row) => Err(refused(name, row, shown(from, row), "the column holds whole numbers".into())),
        None => Ok(()),
    }
}

fn uuid_text(array: &ArrayRef) -> ArrayRef {
    let bytes = array.as_fixed_size_binary();
    let mut out = StringBuilder::with_capacity(bytes.len(), bytes.len() * 36);
    let mut text = String::with_capacity(36);
    for value in bytes.iter() {
        match value {
            None => out.append_null(),
            Some(value) => {
                text.clear();
                for (i, byte) in value.iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        text.push('-');
                    }
                    for nibble in [byte >> 4, byte & 15] {
                        text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
                    }
                }
                out.append_value(&text);
            }
        }
    }
    Arc::new(out.finish())
}

type ConvertItem = fn(&str, &ColumnType, &ArrayRef) -> Result<ArrayRef, ModelError>;

/// A list whose items are converted, with the item named `element` and nullable.
fn rebuild_list(
    name: &str,
    item: &ColumnType,
    array: &ArrayRef,
    each: ConvertItem,
) -> Result<ArrayRef, ModelError> {
    let narrow = match array.data_type() {
        DataType::LargeList(field) => {
            let wide: &LargeListArray = array.as_list();
            let last = *wide.value_offsets().last().unwrap_or(&0);
            if i32::try_from(last).is_err() {
                return Err(ModelError::Batch {
                    column: name.into(),
                    expected: "at most 2147483647 list items a batch".into(),
                    found: last.to_string(),
                });
            }
            cast_array(name, &DataType::List(field.clone()), array)?
        }
        DataType::FixedSizeList(field, _) => cast_array(name, &DataType::List(field.clone()), array)?,
        DataType::List(_) => array.clone(),
        found => {
            return Err(ModelError::Batch {
                column: name.into(),
                expected: "a list".into(),
                found: found.to_string(),
            });
        }
    };
    let list: &ListArray = narrow.as_list();
    // Items of NULL lists and items outside the offsets do not belong to the column; only what is seen is converted.
    let start = list.value_offsets().first().copied().unwrap_or(0);
    let end = list.value_offsets().last().copied().unwrap_or(0);
    let seen = list.values().slice(start as usize, (end - start) as usize);
    let items = each(name, item, &seen)?;
    let offsets = arrow::buffer::OffsetBuffer::new(list.value_offsets().iter().map(|o| o - start).collect());
    let field = Arc::new(Field::new("element", items.data_type().clone(), true));
    let list = ListArray::try_new(field, offsets, items, list.nulls().cloned()).map_err(|e| {
        ModelError::Batch { column: name.into(), expected: "a list".into(), found: e.to_string() }
    })?;
    Ok(Arc::new(list))
}

/// Casts; a value that cannot be cast is found and named.
fn cast_array(name: &str, target: &DataType, array: &ArrayRef) -> Result<ArrayRef, ModelError> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    if !can_cast_types(array.data_type(), target) {
        return Err(unfit(name, target, array));
    }
    let options = CastOptions { safe: false, ..Default::default() };
    let cast = |part: &ArrayRef| {
        cast_with_options(part, target, &options).and_then(|out| {
            if let DataType::Decimal128(precision, _) = target {
                let decimals: &Decimal128Array = out.as_primitive::<Decimal128Type>();
                decimals.validate_decimal_precision(*precision)?;
            }
            Ok(out)
        })
    };
    cast(array).map_err(|_| {
        // Halving finds the first row that fails on its own.
        let (mut start, mut end) = (0, array.len());
        while end - start > 1 {
            let middle = start + (end - start) / 2;
            if cast(&array.slice(start, middle - start)).is_err() { end = middle } else { start = middle }
        }
        let value = if array.is_empty() { String::new() } else { shown(array, start) };
        refused(name, start, value, format!("it does not fit {}", readable(target)))
    })
}

fn readable(target: &DataType) -> String {
    ColumnType::from_arrow(target).map_or_else(|| target.to_string(), |t| t.sql())
}

fn unfit(name: &str, target: &DataType, array: &ArrayRef) -> ModelError {
    ModelError::Batch {
        column: name.into(),
        expected: target.to_string(),
        found: array.data_type().to_string(),
    }
}

fn refused(column: &str, row: usize, value: String, reason: String) -> ModelError {
    ModelError::Value { column: column.into(), row: row as u64, value, reason }
}

/// A value as text, cut where it is long.
pub fn shown(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".into();
    }
    // Arrow shows only as many digits as the type says, and these may be too many.
    if let (DataType::Decimal128(_, scale @ 0..=38), Some(decimals)) =
        (array.data_type(), array.as_primitive_opt::<Decimal128Type>())
    {
        let (value, scale) = (decimals.value(row), *scale as usize);
        let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
        let (whole, part) = digits.split_at(digits.len() - scale);
        let (sign, point) = (if value < 0 { "-" } else { "" }, if scale > 0 { "." } else { "" });
        return format!("{sign}{whole}{point}{part}");
    }
    let text = match ArrayFormatter::try_new(array, &FormatOptions::default()) {
        Ok(f) => f.value(row).try_to_string().unwrap_or_else(|e| e.to_string()),
        Err(e) => e.to_string(),
    };
    let text = if text.chars().count() > 64 {
        format!("{}…", text.chars().take(64).collect::<String>())
    } else {
        text
    };
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => format!("'{text}'"),
        _ => text,
    }
}

#[cfg(test)]
mod tests;
