use super::*;
use arrow::array::*;
use arrow::datatypes::{Int32Type, TimeUnit};
use proptest::prelude::*;

fn column(t: &str, nullable: bool) -> Column {
    Column {
        id: crate::ids::ColumnId(1),
        name: "c".into(),
        column_type: t.parse().unwrap(),
        nullable,
        default: None,
        origin: None,
    }
}

fn take(t: &str, array: impl Array + 'static) -> Result<ArrayRef, String> {
    let array: ArrayRef = Arc::new(array);
    let column = column(t, true);
    let physical = column_to_physical(&column, &array).map_err(|e| e.to_string())?;
    assert_eq!(physical.data_type(), &column.column_type.physical());
    let native = column_to_native(&column, &physical).map_err(|e| e.to_string())?;
    assert_eq!(native.data_type(), &column.column_type.native());
    let again = column_to_physical(&column, &native).map_err(|e| e.to_string())?;
    assert_eq!(&again, &physical, "native form of {t} does not lead back");
    Ok(physical)
}

#[test]
fn unsigned_integers_and_times_take_their_whole_range() {
    let all = take("uint64", UInt64Array::from(vec![Some(0), None, Some(u64::MAX)])).unwrap();
    assert_eq!(all.as_primitive::<Decimal128Type>().value(2), i128::from(u64::MAX));
    take("uint8", UInt8Array::from(vec![0, 255])).unwrap();
    take("uint16", UInt16Array::from(vec![0, 65535])).unwrap();
    take("uint32", UInt32Array::from(vec![0, u32::MAX])).unwrap();
    take("time", Time64MicrosecondArray::from(vec![0, 86_399_999_999])).unwrap();
    let cut = take("time", Time64NanosecondArray::from(vec![1_999])).unwrap();
    assert_eq!(cut.as_primitive::<arrow::datatypes::Int64Type>().value(0), 1);
    take("time", Time32SecondArray::from(vec![3])).unwrap();
}

#[test]
fn a_value_outside_its_type_is_refused_with_column_row_and_value() {
    let refused = |t: &str, a: ArrayRef| {
        column_to_physical(&column(t, true), &a).map(|a| format!("{a:?}")).unwrap_err().to_string()
    };
    for (t, array, row, value) in [
        ("uint8", Arc::new(Int64Array::from(vec![1, 2, 256])) as ArrayRef, 2, "256"),
        ("uint8", Arc::new(Int16Array::from(vec![Some(1), None, Some(-1)])), 2, "-1"),
        ("int8", Arc::new(Int64Array::from(vec![1, 2, 3, 128])), 3, "128"),
        ("uint64", Arc::new(Int64Array::from(vec![-1])), 0, "-1"),
        ("int32", Arc::new(Float64Array::from(vec![1.0, 1.5])), 1, "1.5"),
        ("uint64", Arc::new(Float64Array::from(vec![1.0, f64::NAN])), 1, "NaN"),
        (
            "int64",
            Arc::new(Decimal128Array::from(vec![100, 101]).with_precision_and_scale(5, 2).unwrap()),
            1,
            "1.01",
        ),
        ("varchar(2)", Arc::new(StringArray::from(vec!["äö", "abc"])), 1, "'abc'"),
        ("char(2)", Arc::new(LargeStringArray::from(vec!["ab", "äöü"])), 1, "'äöü'"),
        ("binary(2)", Arc::new(BinaryArray::from_vec(vec![b"ab", b"a"])), 1, "61"),
        ("varbinary(2)", Arc::new(BinaryArray::from_vec(vec![b"ab", b"abc"])), 1, "616263"),
        ("json", Arc::new(StringArray::from(vec!["{}", "{"])), 1, "'{'"),
        ("uuid", Arc::new(StringArray::from(vec!["x"])), 0, "'x'"),
        ("time", Arc::new(Int64Array::from(vec![-1])), 0, "-1"),
        ("decimal(3,1)", Arc::new(Float64Array::from(vec![99.9, 100.0])), 1, "100.0"),
        (
            "decimal(3,1)",
            Arc::new(Decimal128Array::from(vec![1000]).with_precision_and_scale(38, 1).unwrap()),
            0,
            "100.0",
        ),
        (
            "decimal(3,1)",
            Arc::new(Decimal128Array::from(vec![999, 1000]).with_precision_and_scale(3, 1).unwrap()),
            1,
            "100.0",
        ),
    ] {
        let text = refused(t, array);
        assert!(text.contains("column 'c'"), "{text}");
        assert!(text.contains(&format!("row {row}:")), "{t}: {text}");
        assert!(text.contains(value), "{t}: {text}");
    }
    let null = column_to_physical(
        &column("int32", false),
        &(Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef),
    );
    assert!(null.unwrap_err().to_string().contains("row 1: NULL is refused"));
}

#[test]
fn kinds_of_values_that_do_not_belong_together_are_refused() {
    for (t, array) in [
        ("int64", Arc::new(TimestampMicrosecondArray::from(vec![1])) as ArrayRef),
        ("date", Arc::new(Int32Array::from(vec![1]))),
        ("boolean", Arc::new(Int32Array::from(vec![1]))),
        ("int32", Arc::new(BooleanArray::from(vec![true]))),
        ("list(int32)", Arc::new(Int32Array::from(vec![1]))),
        ("int32", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]))),
    ] {
        assert!(column_to_physical(&column(t, true), &array).is_err(), "{t} from {}", array.data_type());
    }
}

