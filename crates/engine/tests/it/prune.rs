//! What a prune reports is what it did, not what it had planned.

use crate::harness::Harness;
use keepfast_engine::api::*;
use keepfast_engine::{Engine, NoProgress, Progress, Work};
use keepfast_model::{LogSeq, RetentionPolicy, TableName};
use keepfast_store::awkward::{AwkwardStore, Awkwardness};
use keepfast_store::conformance::Write;
use keepfast_store::sample;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Holds the first point when the plan of a prune is made and nothing is done yet.
#[derive(Debug)]
struct HoldsMeanwhile(Engine);

impl Progress for HoldsMeanwhile {
    fn stage(&self, name: &str, _: Option<Work>) {
        if name == "prune" {
            let engine = self.0.clone();
            let holds = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(engine.hold("b", Some(&AsOf::Point(LogSeq(1))), None, "audit")).unwrap();
            };
            std::thread::spawn(holds).join().unwrap();
        }
    }
    fn advance(&self, _: u64, _: u64) {}
    fn note(&self, _: &str) {}
    fn finish(&self) {}
}

fn segments(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = vec![];
    let mut folders: Vec<_> =
        ["tables", "manifests", "manifests-copy"].map(|kind| folder.join("vault").join(kind)).to_vec();
    while let Some(folder) = folders.pop() {
        // A vault has copies of manifests only where it was asked for them.
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = path.metadata().unwrap().len();
                found.push((path, bytes));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prune_that_a_hold_overtakes_reports_only_what_it_deleted() {
    let store = Arc::new(AwkwardStore::new(Awkwardness::default()));
    let name = TableName::bare("t");
    store.create_table(&name, &sample::plain()).unwrap();
    let harness = Harness::new(store.clone());
    for seed in 1..=3 {
        store.write(&name, &Write::Upsert(sample::rows(&sample::plain(), 0..1000, seed))).unwrap();
        harness.backup(Mode::Full).await.unwrap();
    }
    let folder = harness.folder.path();
    let rival = Harness::engine(store.clone(), folder, Arc::new(NoProgress));
    let engine = Harness::engine(store, folder, Arc::new(HoldsMeanwhile(rival)));
    let before = segments(folder);
    let request = PruneRequest {
        target: Some("b".into()),
        policy: Some(RetentionPolicy { last: 1, ..RetentionPolicy::default() }),
        grace: Some(jiff::SignedDuration::ZERO),
        dry_run: false,
    };
    let report = engine.prune(&request).await.unwrap();
    let numbers = |points: Vec<&keepfast_model::PointId>| points.iter().map(|p| p.seq.0).collect::<Vec<_>>();
    assert_eq!(numbers(report.removed.iter().map(|r| &r.point).collect()), [2]);
    assert_eq!(numbers(report.kept.iter().map(|k| &k.point).collect()), [1, 3]);
    assert_eq!(report.kept[0].holds.len(), 1, "{report:?}");
    let after = segments(folder);
    let gone = before.iter().filter(|object| !after.contains(object));
    let (objects, bytes) = gone.fold((0, 0), |(n, sum), (_, bytes)| (n + 1, sum + bytes));
    assert!(objects > 0);
    assert_eq!((report.deleted.objects, report.deleted.bytes.0), (objects, bytes));
    assert_eq!(report.unneeded, report.deleted);
    let verified = harness.engine.list(None).await.unwrap();
    assert_eq!(verified[0].points, 2);
}
