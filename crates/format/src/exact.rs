//! The JSON of the hidden column `__keepfast_exact`.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Exact text by column id.
pub(crate) type Values = BTreeMap<u32, String>;

/// None when the text is not such JSON.
pub(crate) fn read(column: Option<&ArrayRef>, row: usize) -> Option<Values> {
    match column {
        Some(column) if column.is_valid(row) => {
            serde_json::from_str(column.as_string::<i32>().value(row)).ok()
        }
        _ => Some(Values::new()),
    }
}

pub(crate) fn write(values: &Values) -> Option<String> {
    let json = || serde_json::to_string(values).expect("numbers and text have a JSON form");
    (!values.is_empty()).then(json)
}

/// The column without the values of these columns; none when its text is not such JSON.
pub(crate) fn without(column: &ArrayRef, ids: &[u32]) -> Option<ArrayRef> {
    let mut left: Vec<Option<String>> = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        let mut values = read(Some(column), row)?;
        values.retain(|id, _| !ids.contains(id));
        left.push(write(&values));
    }
    Some(Arc::new(StringArray::from(left)))
}
