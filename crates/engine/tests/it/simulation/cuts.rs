//! Every cut: at each operation of each command something goes wrong. Afterwards earlier points are whole, nothing is
//! half visible, and the same command succeeds without any step by hand, reading little again.

use super::long;
use super::world::{RECIPIENTS, Rows, Running, World, recipient};
use futures::future::LocalBoxFuture;
use keepfast_engine::EngineError;
use keepfast_engine::api::{Mode, PruneRequest};
use keepfast_model::{BackupName, Digest, LogSeq, RetentionPolicy, TableName};
use keepfast_objects::faulty::{Fault, Kind, Operation, Process, Script, Tally};
use std::collections::BTreeMap;

type Done<'a> = LocalBoxFuture<'a, Result<(), EngineError>>;

/// A command, and what must be there before it. A new one is one entry in [`COMMANDS`].
struct Command {
    name: &'static str,
    prepare: for<'a> fn(&'a Running) -> Done<'a>,
    run: for<'a> fn(&'a Running) -> Done<'a>,
    /// What it reads of the rows that it works on; counted over the cut-off run and the next one together.
    reads: fn(&Operation) -> bool,
}

const TABLES: [&str; 3] = ["a", "b", "c"];

const COMMANDS: &[Command] = &[
    Command { name: "full backup", prepare: nothing, run: full, reads: rows_of_the_store },
    Command { name: "incremental backup", prepare: nothing, run: incremental, reads: rows_of_both },
    Command { name: "restore", prepare: nothing, run: restore, reads: rows_of_the_vault },
    Command {
        name: "restore under new names",
        prepare: nothing,
        run: restore_as_new,
        reads: rows_of_the_vault,
    },
    Command { name: "undo", prepare: restore, run: undo, reads: rows_of_the_store },
    Command { name: "compact", prepare: nothing, run: compact, reads: rows_of_the_vault },
    Command { name: "prune", prepare: nothing, run: prune, reads: rows_of_the_vault },
    Command { name: "drop", prepare: nothing, run: drop_other, reads: rows_of_the_vault },
    Command { name: "delete condemned", prepare: drop_other, run: delete, reads: rows_of_the_vault },
    Command { name: "copy", prepare: nothing, run: copy, reads: rows_of_the_vault },
];

/// What is done with the keys of a vault that has some.
const KEY_COMMANDS: &[Command] = &[
    Command { name: "key add", prepare: nothing, run: add, reads: rows_of_the_vault },
    Command { name: "key rotate", prepare: nothing, run: rotate, reads: rows_of_the_vault },
    Command { name: "key remove", prepare: add, run: remove, reads: rows_of_the_vault },
    Command { name: "key shred", prepare: nothing, run: shred, reads: rows_of_the_vault },
];

fn rows_of_the_store(operation: &Operation) -> bool {
    operation.kind == Kind::Get && operation.place.ends_with("store") && operation.path.contains("/segments/")
}

fn rows_of_the_vault(operation: &Operation) -> bool {
    operation.kind == Kind::Get
        && operation.place.ends_with("vault")
        && (operation.path.contains("/segments/") || operation.path.contains("/changes/"))
}

fn rows_of_both(operation: &Operation) -> bool {
    rows_of_the_store(operation) || rows_of_the_vault(operation)
}

fn nothing(_: &Running) -> Done<'_> {
    Box::pin(async { Ok(()) })
}

fn full(running: &Running) -> Done<'_> {
    Box::pin(async { running.backup("x", &TABLES, Mode::Full).await.map(drop) })
}

fn incremental(running: &Running) -> Done<'_> {
    Box::pin(async { running.backup("x", &TABLES, Mode::Incremental).await.map(drop) })
}

/// The first or the second point of `x`; the keys of three tables and of the vault have records of their own.
fn point(running: &Running, nth: usize) -> String {
    let keys = if running.encrypt.is_some() { 1 + TABLES.len() } else { 0 };
    format!("x@{}", keys + nth)
}

fn restore(running: &Running) -> Done<'_> {
    Box::pin(async { running.restore(&point(running, 1), &TABLES, "").await.map(drop) })
}

fn restore_as_new(running: &Running) -> Done<'_> {
    Box::pin(async { running.restore(&point(running, 2), &TABLES, "_new").await.map(drop) })
}

