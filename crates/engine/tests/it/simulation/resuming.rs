//! Restores that are cut off go on where they stopped.

use super::world::{Running, World};
use keepfast_engine::EngineError;
use keepfast_engine::api::{BackupReport, Mode, RestoreReport, RestoreRequest};
use keepfast_objects::faulty::{Fault, Kind, Operation, Script, Tally};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

const TABLES: [&str; 3] = ["a", "b", "c"];

async fn origin() -> World {
    let world = World::new();
    let running = world.sound();
    for table in TABLES {
        running.create(table).await.unwrap();
        let rows: Vec<_> = (0..400).map(|i| (i, format!("{table} {}", i * 7919))).collect();
        running.write(table, &rows, &[]).await.unwrap();
    }
    running.backup("x", &TABLES, Mode::Full).await.unwrap();
    for table in TABLES {
        running.write(table, &[(1, "damaged".into())], &[2, 3, 4]).await.unwrap();
    }
    world
}

fn segments_read(running: &Running) -> u64 {
    let of_vault = |o: &Operation| o.place.ends_with("vault") && o.path.contains("/segments/");
    Tally::of(&running.process.trace(), of_vault).get(Kind::Get).bytes
}

async fn restored(running: &Running, skip_damaged: bool) -> Result<RestoreReport, EngineError> {
    let request = RestoreRequest { skip_damaged, ..running.restore_request("x", &TABLES, "") };
    running.engine.restore(&request).await
}

/// The operation that commits a catalog entry, in a restore that nothing happens to.
async fn commit_of_a_restore(world: &World, skip_damaged: bool) -> Operation {
    let world = world.fork();
    let clean = world.sound();
    restored(&clean, skip_damaged).await.unwrap();
    let trace = clean.process.trace();
    trace.into_iter().rev().find(|o| o.kind == Kind::Put && o.path.starts_with("catalog/")).unwrap()
}

/// A restore to which this happens at the operation that commits its catalog entry, and what it answered.
///
/// Tasks run beside each other, so the number of that operation is not the same each time.
async fn at_the_commit(origin: &World, fault: Fault) -> (World, Running, Result<RestoreReport, EngineError>) {
    at_the_commit_of(origin, fault, false).await
}

async fn at_the_commit_of(
    origin: &World,
    fault: Fault,
    skip_damaged: bool,
) -> (World, Running, Result<RestoreReport, EngineError>) {
    let usual = commit_of_a_restore(origin, skip_damaged).await.number;
    for number in (0..20).flat_map(|n| [usual + n, usual.saturating_sub(n)]) {
        let world = origin.fork();
        let running = world.start(Script::at(number, fault));
        let answer = restored(&running, skip_damaged).await;
        let fired = running.process.fired();
        if fired.iter().any(|(o, _)| o.kind == Kind::Put && o.path.starts_with("catalog/")) {
            return (world, running, answer);
        }
    }
    panic!("no restore committed near operation {usual}");
}

#[tokio::test]
async fn a_restore_that_was_cut_off_loads_no_finished_part_again() {
    let origin = origin().await;
    let untouched = origin.fork();
    let clean = untouched.sound();
    clean.restore("x", &TABLES, "").await.unwrap();
    let whole = segments_read(&clean);
    // It dies when everything is loaded, before anything is visible.
    let commit = commit_of_a_restore(&origin, false).await;
    let (world, _, answer) = at_the_commit(&origin, Fault::DiesBefore).await;
    assert!(answer.is_err());
    assert_eq!(world.sound().live("a").await.unwrap()[&1], "damaged");
    let again = world.sound();
    again.restore("x", &TABLES, "").await.unwrap();
    eprintln!("{whole} bytes of segments; read again: {}", segments_read(&again));
    assert_eq!(segments_read(&again), 0, "everything was loaded already");
    let sound = world.sound();
    assert_eq!(sound.live("c").await.unwrap()[&1], "c 7919");
    assert_eq!(sound.store_loads().await, 0, "nothing is left to go on with");
    // In the middle: only what was under way is loaded again.
    for at in (0..commit.number).step_by(7) {
        let world = origin.fork();
        let first = world.start(Script::at(at, Fault::DiesAfter));
        if first.restore("x", &TABLES, "").await.is_ok() {
            continue;
        }
        let again = world.sound();
        again.restore("x", &TABLES, "").await.unwrap();
        let twice = segments_read(&first) + segments_read(&again);
        assert!(twice <= whole + whole / 3 + 1, "cut at {at}: {twice} bytes for {whole}");
        assert_eq!(world.sound().store_loads().await, 0);
    }
}

