//! Retention in a vault: plans, their execution, orphans, and what rivals do to a plan.

use crate::common::*;
use jiff::{SignedDuration, Timestamp};
use keepfast_model::retention::Reason;
use keepfast_model::{BackupPoint, Coded, LogSeq, Period, Record, RetentionPolicy};
use keepfast_vault::{CheckOptions, PruneOptions, PrunePlan, Vault, VaultError};
use object_store::memory::InMemory;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const DAY: SignedDuration = SignedDuration::from_hours(24);

async fn new_vault(world: &World) -> (Arc<InMemory>, Vault) {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world.options()).await.unwrap();
    (store, vault)
}

fn last(n: u32) -> RetentionPolicy {
    RetentionPolicy { last: n, ..RetentionPolicy::default() }
}

/// A prune whose objects may go at once, orphans as young as they are.
fn at_once(name: &str, policy: RetentionPolicy) -> PruneOptions {
    PruneOptions {
        grace: SignedDuration::ZERO,
        orphan_age: Duration::ZERO,
        ..PruneOptions::of(backup(name), policy)
    }
}

fn seqs<'a>(points: impl IntoIterator<Item = &'a keepfast_model::PointId>) -> Vec<u64> {
    points.into_iter().map(|p| p.seq.0).collect()
}

fn removed(plan: &PrunePlan) -> Vec<u64> {
    seqs(plan.removed.iter().map(|r| &r.point))
}

async fn visible(vault: &Vault, name: &str) -> Vec<u64> {
    vault.points(&backup(name)).await.unwrap().iter().map(|p| p.seq().0).collect()
}

async fn assert_whole(vault: &Vault) {
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole(), "{:?}", report.damage);
}

/// Commits a point of this base and these changes.
async fn point(vault: &Vault, name: &str, base: &[&str], changes: &[&str]) -> u64 {
    back_up(vault, &backup(name), "run", &[sample("t", base, changes)]).await.unwrap().0
}

/// As [`point`], with a cut of its own.
async fn point_at(vault: &Vault, name: &str, cut: &str, base: &[&str]) -> u64 {
    let (mut point, written): (BackupPoint, _) =
        write_point(vault, &backup(name), "run", &[sample("t", base, &[])]).await.unwrap();
    point.cut.at = cut.parse().unwrap();
    vault.commit(vec![Record::Point(Box::new(point))], &written, &()).await.unwrap().0
}

#[tokio::test]
async fn a_plan_says_what_stays_and_why_and_what_goes_and_changes_nothing() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    let cuts =
        ["2026-01-10T10:00:00Z", "2026-02-01T10:00:00Z", "2026-02-01T20:00:00Z", "2026-02-02T10:00:00Z"];
    for (i, cut) in cuts.iter().enumerate() {
        point_at(&vault, "a", cut, &[&format!("own {i}"), "shared"]).await;
    }
    let held = vault.hold(&backup("a"), Some(LogSeq(2)), None, "audit").await.unwrap();
    let before = objects(&*store).await;
    let policy = RetentionPolicy { last: 1, periods: [(Period::Daily, 2)].into(), within: None };
    let plan = vault.plan_prune(&at_once("a", policy.clone())).await.unwrap();
    assert_eq!(objects(&*store).await, before, "a plan changes nothing");
    let kept: Vec<_> = plan.kept.iter().map(|k| (k.point.seq.0, k.reasons.clone(), k.holds.len())).collect();
    assert_eq!(
        kept,
        [
            (2, vec![Reason::Held], 1),
            (3, vec![Reason::Period(Period::Daily)], 0),
            (4, vec![Reason::Newest, Reason::Last, Reason::Period(Period::Daily)], 0),
        ]
    );
    assert_eq!(plan.kept[0].holds, [held]);
    assert_eq!(removed(&plan), [1]);
    assert_eq!((plan.unneeded.len(), plan.orphans.len()), (2, 0), "its manifest and its own segment");
    let bytes: u64 = plan.unneeded.iter().map(|o| before[&o.path].len() as u64).sum();
    assert_eq!(plan.bytes_given_back().0, bytes);
    // Made again, it is the same.
    assert_eq!(vault.plan_prune(&at_once("a", policy)).await.unwrap(), plan);
}

