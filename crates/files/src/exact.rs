//! Whether a conversion kept every value, told by converting back.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, TimeUnit};
use keepfast_model::ColumnType;

/// The first row whose value is no longer the same in `physical`, the form of `from` for this type.
pub(crate) fn first_difference(
    from: &ArrayRef,
    physical: &ArrayRef,
    column_type: &ColumnType,
) -> Option<usize> {
    if let ColumnType::List(item) = column_type {
        return first_list_difference(from, physical, item);
    }
    if !may_lose(from.data_type(), &column_type.native()) {
        return None;
    }
    let options = CastOptions { safe: true, ..Default::default() };
    let back = cast(physical, &column_type.native())
        .and_then(|native| cast_with_options(&native, from.data_type(), &options));
    // What cannot be brought back cannot be compared, and counts as lost.
    let Ok(back) = back else { return (0..from.len()).find(|i| from.is_valid(*i)) };
    match distinct(from, &back) {
        Ok(differs) => (0..from.len()).find(|i| from.is_valid(*i) && differs.value(*i)),
        Err(_) => (0..from.len()).find(|i| from.is_valid(*i)),
    }
}

fn first_list_difference(from: &ArrayRef, physical: &ArrayRef, item: &ColumnType) -> Option<usize> {
    let from = match from.data_type() {
        DataType::List(_) => from.clone(),
        DataType::LargeList(f)
        | DataType::FixedSizeList(f, _)
        | DataType::ListView(f)
        | DataType::LargeListView(f) => cast(from, &DataType::List(f.clone())).ok()?,
        _ => return None,
    };
    let (from, to) = (from.as_list::<i32>(), physical.as_list_opt::<i32>()?);
    (0..from.len()).find(|row| {
        from.is_valid(*row) && first_difference(&from.value(*row), &to.value(*row), item).is_some()
    })
}

/// Whether values of one type can change on their way to the other without an error.
fn may_lose(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    let scale = |t: &DataType| match t {
        Decimal32(_, s) | Decimal64(_, s) | Decimal128(_, s) | Decimal256(_, s) => Some(*s),
        _ => None,
    };
    match (from, to) {
        (Float64, Float32) | (Float16 | Float32 | Float64, Decimal128(_, _)) => true,
        (f, Float32 | Float64) => f.is_integer() || scale(f).is_some(),
        (Timestamp(TimeUnit::Nanosecond, _), Timestamp(_, _)) | (Time64(TimeUnit::Nanosecond), Time64(_)) => {
            true
        }
        (Timestamp(_, _) | Date64, Date32) | (Timestamp(_, _), Time64(_)) => true,
        (f, t) => scale(f) > Some(0) && scale(f) > scale(t),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use keepfast_model::{Column, ColumnId, convert};
    use std::sync::Arc;

    fn difference(from: impl Array + 'static, to: &str) -> Option<usize> {
        let from: ArrayRef = Arc::new(from);
        let column = Column {
            id: ColumnId(1),
            name: "c".into(),
            column_type: to.parse().unwrap(),
            nullable: true,
            default: None,
            origin: None,
        };
        let physical = convert::column_to_physical(&column, &from).unwrap();
        first_difference(&from, &physical, &column.column_type)
    }

    #[test]
    fn a_value_that_changes_is_found_in_its_row() {
        let decimals = |v: Vec<i128>| Decimal128Array::from(v).with_precision_and_scale(10, 3).unwrap();
        assert_eq!(difference(decimals(vec![1000, 1001]), "decimal(10,2)"), Some(1));
        assert_eq!(difference(decimals(vec![1000, 1010]), "decimal(10,2)"), None);
        assert_eq!(
            difference(TimestampNanosecondArray::from(vec![Some(1000), None, Some(1001)]), "timestamp"),
            Some(2)
        );
        assert_eq!(difference(Time64NanosecondArray::from(vec![1000, 1]), "time"), Some(1));
        assert_eq!(difference(Time64NanosecondArray::from(vec![1000]), "time"), None);
        assert_eq!(difference(Float64Array::from(vec![0.5, 0.1]), "float32"), Some(1));
        assert_eq!(difference(Float64Array::from(vec![f64::NAN, -0.0, f64::INFINITY]), "float32"), None);
        assert_eq!(difference(Float64Array::from(vec![0.1, 0.125]), "decimal(4,2)"), Some(1));
        assert_eq!(difference(Int64Array::from(vec![1 << 53, (1 << 53) + 1]), "float64"), Some(1));
        assert_eq!(difference(Date64Array::from(vec![86_400_000, 1]), "date"), Some(1));
        assert_eq!(difference(Int64Array::from(vec![1]), "int32"), None);
        let mut lists = ListBuilder::new(Float64Builder::new());
        lists.append_value([Some(0.5), None]);
        lists.append_null();
        lists.append_value([Some(0.1)]);
        assert_eq!(difference(lists.finish(), "list(float32)"), Some(2));
    }
}
