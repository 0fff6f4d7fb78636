//! Every awkwardness: full, incremental, restore to each point, compact; each equal to what the store held.

use crate::harness::{Harness, said};
use keepfast_engine::EngineError;
use keepfast_engine::api::*;
use keepfast_model::{Exactness, TableName, TableSchema, WriteMode};
use keepfast_store::StoreError;
use keepfast_store::awkward::{AwkwardStore, Awkwardness, Duplicates, Snapshots};
use keepfast_store::conformance::Write;
use keepfast_store::sample;
use std::sync::Arc;

fn made(options: Awkwardness, schema: &TableSchema, rows: usize) -> (Arc<AwkwardStore>, Harness) {
    let store = Arc::new(AwkwardStore::new(options));
    let name = TableName::bare("t");
    store.create_table(&name, schema).unwrap();
    store.write(&name, &Write::Insert(sample::batch(schema, rows, 1))).unwrap();
    let harness = Harness::new(store.clone());
    (store, harness)
}

/// Backs up, changes, backs up again, restores both points, compacts and restores once more.
async fn there_and_back(options: Awkwardness, schema: &TableSchema) -> Vec<WriteMode> {
    let (store, harness) = made(options.clone(), schema, 2000);
    let name = TableName::bare("t");
    let mut points = vec![];
    let mut modes = vec![];
    for round in 0..3u64 {
        if round > 0 {
            if !schema.is_bag() {
                store.write(&name, &Write::Upsert(sample::rows(schema, 100..180, round + 1))).unwrap();
            }
            store
                .write(&name, &Write::Delete(sample::rows(schema, 300 * round..300 * round + 20, 1)))
                .unwrap();
            let next = 2000 + 50 * round;
            store.write(&name, &Write::Insert(sample::rows(schema, next..next + 50, 1))).unwrap();
        }
        let report = harness.backup(Mode::Auto).await.unwrap_or_else(|e| panic!("{options:?}: {e}"));
        let live = harness.live("t").await;
        assert_eq!(report.tables[0].digest, live, "round {round} of {options:?}");
        modes.push(report.tables[0].mode);
        points.push((report.point.to_string(), live));
    }
    for (point, digest) in &points {
        let restored = harness.restore(point, "back").await.unwrap_or_else(|e| panic!("{options:?}: {e}"));
        assert_eq!(restored.tables[0].digest, *digest, "{point} of {options:?}");
        assert_eq!(harness.live("back").await, *digest, "{point} of {options:?}");
    }
    let folded = harness.engine.compact("b").await.unwrap();
    assert_eq!(folded.tables[0].digest, points[2].1);
    harness.restore("b", "folded").await.unwrap();
    assert_eq!(harness.live("folded").await, points[2].1);
    assert_eq!(store.open_cuts(), 0, "cuts were left open: {options:?}");
    modes
}