fn undo(running: &Running) -> Done<'_> {
    Box::pin(async {
        // The one restore that the preparation made.
        let restore = running.restores().pop().unwrap_or_default();
        running.engine.undo(&restore).await.map(drop)
    })
}

fn compact(running: &Running) -> Done<'_> {
    Box::pin(async { running.engine.compact("x").await.map(drop) })
}

fn prune(running: &Running) -> Done<'_> {
    Box::pin(async {
        let request = PruneRequest {
            target: Some("x".into()),
            policy: Some(RetentionPolicy { last: 1, ..RetentionPolicy::default() }),
            grace: Some(jiff::SignedDuration::ZERO),
            dry_run: false,
        };
        running.engine.prune(&request).await.map(drop)
    })
}

fn add(running: &Running) -> Done<'_> {
    Box::pin(async {
        Ok(running.engine.vault(None).await?.add_recipient(RECIPIENTS[1], &recipient(1)).await?)
    })
}

fn rotate(running: &Running) -> Done<'_> {
    Box::pin(async { Ok(running.engine.vault(None).await?.rotate_keys().await?) })
}

fn remove(running: &Running) -> Done<'_> {
    Box::pin(async { Ok(running.engine.vault(None).await?.remove_recipient(RECIPIENTS[1]).await?) })
}

fn shred(running: &Running) -> Done<'_> {
    Box::pin(async { running.engine.shred("other", &TableName::bare("b"), None).await.map(drop) })
}

fn drop_other(running: &Running) -> Done<'_> {
    Box::pin(async { running.engine.drop_backup("other").await.map(drop) })
}

fn delete(running: &Running) -> Done<'_> {
    Box::pin(async { running.open_vault().await?.delete_condemned().await.map(drop).map_err(Into::into) })
}

fn copy(running: &Running) -> Done<'_> {
    Box::pin(async {
        running.open_vault().await?.copy_to(&running.copy, &()).await.map(drop).map_err(Into::into)
    })
}

/// What can be seen: points, live tables, keys, and whether the copy is a vault.
#[derive(Debug, PartialEq)]
struct Seen {
    points: Vec<(BackupName, LogSeq, BTreeMap<String, Digest>)>,
    tables: BTreeMap<String, Option<Rows>>,
    /// Who can open the vault, and how often its keys were changed.
    keys: (Vec<String>, usize),
    copied: bool,
}

async fn seen(world: &World, said: &str) -> Seen {
    let running = world.sound();
    let damage = running.damage().await;
    assert!(damage.is_empty(), "{said}: {damage:?}");
    let mut tables = BTreeMap::new();
    for table in running.tables().await {
        let rows = running.live(&table).await;
        tables.insert(table, rows);
    }
    let copied = match running.open_copy().await {
        Err(_) => false,
        Ok(copy) => {
            let report = copy.check(&Default::default(), &()).await.unwrap();
            assert!(report.is_whole(), "{said}: {:?}", report.damage);
            true
        }
    };
    let vault = running.open_vault().await.unwrap();
    let (_, recipients) = vault.recipients().await.unwrap();
    let names = recipients.iter().map(|r| r.name().to_owned()).collect();
    let keys = (names, vault.log().await.unwrap().keys().len());
    Seen { points: running.points().await, tables, keys, copied }
}

/// Three tables, a full and an incremental point of them, another backup, and rows written since.
async fn origin(world: World) -> World {
    let running = world.sound();
    for (t, table) in TABLES.iter().enumerate() {
        running.create(table).await.unwrap();
        let rows: Vec<_> = (0..200).map(|i| (i, format!("{table} {}", i * 7919 + t as i64))).collect();
        running.write(table, &rows, &[]).await.unwrap();
    }
    running.backup("x", &TABLES, Mode::Full).await.unwrap();
    for table in TABLES {
        running.write(table, &[(3, "changed".into()), (500, "new".into())], &[7, 150]).await.unwrap();
    }
    running.backup("x", &TABLES, Mode::Incremental).await.unwrap();
    running.backup("other", &["b"], Mode::Full).await.unwrap();
    for table in TABLES {
        running.write(table, &[(4, "changed later".into())], &[8]).await.unwrap();
    }
    world
}

