//! A vault on a real S3 server: its life, rivals, locks against a thief, and credentials that may only add. Its life on
//! the emulators of Azure and Google too.

use crate::common::{back_up, backup, sample, world};
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::{SignedDuration, Timestamp};
use keepfast_keys::{Cost, Credentials};
use keepfast_model::{Coded, Encryption, LockMode, RetentionPolicy, Selection, TableName};
use keepfast_objects::{Metered, Target, open_target_with};
use keepfast_testbed::azure::azure_or_skip;
use keepfast_testbed::google::google_or_skip;
use keepfast_testbed::s3::{Rights, S3, Settings, server_or_skip};
use keepfast_vault::{
    AsOf, CheckOptions, CreateOptions, Environment, PruneOptions, RecoverOptions, Retain, Vault, VaultError,
    layout, recover,
};
use std::collections::BTreeMap;

fn at(bucket: &str, settings: &Settings) -> Target {
    open_target_with(&format!("s3://{bucket}/vault"), settings).unwrap()
}

/// The real time: locks are held against the server's clock.
fn options() -> CreateOptions {
    CreateOptions { environment: Environment::default(), ..CreateOptions::default() }
}

fn samples(base: &[&str], changes: &[&str]) -> Vec<crate::common::Sample> {
    vec![sample("t", base, changes), sample("u", &["only"], &[])]
}

async fn is_whole(vault: &Vault) {
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole(), "{:?}", report.damage);
}

fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

fn compliance(n: i64) -> Retain {
    Retain::For { time: days(n), mode: LockMode::Compliance }
}

