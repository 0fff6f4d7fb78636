//! Rivals: the vault's real code, interleaved operation by operation in orders that follow from seeds.
//!
//! After every interleaving all visible points are whole, now and when everything that may be deleted was deleted;
//! whoever reported success has it; and a reader under a hold read everything. `KEEPFAST_LONG=1` runs fifty times as
//! many seeds.

use crate::common::schedule::{Ended, Scheduled, interleave, now};
use crate::common::*;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use jiff::{SignedDuration, Timestamp};
use keepfast_keys::Credentials;
use keepfast_model::random::Random;
use keepfast_model::{Encryption, LogSeq, PointId, Record, RetentionPolicy, Selection, TableName};
use keepfast_objects::Target;
use keepfast_vault::{
    CheckOptions, Clock, CreateOptions, Environment, PruneOptions, StillNewest, Vault, VaultError, layout,
};
use object_store::memory::InMemory;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// One time for all, and how far this one's clock is ahead of it.
#[derive(Debug)]
struct Skewed {
    time: Arc<AtomicI64>,
    ahead: i64,
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.time.load(Ordering::SeqCst) + self.ahead).unwrap()
    }
}

/// Clocks differ by at most this many seconds; every grace is longer.
const SKEW: u64 = 30;
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// How long a reader's hold is.
const HOLD: i64 = 300;

/// What opens the vault where it has keys.
fn with_key(environment: Environment) -> Environment {
    Environment { credentials: Credentials::passphrase("the passphrase of all rivals"), ..environment }
}

/// What an actor reports.
#[derive(Debug)]
enum Report {
    /// A point stands.
    Committed(LogSeq),
    /// Everything of a point was read.
    Read,
    /// All damage was healed.
    Healed,
    /// A copy was made, and is whole.
    Copied,
    /// The vault got new keys.
    Rotated,
    /// Something else was done.
    Done,
    /// It was refused, and says so.
    Refused,
    /// A reader under a hold missed something.
    Missed(VaultError),
}

/// What errors a rival may cause: each is one that the same command, run again, gets over.
fn refused(error: VaultError) -> Report {
    match error {
        VaultError::NoBackup { .. }
        | VaultError::NoPoint { .. }
        | VaultError::Held { .. }
        | VaultError::Pruned { .. }
        | VaultError::Incomplete { .. }
        | VaultError::Superseded { .. } => Report::Refused,
        other => panic!("a rival causes no such error: {other}"),
    }
}

struct Scene {
    store: Arc<Scheduled>,
    /// The vault as it was, whole, at another place.
    whole: Arc<InMemory>,
    /// Where it is copied to.
    copy: Arc<InMemory>,
    time: Arc<AtomicI64>,
    seed: u64,
}

type Actor<'a> = LocalBoxFuture<'a, Report>;

impl Scene {
    /// A vault of its own for an actor: nothing but the store is shared.
    async fn open(&self, actor: u64) -> Vault {
        let mut dice = Random::new(self.seed.wrapping_mul(31).wrapping_add(actor));
        let clock = Skewed { time: self.time.clone(), ahead: dice.below(SKEW) as i64 };
        let own = world(self.seed.wrapping_mul(64).wrapping_add(actor + 1)).environment;
        let environment = with_key(Environment { clock: Arc::new(clock), parallel: 3, ..own });
        Vault::open_with(memory(self.store.clone()), environment).await.unwrap()
    }