/// Faults tried at an operation: in the long run all that fit; else one, by turns one that ends the process and one that
/// does not, so that over a command each comes at many operations.
fn faults_at(operation: &Operation) -> Vec<Fault> {
    let fits = |f: &Fault| f.fits(operation.kind);
    if long() {
        return Fault::ALL.into_iter().filter(fits).collect();
    }
    let (ends, others): (Vec<Fault>, Vec<Fault>) =
        Fault::ALL.into_iter().filter(fits).partition(|f| f.ends_the_process());
    let turn = |of: &[Fault]| of.get((operation.number / 2) as usize % of.len().max(1)).copied();
    turn(if operation.number.is_multiple_of(2) { &ends } else { &others }).into_iter().collect()
}

fn bytes(process: &Process, reads: fn(&Operation) -> bool) -> u64 {
    Tally::of(&process.trace(), reads).get(Kind::Get).bytes
}

/// Cuts a command at every operation; returns how many cuts there were.
async fn cut(command: &Command, origin: &World) -> usize {
    let name = &match origin.encrypt {
        Some(how) => format!("{} ({how})", command.name),
        None => command.name.to_owned(),
    };
    let prepared = origin.fork();
    (command.prepare)(&prepared.sound()).await.unwrap();
    prepared.clock.pass(jiff::SignedDuration::from_hours(24 * 30));
    let before = seen(&prepared, name).await;
    let whole = prepared.fork();
    let clean = whole.sound();
    (command.run)(&clean).await.unwrap();
    let after = seen(&whole, name).await;
    let clean = clean.process;
    // Tasks of one table are under way at once: they may have to be done again, nothing else.
    let under_way = bytes(&clean, command.reads) / TABLES.len() as u64 + 4096;
    let (mut cuts, mut went_on, mut most) = (0, 0, 0);
    for operation in clean.trace() {
        for fault in faults_at(&operation) {
            let said = format!("{name} with {fault} at {operation}");
            let world = prepared.fork();
            let first = world.start(Script::at(operation.number, fault));
            let answer = (command.run)(&first).await;
            cuts += first.process.fired().len();
            let found = seen(&world, &said).await;
            assert!(found == before || found == after, "{said}: half of it is visible: {found:?}");
            assert!(answer.is_err() || found == after, "{said}: reported and not there");
            first.process.settle().await;
            let found = seen(&world, &said).await;
            assert!(found == before || found == after, "{said}, settled: {found:?}");
            if found == after {
                continue;
            }
            let again = world.sound();
            (command.run)(&again).await.unwrap_or_else(|e| panic!("{said}: the same command fails: {e}"));
            let found = seen(&world, &said).await;
            assert_eq!(found, after, "{said}: not done by the same command");
            let twice = bytes(&first.process, command.reads) + bytes(&again.process, command.reads);
            let extra = twice.saturating_sub(bytes(&clean, command.reads));
            if fault.ends_the_process() {
                most = most.max(extra);
                // Without power, what a copy had not synced yet is gone.
                let lost = match (command.name, fault) {
                    ("copy", Fault::PowerFails { .. }) => first.process.tally().get(Kind::Put).bytes,
                    _ => 0,
                };
                let bound = under_way + lost;
                assert!(extra <= bound, "{said}: {extra} bytes were read again, more than {bound}");
            }
            went_on += 1;
        }
    }
    eprintln!(
        "{name}: {cuts} cuts at {}; {went_on} times done again, {most} bytes read twice at most",
        clean.tally()
    );
    cuts
}

async fn cut_all(origin: &World, commands: impl Iterator<Item = &Command>) -> usize {
    let (mut cuts, mut count) = (0, 0);
    for command in commands {
        cuts += cut(command, origin).await;
        count += 1;
    }
    eprintln!("COUNT {cuts} cuts: over {count} commands");
    cuts
}

#[tokio::test]
async fn every_cut_of_every_command_leaves_earlier_points_whole_and_the_same_command_succeeds() {
    let cuts = cut_all(&origin(World::new()).await, COMMANDS.iter()).await;
    assert!(cuts > 500, "{cuts}");
}

#[tokio::test]
async fn every_cut_of_every_command_on_an_encrypted_vault_and_on_its_keys_does_no_harm_either() {
    // Columns take more ways than all: the long run looks at both.
    for how in ["columns:v", "full"].into_iter().take(if long() { 2 } else { 1 }) {
        let origin = origin(World::encrypting(how)).await;
        let commands = COMMANDS.iter().filter(|c| c.name != "undo" && c.name != "restore under new names");
        let cuts = cut_all(&origin, commands.chain(KEY_COMMANDS)).await;
        assert!(cuts > 500, "{cuts}");
    }
}
