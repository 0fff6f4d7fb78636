//! Locks in a bucket in memory, by a clock that jumps over weeks: what points say is locked is locked.

use crate::common::*;
use jiff::{SignedDuration, Timestamp};
use keepfast_keys::Credentials;
use keepfast_model::{
    BackupName, Coded, Encryption, LockMode, LogSeq, RetentionPolicy, Selection, TableName,
};
use keepfast_objects::Target;
use keepfast_objects::bucket::Bucket;
use keepfast_vault::{CreateOptions, Environment, PruneOptions, Retain, Vault, VaultError, layout};
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use std::collections::BTreeSet;
use std::sync::Arc;

const PHRASE: &str = "the passphrase of the vault";

fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

fn compliance(n: i64) -> Retain {
    Retain::For { time: days(n), mode: LockMode::Compliance }
}

fn with_key(environment: &Environment) -> Environment {
    Environment { credentials: Credentials::passphrase(PHRASE), ..environment.clone() }
}

async fn create(target: Target, world: &World) -> Vault {
    let options = CreateOptions { environment: with_key(&world.environment), ..CreateOptions::default() };
    Vault::create(target, &options).await.unwrap()
}

/// Everything that a point needs, and the log before it.
async fn needs(vault: &Vault, seq: LogSeq) -> BTreeSet<String> {
    let log = vault.log().await.unwrap();
    let point = log.all_points().find(|p| p.seq() == seq).unwrap();
    let mut names = BTreeSet::from([layout::MARKER.to_owned()]);
    for line in log.lines().filter(|line| line.seq < seq) {
        names.extend([layout::log_record(line.seq), layout::log_copy(line.seq)]);
    }
    for table in &point.tables {
        let manifests = vault.read_manifests(table).await.unwrap();
        let references = table.base.iter().chain(table.changes.iter().map(|c| &c.manifest));
        names.extend(references.map(|m| layout::manifest(m.id)));
        for manifest in manifests.base.iter().chain(&manifests.changes) {
            names.extend(manifest.segments.iter().map(|e| layout::file(manifest.kind, &table.id, e)));
        }
    }
    names
}

async fn assert_locked(target: &Target, name: &str, mode: LockMode, until: Timestamp, when: &str) {
    let lock = target.locked(name).await.unwrap_or_else(|e| panic!("{when}: {e}"));
    let holds = lock.is_some_and(|(has, end)| has.is_as_firm_as(mode) && end >= until);
    assert!(holds, "{when}: {name} is to be locked until {until}, and is {lock:?}");
}

/// Whether the place locks whatever the points from this one on say that it does.
async fn assert_points_are_right(target: &Target, from: LogSeq, when: &str) {
    let vault = Vault::open_with(target.clone(), with_key(&world(999).environment)).await.unwrap();
    for point in vault.log().await.unwrap().all_points().filter(|p| p.seq() >= from) {
        let Some(lock) = point.lock else { continue };
        for name in needs(&vault, point.seq()).await {
            assert_locked(target, &name, lock.mode, lock.until, &format!("{when}, {}", point.id())).await;
        }
    }
}

#[tokio::test]
async fn a_point_says_no_more_than_what_it_shares_with_others_holds() {
    let (bucket, world) = (Bucket::new(true), world(1));
    let target = bucket.target("memory:vault");
    let vault = create(target.clone(), &world).await;
    let month = vault.retaining(compliance(30)).await.unwrap();
    let long = vault.retaining(compliance(60)).await.unwrap();
    let (a, b) = (backup("a"), backup("b"));
    back_up(&month, &a, "1", &[sample("t", &["one", "two"], &[])]).await.unwrap();
    world.clock.pass(days(1));
    back_up(&long, &b, "2", &[sample("t", &["one", "two"], &[])]).await.unwrap();
    world.clock.pass(days(4));
    // A new base, which shares what did not change with the first.
    back_up(&month, &a, "3", &[sample("t", &["one", "two", "three"], &[])]).await.unwrap();
    assert_points_are_right(&target, LogSeq(1), "day 5").await;
    world.clock.pass(days(7));
    let last = back_up(&month, &a, "4", &[sample("t", &["one", "two", "three"], &["x"])]).await.unwrap();
    assert_points_are_right(&target, LogSeq(1), "day 12").await;
    let stated = vault.latest(&a).await.unwrap().lock.unwrap().until;
    assert!(last == LogSeq(4) && stated >= world.environment.clock.now() + days(29));
}