/// Bytes read of base segments and of change segments of the vault, and of segments of the store.
fn rows_read(running: &Running) -> [u64; 3] {
    ["vault /segments/", "vault /changes/", "store /segments/"].map(|of| {
        let (place, folder) = of.split_once(' ').unwrap();
        let counted = |o: &Operation| o.place.ends_with(place) && o.path.contains(folder);
        Tally::of(&running.process.trace(), counted).get(Kind::Get).bytes
    })
}

/// Dies before each staged result of a command and before its record, each in a world of its own; gives how many results
/// were staged by then, and what the same command then read, the record's last.
async fn rows_read_after_deaths(
    origin: &World,
    run: impl AsyncFn(&Running) -> Result<BackupReport, EngineError>,
) -> Vec<(usize, [u64; 3])> {
    let clean = origin.fork().sound();
    let expected = run(&clean).await.unwrap();
    let staged = |o: &Operation| o.kind == Kind::Put && o.path.contains("/task-");
    let record = |o: &Operation| o.kind == Kind::Put && o.path.starts_with("log/");
    let mut found = vec![];
    for operation in clean.process.trace().iter().filter(|o| staged(o) || record(o)) {
        let world = origin.fork();
        let first = world.start(Script::at(operation.number, Fault::DiesBefore));
        assert!(run(&first).await.is_err());
        let again = world.sound();
        let report = run(&again).await.unwrap();
        let digests = |r: &BackupReport| r.tables.iter().map(|t| t.digest).collect::<Vec<_>>();
        assert_eq!(digests(&report), digests(&expected));
        let operations = first.process.trace();
        let done = operations.iter().filter(|o| staged(o) && o.number != operation.number).count();
        found.push((done, rows_read(&again)));
    }
    eprintln!("{:?} read by a clean run; after deaths: {found:?}", rows_read(&clean));
    found
}

#[tokio::test]
async fn an_incremental_backup_and_a_compaction_that_were_cut_off_read_no_finished_part_again() {
    let world = World::new();
    let running = world.sound();
    running.create("t").await.unwrap();
    // Parts of some mebibytes, which are worth a result of their own.
    let text = |i: i64| -> String {
        let mut random = i as u64;
        (0..65536)
            .map(|_| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                char::from(b' ' + (random >> 58) as u8)
            })
            .collect()
    };
    let rows: Vec<_> = (0..1600).map(|i| (i, text(i))).collect();
    running.write("t", &rows, &[]).await.unwrap();
    running.backup("x", &["t"], Mode::Full).await.unwrap();
    let changed: Vec<_> = (0..1600).step_by(10).map(|i| (i, "changed".into())).collect();
    running.write("t", &changed, &[]).await.unwrap();

    let read = rows_read_after_deaths(&world, async |r| r.backup("x", &["t"], Mode::Incremental).await).await;
    let [.., (_, before_its_table), (_, before_the_record)] = read.as_slice() else { panic!("{read:?}") };
    assert!(read.len() > 3, "several parts: {read:?}");
    // A commit reads some of what is new back: here the only change segment.
    let [base, changes, store] = *before_its_table;
    assert_eq!((base, store), (0, 0), "each part's digest was there, and the changes");
    assert_eq!(*before_the_record, [0, changes / 2, 0], "all was there");

    running.backup("x", &["t"], Mode::Incremental).await.unwrap();
    let read = rows_read_after_deaths(&world, async |r| r.engine.compact("x").await).await;
    assert!(read.len() > 4, "several parts: {read:?}");
    let parts = read.len() - 1;
    let (_, [of_the_commit, ..]) = read[parts];
    let name: keepfast_model::BackupName = "x".parse().unwrap();
    let stored = world.sound().open_vault().await.unwrap().latest(&name).await.unwrap().tables[0].bytes.0;
    let part = stored * 5 / 4 / parts as u64;
    for (done, [read, ..]) in &read {
        // Two parts are under way at once: what the dead one wrote of them is compared besides.
        let again = (parts - done + 2) as u64 * part;
        assert!(*read <= of_the_commit + again, "{done} of {parts} parts were folded, and {read} bytes read");
    }
}

#[tokio::test]
async fn a_publication_that_nobody_heard_of_is_reported_by_the_same_command_and_can_be_undone() {
    let origin = origin().await;
    for fault in [Fault::DiesAfter, Fault::LosesAnswer] {
        let (world, first, answer) = at_the_commit(&origin, fault).await;
        assert_eq!(answer.is_ok(), fault == Fault::LosesAnswer, "{fault}");
        assert_eq!(world.sound().live("a").await.unwrap()[&1], "a 7919", "it is published");
        if fault == Fault::DiesAfter {
            assert!(first.restores().is_empty());
            let again = world.sound();
            let report = again.restore("x", &TABLES, "").await.unwrap();
            assert_eq!(segments_read(&again), 0, "nothing is restored a second time");
            assert!(report.tables.iter().all(|t| t.replaced.is_some()), "{report:?}");
        }
        let running = world.sound();
        let restore = running.restores().pop().unwrap();
        running.engine.undo(&restore).await.unwrap();
        assert_eq!(running.live("a").await.unwrap()[&1], "damaged");
    }
}