    fn backup<'a>(&'a self, actor: u64, base: &'a [&'a str], changes: &'a [&'a str]) -> Actor<'a> {
        async move {
            let vault = self.open(actor).await;
            match back_up(&vault, &backup("a"), &format!("run-{actor}"), &[sample("t", base, changes)]).await
            {
                Ok(seq) => Report::Committed(seq),
                Err(e) => refused(e),
            }
        }
        .boxed_local()
    }

    fn prune(&self, actor: u64, last: u32) -> Actor<'_> {
        async move {
            let vault = self.open(actor).await;
            let policy = RetentionPolicy { last, ..RetentionPolicy::default() };
            let options = PruneOptions {
                grace: GRACE,
                orphan_age: Duration::ZERO,
                ..PruneOptions::of(backup("a"), policy)
            };
            let pruned = async {
                let plan = vault.plan_prune(&options).await?;
                vault.prune(&plan).await?;
                vault.delete_condemned().await
            };
            pruned.await.map_or_else(refused, |_| Report::Done)
        }
        .boxed_local()
    }

    fn delete(&self, actor: u64) -> Actor<'_> {
        async move {
            let vault = self.open(actor).await;
            for _ in 0..3 {
                vault.delete_condemned().await.unwrap();
            }
            Report::Done
        }
        .boxed_local()
    }

    fn drop_backup(&self, actor: u64) -> Actor<'_> {
        async move {
            let vault = self.open(actor).await;
            let dropped = async {
                vault.drop_backup(&backup("a"), GRACE).await?;
                vault.delete_condemned().await
            };
            dropped.await.map_or_else(refused, |_| Report::Done)
        }
        .boxed_local()
    }

    /// Reads the newest point under a hold, as a restore does.
    fn read(&self, actor: u64) -> Actor<'_> {
        async move {
            let vault = self.open(actor).await;
            let held = async {
                let point = vault.latest(&backup("a")).await?;
                let now = self.time.load(Ordering::SeqCst);
                let until = Timestamp::from_second(now + HOLD).unwrap();
                let id = vault.hold(&backup("a"), Some(point.seq()), Some(until), "restore").await?;
                Ok((point, id, until))
            };
            let (point, id, until) = match held.await {
                Ok(held) => held,
                Err(e) => return refused(e),
            };
            let read = async {
                for table in &point.tables {
                    let manifests = vault.read_manifests(table).await?;
                    for entry in manifests.base.iter().flat_map(|m| &m.segments) {
                        vault.read_segment(&table.id, entry).await?;
                    }
                    for entry in manifests.changes.iter().flat_map(|m| &m.segments) {
                        vault.read_change_segment(&table.id, entry).await?;
                    }
                }
                Ok(())
            };
            let result = read.await;
            let late = self.time.load(Ordering::SeqCst) >= until.as_second();
            match result {
                Ok(()) => {}
                Err(_) if late => return Report::Done,
                Err(e) => return Report::Missed(e),
            }
            vault.release(&id).await.unwrap();
            Report::Read
        }
        .boxed_local()
    }

    /// Folds the newest point into a new base.
    fn compact(&self, actor: u64) -> Actor<'_> {
        async move {
            let vault = self.open(actor).await;
            let folded = async {
                let point = vault.latest(&backup("a")).await?;
                let base = point.id().clone();
                for table in &point.tables {
                    vault
                        .read_manifests(table)
                        .await
                        .map_err(|_| VaultError::Pruned { path: "base".into() })?;
                }
                let (mut new, written) = write_point(
                    &vault,
                    &backup("a"),
                    &format!("fold-{actor}"),
                    &[sample("t", &["folded"], &[])],
                )
                .await?;
                new.cut = point.cut.clone();
                vault.commit(vec![Record::Point(Box::new(new))], &written, &StillNewest(base)).await
            };
            folded.await.map_or_else(refused, Report::Committed)
        }
        .boxed_local()
    }

    /// Heals what is damaged, from another copy of the vault.
    fn repair(&self, actor: u64) -> Actor<'_> {
        async move {
            let vault = self.open(actor).await;
            let report = vault.repair(Some(&memory(self.whole.clone())), &()).await.unwrap();
            assert!(report.lost.is_empty(), "seed {}: {:?}", self.seed, report.lost);
            Report::Healed
        }
        .boxed_local()
    }

    /// Copies the vault, which then is whole there.
    fn copy(&self, actor: u64) -> Actor<'_> {
        async move {
            let vault = self.open(actor).await;
            let to = Target::new(self.copy.clone(), Default::default(), "memory:copy");
            vault.copy_to(&to, &()).await.unwrap_or_else(|e| panic!("seed {}: {e}", self.seed));
            let copy =
                Vault::open_with(memory(self.copy.clone()), world(self.seed).environment).await.unwrap();
            assert_whole(&copy, "the copy", self.seed).await;
            Report::Copied
        }
        .boxed_local()
    }

    /// Gives the vault a new vault key, twice.
    fn rotate(&self, actor: u64) -> Actor<'_> {
        async move {
            let vault = self.open(actor).await;
            for _ in 0..2 {
                vault.rotate_keys().await.unwrap_or_else(|e| panic!("seed {}: {e}", self.seed));
            }
            Report::Rotated
        }
        .boxed_local()
    }

    /// Checks everything while others change it.
    fn check(&self, actor: u64) -> Actor<'_> {
        async move {
            let vault = self.open(actor).await;
            let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
            assert!(report.is_whole(), "seed {}: {:?}", self.seed, report.damage);
            Report::Done
        }
        .boxed_local()
    }
}