#[tokio::test]
async fn what_a_plan_condemned_is_given_back_after_its_grace_and_nothing_else() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    for i in 0..4 {
        point(&vault, "a", &[&format!("own {i}"), "shared"], &[]).await;
    }
    point(&vault, "b", &["own 0", "shared"], &[]).await;
    let before = objects(&*store).await.len();
    let options = PruneOptions { orphan_age: Duration::ZERO, ..PruneOptions::of(backup("a"), last(2)) };
    let plan = vault.plan_prune(&options).await.unwrap();
    let report = vault.prune(&plan).await.unwrap();
    assert_eq!(report.removed, [LogSeq(1), LogSeq(2)]);
    assert_eq!(report.condemned, 4);
    assert_eq!(visible(&vault, "a").await, [3, 4]);
    assert_whole(&vault).await;
    assert_eq!(vault.delete_condemned().await.unwrap(), 0, "the grace has not passed");
    let waiting = vault.plan_prune(&options).await.unwrap();
    assert!(waiting.is_empty());
    assert_eq!((waiting.waiting.objects, waiting.due.objects), (4, 0));
    assert_eq!(vault.prune(&waiting).await.unwrap().record, None, "nothing to do makes no record");
    world.clock.pass(DAY);
    assert_eq!(vault.plan_prune(&options).await.unwrap().due.bytes, plan.bytes_given_back().0);
    assert_eq!(vault.delete_condemned().await.unwrap(), 4);
    assert_eq!(
        objects(&*store).await.len(),
        before + 2 - 4,
        "two copies of the record came, four objects went"
    );
    assert_whole(&vault).await;
}

#[tokio::test]
async fn a_base_stays_for_as_long_as_an_increment_stands_on_it() {
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    point(&vault, "a", &["base"], &[]).await;
    point(&vault, "a", &["base"], &["c1"]).await;
    point(&vault, "a", &["base"], &["c1", "c2"]).await;
    let plan = vault.plan_prune(&at_once("a", last(1))).await.unwrap();
    assert_eq!(removed(&plan), [1, 2]);
    assert_eq!(plan.unneeded.len(), 1, "only the second point's own list of changes: {:?}", plan.unneeded);
    vault.prune(&plan).await.unwrap();
    vault.delete_condemned().await.unwrap();
    assert_whole(&vault).await;
    point(&vault, "a", &["new base"], &[]).await;
    let plan = vault.plan_prune(&at_once("a", last(1))).await.unwrap();
    assert_eq!(plan.unneeded.len(), 5, "base, two changes and their manifests");
    vault.prune(&plan).await.unwrap();
    assert_eq!(vault.delete_condemned().await.unwrap(), 5);
    assert_whole(&vault).await;
}

#[tokio::test]
async fn a_policy_that_keeps_nothing_or_names_no_backup_is_refused() {
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    point(&vault, "a", &["x"], &[]).await;
    let error = vault.plan_prune(&at_once("a", RetentionPolicy::default())).await.unwrap_err();
    assert_eq!(error.code().0, 260);
    let error = vault.plan_prune(&at_once("b", last(1))).await.unwrap_err();
    assert!(matches!(error, VaultError::NoBackup { .. }), "{error}");
    let (_other, stranger) = new_vault(&crate::common::world(2)).await;
    let plan = vault.plan_prune(&at_once("a", last(1))).await.unwrap();
    assert_eq!(stranger.prune(&plan).await.unwrap_err().code().0, 261);
}

