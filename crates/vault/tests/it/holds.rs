//! Holds of long readers: taken late, renewed, released, and never in anybody's way.

use crate::common::*;
use jiff::{SignedDuration, Timestamp};
use keepfast_model::{Coded, LogSeq, Record};
use keepfast_vault::{HoldTerms, Log, StillNewest, Vault, VaultError};
use object_store::memory::InMemory;
use std::sync::Arc;
use std::time::Duration;

/// Taken at once, and renewed every few milliseconds; by the vault's own clock it holds for three hours.
const EAGER: HoldTerms = HoldTerms { after: Duration::ZERO, term: Duration::from_millis(9) };

async fn vault_with_a_point() -> (Arc<InMemory>, Vault, World) {
    let world = world(1);
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world.options()).await.unwrap();
    back_up(&vault, &backup("a"), "r1", &[sample("t", &["x"], &[])]).await.unwrap();
    (store, vault, world)
}

async fn records(vault: &Vault) -> u64 {
    vault.log().await.unwrap().head().unwrap().0.0
}

/// Waits until the log is so.
async fn until(vault: &Vault, is: impl Fn(&Log) -> bool) -> Log {
    loop {
        let log = vault.log().await.unwrap();
        if is(&log) {
            return log;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_short_reader_takes_no_hold_and_a_long_one_holds_renews_and_releases() {
    let (_store, vault, _world) = vault_with_a_point().await;
    let held = || vec![(backup("a"), Some(LogSeq(1)))];
    let short = vault.under_hold(held(), "restore", HoldTerms::default(), tokio::task::yield_now());
    short.await;
    assert_eq!(records(&vault).await, 1);
    let observed = vault.clone();
    let long = vault.under_hold(held(), "restore", EAGER, async {
        let hold = |log: &Log| log.holds().next().cloned();
        let first = hold(&until(&observed, |log| hold(log).is_some()).await).unwrap();
        assert_eq!((first.reason.as_str(), first.point), ("restore", Some(LogSeq(1))));
        let renewed = |log: &Log| hold(log).is_some_and(|h| h.until > first.until && h.id == first.id);
        let log = until(&observed, renewed).await;
        assert_eq!(log.holds().count(), 1, "one hold, renewed");
    });
    long.await;
    assert_eq!(vault.log().await.unwrap().holds().count(), 0, "it is released");
    assert!(records(&vault).await >= 4, "taken, renewed, released");
}

#[tokio::test]
async fn a_dead_readers_hold_runs_out_by_itself() {
    let (_store, vault, world) = vault_with_a_point().await;
    let terms = HoldTerms { after: Duration::ZERO, term: Duration::from_secs(3600) };
    let reading = vault.under_hold(vec![(backup("a"), None)], "restore", terms, std::future::pending::<()>());
    // The process dies: its future is never polled again.
    tokio::select! {
        () = reading => unreachable!("it reads for ever"),
        _ = until(&vault, |log| log.holds().count() == 1) => {}
    }
    let name = backup("a");
    let drop = || vault.drop_backup(&name, SignedDuration::ZERO);
    assert!(matches!(drop().await, Err(VaultError::Held { .. })));
    world.clock.pass(SignedDuration::from_secs(3600));
    drop().await.unwrap();
}

#[tokio::test]
async fn a_reader_that_can_take_no_hold_reads_on_without_one() {
    let (_store, vault, _world) = vault_with_a_point().await;
    // The point is gone when the hold would be taken: the work goes on all the same.
    vault.drop_backup(&backup("a"), SignedDuration::from_hours(1)).await.unwrap();
    let work = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        "read"
    };
    assert_eq!(vault.under_hold(vec![(backup("a"), Some(LogSeq(1)))], "restore", EAGER, work).await, "read");
    assert_eq!(vault.log().await.unwrap().holds().count(), 0);
}

#[tokio::test]
async fn a_hold_of_a_point_that_is_gone_is_refused() {
    let (_store, vault, _world) = vault_with_a_point().await;
    back_up(&vault, &backup("a"), "r2", &[sample("t", &["y"], &[])]).await.unwrap();
    let prune = Record::Prune { points: vec![LogSeq(1)], condemned: vec![], delete_after: Timestamp::MAX };
    vault.commit(vec![prune], &[], &()).await.unwrap();
    let error = vault.hold(&backup("a"), Some(LogSeq(1)), None, "late").await.unwrap_err();
    assert!(matches!(error, VaultError::NoPoint { .. }), "{error}");
}

#[tokio::test]
async fn what_was_made_from_an_older_point_does_not_hide_a_newer_one() {
    let (_store, vault, _world) = vault_with_a_point().await;
    let base = vault.latest(&backup("a")).await.unwrap().id().clone();
    let (folded, written) =
        write_point(&vault, &backup("a"), "compact", &[sample("t", &["folded"], &[])]).await.unwrap();
    back_up(&vault, &backup("a"), "r2", &[sample("t", &["y"], &[])]).await.unwrap();
    let record = vec![Record::Point(Box::new(folded))];
    let error = vault.commit(record.clone(), &written, &StillNewest(base)).await.unwrap_err();
    assert_eq!(error.code().0, 262);
    let newest = vault.latest(&backup("a")).await.unwrap().id().clone();
    vault.commit(record, &written, &StillNewest(newest)).await.unwrap();
}