/// A vault with three points, a condemned name that may come back, and what a dead run left.
async fn origin(encrypted: bool) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let environment = with_key(world(9).environment);
    let options = CreateOptions { environment, ..CreateOptions::default() };
    let vault = Vault::create(memory(store.clone()), &options).await.unwrap();
    if encrypted {
        let table = Vault::table_id(&backup("a"), "columnar", &TableName::bare("t"), &Selection::default());
        vault.encrypt_table(&table, &Encryption::Full).await.unwrap();
    }
    back_up(&vault, &backup("a"), "r1", &[sample("t", &["one", "two"], &[])]).await.unwrap();
    back_up(&vault, &backup("a"), "r2", &[sample("t", &["two", "three"], &["c1"])]).await.unwrap();
    back_up(&vault, &backup("a"), "r3", &[sample("t", &["three", "four"], &[])]).await.unwrap();
    write_point(&vault, &backup("a"), "dead", &[sample("t", &["lost"], &[])]).await.unwrap();
    store
}

/// The objects that these samples make, torn.
async fn torn(origin: &InMemory, texts: &[&str]) -> Arc<InMemory> {
    let store = fork(origin);
    let mut tears = 0;
    for (name, bytes) in objects(&*store).await {
        let is_of = |text: &&str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        if name.contains("/segments/") && texts.iter().any(is_of) {
            tamper(&*store, &name, Some(bytes.slice(..bytes.len() / 2))).await;
            tears += 1;
        }
    }
    assert_eq!(tears, texts.len());
    store
}

/// What a dead run left, torn: its segment and the manifest that lists it.
async fn left_torn(origin: &InMemory) -> Arc<InMemory> {
    let store = torn(origin, &["t lost"]).await;
    let vault = Vault::open_with(memory(store.clone()), world(9).environment).await.unwrap();
    let log = vault.log().await.unwrap();
    let named: Vec<String> = log
        .all_points()
        .flat_map(|p| &p.tables)
        .flat_map(|t| t.base.iter().chain(t.changes.iter().map(|c| &c.manifest)))
        .map(|m| layout::manifest(m.id))
        .collect();
    let left: Vec<_> = objects(&*store)
        .await
        .into_iter()
        .filter(|(n, _)| n.starts_with("manifests/") && !named.contains(n))
        .collect();
    assert_eq!(left.len(), 1);
    tamper(&*store, &left[0].0, Some(left[0].1.slice(..5))).await;
    store
}

async fn assert_whole(vault: &Vault, when: &str, seed: u64) {
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole(), "seed {seed}, {when}: {:?}", report.damage);
}