#[tokio::test]
async fn a_stale_plan_takes_less_and_never_more() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    for i in 0..5 {
        point(&vault, "a", &[&format!("own {i}"), "old"], &[]).await;
    }
    let plan = vault.plan_prune(&at_once("a", last(2))).await.unwrap();
    assert_eq!(removed(&plan), [1, 2, 3]);
    // A rival holds one, another adds a point that uses what a removed point alone had, a third drops nothing.
    let rival = Vault::open_with(memory(store), crate::common::world(7).environment).await.unwrap();
    rival.hold(&backup("a"), Some(LogSeq(2)), None, "audit").await.unwrap();
    point(&rival, "a", &["own 0", "new"], &[]).await;
    let report = vault.prune(&plan).await.unwrap();
    assert_eq!(report.removed, [LogSeq(1), LogSeq(3)]);
    assert_eq!(visible(&vault, "a").await, [2, 4, 5, 7], "4 would go by the policy now, and was not shown");
    vault.delete_condemned().await.unwrap();
    assert_whole(&vault).await;
    // Executed twice, it has nothing left to do.
    assert_eq!(vault.prune(&plan).await.unwrap().record, None);
    assert_eq!(visible(&vault, "a").await, [2, 4, 5, 7]);
}

#[tokio::test]
async fn a_rival_prune_leaves_what_this_policy_keeps() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    for i in 0..3 {
        point(&vault, "a", &[&format!("own {i}")], &[]).await;
    }
    let plan = vault.plan_prune(&at_once("a", last(2))).await.unwrap();
    assert_eq!(removed(&plan), [1]);
    let rival = Vault::open_with(memory(store), crate::common::world(7).environment).await.unwrap();
    let prune = Record::Prune { points: vec![LogSeq(2)], condemned: vec![], delete_after: Timestamp::MAX };
    rival.commit(vec![prune], &[], &()).await.unwrap();
    assert_eq!(vault.prune(&plan).await.unwrap().record, None, "two points are left, and two stay");
    assert_eq!(visible(&vault, "a").await, [1, 3]);
    assert_whole(&vault).await;
}

#[tokio::test]
async fn a_clock_that_goes_back_between_plan_and_prune_condemns_nothing_that_stays() {
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    let now = world.clock.0.load(Ordering::SeqCst);
    let time = |seconds: i64| Timestamp::from_second(now - seconds).unwrap().to_string();
    point_at(&vault, "a", &time(200_000), &["one"]).await;
    point_at(&vault, "a", &time(-50_000), &["two"]).await;
    let policy = RetentionPolicy { within: Some(DAY * 2), ..RetentionPolicy::default() };
    let plan = vault.plan_prune(&at_once("a", policy)).await.unwrap();
    assert_eq!(removed(&plan), [1]);
    world.clock.pass(SignedDuration::from_secs(-100_000));
    assert_eq!(vault.prune(&plan).await.unwrap().record, None);
    assert_whole(&vault).await;
}

#[tokio::test]
async fn orphans_are_condemned_when_they_are_old_and_no_run_is_at_work() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    point(&vault, "a", &["x"], &[]).await;
    // A run that died wrote a segment and a manifest, and left its plan.
    write_point(&vault, &backup("a"), "dead", &[sample("t", &["lost", "x"], &[])]).await.unwrap();
    tamper(&*store, "manifests/not-a-manifest", Some("x".into())).await;
    tamper(&*store, "tables/ab/parity/x", Some("x".into())).await;
    let options = |age: u64| PruneOptions {
        orphan_age: Duration::from_secs(age),
        grace: SignedDuration::ZERO,
        ..PruneOptions::default()
    };
    // The store's objects are as old as the real clock says; ours is far ahead or right.
    let real = jiff::Timestamp::now().as_second();
    world.clock.0.store(real, Ordering::SeqCst);
    assert!(vault.plan_prune(&options(3600)).await.unwrap().is_empty(), "they are young");
    world.clock.0.store(real + 7200, Ordering::SeqCst);
    let plan = vault.plan_prune(&options(3600)).await.unwrap();
    assert_eq!((plan.orphans.len(), plan.unneeded.len(), plan.removed.len()), (2, 0, 0));
    let report = vault.prune(&plan).await.unwrap();
    assert_eq!((report.condemned, report.removed.len()), (2, 0));
    assert_eq!(vault.delete_condemned().await.unwrap(), 2);
    let left = objects(&*store).await;
    assert!(left.contains_key("manifests/not-a-manifest") && left.contains_key("tables/ab/parity/x"));
    assert_whole(&vault).await;
}

