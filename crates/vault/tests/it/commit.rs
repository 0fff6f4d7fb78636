//! Commits race, crash and lose their answers; every point that was reported is there, once.

use crate::common::schedule::{Scheduled, now};
use crate::common::*;
use futures::stream::{FuturesUnordered, StreamExt};
use keepfast_model::{Coded, LogSeq, Record};
use keepfast_objects::{Target, open_target};
use keepfast_vault::{AsOf, CheckOptions, Log, NewObject, Revalidate, Vault, VaultError};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Waker};

fn two_tables() -> [Sample; 2] {
    [sample("orders", &["a", "b"], &[]), sample("items", &["c"], &["d"])]
}

async fn assert_whole(vault: &Vault) {
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole(), "{:?}", report.damage);
}

async fn race(target: Target) {
    const WRITERS: usize = 12;
    const EACH: usize = 4;
    Vault::create(target.clone(), &world(0).options()).await.unwrap();
    let tasks: FuturesUnordered<_> = (0..WRITERS)
        .map(|w| {
            let target = target.clone();
            tokio::spawn(async move {
                let vault = Vault::open(target).await.unwrap();
                let mut mine = vec![];
                for i in 0..EACH {
                    let name = backup(&format!("b{}", w % 3));
                    let texts = format!("{w}-{i}");
                    let seq = back_up(&vault, &name, &format!("run-{w}-{i}"), &[sample("t", &[&texts], &[])])
                        .await
                        .unwrap();
                    mine.push((seq, name, format!("run-{w}-{i}")));
                }
                mine
            })
        })
        .collect();
    let all: Vec<_> = tasks.map(|t| t.unwrap()).collect::<Vec<_>>().await.concat();
    let numbers: BTreeSet<_> = all.iter().map(|(seq, ..)| seq.0).collect();
    assert_eq!(numbers, (1..=(WRITERS * EACH) as u64).collect(), "every number once, without gaps");
    let vault = Vault::open(target).await.unwrap();
    let log = vault.log().await.unwrap();
    for (seq, name, run) in all {
        assert_eq!(log.resolve(&name, AsOf::Point(seq)).unwrap().run.0, run);
    }
    assert_whole(&vault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_points_of_racing_writers_land_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    race(open_target(dir.path().join("vault").to_str().unwrap()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_points_of_racing_writers_land_in_memory() {
    race(open_target("memory:").unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_makers_of_one_vault_all_end_up_in_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let target = open_target(dir.path().join("vault").to_str().unwrap()).unwrap();
    let ids: BTreeSet<_> = (0..8)
        .map(|i| {
            let target = target.clone();
            tokio::spawn(async move {
                let vault = Vault::open_or_create(target).await.unwrap();
                back_up(&vault, &backup(&format!("b{i}")), "run", &two_tables()).await.unwrap();
                (vault.id().clone(), vault.identity_key().to_hex())
            })
        })
        .collect::<FuturesUnordered<_>>()
        .map(|t| t.unwrap())
        .collect()
        .await;
    assert_eq!(ids.len(), 1);
    let vault = Vault::open(target).await.unwrap();
    assert_eq!(vault.log().await.unwrap().backups().len(), 8);
    assert_whole(&vault).await;
}

/// Runs a backup on a store that goes wrong at operation `at`; says whether it was reported done.
async fn faulty_backup(store: Arc<InMemory>, at: u64, fault: Fault) -> (bool, u64) {
    let faulty = Faulty::new(store, at, fault);
    let run = async {
        let vault = Vault::open_with(memory(faulty.clone()), world(2).environment).await?;
        back_up(&vault, &backup("b"), "second", &[sample("orders", &["a", "e"], &["f"])]).await
    };
    let done = run.await.is_ok();
    (done, faulty.operations())
}

#[tokio::test]
async fn a_crash_at_any_operation_of_a_backup_leaves_earlier_points_whole_and_a_rerun_succeeds() {
    let origin = Arc::new(InMemory::new());
    let vault = Vault::create(memory(origin.clone()), &world(1).options()).await.unwrap();
    back_up(&vault, &backup("b"), "first", &two_tables()).await.unwrap();
    let (done, operations) = faulty_backup(fork(&origin), u64::MAX, Fault::DiesBefore).await;
    assert!(done && operations > 10);
    let mut visible_after_crash = 0;
    for fault in [Fault::DiesBefore, Fault::DiesAfter, Fault::LosesAnswer, Fault::LosesAnswerAndRetries] {
        for at in 0..operations {
            let store = fork(&origin);
            let (done, _) = faulty_backup(store.clone(), at, fault).await;
            let vault = Vault::open_with(memory(store.clone()), world(3).environment).await.unwrap();
            let points = vault.points(&backup("b")).await.unwrap();
            assert_eq!(points[0].run.0, "first");
            assert!(points.len() <= 2, "{fault:?} at {at}");
            assert!(!done || points.len() == 2, "{fault:?} at {at}: reported and not visible");
            visible_after_crash += usize::from(!done && points.len() == 2);
            assert_whole(&vault).await;
            back_up(&vault, &backup("b"), "third", &two_tables()).await.unwrap();
            assert_whole(&vault).await;
            let fresh = Vault::open(memory(store)).await.unwrap();
            assert_eq!(fresh.latest(&backup("b")).await.unwrap().run.0, "third");
        }
    }
    assert!(visible_after_crash > 0, "some crashes must come after the commit");
}

#[tokio::test]
async fn a_vault_that_another_makes_and_uses_meanwhile_is_opened() {
    for steps in 0.. {
        let store = Arc::new(InMemory::new());
        let slowly = Target::new(Scheduled::new(store.clone()), Default::default(), "memory:vault");
        let (ours, theirs) = (world(1).options(), world(2).options());
        let mut opening = Box::pin(Vault::open_or_create_with(slowly, &ours));
        let mut context = Context::from_waker(Waker::noop());
        // It has come so far when the other does all of it.
        let done = (0..steps).any(|_| opening.as_mut().poll(&mut context).is_ready());
        if done {
            assert!(steps > 5, "{steps}");
            break;
        }
        let made = Vault::open_or_create_with(memory(store), &theirs).await.unwrap();
        back_up(&made, &backup("b"), "run", &[sample("t", &["1"], &[])]).await.unwrap();
        let opened = now(opening).unwrap_or_else(|e| panic!("{steps} steps: {e}"));
        assert_eq!(opened.id(), made.id(), "{steps} steps");
    }
}

#[tokio::test]
async fn a_crash_at_any_operation_of_making_a_vault_needs_no_manual_step() {
    let count = {
        let faulty = Faulty::new(Arc::new(InMemory::new()), u64::MAX, Fault::DiesBefore);
        Vault::create(memory(faulty.clone()), &world(1).options()).await.unwrap();
        faulty.operations()
    };
    for fault in [Fault::DiesBefore, Fault::DiesAfter, Fault::LosesAnswer, Fault::LosesAnswerAndRetries] {
        for at in 0..count {
            let store = Arc::new(InMemory::new());
            let faulty = Faulty::new(store.clone(), at, fault);
            let first = Vault::create(memory(faulty), &world(1).options()).await;
            let vault = Vault::open_or_create_with(memory(store.clone()), &world(2).options()).await.unwrap();
            if let Ok(first) = first {
                assert_eq!(first.id(), vault.id());
                assert_eq!(first.identity_key(), vault.identity_key());
            }
            back_up(&vault, &backup("b"), "run", &two_tables()).await.unwrap();
            assert_whole(&vault).await;
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_stands_once_and_is_reported() {
    let origin = Arc::new(InMemory::new());
    let vault = Vault::create(memory(origin.clone()), &world(1).options()).await.unwrap();
    back_up(&vault, &backup("b"), "first", &two_tables()).await.unwrap();
    let commit = |store: Arc<dyn ObjectStore>| async move {
        let vault = Vault::open_with(memory(store), world(2).environment).await?;
        vault.hold(&backup("b"), None, None, "test").await
    };
    let counted = Faulty::new(fork(&origin), u64::MAX, Fault::DiesBefore);
    commit(counted.clone()).await.unwrap();
    let mut reported = 0;
    for fault in [Fault::LosesAnswer, Fault::LosesAnswerAndRetries] {
        for at in 0..counted.operations() {
            let store = fork(&origin);
            let done = commit(Faulty::new(store.clone(), at, fault)).await.is_ok();
            let log = Vault::open(memory(store)).await.unwrap().log().await.unwrap();
            assert!(log.holds().count() <= 1, "the record must not stand twice");
            if fault == Fault::LosesAnswerAndRetries {
                assert!(done, "at {at}");
            }
            reported += usize::from(done);
            assert_eq!(log.head().unwrap().0, LogSeq(1 + log.holds().count() as u64));
        }
    }
    assert!(reported > counted.operations() as usize, "the create itself, answered or not, must be reported");
}

#[tokio::test]
async fn a_commit_of_objects_that_are_not_there_is_refused_and_invisible() {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
    let (point, written) = write_point(&vault, &backup("b"), "run", &two_tables()).await.unwrap();
    for (i, object) in written.iter().enumerate() {
        let mut wrong = written.clone();
        wrong[i] = NewObject { bytes: keepfast_model::ByteCount(object.bytes.0 + 1), ..object.clone() };
        let error =
            vault.commit(vec![Record::Point(Box::new(point.clone()))], &wrong, &()).await.unwrap_err();
        assert!(
            matches!(&error, VaultError::Incomplete { path, .. } if path.ends_with(&object.path)),
            "{error}"
        );
    }
    // As many in one folder as make the vault list it.
    let mut many: Vec<_> = (0..200).map(|_| written[0].clone()).collect();
    many.push(NewObject { path: format!("{}x", written[0].path), ..written[0].clone() });
    let error = vault.commit(vec![Record::Point(Box::new(point))], &many, &()).await.unwrap_err();
    assert_eq!(error.code().0, 229);
    assert!(vault.log().await.unwrap().head().is_none());
}

#[tokio::test]
async fn contradictory_records_are_refused() {
    let vault = Vault::create(memory(Arc::new(InMemory::new())), &world(1).options()).await.unwrap();
    let (point, _) = write_point(&vault, &backup("b"), "run", &two_tables()).await.unwrap();
    let refused = |change: fn(&mut keepfast_model::BackupPoint)| {
        let mut point = point.clone();
        change(&mut point);
        vec![Record::Point(Box::new(point))]
    };
    for records in [
        vec![],
        vec![Record::Point(Box::new(point.clone())), Record::Point(Box::new(point.clone()))],
        refused(|p| p.tables.clear()),
        refused(|p| p.tables[0].certificate.rows += 1),
        refused(|p| p.tables[0].base.clear()),
        refused(|p| p.tables[0].base.truncate(0)),
        refused(|p| {
            p.tables[0].digest.rows += 1;
            p.tables[0].certificate.rows += 1;
        }),
        refused(|p| p.tables[1] = p.tables[0].clone()),
    ] {
        let error = vault.commit(records, &[], &()).await.unwrap_err();
        assert!(matches!(error, VaultError::Record { .. }), "{error}");
    }
    assert!(vault.log().await.unwrap().head().is_none());
}

/// Counts how often it was asked, and gives up when a rival has come.
struct GivesUp;

#[async_trait::async_trait]
impl Revalidate for GivesUp {
    async fn revalidate(&self, log: &Log, records: Vec<Record>) -> Result<Vec<Record>, VaultError> {
        match log.head() {
            Some((seq, _)) if seq.0 > 1 => Err(VaultError::Record { reason: "a rival came".into() }),
            _ => Ok(records),
        }
    }
}

#[tokio::test]
async fn records_are_looked_at_again_after_a_rival() {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
    back_up(&vault, &backup("b"), "first", &two_tables()).await.unwrap();
    let rival = Vault::open(memory(store)).await.unwrap();
    let release = |id: &str| vec![Record::Release { id: id.into() }];
    assert_eq!(vault.commit(release("x"), &[], &GivesUp).await.unwrap(), LogSeq(2));
    let error = rival.commit(release("y"), &[], &GivesUp).await.unwrap_err();
    assert!(error.to_string().contains("a rival came"));
    assert_eq!(vault.log().await.unwrap().head().unwrap().0, LogSeq(2));
}

#[tokio::test]
async fn a_place_that_overwrites_is_refused_before_anything_is_kept_there() {
    let store = Arc::new(Overwriting(InMemory::new()));
    let error = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap_err();
    assert_eq!(error.code().0, 207);
    assert!(objects(&store.0).await.is_empty());
}

/// Ignores that it was asked to create only.
#[derive(Debug)]
struct Overwriting(InMemory);

impl std::fmt::Display for Overwriting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Overwriting")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Overwriting {
    async fn put_opts(
        &self,
        location: &object_store::path::Path,
        payload: object_store::PutPayload,
        mut opts: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        opts.mode = object_store::PutMode::Overwrite;
        self.0.put_opts(location, payload, opts).await
    }
    async fn put_multipart_opts(
        &self,
        location: &object_store::path::Path,
        opts: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }
    async fn get_opts(
        &self,
        location: &object_store::path::Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(location, options).await
    }
    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<object_store::path::Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::path::Path>> {
        self.0.delete_stream(locations)
    }
    fn list(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(
        &self,
        from: &object_store::path::Path,
        to: &object_store::path::Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