#[derive(Debug, Default)]
struct Counts {
    interleavings: u64,
    operations: u64,
    committed: u64,
    read: u64,
    healed: u64,
    copied: u64,
    rotated: u64,
    refused: u64,
    crashed: u64,
    late_deletions: u64,
}

fn play(
    (plain, encrypted): &(Arc<InMemory>, Arc<InMemory>),
    scenario: usize,
    seed: u64,
    counts: &mut Counts,
) {
    let of_keys = [ROTATION, CHECKED_ROTATION].contains(&SCENARIOS[scenario]);
    let origin = if of_keys { encrypted } else { plain };
    let damaged = match SCENARIOS[scenario] {
        DEAD_RUN => now(left_torn(origin)),
        HEALERS => now(torn(origin, &["t three", "t four"])),
        _ => fork(origin),
    };
    let scene = Scene {
        store: Scheduled::new(damaged),
        whole: origin.clone(),
        copy: Arc::default(),
        time: Arc::new(AtomicI64::new(Timestamp::now().as_second() + 1_000)),
        seed,
    };
    let s = &scene;
    let actors: Vec<Actor<'_>> = match scenario {
        0 => vec![s.backup(0, &["one", "five"], &[]), s.backup(1, &["one", "four"], &["c1"])],
        1 => vec![s.backup(0, &["one", "lost"], &[]), s.prune(1, 1), s.delete(2)],
        2 => vec![s.read(0), s.backup(1, &["one"], &[]), s.prune(2, 1), s.delete(3)],
        3 => vec![s.compact(0), s.read(1), s.prune(2, 1), s.delete(3)],
        4 => vec![s.drop_backup(0), s.backup(1, &["three", "six"], &["c1"]), s.delete(2)],
        5 => vec![s.prune(0, 2), s.prune(1, 1), s.backup(2, &["two", "lost"], &["c1"]), s.delete(3)],
        6 => vec![s.check(0), s.prune(1, 1), s.backup(2, &["one"], &[]), s.delete(3)],
        7 => {
            vec![s.backup(0, &["lost"], &[]), s.backup(1, &["lost"], &[]), s.backup(2, &["lost", "one"], &[])]
        }
        8 => vec![s.repair(0), s.repair(1), s.backup(2, &["three", "six"], &["c1"])],
        9 => vec![s.copy(0), s.prune(1, 1), s.backup(2, &["one"], &[]), s.delete(3), s.delete(4)],
        10 => {
            vec![s.rotate(0), s.backup(1, &["one", "five"], &["c1"]), s.rotate(2), s.read(3), s.prune(4, 1)]
        }
        11 => vec![s.check(0), s.rotate(1), s.check(2), s.rotate(3)],
        _ => vec![
            s.backup(0, &["one", "two"], &["c1"]),
            s.compact(1),
            s.read(2),
            s.drop_backup(3),
            s.prune(4, 1),
            s.delete(5),
        ],
    };
    let mut dice = Random::new(seed);
    let crashes = dice.one_in(2);
    let mut late = 0;
    let ended = interleave(&mut dice, actors, crashes, |dice| {
        if dice.one_in(6) {
            s.time.fetch_add(dice.below(40) as i64, Ordering::SeqCst);
        }
        // A crashed actor's deletion takes effect whenever it likes.
        if crashes && dice.one_in(20) {
            late += u64::from(now(s.store.late_deletion(dice)));
        }
    });
    let deletions = now(async {
        let mut n = 0;
        while s.store.late_deletion(&mut dice).await {
            n += 1;
        }
        n
    });
    counts.late_deletions += late + deletions;
    counts.interleavings += 1;
    counts.operations += s.store.operations();
    let after = world(seed ^ 0xffff_ffff);
    now(async {
        let store = s.store.inner.clone();
        let vault =
            Vault::open_with(memory(store.clone()), with_key(after.environment.clone())).await.unwrap();
        let healed = ended.iter().any(|e| matches!(e, Ended::With(Report::Healed)));
        if SCENARIOS[scenario] == HEALERS && !healed {
            // Nobody said so; the next one heals it.
            vault.repair(Some(&memory(s.whole.clone())), &()).await.unwrap();
        }
        assert_whole(&vault, "at the end", seed).await;
        let log = vault.log().await.unwrap();
        for report in ended {
            match report {
                Ended::Crashed => counts.crashed += 1,
                Ended::With(Report::Committed(seq)) => {
                    counts.committed += 1;
                    assert!(
                        log.lines().any(|line| line.seq == seq),
                        "seed {seed}: record {seq} is not there"
                    );
                }
                Ended::With(Report::Read) => counts.read += 1,
                Ended::With(Report::Healed) => counts.healed += 1,
                Ended::With(Report::Copied) => counts.copied += 1,
                Ended::With(Report::Rotated) => counts.rotated += 1,
                Ended::With(Report::Refused) => counts.refused += 1,
                Ended::With(Report::Missed(e)) => panic!("seed {seed}: a reader under a hold: {e}"),
                Ended::With(Report::Done) => {}
            }
        }
        // Everything that may ever be deleted is, and a backup that uses all names again stands.
        after.clock.0.store(s.time.load(Ordering::SeqCst) + 1_000_000, Ordering::SeqCst);
        vault.delete_condemned().await.unwrap();
        assert_whole(&vault, "when all is deleted", seed).await;
        let all = ["one", "two", "three", "four", "five", "lost", "folded"];
        let seq = back_up(&vault, &backup("a"), "last", &[sample("t", &all, &["c1"])]).await.unwrap();
        vault.delete_condemned().await.unwrap();
        assert_whole(&vault, "after one more backup", seed).await;
        let id = PointId { backup: backup("a"), seq };
        assert_eq!(vault.latest(&backup("a")).await.unwrap().id(), &id);
    });
}

