//! A source that loses, doubles, reorders or changes rows never gives a restore point.

use crate::harness::{Harness, said};
use keepfast_engine::api::Mode;
use keepfast_engine::{EngineError, Progress, Work};
use keepfast_model::{ProofKind, TableName};
use keepfast_store::awkward::{AwkwardStore, Awkwardness, Snapshots};
use keepfast_store::conformance::Write;
use keepfast_store::faulty::{Fault, Faulty};
use keepfast_store::sample;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows of the table.
const ROWS: u64 = 3000;

fn store(options: Awkwardness) -> Arc<AwkwardStore> {
    let store = Arc::new(AwkwardStore::new(options));
    let name = TableName::bare("t");
    let schema = sample::plain();
    store.create_table(&name, &schema).unwrap();
    store.write(&name, &Write::Insert(sample::batch(&schema, ROWS as usize, 1))).unwrap();
    store
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::CutFails,
        Fault::CutLost { batches: 1 },
        Fault::ScanFails { partition: 0, batch: 0 },
        Fault::ScanEndsEarly { partition: 0, batch: 0 },
        Fault::RowLost { partition: 0, row: 7 },
        Fault::RowDoubled { partition: 0, row: 7 },
        Fault::RowsSwapped { partition: 0, row: 7 },
        Fault::PartitionForgotten { partition: 0 },
        Fault::PartitionDoubled { partition: 0 },
        Fault::ValueMoved { partition: 0, row: 7 },
        Fault::ValueLost { partition: 0, row: 8 },
        Fault::ProofWrong,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_backup_of_a_lying_source_fails_and_shows_no_point() {
    for fault in faults() {
        let faulty = Arc::new(Faulty::always(store(Awkwardness::default()), [fault.clone()]));
        let harness = Harness::new(faulty.clone());
        let result = harness.backup_certified().await;
        assert!(!faulty.fired().is_empty(), "{fault:?} never happened");
        assert!(result.is_err(), "{fault:?} went unnoticed");
        let error = said(result);
        assert!(
            matches!(
                error,
                EngineError::NotCertified { .. } | EngineError::Store(_) | EngineError::Format(_)
            ),
            "{fault:?} gave {error}"
        );
        assert_eq!(harness.visible().await, 0, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_vanishes_from_the_plan_or_stands_in_it_twice_fails_the_backup() {
    for partition in 0..3 {
        for fault in [Fault::PartitionForgotten { partition }, Fault::PartitionDoubled { partition }] {
            let options = Awkwardness { shards: 3, ..Awkwardness::default() };
            let faulty = Arc::new(Faulty::always(store(options), [fault.clone()]));
            let harness = Harness::new(faulty.clone());
            let error = said(harness.backup(Mode::Full).await);
            assert!(!faulty.fired().is_empty(), "{fault:?} never happened");
            assert!(
                matches!(error, EngineError::NotCertified { .. } | EngineError::Format(_)),
                "{fault:?} gave {error}"
            );
            assert_eq!(harness.visible().await, 0, "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_says_no_more_than_what_the_store_itself_stated() {
    let unproven = Harness::new(store(Awkwardness { unproven: true, ..Awkwardness::default() }));
    assert_eq!(unproven.backup(Mode::Full).await.unwrap().tables[0].certificate.kind, ProofKind::Own);
    let error = said(unproven.backup_certified().await);
    assert!(matches!(error, EngineError::NotCertified { .. }), "{error}");
    assert_eq!(unproven.visible().await, 1);
    let proven = Harness::new(store(Awkwardness::default()));
    let table = proven.backup_certified().await.unwrap().tables.remove(0);
    assert_eq!((table.certificate.kind, table.certificate.content_percent), (ProofKind::Source, 100));
}

fn change(inner: &AwkwardStore) {
    inner.write(&TableName::bare("t"), &Write::Upsert(sample::rows(&sample::plain(), 0..100, 2))).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incremental_backup_that_misses_a_change_does_not_stand_as_one() {
    for fault in [
        Fault::ChangeLost { change: 3 },
        Fault::ChangeValueLost { change: 3 },
        Fault::ChangesEndEarly { batch: 0 },
    ] {
        let inner = store(Awkwardness::default());
        let faulty = Arc::new(Faulty::always(inner.clone(), [fault.clone()]));
        let harness = Harness::new(faulty.clone());
        harness.backup(Mode::Full).await.unwrap();
        change(&inner);
        let error = said(harness.backup(Mode::Incremental).await);
        assert!(matches!(error, EngineError::NotIncremental { .. }), "{fault:?} gave {error}");
        assert_eq!(harness.visible().await, 1, "{fault:?}");
        // The automatic mode writes a new base instead, and that base is the table.
        let report = harness.backup(Mode::Auto).await.unwrap();
        assert_eq!(report.tables[0].digest, harness.live("t").await, "{fault:?}");
        assert_eq!(report.tables[0].mode, keepfast_model::WriteMode::Full, "{fault:?}");
        assert!(!faulty.fired().is_empty(), "{fault:?} never happened");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_comes_twice_counts_once_or_not_at_all() {
    let fault = Fault::ChangeDoubled { change: 3 };
    for schema in [sample::plain(), sample::bag()] {
        let inner = Arc::new(AwkwardStore::new(Awkwardness::default()));
        let name = TableName::bare("t");
        inner.create_table(&name, &schema).unwrap();
        inner.write(&name, &Write::Insert(sample::rows(&schema, 0..1000, 1))).unwrap();
        let faulty = Arc::new(Faulty::always(inner.clone(), [fault.clone()]));
        let harness = Harness::new(faulty.clone());
        harness.backup(Mode::Full).await.unwrap();
        inner.write(&name, &Write::Insert(sample::rows(&schema, 1000..1100, 2))).unwrap();
        match harness.backup(Mode::Incremental).await {
            // A row that is put twice under its key is there once.
            Ok(report) => {
                assert!(!schema.is_bag(), "a row without a key was counted twice");
                assert_eq!(report.tables[0].digest, harness.live("t").await);
                harness.restore("b", "back").await.unwrap();
                assert_eq!(harness.live("back").await, harness.live("t").await);
            }
            Err(error) => {
                assert!(matches!(error, EngineError::NotIncremental { .. }), "{error}");
                assert_eq!(harness.visible().await, 1);
            }
        }
        assert!(!faulty.fired().is_empty(), "{fault:?} never happened");
        let report = harness.backup(Mode::Auto).await.unwrap();
        assert_eq!(report.tables[0].digest, harness.live("t").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_break_off_fail_the_backup_and_the_next_one_stands() {
    let inner = store(Awkwardness::default());
    let faulty = Arc::new(Faulty::once(inner.clone(), [Fault::ChangesFail { batch: 0 }]));
    let harness = Harness::new(faulty.clone());
    harness.backup(Mode::Full).await.unwrap();
    change(&inner);
    let error = said(harness.backup(Mode::Auto).await);
    assert!(matches!(error, EngineError::Store(_)), "{error}");
    assert_eq!((faulty.fired().len(), harness.visible().await), (1, 1));
    let report = harness.backup(Mode::Incremental).await.unwrap();
    assert_eq!(report.tables[0].digest, harness.live("t").await);
}

/// Changes rows when all have been read, before the cut is closed.
#[derive(Debug)]
struct ChangesMeanwhile(Arc<AwkwardStore>, AtomicU64);

impl Progress for ChangesMeanwhile {
    fn stage(&self, _: &str, _: Option<Work>) {}
    fn advance(&self, _: u64, rows: u64) {
        let before = self.1.fetch_add(rows, Ordering::SeqCst);
        if before < ROWS && before + rows >= ROWS {
            change(&self.0);
        }
    }
    fn note(&self, _: &str) {}
    fn finish(&self) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_that_is_closed_with_spoiled_changes_gives_no_point() {
    for fault in [
        Fault::ChangeLost { change: 0 },
        Fault::ChangeValueLost { change: 0 },
        Fault::ChangesEndEarly { batch: 0 },
        Fault::ChangesFail { batch: 0 },
    ] {
        let snapshots = Snapshots::None { closed_by_log: true };
        let inner = store(Awkwardness { snapshots, ..Awkwardness::default() });
        let faulty = Arc::new(Faulty::always(inner.clone(), [fault.clone()]));
        let mut harness = Harness::new(faulty.clone());
        let meanwhile = Arc::new(ChangesMeanwhile(inner, AtomicU64::new(0)));
        harness.engine = Harness::engine(faulty.clone(), harness.folder.path(), meanwhile);
        let result = harness.backup(Mode::Full).await;
        assert!(!faulty.fired().is_empty(), "{fault:?} never happened");
        let error = said(result);
        assert!(
            matches!(error, EngineError::NotCertified { .. } | EngineError::Store(_)),
            "{fault:?} gave {error}"
        );
        assert_eq!(harness.visible().await, 0, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_whose_answer_is_lost_stands_is_reported_and_can_be_undone() {
    let inner = store(Awkwardness::default());
    let faulty = Arc::new(Faulty::once(inner.clone(), [Fault::PublishAnswerLost]));
    let harness = Harness::new(faulty.clone());
    harness.backup(Mode::Full).await.unwrap();
    let before = harness.live("t").await;
    change(&inner);
    let changed = harness.live("t").await;
    let report = harness.restore("b", "t").await.unwrap();
    assert_eq!(faulty.fired(), [Fault::PublishAnswerLost]);
    assert_eq!((report.tables[0].digest, harness.live("t").await), (before, before));
    harness.engine.undo(&report.restore).await.unwrap();
    assert_eq!(harness.live("t").await, changed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_loses_a_loaded_row_publishes_nothing() {
    let inner = store(Awkwardness::default());
    let harness = Harness::new(inner.clone());
    harness.backup(Mode::Full).await.unwrap();
    for fault in [
        Fault::PartFails { part: 0 },
        Fault::PartLosesRow { part: 0, row: 3 },
        Fault::PartDoublesRow { part: 0, row: 3 },
        Fault::FinishFails,
        Fault::PublishFails,
    ] {
        let faulty = Arc::new(Faulty::always(inner.clone(), [fault.clone()]));
        let broken = Harness::in_folder(faulty.clone(), tempfile::TempDir::new().unwrap());
        let vault = harness.folder.path().join("vault");
        let error = said(broken.restore(&format!("{}#b", vault.display()), "back").await);
        assert!(!faulty.fired().is_empty(), "{fault:?} never happened: {error}");
        let tables = harness.store.list_tables(None).await.unwrap();
        assert_eq!(tables, vec![TableName::bare("t")], "{fault:?} left something visible");
    }
    harness.restore("b", "back").await.unwrap();
    assert_eq!(harness.live("back").await, harness.live("t").await);
}
