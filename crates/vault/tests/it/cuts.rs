//! Every operation of every act on a vault goes wrong in every way: earlier points stay whole, nothing is reported that
//! is not there, and the same act succeeds afterwards without any step by hand.

use crate::common::*;
use futures::future::BoxFuture;
use keepfast_keys::{Cost, Credentials, NewRecipient, Passphrase};
use keepfast_model::{Encryption, LogSeq, RetentionPolicy, Selection, TableId, TableName};
use keepfast_objects::Target;
use keepfast_vault::{
    AsOf, CheckOptions, CreateOptions, Environment, PruneOptions, Vault, VaultError, layout,
};
use object_store::memory::InMemory;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an act works with: a vault, and a place to copy it to.
struct Hands {
    vault: Vault,
    copy: Target,
}

/// An act on a vault. A new one is one line in [`ACTS`] or [`KEY_ACTS`].
struct Act {
    name: &'static str,
    run: for<'a> fn(&'a Hands) -> BoxFuture<'a, Result<(), VaultError>>,
}

const ACTS: &[Act] = &[
    Act { name: "backup", run: |h| Box::pin(backing_up(h)) },
    Act { name: "drop", run: |h| Box::pin(dropping(h)) },
    Act { name: "prune", run: |h| Box::pin(pruning(h)) },
    Act { name: "delete condemned", run: |h| Box::pin(deleting(h)) },
    Act { name: "hold", run: |h| Box::pin(holding(h)) },
    Act { name: "release", run: |h| Box::pin(releasing(h)) },
    Act { name: "copy", run: |h| Box::pin(copying(h)) },
];

/// A vault without keys gets some.
const FIRST_KEYS: Act = Act { name: "first key add", run: |h| Box::pin(adding_first(h)) };

/// Acts on the keys of a vault that has some.
const KEY_ACTS: &[Act] = &[
    Act { name: "key add", run: |h| Box::pin(adding(h)) },
    Act { name: "keys for a table", run: |h| Box::pin(encrypting(h)) },
    Act { name: "key rotate", run: |h| Box::pin(h.vault.rotate_keys()) },
    Act { name: "key remove", run: |h| Box::pin(h.vault.remove_recipient("ops")) },
    Act { name: "key shred", run: |h| Box::pin(shredding(h)) },
];

const PHRASE: &str = "the passphrase of whoever made it";
const OPS: &str = "the passphrase of ops";

fn passphrase(text: &str) -> NewRecipient {
    NewRecipient::Passphrase(Passphrase::new(text.to_owned()), Cost::TRIVIAL)
}

fn id_of(to: &str, table: &str) -> TableId {
    Vault::table_id(&backup(to), "columnar", &TableName::bare(table), &Selection::default())
}

async fn adding(hands: &Hands) -> Result<(), VaultError> {
    hands.vault.add_recipient("new", &passphrase("another passphrase")).await
}

async fn adding_first(hands: &Hands) -> Result<(), VaultError> {
    hands.vault.add_recipient("first", &passphrase(PHRASE)).await
}

async fn encrypting(hands: &Hands) -> Result<(), VaultError> {
    hands.vault.encrypt_table(&id_of("kept", "new"), &Encryption::Full).await
}

async fn shredding(hands: &Hands) -> Result<(), VaultError> {
    hands.vault.shred(&id_of("unwanted", "items"), None).await
}

async fn pruning(hands: &Hands) -> Result<(), VaultError> {
    let policy = RetentionPolicy { last: 1, ..RetentionPolicy::default() };
    let options =
        PruneOptions { grace: jiff::SignedDuration::ZERO, ..PruneOptions::of(backup("thinned"), policy) };
    hands.vault.prune(&hands.vault.plan_prune(&options).await?).await?;
    hands.vault.delete_condemned().await.map(drop)
}

async fn backing_up(hands: &Hands) -> Result<(), VaultError> {
    let samples = [sample("orders", &["a", "e"], &["f"]), sample("items", &["c"], &["d", "g"])];
    back_up(&hands.vault, &backup("kept"), "new", &samples).await.map(drop)
}

async fn dropping(hands: &Hands) -> Result<(), VaultError> {
    hands.vault.drop_backup(&backup("unwanted"), jiff::SignedDuration::ZERO).await.map(drop)
}

async fn deleting(hands: &Hands) -> Result<(), VaultError> {
    hands.vault.delete_condemned().await.map(drop)
}

async fn holding(hands: &Hands) -> Result<(), VaultError> {
    hands.vault.hold(&backup("unwanted"), None, None, "test").await.map(drop)
}

