//! Recovery: what somebody hid or covered comes back from its versions, and nothing that is right is touched.

use crate::common::*;
use bytes::Bytes;
use keepfast_keys::{Cost, Credentials, NewRecipient, Passphrase};
use keepfast_model::{Coded, Encryption, Hash256, LogSeq, Selection, TableName};
use keepfast_objects::Target;
use keepfast_objects::bucket::Bucket;
use keepfast_vault::{
    CheckOptions, CreateOptions, Environment, RecoverOptions, RecoverReport, Vault, VaultError, layout,
    recover,
};
use object_store::{ObjectStoreExt, PutPayload};
use std::collections::BTreeMap;

const PHRASE: &str = "the passphrase of the vault";

fn environment(seed: u64) -> Environment {
    Environment { credentials: Credentials::passphrase(PHRASE), ..world(seed).environment }
}

async fn create(target: &Target, seed: u64) -> Vault {
    let options = CreateOptions { environment: environment(seed), ..CreateOptions::default() };
    Vault::create(target.clone(), &options).await.unwrap()
}

/// A vault with two points at a place.
async fn filled(target: &Target, seed: u64) -> Vault {
    let vault = create(target, seed).await;
    for (run, changes) in [("1", &[][..]), ("2", &["x"][..])] {
        back_up(&vault, &backup("a"), run, &[sample("t", &["one", "two"], changes)]).await.unwrap();
    }
    vault
}

async fn recovered(target: &Target) -> Result<RecoverReport, VaultError> {
    recover(target, environment(90), &RecoverOptions::default()).await
}

async fn all(target: &Target) -> BTreeMap<String, Bytes> {
    let mut all = BTreeMap::new();
    for object in target.list("").await.unwrap() {
        all.insert(object.path.clone(), target.get(&object.path).await.unwrap());
    }
    all
}

/// Hides all objects under delete markers.
async fn hide_all(target: &Target) {
    for name in all(target).await.into_keys() {
        target.delete(&name).await.unwrap();
    }
}

/// Puts bytes over whatever stands under a name.
async fn cover(bucket: &Bucket, name: &str, bytes: Bytes) {
    bucket.put(&name.into(), PutPayload::from_bytes(bytes)).await.unwrap();
}

/// Removes all versions of a name for good.
async fn purge(bucket: &Bucket, name: &str) {
    for (path, version) in bucket.target("memory:vault").versions(name).await.unwrap() {
        let gone = bucket.purge(&path.as_str().into(), &version.id, jiff::Timestamp::MAX).await;
        assert!(gone, "{path}");
    }
}

async fn assert_whole(target: &Target, points: usize) {
    let vault = Vault::open_with(target.clone(), environment(91)).await.unwrap();
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole(), "{:?}", report.damage);
    assert_eq!(vault.points(&backup("a")).await.unwrap().len(), points);
}

#[tokio::test]
async fn an_encrypted_vault_that_was_hidden_comes_back_without_the_keys_that_were_dropped() {
    let bucket = Bucket::new(false);
    let target = bucket.target("memory:vault");
    let vault = create(&target, 1).await;
    let table = Vault::table_id(&backup("a"), "columnar", &TableName::bare("t"), &Selection::default());
    vault.encrypt_table(&table, &Encryption::Full).await.unwrap();
    let ops = Passphrase::new("the passphrase of ops".to_owned());
    vault.add_recipient("ops", &NewRecipient::Passphrase(ops, Cost::TRIVIAL)).await.unwrap();
    back_up(&vault, &backup("a"), "1", &[sample("t", &["one", "two"], &[])]).await.unwrap();
    let (newest, _) = vault.recipients().await.unwrap();
    // What a change of keys that lost to a rival left, and deleted: its number is higher.
    let lost = layout::key_file(newest + 1);
    target.put_new(&lost, target.get(&layout::key_file(newest)).await.unwrap()).await.unwrap();
    target.delete(&lost).await.unwrap();
    let before = all(&target).await;
    assert_eq!(before.keys().filter(|name| name.starts_with("keys")).count(), 3, "{:?}", before.keys());

    hide_all(&target).await;
    let report = recovered(&target).await.unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    let after = all(&target).await;
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_eq!(after, before);
    assert_whole(&target, 1).await;
    assert!(recovered(&target).await.unwrap().recovered.is_empty(), "once is enough");

    // A file of the same keys for other recipients fits the log; its code shows who was put in.
    let name = layout::key_file(newest);
    let mut forged = unseal(&before[&name]);
    let recipients = forged["recipients"].as_array_mut().unwrap();
    recipients.pop();
    cover(&bucket, &name, seal(&forged)).await;
    assert_eq!(recovered(&target).await.unwrap().recovered, [target.full(&name)]);
    assert_eq!(all(&target).await, before);
}