#[tokio::test]
async fn what_was_written_since_a_publication_that_nobody_heard_of_is_not_taken_for_the_restore() {
    let (origin, _, answer) = at_the_commit(&origin().await, Fault::DiesAfter).await;
    assert!(answer.is_err());
    origin.sound().write("b", &[(1, "damaged again".into())], &[]).await.unwrap();
    origin.sound().restore("x", &TABLES, "").await.unwrap();
    assert_eq!(origin.sound().live("b").await.unwrap()[&1], "b 7919");
    assert_eq!(origin.sound().store_loads().await, 0);
}

#[tokio::test]
async fn half_made_tables_of_a_dead_restore_are_removed_by_the_next_restore_of_them() {
    let (origin, _, answer) = at_the_commit(&origin().await, Fault::DiesBefore).await;
    assert!(answer.is_err());
    assert_eq!(origin.sound().store_loads().await, 1);
    let tables = origin.table_folders().await;
    // Another restore of one of these tables: what the dead one loaded is in its way.
    origin.sound().restore("x", &["a"], "").await.unwrap();
    assert_eq!(origin.sound().store_loads().await, 0);
    assert_eq!(origin.table_folders().await, tables - TABLES.len() + 1);
}

#[tokio::test]
async fn a_restore_beside_one_that_runs_begins_anew_and_removes_nothing_of_it() {
    let (_origin, running, answer) = at_the_commit(&origin().await, Fault::LosesRequest).await;
    assert!(answer.is_err());
    assert_eq!(running.store_loads().await, 1);
    // The same process asks again: its own load counts as under way.
    running.restore("x", &["a"], "").await.unwrap();
    assert_eq!(running.store_loads().await, 1, "the load of a running process was removed");
}

/// Damages a segment of table `a`; what heals it.
async fn damaged(world: &World) -> (Path, PutPayload) {
    let running = world.sound();
    let vault = running.open_vault().await.unwrap();
    let log = vault.log().await.unwrap();
    let point = log.all_points().next().unwrap();
    let table = point.tables.iter().find(|t| t.name.table == "a").unwrap();
    let folder = format!("tables/{}/segments", table.id.0);
    let mut names: Vec<_> = running.vault.list(&folder).await.unwrap().into_iter().map(|o| o.path).collect();
    names.sort();
    let path = Path::from(names.swap_remove(0));
    let whole = world.vault.get(&path).await.unwrap().bytes().await.unwrap();
    let mut bytes = whole.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    world.vault.put(&path, bytes.into()).await.unwrap();
    (path, whole.into())
}

#[tokio::test]
async fn what_a_published_restore_left_out_is_reported_also_after_the_vault_was_repaired() {
    let origin = origin().await;
    let (path, whole) = damaged(&origin).await;
    let (world, _, answer) = at_the_commit_of(&origin, Fault::DiesAfter, true).await;
    assert!(answer.is_err());
    world.vault.put(&path, whole).await.unwrap();
    let report = restored(&world.sound(), true).await.unwrap();
    let rows = world.sound().live("a").await.unwrap().len();
    assert!(rows < 400, "it was published without damaged rows");
    assert_eq!(report.tables[0].rows, rows as u64);
    assert_eq!(report.tables[0].missing.len(), 1, "{report:?}");
    assert!(report.tables[1].missing.is_empty(), "{report:?}");
}

#[tokio::test]
async fn what_a_dead_restore_would_have_left_out_is_not_said_of_the_one_that_went_on_with_it() {
    let origin = origin().await;
    let (path, whole) = damaged(&origin).await;
    // Everything is loaded and read back, and nothing is visible.
    let (repaired, _, answer) = at_the_commit_of(&origin, Fault::DiesBefore, true).await;
    assert!(answer.is_err());
    repaired.vault.put(&path, whole).await.unwrap();
    // The one that goes on publishes, and nobody hears of it.
    let (world, _, answer) = at_the_commit_of(&repaired, Fault::DiesAfter, true).await;
    assert!(answer.is_err());
    let report = restored(&world.sound(), true).await.unwrap();
    assert_eq!(world.sound().live("a").await.unwrap().len(), 400);
    assert!(report.tables.iter().all(|t| t.missing.is_empty() && t.rows == 400), "{report:?}");
}