/// A vault is made, backed up to, pruned, dropped from and used again.
async fn lives(target: &Target) {
    let vault = Vault::create(target.clone(), &options()).await.unwrap();
    assert!(matches!(Vault::create(target.clone(), &options()).await, Err(VaultError::VaultExists { .. })));
    let name = backup("b");
    for round in 0..3 {
        let changes: Vec<String> = (0..round).map(|n| format!("change {n}")).collect();
        let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
        back_up(&vault, &name, &format!("run {round}"), &samples(&["one", "two"], &changes)).await.unwrap();
    }
    let again = Vault::open(target.clone()).await.unwrap();
    assert_eq!(again.id(), vault.id());
    assert_eq!(again.points(&name).await.unwrap().len(), 3);
    is_whole(&again).await;
    let policy = RetentionPolicy { last: 1, ..RetentionPolicy::default() };
    let prune = PruneOptions { grace: SignedDuration::ZERO, ..PruneOptions::of(name.clone(), policy) };
    let pruned = again.prune(&again.plan_prune(&prune).await.unwrap()).await.unwrap();
    assert_eq!(pruned.removed.len(), 2);
    assert_eq!(again.points(&name).await.unwrap().len(), 1);
    is_whole(&again).await;
    again.drop_backup(&name, SignedDuration::ZERO).await.unwrap();
    assert!(again.delete_condemned().await.unwrap() > 5);
    assert!(matches!(again.resolve(&name, AsOf::Latest).await, Err(VaultError::NoBackup { .. })));
    is_whole(&again).await;
    // Condemned names stay dead: the same rows come back under others.
    back_up(&vault, &name, "run 9", &samples(&["one", "two"], &[])).await.unwrap();
    is_whole(&vault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_vault_in_a_bucket_lives_as_one_in_a_folder_does() {
    let Some(s3) = server_or_skip("a_vault_in_a_bucket_lives_as_one_in_a_folder_does") else { return };
    for lock in [false, true] {
        let bucket = s3.new_bucket("life", lock).await;
        lives(&at(&bucket, &s3.settings())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_vault_in_a_container_lives_as_one_in_a_folder_does() {
    let Some(azure) = azure_or_skip("a_vault_in_a_container_lives_as_one_in_a_folder_does") else { return };
    let container = azure.new_container("life").await;
    lives(&open_target_with(&format!("az://{container}/vault"), &azure.settings()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_vault_in_a_google_bucket_lives_as_one_in_a_folder_does() {
    let Some(google) = google_or_skip("a_vault_in_a_google_bucket_lives_as_one_in_a_folder_does") else {
        return;
    };
    let bucket = google.new_bucket("life").await;
    lives(&open_target_with(&format!("gs://{bucket}/vault"), &google.settings()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_points_of_racing_writers_land_in_a_bucket() {
    let Some(s3) = server_or_skip("all_points_of_racing_writers_land_in_a_bucket") else { return };
    let bucket = s3.new_bucket("rivals", false).await;
    race(&|| at(&bucket, &s3.settings())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_points_of_racing_writers_land_in_a_google_bucket() {
    let Some(google) = google_or_skip("all_points_of_racing_writers_land_in_a_google_bucket") else { return };
    let bucket = google.new_bucket("rivals").await;
    race(&|| open_target_with(&format!("gs://{bucket}/vault"), &google.settings()).unwrap()).await;
}

/// Writers with clients of their own put their points into one vault at once.
async fn race(target: &impl Fn() -> Target) {
    const WRITERS: usize = 8;
    const POINTS: usize = 5;
    let writers = (0..WRITERS).map(|writer| async move {
        let vault = Vault::open_or_create_with(target(), &options()).await.unwrap();
        let mut seqs = vec![];
        for n in 0..POINTS {
            let text = format!("writer {writer} point {n}");
            let tables = vec![sample("t", &["shared", &text], &[])];
            let seq = back_up(&vault, &backup(&format!("b{}", writer % 3)), &text, &tables).await.unwrap();
            seqs.push(seq.0);
        }
        seqs
    });
    let mut seqs: Vec<u64> = writers.collect::<FuturesUnordered<_>>().concat().await;
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=(WRITERS * POINTS) as u64).collect::<Vec<_>>());
    let vault = Vault::open(target()).await.unwrap();
    assert_eq!(vault.log().await.unwrap().all_points().count(), WRITERS * POINTS);
    is_whole(&vault).await;
    eprintln!("{WRITERS} writers raced for {} records", WRITERS * POINTS);
}

/// Locks of all objects of a vault by name, as the server tells them.
async fn locks(target: &Target) -> BTreeMap<String, Option<Timestamp>> {
    let mut locks = BTreeMap::new();
    for object in target.list("").await.unwrap() {
        let lock = target.locked(&object.path).await.unwrap().map(|(_, until)| until);
        locks.insert(object.path, lock);
    }
    locks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_point_needs_is_locked_and_a_base_as_long_as_the_changes_on_it() {
    let Some(s3) = server_or_skip("what_a_point_needs_is_locked_and_a_base_as_long_as_the_changes_on_it")
    else {
        return;
    };
    let bucket = s3.new_bucket("chain", true).await;
    let target = at(&bucket, &s3.settings());
    let vault = Vault::create(target.clone(), &options()).await.unwrap();
    let name = backup("b");
    back_up(&vault, &name, "free", &[sample("t", &["one"], &[])]).await.unwrap();
    assert!(locks(&target).await.values().all(Option::is_none), "nobody asked for locks");

    let locking = vault.retaining(compliance(8)).await.unwrap();
    let before = Timestamp::now();
    back_up(&locking, &name, "base", &[sample("t", &["one", "two"], &[])]).await.unwrap();
    let first = locks(&target).await;
    for (path, lock) in &first {
        if path.starts_with("keys") || path.starts_with("staging") {
            assert_eq!(*lock, None, "{path}");
        } else if !path.starts_with("manifests/") {
            assert!(lock.is_some_and(|until| until >= before + days(10)), "{path} is locked until {lock:?}");
        }
    }
    let stated = vault.latest(&name).await.unwrap().lock.unwrap();
    assert!(stated.until >= before + days(10) && stated.seconds == 8 * 24 * 3600, "{stated:?}");

    // The next one inherits, and extends nothing that holds long enough.
    let metered = Metered::new(target.store.clone());
    let later = Vault::open(target.wrapped(|_| metered.clone())).await.unwrap();
    back_up(&later, &name, "inc", &[sample("t", &["one", "two"], &["change"])]).await.unwrap();
    let second = locks(&target).await;
    let kept = |all: &BTreeMap<String, Option<Timestamp>>| {
        let segments = all.iter().filter(|(path, _)| path.contains("/segments/"));
        segments.map(|(p, l)| (p.clone(), *l)).collect::<Vec<_>>()
    };
    assert_eq!(kept(&first), kept(&second));
    assert!(second.iter().any(|(p, l)| p.contains("/changes/") && l.is_some()));
    assert!(vault.latest(&name).await.unwrap().lock.unwrap().until <= stated.until);

    // A longer time extends the base with the chain, and the log too.
    let longer = vault.retaining(compliance(40)).await.unwrap();
    back_up(&longer, &name, "inc 2", &[sample("t", &["one", "two"], &["change", "more"])]).await.unwrap();
    let third = locks(&target).await;
    for (path, lock) in third.iter().filter(|(p, _)| p.starts_with("log") || p.contains("/segments/")) {
        assert!(lock.is_some_and(|until| until >= before + days(50)), "{path} is locked until {lock:?}");
    }
    is_whole(&vault).await;
    let refused = vault.drop_backup(&name, SignedDuration::ZERO).await.unwrap_err();
    assert_eq!(refused.code().to_string(), "KF0270", "{refused}");

    // It ends when somebody says so; what is locked stays locked.
    let unlocked = vault.retaining(Retain::Nothing).await.unwrap();
    back_up(&unlocked, &name, "free again", &[sample("t", &["three"], &[])]).await.unwrap();
    assert_eq!(vault.latest(&name).await.unwrap().lock, None);
    assert!(vault.log().await.unwrap().locked_until(&name).unwrap() >= before + days(50));
}

#[tokio::test]
async fn locks_are_refused_where_the_bucket_has_none_or_locks_everything() {
    let Some(s3) = server_or_skip("locks_are_refused_where_the_bucket_has_none_or_locks_everything") else {
        return;
    };
    let plain = s3.new_bucket("nolock", false).await;
    let vault = Vault::create(at(&plain, &s3.settings()), &options()).await.unwrap();
    assert_eq!(vault.retaining(compliance(1)).await.unwrap_err().code().to_string(), "KF0271");
    let all = s3.new_bucket("lockall", true).await;
    s3.set_default_retention(&all, "GOVERNANCE", 1).await;
    let vault = Vault::create(at(&all, &s3.settings()), &options()).await.unwrap();
    let refused = vault.retaining(compliance(1)).await.unwrap_err();
    assert_eq!(refused.code().to_string(), "KF0272");
    assert!(refused.to_string().contains("governance for 1 days"), "{refused}");
    let memory = Vault::create(keepfast_objects::open_target("memory:").unwrap(), &world(1).options()).await;
    assert_eq!(memory.unwrap().retaining(compliance(1)).await.unwrap_err().code().to_string(), "KF0271");
}

/// Deletes every version that the server lets go; returns how many it kept.
async fn rob(s3: &S3, bucket: &str, target: &Target) -> (usize, usize) {
    let (mut gone, mut kept) = (0, 0);
    for (name, version) in target.versions("").await.unwrap() {
        let answer = s3.delete_version(bucket, &format!("vault/{name}"), &version.id).await;
        if answer.status < 300 { gone += 1 } else { kept += 1 }
    }
    (gone, kept)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thief_with_all_rights_cannot_destroy_what_is_locked_and_it_is_recovered() {
    let Some(s3) =
        server_or_skip("a_thief_with_all_rights_cannot_destroy_what_is_locked_and_it_is_recovered")
    else {
        return;
    };
    let bucket = s3.new_bucket("thief", true).await;
    let target = at(&bucket, &s3.settings());
    let vault = Vault::create(target.clone(), &options()).await.unwrap();
    let vault = vault.retaining(compliance(1)).await.unwrap();
    let name = backup("b");
    back_up(&vault, &name, "base", &samples(&["one", "two"], &[])).await.unwrap();
    back_up(&vault, &name, "inc", &samples(&["one", "two"], &["change"])).await.unwrap();
    let (_, head) = vault.log().await.unwrap().head().unwrap();
    let keys = layout::key_file(1);
    let key_file = target.get(&keys).await.unwrap();

    // The thief hides everything, forges a record and a segment, and removes what can be removed for good.
    let names: Vec<String> = target.list("").await.unwrap().into_iter().map(|o| o.path).collect();
    for object in &names {
        target.delete(object).await.unwrap();
    }
    let segment = names.iter().find(|n| n.contains("/segments/")).unwrap();
    for forged in [&layout::log_record(keepfast_model::LogSeq(2)), segment] {
        assert_eq!(s3.overwrite(&bucket, &format!("vault/{forged}"), "forged".into()).await.status, 200);
    }
    assert!(Vault::open(target.clone()).await.is_err());
    let (gone, kept) = rob(&s3, &bucket, &target).await;
    eprintln!("the thief removed {gone} versions and delete markers, and {kept} stood");
    assert!(kept >= names.len() - 1, "{kept} of {} objects", names.len());
    // The markers went too, which brought back what they hid; the thief hides it again.
    for object in &target.list("").await.unwrap() {
        target.delete(&object.path).await.unwrap();
    }
    assert_eq!(s3.overwrite(&bucket, &format!("vault/{segment}"), "forged".into()).await.status, 200);

    // Keys are not locked; the owner has a copy of the one small file.
    assert!(target.list("").await.unwrap().len() == 1);
    target.put_new(&keys, key_file).await.unwrap();
    let report = recover(&target, Environment::default(), &RecoverOptions::default()).await.unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    assert!(report.recovered.len() >= names.len() - 2, "{report:?}");
    let back = Vault::open(target.clone()).await.unwrap();
    assert_eq!(back.log().await.unwrap().head().unwrap().1, head);
    assert_eq!(back.points(&name).await.unwrap().len(), 2);
    is_whole(&back).await;
    assert!(
        recover(&target, Environment::default(), &RecoverOptions::default())
            .await
            .unwrap()
            .recovered
            .is_empty(),
        "once is enough"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn verify_says_when_a_damaged_object_has_earlier_versions() {
    let Some(s3) = server_or_skip("verify_says_when_a_damaged_object_has_earlier_versions") else { return };
    let bucket = s3.new_bucket("versions", true).await;
    let target = at(&bucket, &s3.settings());
    let vault = Vault::create(target.clone(), &options()).await.unwrap();
    back_up(&vault, &backup("b"), "base", &samples(&["one"], &[])).await.unwrap();
    let segments: Vec<String> = target.list("tables").await.unwrap().into_iter().map(|o| o.path).collect();
    target.delete(&segments[0]).await.unwrap();
    s3.overwrite(&bucket, &format!("vault/{}", segments[1]), "forged".into()).await;
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert_eq!(report.damage.len(), 2, "{:?}", report.damage);
    assert!(report.damage.iter().all(|d| d.kept_versions == 1), "{:?}", report.damage);
    assert!(report.damage[0].to_string().contains("the place keeps 1 earlier version"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn credentials_that_only_add_make_vaults_and_points_and_remove_nothing() {
    let Some(s3) = server_or_skip("credentials_that_only_add_make_vaults_and_points_and_remove_nothing")
    else {
        return;
    };
    let bucket = s3.new_bucket("addonly", true).await;
    let owner = at(&bucket, &s3.settings());
    let adding = at(&bucket, &s3.limited(&bucket, Rights::Append).await);
    let vault = Vault::open_or_create_with(adding, &options()).await.unwrap();
    let name = backup("b");
    back_up(&vault, &name, "base", &samples(&["one", "two"], &[])).await.unwrap();
    back_up(&vault, &name, "inc", &samples(&["one", "two"], &["change"])).await.unwrap();
    is_whole(&vault).await;
    assert!(vault.retaining(compliance(1)).await.is_err(), "it may not even ask for locks");

    let before = owner.list("").await.unwrap();
    let refused = vault.drop_backup(&name, SignedDuration::ZERO).await.unwrap_err();
    assert_eq!(refused.code().to_string(), "KF0204", "{refused}");
    assert_eq!(owner.list("").await.unwrap(), before, "nothing was written, and nothing is gone");
    assert_eq!(vault.points(&name).await.unwrap().len(), 2);
    // Somebody who may delete sweeps what the probe left.
    let owner = Vault::open(owner).await.unwrap();
    assert_eq!(owner.sweep_staging(std::time::Duration::ZERO).await.unwrap(), 1);

    let locking = at(&bucket, &s3.limited(&bucket, Rights::AppendAndLock).await);
    let vault = Vault::open(locking.clone()).await.unwrap().retaining(compliance(1)).await.unwrap();
    back_up(&vault, &name, "locked", &samples(&["one", "two"], &["change", "more"])).await.unwrap();
    assert!(vault.latest(&name).await.unwrap().lock.is_some());
    let reading = at(&bucket, &s3.limited(&bucket, Rights::Read).await);
    let reader = Vault::open(reading).await.unwrap();
    is_whole(&reader).await;
    assert!(back_up(&reader, &name, "no", &samples(&["three"], &[])).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn credentials_that_only_add_suffice_for_an_encrypted_vault_and_its_keys() {
    let Some(s3) = server_or_skip("credentials_that_only_add_suffice_for_an_encrypted_vault_and_its_keys")
    else {
        return;
    };
    let bucket = s3.new_bucket("addsecret", true).await;
    let environment = Environment {
        credentials: Credentials::passphrase("the passphrase of the vault"),
        passphrase_cost: Cost::TRIVIAL,
        ..Environment::default()
    };
    let create = CreateOptions { environment: environment.clone(), ..CreateOptions::default() };
    let adding = at(&bucket, &s3.limited(&bucket, Rights::Append).await);
    let vault = Vault::open_or_create_with(adding, &create).await.unwrap();
    let name = backup("b");
    for table in ["t", "u"] {
        let id = Vault::table_id(&name, "columnar", &TableName::bare(table), &Selection::default());
        vault.encrypt_table(&id, &Encryption::Full).await.unwrap();
    }
    back_up(&vault, &name, "base", &samples(&["one", "two"], &[])).await.unwrap();
    vault.rotate_keys().await.unwrap();
    back_up(&vault, &name, "inc", &samples(&["one", "two"], &["change"])).await.unwrap();
    is_whole(&vault).await;

    let locking = at(&bucket, &s3.limited(&bucket, Rights::AppendAndLock).await);
    let vault = Vault::open_with(locking, environment.clone()).await.unwrap();
    let vault = vault.retaining(compliance(1)).await.unwrap();
    back_up(&vault, &name, "locked", &samples(&["one", "two"], &["change", "more"])).await.unwrap();
    vault.rotate_keys().await.unwrap();
    let owner = at(&bucket, &s3.settings());
    let locks = locks(&owner).await;
    let free: Vec<_> =
        locks.iter().filter(|(path, lock)| path.starts_with("log") && lock.is_none()).collect();
    assert!(free.is_empty(), "{free:?}");

    // Key files that may still be opened stay until somebody who may delete changes the keys, or tries to.
    let files = |locks: &BTreeMap<String, _>| locks.keys().filter(|path| path.starts_with("keys")).count();
    assert!(files(&locks) > 3, "{locks:?}");
    let vault = Vault::open_with(owner.clone(), environment).await.unwrap();
    assert!(vault.remove_recipient("nobody").await.is_err());
    assert_eq!(files(&self::locks(&owner).await), 3);
    is_whole(&vault).await;
}
