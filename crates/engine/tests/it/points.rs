//! Selections, points in time, undo, verification and difference.

use crate::harness::{Harness, said};
use keepfast_engine::EngineError;
use keepfast_engine::api::*;
use keepfast_model::{Selection, TableName, WriteMode};
use keepfast_store::awkward::{AwkwardStore, Awkwardness};
use keepfast_store::conformance::Write;
use keepfast_store::sample;
use std::sync::Arc;

fn made() -> (Arc<AwkwardStore>, Harness) {
    let store = Arc::new(AwkwardStore::new(Awkwardness::default()));
    let name = TableName::bare("t");
    store.create_table(&name, &sample::plain()).unwrap();
    store.write(&name, &Write::Insert(sample::batch(&sample::plain(), 1000, 1))).unwrap();
    let harness = Harness::new(store.clone());
    (store, harness)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_leaves_the_condition_is_gone_from_the_next_point() {
    let (store, harness) = made();
    let selection = Selection { columns: None, filter: Some("amount > 0".into()) };
    let first = harness.backup_of(Mode::Auto, selection.clone()).await.unwrap();
    assert!(first.tables[0].rows < 1000 && first.tables[0].rows > 0);
    let name = TableName::bare("t");
    store.write(&name, &Write::Upsert(sample::rows(&sample::plain(), 0..500, 9))).unwrap();
    let followed = harness.backup_of(Mode::Auto, selection.clone()).await.unwrap();
    assert_eq!(followed.tables[0].mode, WriteMode::Incremental);
    let anew = harness.backup_of(Mode::Full, selection).await.unwrap();
    assert_eq!(followed.tables[0].digest, anew.tables[0].digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undo_brings_the_replaced_table_back_once() {
    let (store, harness) = made();
    harness.backup(Mode::Full).await.unwrap();
    let name = TableName::bare("t");
    store.write(&name, &Write::Delete(sample::rows(&sample::plain(), 0..900, 1))).unwrap();
    let broken = harness.live("t").await;
    let restored = harness.restore("b", "t").await.unwrap();
    assert_eq!(harness.live("t").await.rows, 1000);
    harness.engine.undo(&restored.restore).await.unwrap();
    assert_eq!(harness.live("t").await, broken);
    let error = said(harness.engine.undo(&restored.restore).await);
    assert!(matches!(error, EngineError::Unknown { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verification_and_difference_name_what_changed() {
    let (store, harness) = made();
    harness.backup(Mode::Full).await.unwrap();
    let verify = |level| VerifyRequest {
        backup: "b".into(),
        as_of: AsOf::Latest,
        level,
        against: None,
        expect: None,
        repair: false,
        repair_from: None,
        accept_head: false,
        limit: 5,
    };
    for level in [Level::Checksum, Level::Compare, Level::Content] {
        assert!(harness.engine.verify(&verify(level)).await.unwrap().ok, "{level:?}");
    }
    let name = TableName::bare("t");
    store.write(&name, &Write::Delete(sample::rows(&sample::plain(), 3..4, 1))).unwrap();
    assert!(!harness.engine.verify(&verify(Level::Compare)).await.unwrap().ok);
    let report = harness.engine.verify(&verify(Level::Content)).await.unwrap();
    let differences = report.tables[0].differences.as_ref().unwrap();
    assert_eq!(
        (differences.only_left, differences.only_right, differences.changed, differences.same),
        (1, 0, 0, 999)
    );
    assert!(differences.rows[0].key.starts_with("id = "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_backup_to_two_vaults_gives_a_result_for_each() {
    let (_, harness) = made();
    let good = harness.folder.path().join("second");
    let file = harness.folder.path().join("a-file");
    std::fs::write(&file, "not a folder").unwrap();
    let request = BackupRequest {
        tables: TableSet::Tables(vec![TableName::bare("t")]),
        to: vec!["b".into(), format!("{}#b", good.display()), format!("{}#b", file.display())],
        selection: Selection::default(),
        mode: Mode::Auto,
        until: None,
        certify: Certify::Full,
        encrypt: None,
        segment_rows: None,
        parity: None,
        require: None,
        retain: RetainTerms::default(),
    };
    let outcome = harness.engine.backup(&request).await.unwrap();
    assert_eq!(outcome.reports.len(), 2);
    assert_eq!(outcome.reports[0].tables[0].digest, outcome.reports[1].tables[0].digest);
    assert_eq!(outcome.failed.len(), 1);
    assert_eq!(outcome.failed[0].0, format!("{}#b", file.display()));
}
