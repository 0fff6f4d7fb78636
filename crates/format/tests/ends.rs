//! Segments end where the rows say so, not where batches do, and small changes stay small.

mod support;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use keepfast_format::{Chunk, FormatError, Splitter, WriterProfile};
use keepfast_model::{ColumnType, Digest, Hash256, RowHasher, TableSchema, encode_keys};
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;
use support::*;

fn schema() -> TableSchema {
    TableSchema::of(
        vec![("id".into(), ColumnType::Int64, false), ("note".into(), ColumnType::Text, false)],
        &["id"],
    )
    .unwrap()
}

fn rows(ids: &[i64]) -> RecordBatch {
    let notes = StringArray::from_iter_values(ids.iter().map(|i| format!("note {i}")));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(notes)];
    RecordBatch::try_new(schema().physical(), columns).unwrap()
}

fn split(target: u32, batches: Vec<RecordBatch>) -> Vec<Chunk> {
    let mut splitter = Splitter::new(Arc::new(schema()), target);
    let mut chunks = Vec::new();
    for batch in batches {
        chunks.extend(splitter.push(batch).unwrap());
    }
    chunks.extend(splitter.finish().unwrap());
    assert!(splitter.finish().unwrap().is_none());
    chunks
}

fn ids(chunk: &Chunk) -> Vec<i64> {
    chunk.batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn identities(target: u32, ids: &[i64]) -> Vec<Hash256> {
    let writer = writer(&schema(), &WriterProfile::choose(&schema(), &[], target));
    split(target, vec![rows(ids)]).iter().map(|c| writer.identity(c).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn batches_never_matter_and_no_row_is_lost(
        steps in prop::collection::vec(1i64..4, 0..300),
        cuts in prop::collection::vec(0usize..300, 0..9),
        power in 0u32..6,
    ) {
        let all: Vec<i64> = steps.iter().scan(0, |at, s| { *at += s; Some(*at) }).collect();
        let whole = rows(&all);
        let once = split(1 << power, vec![whole.clone()]);
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (all.len() + 1)).chain([0, all.len()]).collect();
        cuts.sort_unstable();
        let often = split(1 << power, cuts.windows(2).map(|w| whole.slice(w[0], w[1] - w[0])).collect());

        let summary = |chunks: &[Chunk]| -> Vec<_> {
            chunks.iter().map(|c| (ids(c), c.rows, c.digest, c.min.clone(), c.max.clone())).collect()
        };
        prop_assert_eq!(summary(&once), summary(&often));
        prop_assert_eq!(once.iter().flat_map(ids).collect::<Vec<_>>(), all);

        let hasher = RowHasher::new(&schema());
        let hashes = hasher.hash(&whole).unwrap();
        let mut at = 0;
        for (i, chunk) in once.iter().enumerate() {
            let n = chunk.rows as usize;
            let mut digest = Digest::default();
            digest.add_rows(&hashes.rows[at..at + n]);
            prop_assert_eq!(chunk.digest, digest);
            let keys = encode_keys(&schema(), &whole.slice(at, n)).unwrap();
            prop_assert_eq!(&chunk.min.as_ref().unwrap().0, keys.value(0));
            prop_assert_eq!(&chunk.max.as_ref().unwrap().0, keys.value(n - 1));
            let ends = |row: usize| power == 0 || hashes.keys[row] >> (64 - power) == 0;
            prop_assert!((at..at + n - 1).all(|row| !ends(row)), "an end inside a segment");
            prop_assert!(i + 1 == once.len() || ends(at + n - 1) || n == 8 << power);
            prop_assert!(n <= 8 << power);
            at += n;
        }
    }

    #[test]
    fn one_inserted_deleted_or_changed_row_touches_at_most_two_segments(
        at in 0usize..20_000, power in 5u32..9, what in 0u8..2,
    ) {
        let all: Vec<i64> = (0..20_000).map(|i| i * 2).collect();
        let before: HashSet<Hash256> = identities(1 << power, &all).into_iter().collect();
        let mut changed = all.clone();
        if what == 0 { changed.insert(at + 1, all[at] + 1); } else { changed.remove(at); }
        let after = identities(1 << power, &changed);
        let new = after.iter().filter(|id| !before.contains(id)).count();
        // One, or two where the inserted row ends a segment; a run without an end of its own may shift, until the next end.
        prop_assert!(new <= 3, "{} of {} segments are new", new, after.len());
        prop_assert!(what == 1 || new >= 1);
    }
}

#[test]
fn a_segment_ends_before_the_row_that_would_take_it_over_the_byte_limit() {
    let mib = |n: usize| "x".repeat(n << 20);
    let sizes = [10, 10, 10, 10, 40, 1, 31, 1];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..8)),
        Arc::new(StringArray::from_iter_values(sizes.iter().map(|n| mib(*n)))),
    ];
    let whole = RecordBatch::try_new(schema().physical(), columns).unwrap();
    let once = split(1 << 20, vec![whole.clone()]);
    let often = split(1 << 20, (0..8).map(|i| whole.slice(i, 1)).collect());
    let expected = [vec![0, 1, 2], vec![3], vec![4], vec![5], vec![6], vec![7]];
    // 1 MiB and 31 MiB make 32 MiB and their two ids.
    assert_eq!(once.iter().map(ids).collect::<Vec<_>>(), expected);
    assert_eq!(often.iter().map(ids).collect::<Vec<_>>(), expected);
}