#[tokio::test]
async fn a_run_that_is_at_work_protects_what_was_written_since_it_began() {
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    point(&vault, "a", &["x"], &[]).await;
    let pause = async || tokio::time::sleep(Duration::from_millis(5)).await;
    let run = keepfast_model::RunId("alive".into());
    vault.put_plan(&run, &1).await.unwrap();
    pause().await;
    write_point(&vault, &backup("a"), "alive", &[sample("t", &["new", "x"], &[])]).await.unwrap();
    pause().await;
    let between = jiff::Timestamp::now().as_millisecond();
    pause().await;
    vault.put_task_result(&run, 0, &1).await.unwrap();
    let orphans = async || {
        let age = world.clock.0.load(Ordering::SeqCst) * 1000 - between;
        let orphan_age = Duration::from_millis(age.try_into().unwrap());
        let options = PruneOptions { orphan_age, ..PruneOptions::default() };
        vault.plan_prune(&options).await.unwrap().orphans.len()
    };
    assert_eq!(orphans().await, 0);
    vault.sweep_run(&run).await.unwrap();
    assert_eq!(orphans().await, 2, "nobody is at work");
}

#[tokio::test]
async fn a_slow_run_whose_objects_were_swept_commits_all_the_same() {
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    point(&vault, "a", &["x"], &[]).await;
    let (slow, written) =
        write_point(&vault, &backup("a"), "slow", &[sample("t", &["late", "x"], &[])]).await.unwrap();
    world.clock.0.store(jiff::Timestamp::now().as_second() + 90_000, Ordering::SeqCst);
    let options = PruneOptions { grace: SignedDuration::ZERO, ..PruneOptions::default() };
    let report = vault.prune(&vault.plan_prune(&options).await.unwrap()).await.unwrap();
    assert_eq!(report.condemned, 2, "its segment and its manifest");
    let seq = vault.commit(vec![Record::Point(Box::new(slow))], &written, &()).await.unwrap();
    assert_whole(&vault).await;
    assert_eq!(vault.delete_condemned().await.unwrap(), 2);
    assert_whole(&vault).await;
    assert_eq!(visible(&vault, "a").await, [1, seq.0]);
}

#[tokio::test]
async fn a_damaged_manifest_makes_no_segment_an_orphan() {
    let world = world(1);
    let (store, vault) = new_vault(&world).await;
    point(&vault, "a", &["x", "y"], &[]).await;
    point(&vault, "a", &["z"], &[]).await;
    point(&vault, "b", &["x"], &[]).await;
    let newest = vault.latest(&backup("a")).await.unwrap();
    let manifest = format!("manifests/{}", newest.tables[0].base[0].id);
    let whole = objects(&*store).await[&manifest].clone();
    tamper(&*store, &manifest, Some("rot".into())).await;
    world.clock.0.store(jiff::Timestamp::now().as_second() + 90_000, Ordering::SeqCst);
    let plan = vault.plan_prune(&at_once("a", last(1))).await.unwrap();
    let condemned: Vec<_> = plan.unneeded.iter().chain(&plan.orphans).map(|o| o.path.as_str()).collect();
    assert_eq!(condemned.len(), 1, "the first point's manifest only: {condemned:?}");
    assert!(condemned[0].starts_with("manifests/") && condemned[0] != manifest);
    vault.prune(&plan).await.unwrap();
    vault.delete_condemned().await.unwrap();
    // Healed, nothing is missing; what the damage hid is found now.
    tamper(&*store, &manifest, Some(whole)).await;
    assert_whole(&vault).await;
    let plan = vault.plan_prune(&at_once("a", last(1))).await.unwrap();
    assert_eq!(plan.orphans.len(), 2);
}

