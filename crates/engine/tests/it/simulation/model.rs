//! What must be there, in the simplest words: rows of live tables, and of each visible point.
//!
//! After a step that went wrong the model does not know whether it was done. It looks, and accepts one of the two; what
//! is neither is a violation. So nothing is ever half done, and nothing that was reported is lost.

use super::actions::{Action, BACKUPS, Step, TABLES};
use super::world::{Rows, Running, World, digest};
use keepfast_engine::EngineError;
use keepfast_engine::api::Mode;
use keepfast_model::{BackupName, Digest, LogSeq};
use keepfast_objects::faulty::Script;
use keepfast_store::random::Random;
use std::collections::BTreeMap;

/// The rows of both tables; none where a table does not exist.
type Tables = BTreeMap<&'static str, Rows>;

/// A bug that the simulation plants itself, to show that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    Nothing,
    /// Deleting what is condemned takes something along that a point needs.
    DeletesTooMuch,
}

/// What must be there.
#[derive(Default)]
struct Model {
    live: Tables,
    points: BTreeMap<(BackupName, LogSeq), Tables>,
    holds: Vec<BackupName>,
    /// Restores that were reported and not taken back, newest last: their names, and the rows before.
    restores: Vec<(String, Tables)>,
    /// Rows at the cuts of backups that were cut off: the same command may go on with one of them.
    cuts: Vec<(BackupName, Tables)>,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub steps: u64,
    pub faults: u64,
    pub points: u64,
    pub restores: u64,
}

/// A run's world and model.
struct Run {
    world: World,
    model: Model,
    counts: Counts,
    planted: Planted,
}

/// Runs a script; an error says what should not be.
pub async fn run(script: &[Step], planted: Planted) -> Result<Counts, String> {
    let world = World::new();
    let mut model = Model::default();
    let first = world.sound();
    for table in TABLES {
        first.create(table).await.map_err(|e| e.to_string())?;
        model.live.insert(table, Rows::new());
    }
    let mut run = Run { world, model, counts: Counts::default(), planted };
    for (at, step) in script.iter().enumerate() {
        run.step(step).await.map_err(|e| format!("step {at} ({step}): {e}"))?;
    }
    run.check_content().await.map_err(|e| format!("at the end: {e}"))?;
    Ok(run.counts)
}

/// Rows that a seed puts and removes.
fn change(seed: u64) -> (Vec<(i64, String)>, Vec<i64>) {
    let mut random = Random::new(seed);
    let count = [3, 20, 150][random.below(3) as usize];
    let from = random.below(300) as i64;
    let put: Vec<_> = (0..count).map(|i| (from + i * 2, format!("v{}", random.below(1 << 40)))).collect();
    let remove = (0..random.below(10)).map(|i| from + i as i64 * 2 + 1).collect();
    (put, remove)
}

fn name(backup: usize) -> BackupName {
    BACKUPS[backup].parse().unwrap()
}