#[test]
fn rows_out_of_order_and_keys_that_stand_twice_are_refused_with_the_keys() {
    let push = |batches: &[&[i64]]| {
        let mut splitter = Splitter::new(Arc::new(schema()), 8);
        batches.iter().try_for_each(|ids| splitter.push(rows(ids)).map(|_| ()))
    };
    let key = |id: i64| encode_keys(&schema(), &rows(&[id])).unwrap().value(0).to_vec();
    for wrong in [vec![&[1i64, 3, 2][..]], vec![&[1, 3], &[2]]] {
        let Err(FormatError::Order { first, second, .. }) = push(&wrong) else { panic!("{wrong:?}") };
        assert_eq!((first.0, second.0), (key(3), key(2)));
    }
    for wrong in [vec![&[1i64, 3, 3][..]], vec![&[1, 3], &[3]]] {
        let Err(FormatError::DuplicateKey { key: found, .. }) = push(&wrong) else { panic!("{wrong:?}") };
        assert_eq!(found.0, key(3));
    }
    assert!(push(&[&[-3, 0], &[], &[1]]).is_ok());

    let mut unordered = Splitter::new(Arc::new(schema()), 8).unordered();
    unordered.push(rows(&[3, 1, 2])).unwrap();
    let chunk = unordered.finish().unwrap().unwrap();
    assert_eq!((chunk.rows, chunk.min, chunk.max), (3, None, None));
}

#[test]
fn a_bag_has_no_keys_and_equal_rows_stay() {
    let bag = TableSchema { key: vec![], ..schema() };
    let mut splitter = Splitter::new(Arc::new(bag), 4);
    let mut chunks = splitter.push(rows(&[5; 100])).unwrap();
    chunks.extend(splitter.finish().unwrap());
    assert_eq!(chunks.iter().map(|c| c.rows).sum::<u64>(), 100);
    assert!(chunks.iter().all(|c| c.min.is_none() && c.max.is_none()));
}

#[test]
fn a_splitter_can_begin_anew_after_it_finished() {
    let mut splitter = Splitter::new(Arc::new(schema()), 1 << 10);
    splitter.push(rows(&[5, 6])).unwrap();
    assert_eq!(ids(&splitter.finish().unwrap().unwrap()), [5, 6]);
    splitter.push(rows(&[1])).unwrap();
    assert_eq!(ids(&splitter.finish().unwrap().unwrap()), [1]);
}

#[test]
fn many_small_batches_become_one() {
    let chunks = split(1 << 14, (0..2_000).map(|i| rows(&[i])).collect());
    assert!(chunks.iter().all(|c| c.batches.len() == 1));
    assert_eq!(chunks.iter().flat_map(ids).collect::<Vec<_>>(), (0..2_000).collect::<Vec<_>>());
}