async fn releasing(hands: &Hands) -> Result<(), VaultError> {
    let held: Vec<String> = hands.vault.log().await?.holds().map(|h| h.id.clone()).collect();
    for id in held {
        hands.vault.release(&id).await?;
    }
    Ok(())
}

async fn copying(hands: &Hands) -> Result<(), VaultError> {
    hands.vault.copy_to(&hands.copy, &()).await.map(drop)
}

/// What can be seen of a vault: its points, how many holds it has, who can open it, how often its keys were changed and
/// which tables have some; and whether its copy is a vault.
#[derive(Debug, PartialEq)]
struct Seen {
    points: Vec<(String, LogSeq, String)>,
    holds: usize,
    recipients: Vec<String>,
    generations: usize,
    keyed: usize,
    copied: bool,
}

async fn seen(vault: &Arc<InMemory>, copy: &Arc<InMemory>) -> Seen {
    let vault = open(vault).await;
    let log = vault.log().await.unwrap();
    let points = log.all_points().map(|p| (p.backup.to_string(), p.seq(), p.run.0.clone())).collect();
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    assert!(report.is_whole(), "{:?}", report.damage);
    let (_, recipients) = vault.recipients().await.unwrap();
    let keyring = vault.keyring().await.unwrap();
    // Its marker comes last and makes it a vault.
    let copied = memory(copy.clone()).size("keepfast.json").await.unwrap().is_some();
    if copied {
        let report = open(copy).await.check(&CheckOptions::default(), &()).await.unwrap();
        assert!(report.is_whole(), "{:?}", report.damage);
    }
    Seen {
        points,
        holds: log.holds().count(),
        recipients: recipients.iter().map(|r| r.name().to_owned()).collect(),
        generations: log.keys().len(),
        keyed: keyring.map_or(0, |keyring| keyring.tables().count()),
        copied,
    }
}

fn with_key(environment: Environment) -> Environment {
    let credentials = Credentials::passphrase(PHRASE).with_passphrase(Passphrase::new(OPS.to_owned()));
    Environment { credentials, ..environment }
}

async fn open(store: &Arc<InMemory>) -> Vault {
    Vault::open_with(memory(store.clone()), with_key(world(9).environment)).await.unwrap()
}

/// Four backups, of which one has three points and one is held, and condemned objects that wait.
async fn origin(encrypted: bool) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let environment = with_key(world(1).environment);
    let options = CreateOptions { environment, ..CreateOptions::default() };
    let vault = Vault::create(memory(store.clone()), &options).await.unwrap();
    if encrypted {
        for (to, table) in [("kept", "orders"), ("unwanted", "items"), ("thinned", "orders")] {
            vault.encrypt_table(&id_of(to, table), &Encryption::Full).await.unwrap();
        }
        vault.add_recipient("ops", &passphrase(OPS)).await.unwrap();
    }
    let samples = [sample("orders", &["a", "b"], &[]), sample("items", &["c"], &["d"])];
    back_up(&vault, &backup("kept"), "first", &samples).await.unwrap();
    back_up(&vault, &backup("unwanted"), "first", &samples).await.unwrap();
    back_up(&vault, &backup("gone"), "first", &samples).await.unwrap();
    for (run, text) in [("first", "a"), ("second", "b"), ("third", "c")] {
        back_up(&vault, &backup("thinned"), run, &[sample("orders", &[text, "all"], &[])]).await.unwrap();
    }
    vault.hold(&backup("kept"), None, None, "kept").await.unwrap();
    vault.drop_backup(&backup("gone"), jiff::SignedDuration::ZERO).await.unwrap();
    store
}

/// Runs an act in a process: each has random bytes of its own.
async fn run(
    process: &Process,
    vault: &Arc<InMemory>,
    copy: &Arc<InMemory>,
    act: &Act,
) -> Result<(), VaultError> {
    static PROCESSES: AtomicU64 = AtomicU64::new(100);
    let vault = process.wrap(&memory(vault.clone()));
    let later = world(PROCESSES.fetch_add(1, Ordering::SeqCst));
    later.clock.pass(jiff::SignedDuration::from_hours(24));
    let vault = Vault::open_with(vault, with_key(later.environment)).await?;
    let copy = process.wrap(&Target::new(copy.clone(), Default::default(), "memory:copy"));
    (act.run)(&Hands { vault, copy }).await
}

/// Key files that whoever was removed may still open; none may be left when a change of keys was made.
async fn stale_key_files(vault: &Arc<InMemory>) -> Vec<String> {
    let (newest, _) = open(vault).await.recipients().await.unwrap();
    let counts = [layout::key_file(1), layout::key_file(newest), layout::key_file_copy(newest)];
    let all = objects(&**vault).await.into_keys();
    all.filter(|name| name.starts_with("keys") && !counts.contains(name)).collect()
}