#[tokio::test]
async fn the_first_backup_to_a_copy_locks_what_the_copy_took_from_elsewhere() {
    let (bucket, world) = (Bucket::new(true), world(1));
    let vault = create(bucket.target("memory:vault"), &world).await;
    let name = backup("a");
    let locking = vault.retaining(compliance(30)).await.unwrap();
    back_up(&locking, &name, "1", &[sample("t", &["one", "two"], &[])]).await.unwrap();
    let other = Bucket::new(true).target("memory:copy");
    vault.copy_to(&other, &()).await.unwrap();
    let copy = Vault::open_with(other.clone(), world.environment.clone()).await.unwrap();
    let seq = back_up(&copy, &name, "2", &[sample("t", &["one", "two"], &["x"])]).await.unwrap();
    assert!(copy.latest(&name).await.unwrap().lock.is_some(), "it goes on as before");
    assert_points_are_right(&other, seq, "the copy").await;
}

#[tokio::test]
async fn a_copy_where_nothing_can_be_locked_takes_backups_and_gives_them_up() {
    let (bucket, world) = (Bucket::new(true), world(1));
    let vault = create(bucket.target("memory:vault"), &world).await;
    let (name, other) = (backup("a"), backup("b"));
    let locking = vault.retaining(compliance(30)).await.unwrap();
    for backup in [&name, &other] {
        back_up(&locking, backup, "1", &[sample("t", &["one"], &[])]).await.unwrap();
    }
    let copies = [memory(Arc::new(InMemory::new())), Bucket::new(false).target("memory:copy")];
    for target in copies {
        vault.copy_to(&target, &()).await.unwrap();
        let copy = Vault::open_with(target, world.environment.clone()).await.unwrap();
        back_up(&copy, &name, "2", &[sample("t", &["two"], &[])]).await.unwrap();
        assert_eq!(copy.latest(&name).await.unwrap().lock, None);
        let policy = RetentionPolicy { last: 1, ..RetentionPolicy::default() };
        let plan = copy.plan_prune(&PruneOptions::of(name.clone(), policy)).await.unwrap();
        assert_eq!(copy.prune(&plan).await.unwrap().removed.len(), 1);
        copy.drop_backup(&other, SignedDuration::ZERO).await.unwrap();
    }
    let refused = vault.drop_backup(&other, SignedDuration::ZERO).await.unwrap_err();
    assert_eq!(refused.code().to_string(), "KF0270", "{refused}");
}

#[tokio::test]
async fn what_is_healed_is_locked_as_what_it_replaces_was() {
    let (bucket, world) = (Bucket::new(true), world(1));
    let target = bucket.target("memory:vault");
    let vault = create(target.clone(), &world).await;
    let locking = vault.retaining(compliance(30)).await.unwrap();
    back_up(&locking, &backup("a"), "1", &[sample("t", &["one", "two"], &[])]).await.unwrap();
    let copy = memory(Arc::new(InMemory::new()));
    vault.copy_to(&copy, &()).await.unwrap();
    let mut torn = 0;
    for object in target.list("").await.unwrap() {
        if !object.path.starts_with("keys") && object.path != layout::MARKER {
            let path = target.path(&object.path).unwrap();
            bucket.put(&path, PutPayload::from_static(b"torn")).await.unwrap();
            torn += 1;
            let report = vault.repair(Some(&copy), &()).await.unwrap();
            assert_eq!((report.healed.len(), report.lost.len()), (1, 0), "{}: {report:?}", object.path);
        }
    }
    assert!(torn >= 5, "{torn}");
    assert_points_are_right(&target, LogSeq(1), "healed").await;
}

