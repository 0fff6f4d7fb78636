//! Each awkwardness does what it says, through the traits alone.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int8Type, Int32Type, Int64Type};
use futures::StreamExt;
use keepfast_model::change::HIDDEN_COLUMNS;
use keepfast_model::{
    ChangeOp, Column, ColumnId, ColumnType, Cut, Exactness, Partition, TableName, TableSchema, encode_keys,
};
use keepfast_store::awkward::{AwkwardStore, Awkwardness, Duplicates, Snapshots};
use keepfast_store::conformance::{RowSet, Write, collect, read_table};
use keepfast_store::load::LoadTable;
use keepfast_store::{
    CutOptions, LoadMode, LoadOptions, OpenCut, PlanOptions, ScanOptions, Store, StoreError, sample,
};
use std::sync::Arc;

fn name() -> TableName {
    TableName::bare("t")
}

/// A store with table `t` of this schema and rows.
fn store(options: Awkwardness, schema: &TableSchema, rows: &RecordBatch) -> AwkwardStore {
    let store = AwkwardStore::new(options);
    store.create_table(&name(), schema).unwrap();
    store.write(&name(), &Write::Insert(rows.clone())).unwrap();
    store
}

async fn open(store: &AwkwardStore) -> Arc<dyn OpenCut> {
    store.open_cut(&[name()], &CutOptions::default()).await.unwrap()
}

async fn changes(store: &AwkwardStore, from: &Cut) -> Result<Vec<RecordBatch>, StoreError> {
    collect(open(store).await.changes(&name(), &from.positions).await?).await
}

/// Operation, shard and row number of each change.
fn listed(changes: &[RecordBatch]) -> Vec<(ChangeOp, String, i64)> {
    let mut all = vec![];
    for batch in changes {
        for i in 0..batch.num_rows() {
            all.push((
                ChangeOp::from_i8(batch.column(0).as_primitive::<Int8Type>().value(i)).unwrap(),
                batch.column(2).as_string::<i32>().value(i).to_owned(),
                batch.column(1).as_primitive::<Int64Type>().value(i),
            ));
        }
    }
    all
}

/// Old rows with their changes are the new rows.
async fn merges(store: &AwkwardStore, from: &Cut, old: &RowSet) -> Vec<RecordBatch> {
    let changes = changes(store, from).await.unwrap();
    let now = read_table(open(store).await.as_ref(), &name()).await.unwrap();
    let mut merged = old.under(now.schema());
    merged.apply(&changes).unwrap();
    assert_eq!(merged.difference(&now), None);
    changes
}

async fn point(store: &AwkwardStore) -> (Cut, RowSet) {
    let cut = open(store).await;
    let rows = read_table(cut.as_ref(), &name()).await.unwrap();
    (cut.cut(), rows)
}

fn cells(rows: &[(&str, &str, &str, i64)]) -> RecordBatch {
    let blob = |part: fn(&(&str, &str, &str, i64)) -> Vec<u8>| -> ArrayRef {
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(part)))
    };
    let columns = vec![
        blob(|r| r.0.as_bytes().to_vec()),
        blob(|r| r.1.as_bytes().to_vec()),
        blob(|r| r.2.as_bytes().to_vec()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.3))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|_| 4))),
        blob(|r| format!("{}/{}/{}@{}", r.0, r.1, r.2, r.3).into_bytes()),
    ];
    RecordBatch::try_new(TableSchema::cells().physical(), columns).unwrap()
}

