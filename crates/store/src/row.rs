//! Single rows as cells that stay where they were read, for stores and checks that hold rows one by one.

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use keepfast_model::digest::canonical_value;

/// One value, where it stands; none is NULL.
pub(crate) type Cell = Option<(ArrayRef, usize)>;
/// The cells of a row in table order, and those of the hidden exact column last.
pub(crate) type Row = Vec<Cell>;

/// The rows of a batch from a column on; a column beyond the declared ones is the exact column.
pub(crate) fn rows_of(batch: &RecordBatch, from: usize, declared: usize) -> Vec<Row> {
    let columns = &batch.columns()[from..];
    (0..batch.num_rows())
        .map(|i| {
            let mut row: Row =
                columns.iter().map(|a| if a.is_null(i) { None } else { Some((a.clone(), i)) }).collect();
            row.resize(declared + 1, None);
            row
        })
        .collect()
}

/// The canonical bytes of a cell; none for NULL.
pub(crate) fn bytes(cell: &Cell) -> Option<Vec<u8>> {
    let (array, at) = cell.as_ref()?;
    let mut out = vec![];
    // A type without canonical bytes cannot be in a schema; it would compare equal to an empty value.
    canonical_value(array.as_ref(), *at, &mut out).ok();
    Some(out)
}

/// The canonical bytes of a whole row: equal for equal rows, and for no others.
pub(crate) fn canonical(row: &Row) -> Vec<u8> {
    let mut out = vec![];
    for (cell, id) in row.iter().zip(1u32..) {
        if let Some(bytes) = bytes(cell) {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(&bytes);
        }
    }
    out
}

/// Cells of one type as one array.
///
/// # Errors
/// When a cell's array is of another type.
pub(crate) fn column<'a>(
    data_type: &DataType,
    cells: impl Iterator<Item = &'a Cell>,
) -> Result<ArrayRef, ArrowError> {
    let null = new_null_array(data_type, 1);
    let mut arrays: Vec<&dyn Array> = vec![null.as_ref()];
    let mut indices = vec![];
    let mut last: Option<&ArrayRef> = None;
    for cell in cells {
        indices.push(match cell {
            None => (0, 0),
            Some((array, at)) => {
                // Neighbours mostly come from one batch.
                if !last.is_some_and(|last| std::sync::Arc::ptr_eq(last, array)) {
                    arrays.push(array.as_ref());
                    last = Some(array);
                }
                (arrays.len() - 1, *at)
            }
        });
    }
    interleave(&arrays, &indices)
}
