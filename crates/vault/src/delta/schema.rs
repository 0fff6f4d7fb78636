//! A table's columns as Delta readers know them.

use keepfast_model::{ColumnType, TableSchema};
use serde_json::{Value, json};

/// The schema of a table's files.
pub(super) fn delta_schema(schema: &TableSchema) -> Value {
    let fields: Vec<Value> = schema
        .columns
        .iter()
        .map(|c| {
            json!({"name": c.name, "type": delta_type(&c.column_type), "nullable": c.nullable, "metadata": {}})
        })
        .collect();
    json!({"type": "struct", "fields": fields})
}

/// The Delta type of a column's physical form.
fn delta_type(column_type: &ColumnType) -> Value {
    use ColumnType as T;
    let name = match column_type {
        T::Boolean => "boolean",
        T::Int8 => "byte",
        T::Int16 | T::UInt8 => "short",
        T::Int32 | T::UInt16 => "integer",
        T::Int64 | T::UInt32 | T::Time => "long",
        T::UInt64 => "decimal(20,0)",
        T::Float32 => "float",
        T::Float64 => "double",
        T::Decimal { precision, scale } => return json!(format!("decimal({precision},{scale})")),
        T::Char { .. } | T::Varchar { .. } | T::Text | T::Json | T::Uuid => "string",
        T::Binary { .. } | T::Varbinary { .. } | T::Blob => "binary",
        T::Date => "date",
        T::Timestamp { zone: true } => "timestamp",
        T::Timestamp { zone: false } => "timestamp_ntz",
        T::List(item) => {
            return json!({"type": "array", "elementType": delta_type(item), "containsNull": true});
        }
    };
    json!(name)
}

/// Whether a column is a timestamp without zone, which readers must know by name.
pub(super) fn holds_time_without_zone(column_type: &ColumnType) -> bool {
    match column_type {
        ColumnType::Timestamp { zone } => !zone,
        ColumnType::List(item) => holds_time_without_zone(item),
        _ => false,
    }
}
