//! Equal identity means equal rows in equal order, however they were cut into batches.

mod support;

use arrow::array::RecordBatch;
use keepfast_format::{Encoding, IdentityKey, Protection, SegmentWriter, WriterProfile, with_exact};
use keepfast_model::{ColumnId, ColumnType, Hash256, TableId, TableSchema};
use proptest::prelude::*;
use std::sync::Arc;
use support::*;

fn identity(schema: &TableSchema, batches: Vec<RecordBatch>) -> Hash256 {
    writer(schema, &WriterProfile::choose(schema, &[], 8)).identity(&chunk(schema, batches)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn batches_and_slices_never_matter(
        (schema, rows) in schema_and_rows(0..30),
        cuts in prop::collection::vec(0usize..30, 0..5),
        extra in 1usize..4,
    ) {
        let physical = schema.physical();
        let whole = identity(&schema, vec![batch(&physical, &rows)]);
        prop_assert_eq!(whole, identity(&schema, sliced(&physical, &rows, &cuts)));
        // A slice with other rows before and behind it, which must not show through.
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            let around: Vec<Row> = std::iter::repeat_n(first, extra).chain(&rows).chain([last]).cloned().collect();
            let slice = batch(&physical, &around).slice(extra, rows.len());
            prop_assert_eq!(whole, identity(&schema, vec![slice]));
        }
    }

    #[test]
    fn any_other_rows_have_another_identity(
        (schema, rows) in schema_and_rows(2..20),
        at in 0usize..20,
        column in 0usize..6,
        seed in any::<u64>(),
    ) {
        let physical = schema.physical();
        let of = |rows: &[Row]| identity(&schema, vec![batch(&physical, rows)]);
        let before = of(&rows);
        let (at, column) = (at % rows.len(), column % schema.columns.len());

        let mut runner = proptest::test_runner::TestRunner::new_with_rng(
            ProptestConfig::default(),
            proptest::test_runner::TestRng::from_seed(
                proptest::test_runner::RngAlgorithm::ChaCha,
                &std::array::from_fn::<u8, 32, _>(|i| (seed >> (8 * (i % 8))) as u8),
            ),
        );
        let strategy = value(&schema.columns[column].column_type, schema.columns[column].nullable);
        let other = strategy.new_tree(&mut runner).unwrap().current();
        let mut changed = rows.clone();
        changed[at][column] = other;
        prop_assert_eq!(of(&changed) == before, changed == rows);

        if schema.columns[column].nullable {
            let mut null = rows.clone();
            null[at][column] = Value::Null;
            prop_assert_eq!(of(&null) == before, null == rows);
        }
        let mut turned = rows.clone();
        turned.swap(0, at);
        prop_assert_eq!(of(&turned) == before, turned == rows);
        prop_assert_ne!(of(&rows[1..]), before);
        prop_assert_ne!(of(&[&rows[..], &rows[at..=at]].concat()), before);
    }
}

fn two_texts() -> (TableSchema, Vec<Row>) {
    let schema = schema_of(vec![(ColumnType::Text, true), (ColumnType::Text, true)]);
    let text = |t: &str| Value::Text(t.into());
    (schema, vec![vec![text("ab"), text("c")], vec![text(""), Value::Null]])
}

#[test]
fn bytes_that_move_between_values_rows_and_columns_change_it() {
    let (schema, rows) = two_texts();
    let text = |t: &str| Value::Text(t.into());
    let of = |rows: &[Row]| identity(&schema, vec![batch(&schema.physical(), rows)]);
    let variants = [
        rows.clone(),
        vec![vec![text("a"), text("c")], vec![text("b"), Value::Null]],
        vec![vec![text("a"), text("bc")], vec![text(""), Value::Null]],
        vec![vec![text("c"), text("ab")], vec![Value::Null, text("")]],
        vec![vec![text("ab"), text("c")], vec![Value::Null, text("")]],
        vec![vec![text("ab"), text("c")], vec![text(""), text("")]],
        vec![],
        vec![vec![Value::Null, Value::Null]],
        vec![vec![Value::Null, Value::Null]; 8],
        vec![vec![Value::Null, Value::Null]; 9],
    ];
    for (i, a) in variants.iter().enumerate() {
        for b in &variants[..i] {
            assert_ne!(of(a), of(b), "{a:?} {b:?}");
        }
    }
}

#[test]
fn key_table_schema_profile_and_the_hidden_column_are_part_of_it() {
    let (schema, rows) = two_texts();
    let profile = WriterProfile::choose(&schema, &[], 8);
    let of = |schema: &TableSchema, profile: &WriterProfile, protection: Protection| {
        let writer = SegmentWriter::new(Arc::new(schema.clone()), Arc::new(profile.clone()), protection);
        writer.identity(&chunk(schema, vec![batch(&schema.physical(), &rows)])).unwrap()
    };
    let mut renamed = schema.clone();
    renamed.columns[0].name = "other".into();
    let mut other_id = schema.clone();
    other_id.columns[1].id = ColumnId(7);
    let mut other_profile = profile.clone();
    other_profile.columns[0].encoding = Encoding::Plain;
    let exact: Vec<Row> = rows.iter().map(|r| [r.as_slice(), &[Value::Null]].concat()).collect();
    let exact = batch(&with_exact(&schema.physical()), &exact);
    let identities = [
        of(&schema, &profile, protection()),
        of(&schema, &profile, Protection::plain(protection().table().clone(), IdentityKey::new([8; 32]))),
        of(&schema, &profile, Protection::plain(TableId("other".into()), key())),
        of(&renamed, &profile, protection()),
        of(&other_id, &profile, protection()),
        of(&schema, &other_profile, protection()),
        writer(&schema, &profile).identity(&chunk(&schema, vec![exact])).unwrap(),
    ];
    let distinct: std::collections::HashSet<_> = identities.iter().collect();
    assert_eq!(distinct.len(), identities.len());
}

#[test]
fn it_is_the_hash_that_the_format_page_describes() {
    let (schema, rows) = two_texts();
    let profile = WriterProfile::choose(&schema, &[], 8);
    let mut bytes = b"keepfast segment 1".to_vec();
    let part = |bytes: &mut Vec<u8>, part: &[u8]| {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    };
    part(&mut bytes, b"0123456789abcdef0123456789abcdef");
    part(&mut bytes, b"none");
    part(&mut bytes, b"");
    part(&mut bytes, &serde_json::to_vec(&schema).unwrap());
    bytes.extend(Hash256::of(&serde_json::to_vec(&profile).unwrap()).0);
    bytes.extend(2u64.to_le_bytes());
    bytes.extend([1, 0, 0, 0, 0]);
    part(&mut bytes, &[2, 0, 0, 0, 0, 0, 0, 0]);
    part(&mut bytes, b"ab");
    bytes.extend([2, 0, 0, 0, 1]);
    part(&mut bytes, &[0b01]);
    part(&mut bytes, &[1, 0, 0, 0]);
    part(&mut bytes, b"c");
    let expected = Hash256(*blake3::keyed_hash(&[7; 32], &bytes).as_bytes());
    assert_eq!(identity(&schema, vec![batch(&schema.physical(), &rows)]), expected);
}

#[test]
fn a_key_is_never_shown() {
    let key = IdentityKey::from_hex(&"ab".repeat(32)).unwrap();
    assert_eq!(key.to_hex(), "ab".repeat(32));
    assert!(!format!("{key:?}").contains("ab"));
    assert!(IdentityKey::from_hex("ab").is_none());
}