/// Cuts acts at every operation, each with every fault that fits; returns how many cuts there were.
async fn cut(what: &str, origin: &Arc<InMemory>, acts: impl Iterator<Item = &Act>) -> usize {
    let mut cuts = 0;
    for act in acts {
        let (vault, copy) = (fork(origin), Arc::new(InMemory::new()));
        let before = seen(&vault, &copy).await;
        let clean = Process::default();
        run(&clean, &vault, &copy, act).await.unwrap();
        let after = seen(&vault, &copy).await;
        let of_keys = before.generations != after.generations;
        let mut of_act = 0;
        for operation in clean.trace() {
            for fault in Fault::ALL.into_iter().filter(|f| f.fits(operation.kind)) {
                let said = format!("{what}, {} with {fault} at {operation}", act.name);
                let (vault, copy) = (fork(origin), Arc::new(InMemory::new()));
                let process = Process::new(Script::at(operation.number, fault));
                let done = run(&process, &vault, &copy, act).await;
                of_act += process.fired().len();
                let found = seen(&vault, &copy).await;
                assert!(found == before || found == after, "{said}: {found:?}");
                assert!(done.is_err() || found == after, "{said}: reported and not there: {found:?}");
                process.settle().await;
                let found = seen(&vault, &copy).await;
                assert!(found == before || found == after, "{said}, settled: {found:?}");
                if found == before {
                    let again = Process::default();
                    run(&again, &vault, &copy, act).await.unwrap_or_else(|e| panic!("{said}: {e}"));
                    let (read, bound) = (again.tally(), clean.tally());
                    let written = process.tally().get(Kind::Put).bytes;
                    // What was written is looked at, and compared.
                    assert!(
                        read.get(Kind::Get).bytes <= bound.get(Kind::Get).bytes + 2 * written,
                        "{said}: read {read} again, at first {bound}"
                    );
                }
                assert_eq!(seen(&vault, &copy).await, after, "{said}: not done by the next process");
                if of_keys && !stale_key_files(&vault).await.is_empty() {
                    let takes_away = ["key remove", "key shred"].contains(&act.name);
                    // An old listing is believed.
                    let is_said = done.is_err() || matches!(fault, Fault::Stale { .. });
                    assert!(is_said || !takes_away, "{said}: reported, and what came before is there");
                    // Typed again, it may say that it is done already; what it left behind goes all the same.
                    let again = run(&Process::default(), &vault, &copy, act).await;
                    assert!(again.is_ok() || !takes_away, "{said}: {again:?}");
                    let stale = stale_key_files(&vault).await;
                    assert!(stale.is_empty(), "{said}: {stale:?}");
                }
            }
        }
        eprintln!("{what}, {}: {of_act} cuts at {}", act.name, clean.tally());
        cuts += of_act;
    }
    cuts
}

#[tokio::test]
async fn every_cut_of_every_act_leaves_earlier_points_whole_and_the_act_succeeds_again() {
    let acts = ACTS.iter().chain([&FIRST_KEYS]);
    let cuts = cut("plain", &origin(false).await, acts).await;
    eprintln!("COUNT {cuts} cuts");
    assert!(cuts > 1_500, "{cuts}");
}

#[tokio::test]
async fn every_cut_of_every_act_on_an_encrypted_vault_and_on_its_keys_does_no_harm_either() {
    let cuts = cut("encrypted", &origin(true).await, ACTS.iter().chain(KEY_ACTS)).await;
    eprintln!("COUNT {cuts} cuts");
    assert!(cuts > 2_000, "{cuts}");
}

#[tokio::test]
async fn every_cut_of_making_a_vault_needs_no_step_by_hand() {
    let make = |process: Process, store: Arc<InMemory>| async move {
        Vault::create(process.wrap(&memory(store)), &world(1).options()).await
    };
    let clean = Process::default();
    make(clean.clone(), Arc::new(InMemory::new())).await.unwrap();
    let mut cuts = 0;
    for operation in clean.trace() {
        for fault in Fault::ALL.into_iter().filter(|f| f.fits(operation.kind)) {
            let said = format!("{fault} at {operation}");
            let store = Arc::new(InMemory::new());
            let process = Process::new(Script::at(operation.number, fault));
            let first = make(process.clone(), store.clone()).await;
            cuts += process.fired().len();
            process.settle().await;
            let options = CreateOptions { ..world(2).options() };
            let vault = Vault::open_or_create_with(memory(store.clone()), &options)
                .await
                .unwrap_or_else(|e| panic!("{said}: {e}"));
            if let Ok(first) = first {
                assert_eq!(first.id(), vault.id(), "{said}");
                assert_eq!(first.identity_key(), vault.identity_key(), "{said}");
            }
            back_up(&vault, &backup("b"), "run", &[sample("t", &["a"], &[])]).await.unwrap();
            assert!(vault.check(&CheckOptions::default(), &()).await.unwrap().is_whole(), "{said}");
        }
    }
    eprintln!("COUNT {cuts} cuts");
    assert!(cuts > 50, "{cuts}");
}