#[tokio::test]
async fn the_record_of_a_change_of_keys_is_locked_before_the_key_file_before_it_is_deleted() {
    let (bucket, world) = (Bucket::new(true), world(1));
    let target = bucket.target("memory:vault");
    let vault = create(target.clone(), &world).await;
    let name = backup("a");
    let table = Vault::table_id(&name, "columnar", &TableName::bare("t"), &Selection::default());
    vault.encrypt_table(&table, &Encryption::Full).await.unwrap();
    let locking = vault.retaining(compliance(30)).await.unwrap();
    back_up(&locking, &name, "1", &[sample("t", &["one"], &[])]).await.unwrap();
    let until = vault.latest(&name).await.unwrap().lock.unwrap().until;
    vault.hold(&name, None, None, "a record between").await.unwrap();
    let process = Process::default();
    let environment = with_key(&world.environment);
    let seen = Vault::open_with(process.wrap(&target), environment).await.unwrap();
    seen.rotate_keys().await.unwrap();
    for line in vault.log().await.unwrap().lines() {
        for record in [layout::log_record(line.seq), layout::log_copy(line.seq)] {
            assert_locked(&target, &record, LockMode::Compliance, until, "after the rotation").await;
        }
    }
    let order: Vec<Kind> = process.trace().iter().map(|o| o.kind).collect();
    let lock = order.iter().rposition(|kind| *kind == Kind::Lock).unwrap();
    let delete = order.iter().position(|kind| *kind == Kind::Delete).unwrap();
    assert!(lock < delete, "{order:?}");
}

/// A process of its own that backs up and locks.
async fn backing_up(
    target: Target,
    to: &BackupName,
    seed: u64,
    changes: &[&str],
) -> Result<LogSeq, VaultError> {
    let later = world(seed);
    later.clock.pass(days(20));
    let vault = Vault::open_with(target, with_key(&later.environment)).await?;
    let vault = vault.retaining(compliance(30)).await?;
    back_up(&vault, to, &format!("run {seed}"), &[sample("t", &["one", "two"], changes)]).await
}

#[tokio::test]
async fn wherever_a_backup_that_locks_is_cut_off_what_points_say_is_locked_is() {
    let origin = Bucket::new(true);
    let name = backup("a");
    let vault = create(origin.target("memory:vault"), &world(1)).await;
    back_up(&vault, &backup("free"), "0", &[sample("t", &["one"], &[])]).await.unwrap();
    let locking = vault.retaining(compliance(30)).await.unwrap();
    back_up(&locking, &name, "1", &[sample("t", &["one", "two"], &[])]).await.unwrap();
    let clean = Process::default();
    let fork = origin.fork().target("memory:vault");
    let next = backing_up(clean.wrap(&fork), &name, 100, &["x"]).await.unwrap();
    let locks = clean.tally().get(Kind::Lock).operations;
    assert!(locks >= 10, "{}", clean.tally());
    let mut cuts = 0;
    for operation in clean.trace() {
        for fault in Fault::ALL.into_iter().filter(|f| f.fits(operation.kind)) {
            let said = format!("{fault} at {operation}");
            let target = origin.fork().target("memory:vault");
            let process = Process::new(Script::at(operation.number, fault));
            let done = backing_up(process.wrap(&target), &name, 100, &["x"]).await;
            cuts += process.fired().len();
            process.settle().await;
            assert_points_are_right(&target, LogSeq(1), &said).await;
            let vault = Vault::open_with(target.clone(), world(7).environment).await.unwrap();
            let newest = vault.latest(&name).await.unwrap();
            assert!(newest.lock.is_some(), "{said}: {} is not locked", newest.id());
            if done.is_ok() {
                let (record, lock) = (layout::log_record(next), newest.lock.unwrap());
                assert_eq!(newest.seq(), next, "{said}");
                assert_locked(&target, &record, lock.mode, lock.until, &said).await;
            }
            // Whatever was left open the next one locks.
            let seq = backing_up(target.clone(), &name, 200, &["x", "y"]).await;
            let seq = seq.unwrap_or_else(|e| panic!("{said}: {e}"));
            assert_points_are_right(&target, LogSeq(1), &format!("{said}, and the next backup")).await;
            let lock = vault.latest(&name).await.unwrap().lock.unwrap();
            for record in [layout::log_record(seq), layout::log_copy(seq)] {
                assert_locked(&target, &record, lock.mode, lock.until, &said).await;
            }
        }
    }
    eprintln!("{cuts} cuts at {}, {locks} of them at locks", clean.tally());
    assert!(cuts > 300, "{cuts}");
}