#[test]
fn text_comes_in_every_arrow_form() {
    let expected: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
    let values = vec![Some("a"), None, Some("")];
    for array in [
        Arc::new(StringViewArray::from(values.clone())) as ArrayRef,
        Arc::new(LargeStringArray::from(values.clone())),
        Arc::new(values.iter().copied().collect::<DictionaryArray<Int32Type>>()),
    ] {
        assert_eq!(&column_to_physical(&column("varchar(3)", true), &array).unwrap(), &expected);
    }
}

#[test]
fn uuids_come_as_text_in_any_case_and_as_bytes() {
    let text = "01234567-89AB-cdef-0123-456789abcdef";
    let bytes = FixedSizeBinaryArray::try_from_iter(
        [[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]]
            .into_iter(),
    )
    .unwrap();
    let expected: ArrayRef = Arc::new(StringArray::from(vec![text.to_lowercase()]));
    assert_eq!(&take("uuid", StringArray::from(vec![text])).unwrap(), &expected);
    assert_eq!(
        &column_to_physical(&column("uuid", true), &(Arc::new(bytes) as ArrayRef)).unwrap(),
        &expected
    );
}

#[test]
fn lists_are_converted_item_by_item_and_their_unseen_items_ignored() {
    let list = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([
        Some(vec![Some(999)]),
        Some(vec![Some(1), None, Some(255)]),
        None,
        Some(vec![]),
    ]);
    assert!(take("list(uint8)", list.clone()).unwrap_err().contains("999"));
    let rest = take("list(uint8)", list.slice(1, 3)).unwrap();
    assert_eq!(rest.as_list::<i32>().value(0).len(), 3);
    let mut nested = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    nested.values().values().append_value("abc");
    nested.values().append(true);
    nested.append(true);
    take("list(list(varchar(3)))", nested.finish_cloned()).unwrap();
    assert!(take("list(list(varchar(2)))", nested.finish()).unwrap_err().contains("'abc'"));
}

#[test]
fn moments_come_in_every_unit_and_zone() {
    let expected = vec![1_000_000i64];
    for (t, array) in [
        ("timestamp", Arc::new(TimestampNanosecondArray::from(vec![1_000_000_999])) as ArrayRef),
        ("timestamp", Arc::new(TimestampSecondArray::from(vec![1]))),
        ("timestamptz", Arc::new(TimestampMillisecondArray::from(vec![1000]).with_timezone("+02:00"))),
        ("timestamptz", Arc::new(TimestampSecondArray::from(vec![1]))),
    ] {
        let out = column_to_physical(&column(t, true), &array).unwrap();
        assert!(matches!(out.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)));
        assert_eq!(
            out.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().values().to_vec(),
            expected
        );
    }
}

#[test]
fn the_hidden_exact_column_passes_through() {
    let schema = TableSchema::of(vec![("a".into(), ColumnType::UInt8, true)], &[]).unwrap();
    let given = RecordBatch::try_from_iter_with_nullable([
        ("a", Arc::new(UInt8Array::from(vec![1])) as ArrayRef, true),
        (hidden::EXACT, Arc::new(StringViewArray::from(vec![Some("{}")])), true),
    ])
    .unwrap();
    let physical = to_physical(&schema, &given).unwrap();
    assert_eq!(physical.num_columns(), 2);
    assert_eq!(physical.column(1).data_type(), &DataType::Utf8);
    assert_eq!(to_native(&schema, &physical).unwrap().num_columns(), 1);
    let wrong = RecordBatch::try_from_iter([("a", given.column(0).clone()), ("b", given.column(0).clone())]);
    assert!(to_physical(&schema, &wrong.unwrap()).is_err());
}

proptest! {
    #[test]
    fn a_value_that_is_taken_comes_back_as_it_was(
        n in prop::collection::vec(prop::option::of(any::<u64>()), 0..20),
        i in prop::collection::vec(prop::option::of(any::<i32>()), 0..20),
        f in prop::collection::vec(prop::option::of(any::<u64>().prop_map(f64::from_bits)), 0..20),
        t in prop::collection::vec(prop::option::of(".{0,5}"), 0..20),
    ) {
        take("uint64", UInt64Array::from(n)).unwrap();
        take("int32", Int32Array::from(i.clone())).unwrap();
        let wide = take("int64", Int32Array::from(i.clone())).unwrap();
        prop_assert_eq!(wide.len(), i.len());
        let kept = take("float64", Float64Array::from(f.clone())).unwrap();
        for (given, k) in f.iter().zip(kept.as_primitive::<Float64Type>().iter()) {
            prop_assert_eq!(given.map(f64::to_bits), k.map(f64::to_bits));
        }
        let text = take("varchar(5)", StringArray::from(t.clone())).unwrap();
        for (given, k) in t.iter().zip(text.as_string::<i32>().iter()) {
            prop_assert_eq!(given.as_deref(), k);
        }
    }
}