#[tokio::test]
async fn acts_succeed_where_every_request_is_repeated_or_every_listing_is_stale() {
    let always = [
        Fault::LosesAnswerAndRetries,
        Fault::Overtaken { by: 2 },
        Fault::Stale { by: 3 },
        Fault::Stale { by: 1_000 },
    ];
    let origin = origin(true).await;
    for act in ACTS.iter().chain(KEY_ACTS) {
        let (vault, copy) = (fork(&origin), Arc::new(InMemory::new()));
        run(&Process::default(), &vault, &copy, act).await.unwrap();
        let after = seen(&vault, &copy).await;
        for fault in always {
            let (vault, copy) = (fork(&origin), Arc::new(InMemory::new()));
            let process = Process::new(Script::always(fault));
            let done = run(&process, &vault, &copy, act).await;
            assert!(!process.fired().is_empty() || act.name == "release", "{} with {fault}", act.name);
            if !matches!(fault, Fault::Stale { .. }) {
                done.unwrap_or_else(|e| panic!("{} with {fault}: {e}", act.name));
                assert_eq!(seen(&vault, &copy).await, after, "{} with {fault}", act.name);
            } else if done.is_ok() {
                // A listing that misses what was just written may refuse a commit, never make one up.
                assert_eq!(seen(&vault, &copy).await, after, "{} with {fault}", act.name);
            }
        }
    }
}

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing() {
    for seed in 0..20 {
        let store = Arc::new(InMemory::new());
        let clock = Arc::new(Jumping::new(seed, 1_800_000_000, 30 * 86_400));
        let environment = keepfast_vault::testing::environment(clock, seed);
        let options = CreateOptions { environment: environment.clone(), ..CreateOptions::default() };
        let vault = Vault::create(memory(store.clone()), &options).await.unwrap();
        let samples = [sample("orders", &["a", "b"], &["x"])];
        for run in ["1", "2", "3"] {
            back_up(&vault, &backup("kept"), run, &samples).await.unwrap();
            back_up(&vault, &backup("dropped"), run, &samples).await.unwrap();
        }
        vault.drop_backup(&backup("dropped"), jiff::SignedDuration::from_hours(24)).await.unwrap();
        back_up(&vault, &backup("dropped"), "4", &samples).await.unwrap();
        for _ in 0..5 {
            vault.delete_condemned().await.unwrap();
            vault.staged_runs().await.unwrap();
        }
        let fresh = Vault::open_with(memory(store), environment).await.unwrap();
        let log = fresh.log().await.unwrap();
        assert_eq!(log.points(&backup("kept")).count(), 3, "seed {seed}");
        assert_eq!(log.resolve(&backup("dropped"), AsOf::Latest).unwrap().run.0, "4", "seed {seed}");
        let report = fresh.check(&CheckOptions::default(), &()).await.unwrap();
        assert!(report.is_whole(), "seed {seed}: {:?}", report.damage);
    }
}

/// What a power failure leaves of a vault in memory is what the next process works with.
#[tokio::test]
async fn power_that_fails_at_any_operation_of_a_backup_leaves_points_whole_with_many_seeds() {
    let origin = origin(false).await;
    let act = &ACTS[0];
    let clean = Process::default();
    let copy = Arc::new(InMemory::new());
    run(&clean, &fork(&origin), &copy, act).await.unwrap();
    let mut cuts = 0;
    for operation in clean.trace() {
        for fault in (0..8).map(|seed| Fault::PowerFails { seed }).filter(|f| f.fits(operation.kind)) {
            let store = fork(&origin);
            let process = Process::new(Script::at(operation.number, fault));
            assert!(run(&process, &store, &copy, act).await.is_err());
            seen(&store, &copy).await;
            run(&Process::default(), &store, &copy, act)
                .await
                .unwrap_or_else(|e| panic!("{fault} at {operation}: {e}"));
            seen(&store, &copy).await;
            cuts += 1;
        }
    }
    eprintln!("COUNT {cuts} cuts");
    assert!(cuts > 50, "{cuts}");
}