const FOLLOWED: [WriteMode; 3] = [WriteMode::Full, WriteMode::Incremental, WriteMode::Incremental];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_store_is_followed() {
    assert_eq!(there_and_back(Awkwardness::default(), &sample::plain()).await, FOLLOWED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_patches_and_splits_are_followed() {
    let base = || Awkwardness { shards: 3, ..Awkwardness::default() };
    for options in [
        base(),
        Awkwardness { patches: true, ..base() },
        Awkwardness { splitting: true, ..base() },
        Awkwardness { moving: true, ..base() },
        Awkwardness { unproven: true, ..base() },
    ] {
        assert_eq!(there_and_back(options, &sample::plain()).await, FOLLOWED);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_a_log_or_with_a_purged_one_gives_new_bases() {
    let none = Awkwardness { no_log: true, ..Awkwardness::default() };
    assert_eq!(there_and_back(none, &sample::plain()).await, [WriteMode::Full; 3]);
    let purged = Awkwardness { log_keeps: Some(10), ..Awkwardness::default() };
    assert_eq!(there_and_back(purged, &sample::plain()).await, [WriteMode::Full; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_another_order_are_sorted_on_the_way() {
    let schema = sample::keyed_by(&[keepfast_model::ColumnType::Varchar { length: None }]).unwrap();
    let options = Awkwardness { collated: true, shards: 2, ..Awkwardness::default() };
    assert_eq!(there_and_back(options, &schema).await, FOLLOWED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bags_keep_their_multiplicity() {
    assert_eq!(there_and_back(Awkwardness::default(), &sample::bag()).await, FOLLOWED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_sessions_and_cuts_closed_by_the_log_are_exact() {
    for snapshots in [Snapshots::Session { dies_after: None }, Snapshots::None { closed_by_log: true }] {
        let options = Awkwardness { snapshots, ..Awkwardness::default() };
        assert_eq!(there_and_back(options, &sample::plain()).await, FOLLOWED);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_session_fails_the_backup_and_the_next_one_stands() {
    let options =
        Awkwardness { snapshots: Snapshots::Session { dies_after: Some(1) }, ..Awkwardness::default() };
    let (_, harness) = made(options, &sample::plain(), 40_000);
    let error = said(harness.backup(Mode::Full).await);
    assert!(matches!(error, EngineError::Store(StoreError::CutLost { .. })), "{error}");
    assert_eq!(harness.visible().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fuzzy_cut_is_labelled_so() {
    let options =
        Awkwardness { snapshots: Snapshots::None { closed_by_log: false }, ..Awkwardness::default() };
    let (_, harness) = made(options, &sample::plain(), 500);
    let report = harness.backup(Mode::Full).await.unwrap();
    assert_eq!(report.cut.exactness, Exactness::Fuzzy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_two_shards_is_an_error_that_names_it() {
    for duplicates in [Duplicates::Reported, Duplicates::Unnoticed] {
        let options = Awkwardness { shards: 2, duplicates, ..Awkwardness::default() };
        let (store, harness) = made(options, &sample::plain(), 300);
        let name = TableName::bare("t");
        let row = sample::rows(&sample::plain(), 17..18, 1);
        store.insert_into(&name, 0, &row).ok();
        store.insert_into(&name, 1, &row).ok();
        let error = said(harness.backup(Mode::Full).await);
        assert!(
            matches!(error, EngineError::Store(StoreError::DuplicateKey { .. })),
            "{duplicates:?}: {error}"
        );
        assert_eq!(harness.visible().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_every_type_comes_back_bit_by_bit() {
    let schema = sample::schema_of_all_types();
    let (_, harness) = made(Awkwardness::default(), &schema, 200);
    let report = harness.backup(Mode::Full).await.unwrap();
    assert_eq!(report.tables[0].digest, harness.live("t").await);
    harness.restore("b", "back").await.unwrap();
    assert_eq!(harness.live("back").await, harness.live("t").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wide_and_empty_tables_come_back() {
    for (schema, rows) in [(sample::wide(300), 50), (sample::plain(), 0), (sample::bag(), 0)] {
        let (_, harness) = made(Awkwardness::default(), &schema, rows);
        harness.backup(Mode::Full).await.unwrap();
        harness.restore("b", "back").await.unwrap();
        assert_eq!(harness.live("back").await, harness.live("t").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multi_version_cells_are_followed() {
    let schema = TableSchema::cells();
    let (store, harness) = made(Awkwardness::default(), &schema, 400);
    harness.backup(Mode::Auto).await.unwrap();
    let name = TableName::bare("t");
    store.write(&name, &Write::Insert(sample::rows(&schema, 400..450, 1))).unwrap();
    store
        .delete_cells(&name, keepfast_model::ChangeOp::DeleteVersion, &sample::rows(&schema, 5..25, 1))
        .unwrap();
    store
        .delete_cells(&name, keepfast_model::ChangeOp::DeleteCell, &sample::rows(&schema, 40..60, 1))
        .unwrap();
    store
        .delete_cells(&name, keepfast_model::ChangeOp::DeleteRow, &sample::rows(&schema, 80..90, 1))
        .unwrap();
    let report = harness.backup(Mode::Auto).await.unwrap();
    assert_eq!(report.tables[0].digest, harness.live("t").await);
    assert_eq!(report.tables[0].mode, WriteMode::Incremental);
    harness.restore("b", "back").await.unwrap();
    assert_eq!(harness.live("back").await, harness.live("t").await);
}