fn left(rows: &RowSet) -> Vec<String> {
    let batch = rows.to_batch().unwrap();
    let values = batch.column(5).as_binary::<i32>();
    values.iter().flatten().map(|v| String::from_utf8(v.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn cells_keep_versions_and_four_kinds_of_deletes() {
    let all = cells(&[
        ("r1", "f", "a", 1),
        ("r1", "f", "a", 2),
        ("r1", "f", "a", 3),
        ("r1", "f", "b", 2),
        ("r1", "g", "a", 2),
        ("r2", "f", "a", 1),
        ("r2", "f", "a", 2),
    ]);
    let store = store(Awkwardness { shards: 2, ..Awkwardness::default() }, &TableSchema::cells(), &all);
    let (at, rows) = point(&store).await;
    assert_eq!(rows.len(), 7);
    let delete = |op, row: &[(&str, &str, &str, i64)]| store.delete_cells(&name(), op, &cells(row)).unwrap();

    delete(ChangeOp::DeleteVersion, &[("r2", "f", "a", 1)]);
    assert_eq!(listed(&merges(&store, &at, &rows).await)[0].0, ChangeOp::DeleteVersion);
    assert!(!left(&point(&store).await.1).contains(&"r2/f/a@1".to_owned()));

    delete(ChangeOp::DeleteCell, &[("r1", "f", "a", 2)]);
    merges(&store, &at, &rows).await;
    assert_eq!(left(&point(&store).await.1), ["r1/f/a@3", "r1/f/b@2", "r1/g/a@2", "r2/f/a@2"]);

    delete(ChangeOp::DeleteFamily, &[("r1", "f", "", 2)]);
    merges(&store, &at, &rows).await;
    assert_eq!(left(&point(&store).await.1), ["r1/f/a@3", "r1/g/a@2", "r2/f/a@2"]);

    // A version put after the delete is there, whatever its timestamp.
    store.write(&name(), &Write::Upsert(cells(&[("r1", "f", "b", 1)]))).unwrap();
    delete(ChangeOp::DeleteRow, &[("r2", "", "", i64::MAX)]);
    let changes = merges(&store, &at, &rows).await;
    assert_eq!(left(&point(&store).await.1), ["r1/f/a@3", "r1/f/b@1", "r1/g/a@2"]);
    let row = changes
        .iter()
        .find(|b| b.num_rows() > 0 && listed(&[b.slice(b.num_rows() - 1, 1)])[0].0 == ChangeOp::DeleteRow);
    let row = row.expect("the delete of the row is logged");
    let family = row.column(HIDDEN_COLUMNS + 1).as_binary::<i32>();
    assert_eq!(family.value(row.num_rows() - 1), b"", "what a delete does not name is empty");
}

#[tokio::test]
async fn an_update_is_logged_as_a_patch_of_what_changed() {
    let schema = sample::plain();
    let store = store(
        Awkwardness { patches: true, ..Awkwardness::default() },
        &schema,
        &sample::batch(&schema, 10, 1),
    );
    let (at, rows) = point(&store).await;
    let changed = sample::batch(&schema, 3, 1);
    let mut columns = changed.columns().to_vec();
    columns[2] = Arc::new(Int64Array::from(vec![Some(-5), None, Some(7)]));
    let changed = RecordBatch::try_new(changed.schema(), columns).unwrap();
    store.write(&name(), &Write::Upsert(changed)).unwrap();
    store.patch(&name(), &sample::rows(&schema, 5..6, 9), &[ColumnId(2)]).unwrap();
    let changes = merges(&store, &at, &rows).await;
    assert!(listed(&changes).iter().all(|(op, ..)| *op == ChangeOp::Patch));
    let batch = arrow::compute::concat_batches(&changes[0].schema(), &changes).unwrap();
    let masks = batch.column(5).as_binary::<i32>();
    assert_eq!((0..4).map(|i| masks.value(i)[0]).collect::<Vec<_>>(), [0b100, 0b100, 0b100, 0b010]);
    assert_eq!(batch.column(HIDDEN_COLUMNS + 1).null_count(), 3, "columns outside of the mask are NULL");
}

#[tokio::test]
async fn collated_keys_are_scanned_in_another_order_than_their_bytes() {
    let schema = sample::keyed_by(&[ColumnType::Varchar { length: None }]).unwrap();
    let words = ["b", "A", "a", "C", "B", "c"];
    let rows = RecordBatch::try_new(
        schema.physical(),
        vec![
            Arc::new(StringArray::from_iter_values(words)),
            Arc::new(StringArray::from_iter_values(words)),
            Arc::new(Int64Array::from_iter_values(0..6)),
        ],
    )
    .unwrap();
    let store = store(Awkwardness { collated: true, ..Awkwardness::default() }, &schema, &rows);
    assert!(!store.capabilities().key_order);
    let cut = open(&store).await;
    let plan =
        cut.plan(&name(), &PlanOptions { partitions: 2, bounds: vec![vec![1, b'B', 0, 0]] }).await.unwrap();
    assert!(plan.len() == 2 && plan.iter().all(|p| p.range.is_all()));
    let mut found = vec![];
    for p in &plan {
        for batch in collect(cut.scan(p, &ScanOptions::default()).await.unwrap()).await.unwrap() {
            found.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
        }
    }
    assert_eq!(found, ["A", "a", "B", "b", "C", "c"]);
    let keys = encode_keys(&schema, &rows).unwrap();
    assert!(keys.value(1) < keys.value(0) && keys.value(4) < keys.value(2), "bytes order capitals first");
}

#[tokio::test]
async fn a_key_in_two_shards_is_refused_reported_or_unnoticed() {
    let schema = sample::plain();
    let rows = sample::batch(&schema, 20, 1);
    let with = |duplicates| {
        let s = store(Awkwardness { shards: 2, duplicates, ..Awkwardness::default() }, &schema, &rows);
        let again = sample::rows(&schema, 3..4, 2);
        let into = [0, 1].map(|shard| s.insert_into(&name(), shard, &again));
        (s, into)
    };

    let (_, into) = with(Duplicates::Refused);
    assert!(into.iter().all(|r| matches!(r, Err(StoreError::Row { .. }))));

    let (s, into) = with(Duplicates::Reported);
    assert_eq!(into.iter().filter(|r| r.is_ok()).count(), 1, "one of the shards has it already");
    let cut = open(&s).await;
    let before = s.open_cut(&[name()], &CutOptions::default()).await.unwrap().cut();
    for refused in [
        cut.plan(&name(), &PlanOptions::default()).await.map(|_| ()),
        cut.changes(&name(), &before.positions).await.map(|_| ()),
    ] {
        let Err(StoreError::DuplicateKey { first, second, .. }) = refused else { panic!("{refused:?}") };
        assert_ne!(first, second);
    }

    let (s, _) = with(Duplicates::Unnoticed);
    let found = read_table(open(&s).await.as_ref(), &name()).await.unwrap();
    assert_eq!(found.len(), 21);
    let difference = found.difference(&RowSet::of(&schema, std::slice::from_ref(&rows)).unwrap()).unwrap();
    assert!(difference.contains("stands 2 times"), "{difference}");
}

#[tokio::test]
async fn a_key_put_into_a_second_shard_is_found_when_changes_are_merged() {
    let schema = sample::plain();
    let options = Awkwardness { shards: 2, duplicates: Duplicates::Unnoticed, ..Awkwardness::default() };
    let store = store(options, &schema, &sample::batch(&schema, 20, 1));
    let (at, mut rows) = point(&store).await;
    let again = sample::rows(&schema, 3..4, 2);
    assert!([0, 1].map(|shard| store.insert_into(&name(), shard, &again)).iter().any(Result::is_ok));
    let changes = changes(&store, &at).await.unwrap();
    assert!(matches!(rows.apply(&changes), Err(StoreError::DuplicateKey { .. })));
}

#[tokio::test]
async fn a_row_that_moves_is_deleted_in_one_shard_and_put_into_the_other() {
    let schema = sample::plain();
    let options = Awkwardness { shards: 2, moving: true, ..Awkwardness::default() };
    let store = store(options, &schema, &sample::batch(&schema, 20, 1));
    let (at, rows) = point(&store).await;
    store.write(&name(), &Write::Upsert(sample::rows(&schema, 3..4, 2))).unwrap();
    let changes = merges(&store, &at, &rows).await;
    let mut listed = listed(&changes);
    listed.sort_by_key(|(op, ..)| *op as i8);
    let [(ChangeOp::PutRow, to, _), (ChangeOp::DeleteRow, from, _)] = listed.as_slice() else {
        panic!("{listed:?}")
    };
    assert_ne!(from, to);
    // There and back: its shard is the first one again.
    store.write(&name(), &Write::Upsert(sample::rows(&schema, 3..4, 3))).unwrap();
    merges(&store, &at, &rows).await;
    store.move_rows(&name(), &sample::rows(&schema, 0..10, 1), 0).unwrap();
    merges(&store, &at, &rows).await;
}

#[tokio::test]
async fn shards_that_split_after_the_plan_are_still_covered_exactly() {
    let schema = sample::plain();
    let rows = sample::batch(&schema, 200, 1);
    let store = store(Awkwardness { shards: 2, ..Awkwardness::default() }, &schema, &rows);
    let cut = open(&store).await;
    let plan = cut.plan(&name(), &PlanOptions { partitions: 4, bounds: vec![] }).await.unwrap();
    let mut found = RowSet::new(&schema);
    let options = ScanOptions { batch_rows: 10, ..ScanOptions::default() };
    for p in &plan {
        store.split(&name()).unwrap();
        let mut scan = cut.scan(p, &options).await.unwrap();
        while let Some(batch) = scan.next().await {
            found.add(&p.shard, &batch.unwrap()).unwrap();
            store.split(&name()).unwrap();
        }
    }
    assert_eq!(found.difference(&RowSet::of(&schema, &[rows]).unwrap()), None);
    let after = open(&store).await.plan(&name(), &PlanOptions::default()).await.unwrap();
    assert!(after.len() > plan.len(), "the pieces did split");
    let shards = |plan: &[Partition]| {
        let mut shards: Vec<_> = plan.iter().map(|p| p.shard.clone()).collect();
        shards.dedup();
        shards
    };
    assert_eq!(shards(&after), shards(&plan), "pieces are no shards");
}

#[tokio::test]
async fn a_session_that_dies_loses_the_cut_for_all_partitions() {
    let schema = sample::plain();
    let options = Awkwardness {
        shards: 2,
        snapshots: Snapshots::Session { dies_after: Some(3) },
        ..Awkwardness::default()
    };
    let store = store(options, &schema, &sample::batch(&schema, 200, 1));
    let cut = open(&store).await;
    let plan = cut.plan(&name(), &PlanOptions::default()).await.unwrap();
    let options = ScanOptions { batch_rows: 10, ..ScanOptions::default() };
    let mut first = cut.scan(&plan[0], &options).await.unwrap();
    let mut second = cut.scan(&plan[1], &options).await.unwrap();
    for _ in 0..2 {
        first.next().await.unwrap().unwrap();
    }
    second.next().await.unwrap().unwrap();
    let lost = second.next().await.unwrap();
    assert!(matches!(lost, Err(StoreError::CutLost { .. })), "{lost:?}");
    assert!(matches!(first.next().await.unwrap(), Err(StoreError::CutLost { .. })));
    assert!(matches!(cut.scan(&plan[0], &options).await.err(), Some(StoreError::CutLost { .. })));
    assert!(cut.token().is_none());
    // A new session reads on.
    let again = open(&store).await;
    assert!(again.scan(&plan[0], &options).await.is_ok());
    store.lose_sessions();
    assert!(matches!(again.scan(&plan[0], &options).await.err(), Some(StoreError::CutLost { .. })));
    drop((cut, again, first, second));
    assert_eq!(store.open_cuts(), 0);
}

#[tokio::test]
async fn a_purged_log_gives_no_changes_from_before() {
    let schema = sample::plain();
    let store = store(Awkwardness::default(), &schema, &sample::batch(&schema, 20, 1));
    let (old, _) = point(&store).await;
    store.write(&name(), &Write::Insert(sample::rows(&schema, 20..30, 1))).unwrap();
    let (at, rows) = point(&store).await;
    store.purge_log(&name()).unwrap();
    assert!(matches!(changes(&store, &old).await, Err(StoreError::ChangesGone { .. })));
    // From the moment of the purge on, nothing is missing.
    store.write(&name(), &Write::Delete(sample::rows(&schema, 0..5, 1))).unwrap();
    merges(&store, &at, &rows).await;
}

#[tokio::test]
async fn a_log_that_keeps_few_entries_loses_old_positions() {
    let schema = sample::plain();
    let options = Awkwardness { log_keeps: Some(5), ..Awkwardness::default() };
    let store = store(options, &schema, &sample::batch(&schema, 20, 1));
    let (at, rows) = point(&store).await;
    store.write(&name(), &Write::Upsert(sample::rows(&schema, 0..5, 2))).unwrap();
    merges(&store, &at, &rows).await;
    store.write(&name(), &Write::Upsert(sample::rows(&schema, 0..1, 3))).unwrap();
    assert!(matches!(changes(&store, &at).await, Err(StoreError::ChangesGone { .. })));
}

#[tokio::test]
async fn a_table_made_anew_has_no_changes_from_before() {
    let schema = sample::plain();
    let rows = sample::batch(&schema, 20, 1);
    let store = store(Awkwardness::default(), &schema, &rows);
    let cut = open(&store).await;
    let at = cut.cut();
    store.drop_table(&name()).unwrap();
    store.create_table(&name(), &schema).unwrap();
    assert!(matches!(changes(&store, &at).await, Err(StoreError::ChangesGone { .. })));
    let found = read_table(cut.as_ref(), &name()).await.unwrap();
    assert_eq!(
        found.difference(&RowSet::of(&schema, &[rows]).unwrap()),
        None,
        "open cuts read dropped tables"
    );
}

fn with_column(schema: &TableSchema, nullable: bool) -> TableSchema {
    let mut schema = schema.clone();
    schema.columns.push(Column {
        id: ColumnId(9),
        name: "added".into(),
        column_type: ColumnType::Int32,
        nullable,
        default: None,
        origin: None,
    });
    schema
}

#[tokio::test]
async fn an_added_nullable_column_continues_the_log_in_a_new_epoch() {
    let schema = sample::plain();
    let options = Awkwardness { patches: true, ..Awkwardness::default() };
    let store = store(options, &schema, &sample::batch(&schema, 20, 1));
    let (at, rows) = point(&store).await;
    store.write(&name(), &Write::Upsert(sample::rows(&schema, 0..3, 2))).unwrap();
    let wider = with_column(&schema, true);
    store.alter(&name(), wider.clone()).unwrap();
    store.write(&name(), &Write::Upsert(sample::rows(&wider, 2..5, 3))).unwrap();
    store.patch(&name(), &sample::rows(&wider, 10..11, 3), &[ColumnId(9)]).unwrap();
    let changes = merges(&store, &at, &rows).await;
    let mut epochs: Vec<i32> = vec![];
    for batch in &changes {
        epochs.extend(batch.column(4).as_primitive::<Int32Type>().values());
    }
    assert_eq!(epochs, [0, 0, 0, 1, 1, 1, 1]);
}

#[tokio::test]
async fn any_other_alteration_needs_a_new_base() {
    let schema = sample::plain();
    let mut narrower = schema.clone();
    narrower.columns.remove(2);
    let mut other_type = schema.clone();
    other_type.columns[2].column_type = ColumnType::Int32;
    for altered in [narrower, other_type, with_column(&schema, false)] {
        let store = store(Awkwardness::default(), &schema, &sample::batch(&schema, 20, 1));
        let (before, _) = point(&store).await;
        store.alter(&name(), altered).unwrap();
        assert!(matches!(changes(&store, &before).await, Err(StoreError::SchemaChanged { .. })));
        let after = open(&store).await.cut();
        assert_eq!(changes(&store, &after).await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn a_cut_taken_before_an_alteration_keeps_its_columns() {
    let schema = sample::plain();
    let rows = sample::batch(&schema, 20, 1);
    let store = store(Awkwardness::default(), &schema, &rows);
    let cut = open(&store).await;
    store.alter(&name(), with_column(&schema, true)).unwrap();
    let found = read_table(cut.as_ref(), &name()).await.unwrap();
    assert_eq!(found.schema().columns.len(), 3);
    assert_eq!(found.difference(&RowSet::of(&schema, &[rows]).unwrap()), None);
    assert_eq!(read_table(open(&store).await.as_ref(), &name()).await.unwrap().schema().columns.len(), 4);
}

#[tokio::test]
async fn a_fuzzy_cut_is_refused_unless_allowed_and_says_what_it_is() {
    let schema = sample::plain();
    let options =
        Awkwardness { snapshots: Snapshots::None { closed_by_log: false }, ..Awkwardness::default() };
    let store = store(options, &schema, &sample::batch(&schema, 100, 1));
    let refused = store.open_cut(&[name()], &CutOptions::default()).await;
    assert!(matches!(refused, Err(StoreError::Unsupported { .. })));
    let cut = store.open_cut(&[name()], &CutOptions { allow_fuzzy: true }).await.unwrap();
    assert_eq!(cut.cut().exactness, Exactness::Fuzzy);
    assert!(!cut.needs_closing() && cut.closing_changes(&name()).await.unwrap().is_none());
    // It is fuzzy indeed: rows removed beside the scan are missing.
    let plan = cut.plan(&name(), &PlanOptions::default()).await.unwrap();
    let mut scan = cut.scan(&plan[0], &ScanOptions { batch_rows: 10, columns: None }).await.unwrap();
    let mut rows = scan.next().await.unwrap().unwrap().num_rows();
    store.write(&name(), &Write::Delete(sample::batch(&schema, 100, 1))).unwrap();
    while let Some(batch) = scan.next().await {
        rows += batch.unwrap().num_rows();
    }
    assert_eq!(rows, 10);
}

fn closed_by_log() -> Awkwardness {
    Awkwardness {
        shards: 2,
        moving: true,
        patches: true,
        snapshots: Snapshots::None { closed_by_log: true },
        ..Awkwardness::default()
    }
}

#[tokio::test]
async fn a_cut_without_snapshot_is_exact_once_the_log_closes_it() {
    let schema = sample::plain();
    let mut expected = RowSet::of(&schema, &[sample::batch(&schema, 100, 1)]).unwrap();
    let store = store(closed_by_log(), &schema, &sample::batch(&schema, 100, 1));
    let cut = open(&store).await;
    assert!(cut.needs_closing());
    assert_eq!(cut.cut().exactness, Exactness::Fuzzy);
    let plan = cut.plan(&name(), &PlanOptions::default()).await.unwrap();
    let mut scanned = RowSet::new(&schema);
    let options = ScanOptions { batch_rows: 10, columns: None };
    let mut round = 0;
    for p in &plan {
        let mut scan = cut.scan(p, &options).await.unwrap();
        while let Some(batch) = scan.next().await {
            scanned.add(&p.shard, &batch.unwrap()).unwrap();
            // Between any two batches rows move, come and go.
            round += 1;
            let update = sample::rows(&schema, 0..60, round);
            let removed = sample::rows(&schema, 60 + round..61 + round, 1);
            let added = sample::rows(&schema, 200 + round..201 + round, 1);
            expected.upsert(&update).unwrap();
            expected.delete(&removed).unwrap();
            expected.upsert(&added).unwrap();
            store.write(&name(), &Write::Upsert(update)).unwrap();
            store.write(&name(), &Write::Delete(removed)).unwrap();
            store.write(&name(), &Write::Insert(added)).unwrap();
        }
    }
    assert!(scanned.difference(&expected).is_some(), "the scan alone is no moment");
    let closing = collect(cut.closing_changes(&name()).await.unwrap().unwrap()).await.unwrap();
    scanned.apply(&closing).unwrap();
    assert_eq!(scanned.difference(&expected), None);
    let at = cut.cut();
    assert_eq!(at.exactness, Exactness::Exact);
    let proof = cut
        .prove(&name(), &keepfast_store::ProofRequest { full: true, ranges: vec![] })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(proof.ranges[0].digest, scanned.digest().unwrap());

    // The moment is fixed: later writes are not in it, and are in the changes after it.
    store.write(&name(), &Write::Delete(sample::rows(&schema, 0..60, 1))).unwrap();
    let again = collect(cut.closing_changes(&name()).await.unwrap().unwrap()).await.unwrap();
    assert_eq!(listed(&again), listed(&closing));
    assert!(matches!(cut.scan(&plan[0], &options).await.err(), Some(StoreError::CutLost { .. })));
    merges(&store, &at, &scanned).await;
}

#[tokio::test]
async fn a_cut_cannot_be_closed_over_an_alteration_or_a_purge() {
    let schema = sample::plain();
    let fresh = || store(closed_by_log(), &schema, &sample::batch(&schema, 10, 1));
    let altered = fresh();
    let cut = open(&altered).await;
    altered.alter(&name(), with_column(&schema, true)).unwrap();
    assert!(matches!(cut.closing_changes(&name()).await.err(), Some(StoreError::SchemaChanged { .. })));
    let purged = fresh();
    let cut = open(&purged).await;
    purged.write(&name(), &Write::Insert(sample::rows(&schema, 50..60, 1))).unwrap();
    purged.purge_log(&name()).unwrap();
    assert!(matches!(cut.closing_changes(&name()).await.err(), Some(StoreError::ChangesGone { .. })));
}

#[tokio::test]
async fn changes_of_a_bag_are_counts() {
    let schema = sample::bag();
    let rows = sample::batch(&schema, 100, 1);
    let store = store(Awkwardness { shards: 2, ..Awkwardness::default() }, &schema, &rows);
    let (at, before) = point(&store).await;
    store.write(&name(), &Write::Insert(sample::rows(&schema, 0..10, 1))).unwrap();
    store.write(&name(), &Write::Delete(sample::rows(&schema, 5..6, 1))).unwrap();
    let changes = merges(&store, &at, &before).await;
    assert!(listed(&changes).iter().all(|(op, ..)| *op == ChangeOp::Count));
    let total: i64 =
        changes.iter().map(|b| b.column(6).as_primitive::<Int64Type>().values().iter().sum::<i64>()).sum();
    assert_eq!(total, 10 - 3, "two equal rows and the one added are removed together");
}

async fn load(store: &AwkwardStore, mode: LoadMode, rows: RecordBatch) -> Arc<dyn keepfast_store::Load> {
    let schema = sample::plain();
    let table = LoadTable {
        target: name(),
        schema,
        dependents: vec![],
        mode,
        segment_rows: None,
        replaced_tag: "1".into(),
        shard_rule: None,
    };
    let options = LoadOptions { run: keepfast_model::RunId("r".into()), tables: vec![table] };
    let load = store.begin_load(options).await.unwrap();
    let part = load.write_part(&name(), 0, sample::stream(vec![rows])).await.unwrap();
    load.finish(vec![(name(), vec![part])]).await.unwrap();
    load
}

#[tokio::test]
async fn undo_keeps_what_was_written_since_the_publication() {
    let schema = sample::plain();
    let old = sample::batch(&schema, 10, 1);
    let store = store(Awkwardness::default(), &schema, &old);
    let published =
        load(&store, LoadMode::Replace, sample::batch(&schema, 5, 2)).await.publish().await.unwrap();
    store.write(&name(), &Write::Insert(sample::rows(&schema, 50..60, 3))).unwrap();
    store.undo(&published.undo).await.unwrap();
    let tables = store.list_tables(None).await.unwrap();
    let kept = tables.iter().find(|t| t.table.starts_with("t__undone_")).expect("the written table is kept");
    assert_eq!(store.describe(kept).await.unwrap().rows, 15);
    assert_eq!(store.describe(&name()).await.unwrap().rows, 10);
}

#[tokio::test]
async fn a_merge_with_a_table_that_was_written_meanwhile_is_a_conflict() {
    let schema = sample::plain();
    let store = store(Awkwardness::default(), &schema, &sample::batch(&schema, 10, 1));
    let load = load(&store, LoadMode::Merge, sample::rows(&schema, 5..15, 2)).await;
    store.write(&name(), &Write::Delete(sample::rows(&schema, 0..1, 1))).unwrap();
    assert!(matches!(load.publish().await, Err(StoreError::Conflict { .. })));
    assert_eq!(store.describe(&name()).await.unwrap().rows, 9);
}

#[tokio::test]
async fn a_load_with_a_key_twice_is_refused() {
    let schema = sample::plain();
    let store = AwkwardStore::new(Awkwardness::default());
    let table = LoadTable {
        target: name(),
        schema: schema.clone(),
        dependents: vec![],
        mode: LoadMode::Create,
        segment_rows: None,
        replaced_tag: "1".into(),
        shard_rule: None,
    };
    let options = LoadOptions { run: keepfast_model::RunId("r".into()), tables: vec![table] };
    let load = store.begin_load(options).await.unwrap();
    let mut parts = vec![];
    for part in 0..2 {
        parts.push(
            load.write_part(&name(), part, sample::stream(vec![sample::batch(&schema, 3, 1)])).await.unwrap(),
        );
    }
    assert!(matches!(load.finish(vec![(name(), parts)]).await, Err(StoreError::Row { .. })));
}

#[tokio::test]
async fn what_a_physical_type_cannot_hold_travels_in_the_exact_column() {
    use arrow::datatypes::{DataType, Field, Schema};
    let schema = sample::plain();
    let with_exact = |rows: &RecordBatch, exact: &[Option<&str>]| {
        let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(keepfast_model::hidden::EXACT, DataType::Utf8, true)));
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(StringArray::from(exact.to_vec())));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    };
    let rows = with_exact(&sample::batch(&schema, 3, 1), &[None, Some("{\"2\":\"0000-00-00\"}"), None]);
    let store = store(Awkwardness::default(), &schema, &rows);
    let (at, before) = point(&store).await;
    assert_eq!(before.difference(&RowSet::of(&schema, std::slice::from_ref(&rows)).unwrap()), None);
    assert!(before.difference(&RowSet::of(&schema, &[sample::batch(&schema, 3, 1)]).unwrap()).is_some());
    let update = with_exact(&sample::rows(&schema, 0..1, 2), &[Some("{\"3\":\"1e400\"}")]);
    store.write(&name(), &Write::Upsert(update)).unwrap();
    merges(&store, &at, &before).await;
    let loaded = load(&store, LoadMode::Replace, rows.clone()).await;
    let found = read_table(loaded.open_cut().await.unwrap().as_ref(), &name()).await.unwrap();
    assert_eq!(found.difference(&before), None);
}