#[tokio::test]
async fn a_vault_at_the_place_of_an_earlier_one_is_left_as_it_is() {
    let bucket = Bucket::new(false);
    let target = bucket.target("memory:vault");
    filled(&target, 1).await;
    hide_all(&target).await;
    filled(&target, 2).await;
    let before = all(&target).await;
    assert_eq!(recovered(&target).await.unwrap(), RecoverReport::default());
    assert_eq!(all(&target).await, before);

    // What was stolen of the second is brought back, and nothing of the first.
    for name in before.keys().filter(|name| *name != layout::MARKER && !name.starts_with("keys")) {
        target.delete(name).await.unwrap();
    }
    recovered(&target).await.unwrap();
    assert_eq!(all(&target).await, before);
    assert_whole(&target, 2).await;

    // Without the marker nothing tells which of them is meant.
    hide_all(&target).await;
    let refused = recovered(&target).await.unwrap_err();
    assert_eq!(refused.code().to_string(), "KF0279", "{refused}");
    assert!(all(&target).await.is_empty(), "nothing was changed");
    let versions = target.versions(layout::MARKER).await.unwrap();
    let (_, first) = versions.iter().rfind(|(_, v)| !v.deletion).unwrap();
    assert!(bucket.purge(&layout::MARKER.into(), &first.id, jiff::Timestamp::MAX).await);
    recovered(&target).await.unwrap();
    assert_eq!(all(&target).await, before);
}

#[tokio::test]
async fn what_the_owner_put_back_and_what_was_healed_stays() {
    let bucket = Bucket::new(false);
    let target = bucket.target("memory:vault");
    let vault = filled(&target, 1).await;
    let before = all(&target).await;
    // The thief removes the key file for good and leaves another vault's; the owner has a copy.
    let elsewhere = Bucket::new(false).target("memory:other");
    create(&elsewhere, 5).await;
    let keys = layout::key_file(1);
    purge(&bucket, &keys).await;
    cover(&bucket, &keys, elsewhere.get(&keys).await.unwrap()).await;
    cover(&bucket, &keys, before[&keys].clone()).await;
    // The first version of a record is damaged, and `verify --repair` healed it.
    let record = layout::log_record(LogSeq(1));
    purge(&bucket, &record).await;
    cover(&bucket, &record, Bytes::from_static(b"damaged")).await;
    assert_eq!(vault.repair(None, &()).await.unwrap().healed.len(), 1);
    assert_eq!(recovered(&target).await.unwrap(), RecoverReport::default());
    assert_eq!(all(&target).await, before);
    assert_whole(&target, 2).await;
    // Hidden once more, the version that fits comes back, not the first.
    hide_all(&target).await;
    recovered(&target).await.unwrap();
    assert_eq!(all(&target).await, before);
}

#[tokio::test]
async fn of_two_histories_only_the_head_that_was_noted_tells_the_right_one() {
    let bucket = Bucket::new(false);
    let target = bucket.target("memory:vault");
    let vault = filled(&target, 1).await;
    back_up(&vault, &backup("a"), "3", &[sample("t", &["three"], &[])]).await.unwrap();
    let head = vault.log().await.unwrap().head().unwrap();
    let before = all(&target).await;
    // The thief hides the newest point, and puts a record of their own after the first and one after that.
    let second = layout::log_record(LogSeq(2));
    let mut forged = unseal(&before[&second]);
    forged["at"] = "2030-01-01T00:00:00Z".into();
    let mut next = forged.clone();
    next["seq"] = 3.into();
    next["prev"] = Hash256::of(&seal(&forged)).to_string().into();
    let mut last = next.clone();
    last["seq"] = 4.into();
    last["prev"] = Hash256::of(&seal(&next)).to_string().into();
    for (seq, json) in [(2, &forged), (3, &next), (4, &last)] {
        for name in [layout::log_record(LogSeq(seq)), layout::log_copy(LogSeq(seq))] {
            cover(&bucket, &name, seal(json)).await;
        }
    }
    let robbed = all(&target).await;
    let refused = recovered(&target).await.unwrap_err();
    assert_eq!(refused.code().to_string(), "KF0278", "{refused}");
    assert!(refused.to_string().contains(&format!("{}:{}", head.0, head.1)), "{refused}");
    assert_eq!(all(&target).await, robbed, "nothing was changed");

    let report = recover(&target, environment(90), &RecoverOptions { head: Some(head) }).await.unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    assert_eq!(all(&target).await, before);
    assert_whole(&target, 3).await;
}