impl Run {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        self.counts.steps += 1;
        let script = step.fault.map_or_else(Script::none, |(at, fault)| Script::at(at, fault));
        let running = self.world.start(script);
        let done = self.act(&running, &step.action).await?;
        self.counts.faults += running.process.fired().len() as u64;
        running.process.settle().await;
        let sound = running.process.fired().is_empty();
        self.look(done, sound).await
    }

    /// Does it. Returns what the model may look like afterwards: where it was reported done, it must.
    async fn act(&mut self, running: &Running, action: &Action) -> Result<After, String> {
        let mut after =
            After { reported: None, live: None, gone: None, point: None, holds: None, restore: None };
        match action {
            Action::Write { table, seed } => {
                let table = TABLES[*table];
                let (put, remove) = change(*seed);
                let mut live = self.model.live.clone();
                let rows = live.entry(table).or_default();
                remove.iter().for_each(|id| drop(rows.remove(id)));
                rows.extend(put.iter().filter(|(id, _)| !remove.contains(id)).cloned());
                let put: Vec<_> = put.into_iter().filter(|(id, _)| !remove.contains(id)).collect();
                after.live = Some(live);
                after.done(running.write(table, &put, &remove).await);
            }
            Action::Backup { to, mode } => {
                let mode = match *mode {
                    "full" => Mode::Full,
                    "incremental" => Mode::Incremental,
                    _ => Mode::Auto,
                };
                after.point = Some((name(*to), self.model.live.clone()));
                let made = running.backup(BACKUPS[*to], &TABLES, mode).await;
                let refused = matches!(made, Err(EngineError::NotIncremental { .. }));
                after.done(made.map(|_| ()));
                after.may_be_refused(refused);
            }
            Action::Restore { nth } => {
                let Some(((backup, seq), rows)) = self.model.points.iter().rev().nth(*nth) else {
                    return Ok(after);
                };
                after.live = Some(rows.clone());
                let restored = running.restore(&format!("{backup}@{seq}"), &TABLES, "").await;
                self.counts.restores += 1;
                if let Ok(report) = &restored {
                    after.restore = Some((report.restore.clone(), self.model.live.clone()));
                }
                after.done(restored.map(|_| ()));
            }
            Action::Undo => {
                let Some((restore, before)) = self.model.restores.pop() else { return Ok(after) };
                after.live = Some(before);
                let undone = running.engine.undo(&restore).await;
                // What was replaced may be gone: a later restore keeps only the newest.
                let refused = undone.is_err();
                after.done(undone.map(|_| ()));
                after.may_be_refused(refused);
            }
            Action::Compact { backup } => {
                let newest = self.model.points.iter().rev().find(|((b, _), _)| *b == name(*backup));
                let Some((_, rows)) = newest else { return Ok(after) };
                after.point = Some((name(*backup), rows.clone()));
                after.done(running.engine.compact(BACKUPS[*backup]).await.map(|_| ()));
            }
            Action::Drop { backup } => {
                let dropped = name(*backup);
                if !self.model.points.keys().any(|(b, _)| *b == dropped) {
                    return Ok(after);
                }
                let held = self.model.holds.contains(&dropped);
                after.gone = Some(dropped);
                let done = running.engine.drop_backup(BACKUPS[*backup]).await;
                if held && done.is_ok() {
                    return Err("a held backup was dropped".into());
                }
                after.done(done.map(|_| ()));
                after.may_be_refused(held);
            }
            Action::Hold { backup } => {
                let held = name(*backup);
                if !self.model.points.keys().any(|(b, _)| *b == held) {
                    return Ok(after);
                }
                after.holds = Some([&self.model.holds[..], std::slice::from_ref(&held)].concat());
                let taken = async {
                    running
                        .open_vault()
                        .await?
                        .hold(&held, None, None, "a test")
                        .await
                        .map_err(EngineError::from)
                };
                after.done(taken.await.map(|_| ()));
            }
            Action::Release => {
                let released = async {
                    let vault = running.open_vault().await?;
                    let ids: Vec<_> = vault.log().await?.holds().map(|h| h.id.clone()).collect();
                    for id in ids {
                        vault.release(&id).await?;
                    }
                    Ok::<_, EngineError>(())
                };
                // Several records: whatever is left is looked up.
                let _ = released.await;
                self.model.holds = self.held().await;
            }
            Action::Delete => {
                let deleted =
                    async { running.open_vault().await?.delete_condemned().await.map_err(EngineError::from) };
                if deleted.await.is_ok() && self.planted == Planted::DeletesTooMuch {
                    self.lose_a_segment().await;
                }
            }
            Action::Pass { hours } => self.world.clock.pass(jiff::SignedDuration::from_hours(*hours)),
        }
        Ok(after)
    }

    async fn held(&self) -> Vec<BackupName> {
        match self.world.sound().open_vault().await {
            Ok(vault) => vault.log().await.unwrap().holds().map(|h| h.backup.clone()).collect(),
            Err(_) => vec![],
        }
    }

    /// The planted bug.
    async fn lose_a_segment(&self) {
        use object_store::{ObjectStore, ObjectStoreExt};
        let mut listed = self.world.vault.list(Some(&object_store::path::Path::from("tables")));
        while let Some(Ok(object)) = futures::StreamExt::next(&mut listed).await {
            if object.location.as_ref().contains("/segments/") {
                self.world.vault.delete(&object.location).await.unwrap();
                return;
            }
        }
    }

    /// Compares what is there with the model, which takes over what was done.
    async fn look(&mut self, after: After, sound: bool) -> Result<(), String> {
        let running = self.world.sound();
        let reported = match &after.reported {
            None => false,
            Some(Ok(())) => true,
            Some(Err((_, true))) => false,
            Some(Err((error, false))) if sound => {
                return Err(format!("it failed although nothing was wrong: {error}"));
            }
            Some(Err(_)) => false,
        };
        let wanted = |done: bool, what: &str| match reported && !done {
            true => Err(format!("{what} was reported and is not there")),
            false => Ok(()),
        };
        // Live tables are as before or as after.
        let mut live = Tables::new();
        for table in TABLES {
            live.extend(running.live(table).await.map(|rows| (table, rows)));
        }
        match after.live {
            Some(next) if next == live => self.model.live = next,
            _ if live != self.model.live => {
                return Err("live tables are neither as before nor as after".into());
            }
            Some(_) => wanted(false, "a change of live tables")?,
            None => {}
        }
        if let Some(restore) = after.restore {
            self.model.restores.push(restore);
        }
        // Points are those of the model, and perhaps the new one.
        let points = running.points().await;
        let found: Vec<_> = points.iter().map(|(b, s, _)| (b.clone(), *s)).collect();
        let mut new: Vec<_> = found.iter().filter(|p| !self.model.points.contains_key(p)).cloned().collect();
        match (new.pop(), after.point) {
            (None, None) => {}
            (None, Some(cut)) => {
                wanted(false, "a point")?;
                self.model.cuts.push(cut);
            }
            (Some(point), Some((backup, rows))) if new.is_empty() && point.0 == backup => {
                self.counts.points += 1;
                let recorded = points.iter().find(|(b, s, _)| (b, *s) == (&point.0, point.1));
                let is = |rows: &Tables| recorded.is_some_and(|(_, _, found)| same(found, rows));
                let cuts = self.model.cuts.iter().filter(|(b, _)| *b == backup).map(|(_, rows)| rows);
                let rows = std::iter::once(&rows).chain(cuts).find(|rows| is(rows)).unwrap_or(&rows).clone();
                self.model.cuts.retain(|(b, _)| *b != backup);
                self.model.points.insert(point, rows);
            }
            (Some((backup, seq)), _) => return Err(format!("{backup}@{seq} came from nowhere")),
        }
        let missing: Vec<_> = self.model.points.keys().filter(|p| !found.contains(p)).cloned().collect();
        match after.gone {
            Some(dropped) => {
                let all = self.model.points.keys().filter(|(b, _)| *b == dropped).count();
                if !missing.is_empty() && missing.len() == all && missing.iter().all(|(b, _)| *b == dropped) {
                    self.model.points.retain(|(b, _), _| *b != dropped);
                } else if !missing.is_empty() {
                    return Err(format!("a part of {dropped} is gone: {missing:?}"));
                } else {
                    wanted(false, "a drop")?;
                }
            }
            None if !missing.is_empty() => return Err(format!("points are gone: {missing:?}")),
            None => {}
        }
        if let Some(next) = after.holds {
            let held = self.held().await;
            if held.len() == next.len() {
                self.model.holds = next;
            } else {
                wanted(false, "a hold")?;
            }
        }
        // What is recorded of each point is what it must hold, and every stored byte is there.
        for (backup, seq, tables) in points {
            let rows = &self.model.points[&(backup.clone(), seq)];
            if !same(&tables, rows) {
                return Err(format!("{backup}@{seq} records other rows than it must hold"));
            }
        }
        let damage = running.damage().await;
        if damage.is_empty() { Ok(()) } else { Err(format!("the vault is damaged: {damage:?}")) }
    }

    /// Reads the rows of every point.
    async fn check_content(&self) -> Result<(), String> {
        let running = self.world.sound();
        for ((backup, seq), rows) in &self.model.points {
            let found = running.content(backup, *seq).await.map_err(|e| format!("{backup}@{seq}: {e}"))?;
            for (table, rows) in rows {
                if found.get(*table) != Some(&digest(rows)) {
                    return Err(format!("{backup}@{seq} holds other rows of {table} than it must"));
                }
            }
        }
        Ok(())
    }
}

/// Whether digests are those of these rows.
fn same(found: &BTreeMap<String, Digest>, rows: &Tables) -> bool {
    found.len() == rows.len()
        && found.iter().all(|(table, found)| rows.get(table.as_str()).map(digest) == Some(*found))
}

/// What a step may have changed.
struct After {
    /// How it ended, and whether an error was to be expected; none where there was nothing to do.
    reported: Option<Result<(), (String, bool)>>,
    live: Option<Tables>,
    gone: Option<BackupName>,
    point: Option<(BackupName, Tables)>,
    holds: Option<Vec<BackupName>>,
    restore: Option<(String, Tables)>,
}

impl After {
    fn done(&mut self, done: Result<(), EngineError>) {
        self.reported = Some(done.map_err(|e| (e.to_string(), false)));
    }

    fn may_be_refused(&mut self, may: bool) {
        if let Some(Err((_, expected))) = &mut self.reported {
            *expected = may;
        }
    }
}