#[tokio::test]
async fn a_crash_at_any_operation_of_a_prune_leaves_what_stays_whole_and_a_rerun_finishes() {
    let world = world(1);
    let (origin, vault) = new_vault(&world).await;
    for i in 0..3 {
        point(&vault, "a", &[&format!("own {i}"), "shared"], &["c"]).await;
    }
    write_point(&vault, &backup("a"), "dead", &[sample("t", &["lost"], &[])]).await.unwrap();
    let later = jiff::Timestamp::now().as_second() + 90_000;
    let prune = |store: Arc<dyn object_store::ObjectStore>, seed: u64| async move {
        let world = crate::common::world(seed);
        world.clock.0.store(later, Ordering::SeqCst);
        let vault = Vault::open_with(memory(store), world.environment).await?;
        vault.prune(&vault.plan_prune(&at_once("a", last(1))).await?).await?;
        vault.delete_condemned().await?;
        Ok::<_, VaultError>(vault)
    };
    let counted = Faulty::new(fork(&origin), u64::MAX, Fault::DiesBefore);
    prune(counted.clone(), 2).await.unwrap();
    let wanted = objects(&*origin).await.len() + 2 - 8;
    let mut cuts = 0;
    for fault in [Fault::DiesBefore, Fault::DiesAfter, Fault::LosesAnswer, Fault::LosesAnswerAndRetries] {
        for at in 0..counted.operations() {
            let store = fork(&origin);
            let _ = prune(Faulty::new(store.clone(), at, fault), 3).await;
            let vault =
                Vault::open_with(memory(store.clone()), crate::common::world(4).environment).await.unwrap();
            assert_whole(&vault).await;
            let vault = prune(store.clone(), 5).await.unwrap();
            assert_whole(&vault).await;
            assert_eq!(visible(&vault, "a").await, [3], "{fault:?} at {at}");
            let left = objects(&*store).await.len();
            assert!(left == wanted || left == wanted + 2, "{fault:?} at {at}: {left} objects");
            cuts += 1;
        }
    }
    eprintln!("COUNT {cuts} cuts: of a prune of {} operations", counted.operations());
}

#[tokio::test]
async fn a_large_prune_takes_several_records() {
    let world = world(1);
    let (_store, vault) = new_vault(&world).await;
    let names = keepfast_vault::prune::NAMES_A_RECORD + 100;
    let texts: Vec<String> = (0..names).map(|i| i.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    point(&vault, "a", &texts, &[]).await;
    point(&vault, "a", &["0"], &[]).await;
    let fork = vault.copy_to(&memory(Arc::new(InMemory::new())), &()).await.unwrap();
    assert!(fork.objects > names as u64);
    let plan = vault.plan_prune(&at_once("a", last(1))).await.unwrap();
    let report = vault.prune(&plan).await.unwrap();
    assert_eq!(report.condemned as usize, plan.unneeded.len());
    assert_eq!(vault.log().await.unwrap().head().unwrap().0, LogSeq(4), "two records");
    assert_eq!(vault.delete_condemned().await.unwrap(), report.condemned);
    assert_whole(&vault).await;
    // A drop of many objects as well.
    point(&vault, "b", &texts, &[]).await;
    vault.drop_backup(&backup("b"), SignedDuration::ZERO).await.unwrap();
    assert_eq!(vault.log().await.unwrap().head().unwrap().0, LogSeq(7));
    assert!(vault.delete_condemned().await.unwrap() > names as u64);
    assert_whole(&vault).await;
}
