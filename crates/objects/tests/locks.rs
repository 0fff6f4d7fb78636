//! Locks and versions on a real S3 server.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use keepfast_model::{Coded, LockMode};
use keepfast_objects::bucket::Bucket;
use keepfast_objects::{Metered, ObjectsError, Put, Target, open_target, open_target_with};
use keepfast_testbed::s3::{Rights, server_or_skip};

fn in_hours(hours: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(hours)
}

#[tokio::test]
async fn a_locked_version_survives_a_thief_with_all_rights_and_can_be_read() {
    let Some(s3) = server_or_skip("a_locked_version_survives_a_thief_with_all_rights_and_can_be_read") else {
        return;
    };
    let bucket = s3.new_bucket("locks", true).await;
    let target = open_target_with(&format!("s3://{bucket}/vault"), &s3.settings()).unwrap();
    assert_eq!(target.locking().await.unwrap().unwrap().default, None);
    target.put_new("log/1", Bytes::from_static(b"genuine")).await.unwrap();
    assert_eq!(target.locked("log/1").await.unwrap(), None);

    let until = in_hours(2);
    target.lock("log/1", LockMode::Compliance, until).await.unwrap();
    let (mode, locked) = target.locked("log/1").await.unwrap().unwrap();
    assert!(mode == LockMode::Compliance && locked >= until && locked < until + SignedDuration::from_secs(2));
    target.lock("log/1", LockMode::Compliance, in_hours(1)).await.expect("a longer lock is as good");
    assert_eq!(target.locked("log/1").await.unwrap().unwrap().1, locked, "and it is not shortened");
    target.lock("log/1", LockMode::Compliance, in_hours(3)).await.unwrap();
    assert!(target.locked("log/1").await.unwrap().unwrap().1 >= until + SignedDuration::from_mins(59));

    // The thief hides the object, puts another one there, and tries to remove the genuine version.
    target.delete("log/1").await.unwrap();
    assert_eq!(target.size("log/1").await.unwrap(), None);
    assert_eq!(s3.overwrite(&bucket, "vault/log/1", "forged".into()).await.status, 200);
    let versions = target.versions("log/").await.unwrap();
    let kinds: Vec<_> = versions.iter().map(|(n, v)| (n.as_str(), v.latest, v.deletion, v.bytes)).collect();
    assert_eq!(kinds, [("log/1", true, false, 6), ("log/1", false, true, 0), ("log/1", false, false, 7)]);
    let genuine = &versions[2].1.id;
    let refused = s3.delete_version(&bucket, "vault/log/1", genuine).await;
    assert!(refused.status == 403 || refused.status == 400, "{refused:?}");
    assert_eq!(target.get_version("log/1", genuine).await.unwrap(), "genuine");
}

/// Locks are taken in one mode and asked for in the other.
async fn modes_are_kept(target: &Target) {
    let lock = |name: &'static str, mode, hours| async move {
        target.lock(name, mode, in_hours(hours)).await.unwrap()
    };
    let locked = |name: &'static str| async move { target.locked(name).await.unwrap().unwrap() };
    for name in ["firmer", "shorter", "weaker"] {
        target.put_new(name, Bytes::from_static(b"x")).await.unwrap();
    }
    // A lock of governance that lasts longer is no lock of compliance.
    lock("firmer", LockMode::Governance, 5).await;
    lock("firmer", LockMode::Compliance, 1).await;
    let (mode, until) = locked("firmer").await;
    assert!(mode == LockMode::Compliance && until > in_hours(4), "{mode} until {until}");
    lock("shorter", LockMode::Governance, 1).await;
    lock("shorter", LockMode::Compliance, 5).await;
    let (mode, until) = locked("shorter").await;
    assert!(mode == LockMode::Compliance && until > in_hours(4), "{mode} until {until}");
    // What is firmer stays so, and is as long as was asked for.
    lock("weaker", LockMode::Compliance, 1).await;
    lock("weaker", LockMode::Governance, 5).await;
    let (mode, until) = locked("weaker").await;
    assert!(mode == LockMode::Compliance && until > in_hours(4), "{mode} until {until}");
}