const DEAD_RUN: &str = "backups of what a dead run left torn";
const HEALERS: &str = "two repairs beside a backup of what they heal";

const ROTATION: &str = "two rotations beside a backup, a restore and a prune";

const CHECKED_ROTATION: &str = "two checks beside two rotations";

const SCENARIOS: [&str; 13] = [
    "two backups to one name",
    "a backup beside a prune",
    "a restore beside a backup and a prune",
    "a compaction beside a restore and a prune",
    "a drop beside a backup",
    "two prunes beside a backup",
    "a check beside a prune and a backup",
    DEAD_RUN,
    HEALERS,
    "a copy beside a prune and a backup",
    ROTATION,
    CHECKED_ROTATION,
    "everybody at once",
];

#[test]
fn nothing_visible_is_lost_in_any_interleaving_of_rivals() {
    let seeds =
        if std::env::var_os("KEEPFAST_LONG").is_some_and(|value| value == "1") { 25_000 } else { 500 };
    let origins = (now(origin(false)), now(origin(true)));
    let mut all = Counts::default();
    for (scenario, name) in SCENARIOS.iter().enumerate() {
        let mut counts = Counts::default();
        for seed in 0..seeds {
            play(&origins, scenario, seed * SCENARIOS.len() as u64 + scenario as u64, &mut counts);
        }
        eprintln!("{name}: {counts:?}");
        all.interleavings += counts.interleavings;
        all.operations += counts.operations;
        all.committed += counts.committed;
        all.read += counts.read;
        all.healed += counts.healed;
        all.copied += counts.copied;
        all.rotated += counts.rotated;
        all.crashed += counts.crashed;
        all.late_deletions += counts.late_deletions;
    }
    eprintln!("COUNT {} interleavings: of {} operations, seeds from 0", all.interleavings, all.operations);
    assert!(all.committed > all.interleavings / 4 && all.crashed > 0 && all.late_deletions > 0, "{all:?}");
    assert!(all.read > 0 && all.healed > 0 && all.copied > 0 && all.rotated > 0, "{all:?}");
}