#[tokio::test]
async fn no_lock_is_ever_shortened_or_made_weaker() {
    modes_are_kept(&Bucket::new(true).target("memory:bucket")).await;
    let Some(s3) = server_or_skip("no_lock_is_ever_shortened_or_made_weaker") else { return };
    let bucket = s3.new_bucket("modes", true).await;
    modes_are_kept(&open_target_with(&format!("s3://{bucket}/vault"), &s3.settings()).unwrap()).await;
}

#[tokio::test]
async fn a_bucket_without_locks_says_so_and_a_default_retention_is_seen() {
    let Some(s3) = server_or_skip("a_bucket_without_locks_says_so_and_a_default_retention_is_seen") else {
        return;
    };
    let plain = s3.new_bucket("plain", false).await;
    let target = open_target_with(&format!("s3://{plain}"), &s3.settings()).unwrap();
    assert_eq!(target.locking().await.unwrap(), None);
    target.put_new("x", Bytes::from_static(b"x")).await.unwrap();
    assert!(target.lock("x", LockMode::Governance, in_hours(1)).await.is_err());
    assert!(open_target("memory:").unwrap().lock("x", LockMode::Governance, in_hours(1)).await.is_err());

    let locking = s3.new_bucket("default", true).await;
    s3.set_default_retention(&locking, "GOVERNANCE", 3).await;
    let target = open_target_with(&format!("s3://{locking}"), &s3.settings()).unwrap();
    assert_eq!(target.locking().await.unwrap().unwrap().default.as_deref(), Some("governance for 3 days"));
}

#[tokio::test]
async fn credentials_that_only_add_can_probe_and_put_but_neither_delete_nor_write_elsewhere() {
    let Some(s3) =
        server_or_skip("credentials_that_only_add_can_probe_and_put_but_neither_delete_nor_write_elsewhere")
    else {
        return;
    };
    let (bucket, other) = (s3.new_bucket("append", false).await, s3.new_bucket("other", false).await);
    let settings = s3.limited(&bucket, Rights::Append).await;
    let target = open_target_with(&format!("s3://{bucket}/v"), &settings).unwrap();
    target.probe("run").await.expect("what it leaves behind is swept later");
    assert_eq!(target.put_new("a", Bytes::from_static(b"a")).await.unwrap(), Put::Created);
    assert_eq!(target.put_new("a", Bytes::from_static(b"b")).await.unwrap(), Put::Existed);
    assert_eq!(target.list("").await.unwrap().len(), 2);
    let refused = target.delete("a").await.unwrap_err();
    assert!(matches!(refused, ObjectsError::Denied { .. }), "{refused}");
    assert_eq!(refused.code().to_string(), "KF0204");
    let elsewhere = open_target_with(&format!("s3://{other}/v"), &settings).unwrap();
    assert!(matches!(
        elsewhere.put_new("a", Bytes::from_static(b"a")).await,
        Err(ObjectsError::Denied { .. })
    ));
}

#[tokio::test]
async fn requests_are_counted_by_kind() {
    let target = open_target("memory:").unwrap();
    let metered = Metered::new(target.store.clone());
    let target = target.wrapped(|_| metered.clone());
    target.put_new("a/b", Bytes::from_static(b"12345")).await.unwrap();
    target.put_new("a/b", Bytes::from_static(b"other")).await.unwrap();
    target.get("a/b").await.unwrap();
    target.size("a/b").await.unwrap();
    target.list("a").await.unwrap();
    target.delete("a/b").await.unwrap();
    let seen = metered.requests();
    // The second put asks what stands there: its size, and since that fits, its bytes.
    assert_eq!((seen.puts, seen.heads, seen.gets, seen.lists, seen.deletes), (2, 2, 2, 1, 1), "{seen}");
    assert_eq!((seen.bytes_put, seen.dear(), seen.cheap()), (10, 3, 4));
}
