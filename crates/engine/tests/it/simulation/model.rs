//! What must be there, in the simplest words: rows of live tables, and of each visible point.
//!
//! After a step that went wrong the model does not know whether it was done. It looks, and accepts one of the two; what
//! is neither is a violation. So nothing is ever half done, and nothing that was reported is lost.

use super::actions::{Action, BACKUPS, Step, TABLES};
use super::world::{RECIPIENTS, Rows, Running, World, digest, phrase, recipient};
use keepfast_engine::EngineError;
use keepfast_engine::api::{Mode, PruneRequest};
use keepfast_keys::Credentials;
use keepfast_model::random::Random;
use keepfast_model::{BackupName, Digest, Encryption, LogSeq, RetentionPolicy, TableName};
use keepfast_objects::faulty::Script;
use std::collections::{BTreeMap, BTreeSet};

/// The rows of both tables; none where a table does not exist.
type Tables = BTreeMap<&'static str, Rows>;

/// Tables of points, by their names.
type Held = BTreeSet<(BackupName, LogSeq, &'static str)>;

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
    /// Who can open the vault; nobody where it has no keys.
    recipients: BTreeSet<usize>,
    /// Tables whose keys were dropped.
    lost: Held,
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
    pub key_changes: u64,
    /// Tables of points that nobody can read any more.
    pub lost: u64,
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
    run.counts.lost = run.model.lost.len() as u64;
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
        let mut after = After::default();
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
            Action::Backup { to, mode, encrypt } => {
                let mode = match *mode {
                    "full" => Mode::Full,
                    "incremental" => Mode::Incremental,
                    _ => Mode::Auto,
                };
                after.point = Some((name(*to), self.model.live.clone()));
                let encrypt = Some(*encrypt).filter(|how| *how != "-");
                if encrypt.is_some() && self.model.recipients.is_empty() {
                    after.recipients = Some(([0].into(), false));
                }
                let made = running.backup_encrypted(BACKUPS[*to], &TABLES, mode, encrypt).await;
                let refused = matches!(
                    made,
                    Err(EngineError::NotIncremental { .. } | EngineError::EncryptionFixed { .. })
                );
                after.done(made.map(|_| ()));
                after.may_be_refused(refused);
            }
            Action::Restore { nth } => {
                let newest_first = self.model.points.iter().rev();
                let Some(((backup, seq), rows)) = newest_first.map(|(id, r)| (id.clone(), r)).nth(*nth)
                else {
                    return Ok(after);
                };
                after.live = Some(rows.clone());
                let restored = running.restore(&format!("{backup}@{seq}"), &TABLES, "").await;
                self.counts.restores += 1;
                if let Ok(report) = &restored {
                    after.restore = Some((report.restore.clone(), self.model.live.clone()));
                }
                let lost = self.model.is_lost(&backup, seq);
                if lost && restored.is_ok() {
                    return Err("a table whose keys are gone was restored".into());
                }
                after.done(restored.map(|_| ()));
                after.may_be_refused(lost);
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
                let Some(((to, seq), rows)) = newest else { return Ok(after) };
                after.point = Some((name(*backup), rows.clone()));
                let lost = self.model.is_lost(to, *seq);
                // A table without changes to fold is taken as it is, with what is lost of it.
                after.made_of = Some((to.clone(), *seq));
                after.done(running.engine.compact(BACKUPS[*backup]).await.map(|_| ()));
                after.may_be_refused(lost);
            }
            Action::Prune { backup, last } => {
                let of: Vec<_> = self.model.points_of(&name(*backup));
                if of.is_empty() {
                    return Ok(after);
                }
                if !self.model.holds.contains(&name(*backup)) {
                    after.gone = of[..of.len().saturating_sub(*last as usize)].to_vec();
                }
                let request = PruneRequest {
                    target: Some(BACKUPS[*backup].into()),
                    policy: Some(RetentionPolicy { last: *last, ..RetentionPolicy::default() }),
                    grace: None,
                    dry_run: false,
                };
                after.done(running.engine.prune(&request).await.map(|_| ()));
            }
            Action::Add { recipient: who } => {
                let mut next = self.model.recipients.clone();
                let refused = !next.insert(*who);
                after.recipients = Some((next, true));
                let added = async {
                    let vault = running.open_vault().await?;
                    Ok(vault.add_recipient(RECIPIENTS[*who], &recipient(*who)).await?)
                };
                // Without any backup there is no vault yet.
                let none = self.model.points.is_empty();
                after.done(added.await);
                after.may_be_refused(refused || none);
            }
            Action::Remove { recipient: who } => {
                let mut next = self.model.recipients.clone();
                let refused = !next.remove(who) || next.is_empty();
                if !refused {
                    after.recipients = Some((next, true));
                }
                let removed =
                    async { Ok(running.open_vault().await?.remove_recipient(RECIPIENTS[*who]).await?) };
                after.done(removed.await);
                after.may_be_refused(refused);
            }
            Action::Rotate => {
                let refused = self.model.recipients.is_empty();
                after.recipients = Some((self.model.recipients.clone(), true));
                let rotated = async { Ok(running.open_vault().await?.rotate_keys().await?) };
                after.done(rotated.await);
                after.may_be_refused(refused);
            }
            Action::Shred { backup, table, column } => {
                let (backup, table) = (name(*backup), TABLES[*table]);
                let fits = |e: &Encryption| match e {
                    Encryption::None => false,
                    Encryption::Full => !column,
                    Encryption::Columns { .. } => true,
                };
                let mut lost = self.model.lost.clone();
                lost.extend(self.encryption().await.into_iter().filter_map(|((of, seq, name), how)| {
                    (of == backup && name == table && fits(&how)).then_some((of, seq, name))
                }));
                let refused = lost == self.model.lost;
                after.lost = Some(lost);
                let table = TableName::bare(table);
                let done = running.engine.shred(&backup.to_string(), &table, column.then_some("v")).await;
                after.done(done.map(|_| ()));
                after.may_be_refused(refused);
            }
            Action::Drop { backup } => {
                let dropped = name(*backup);
                after.gone = self.model.points_of(&dropped);
                if after.gone.is_empty() {
                    return Ok(after);
                }
                let held = self.model.holds.contains(&dropped);
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
                if let Some((of, seq)) = &after.made_of {
                    let tables =
                        self.model.lost.iter().filter(|(b, s, _)| (b, s) == (of, seq)).map(|(.., t)| *t);
                    let lost: Held = tables.map(|table| (point.0.clone(), point.1, table)).collect();
                    self.model.lost.extend(lost);
                }
                self.model.points.insert(point, rows);
            }
            (Some((backup, seq)), _) => return Err(format!("{backup}@{seq} came from nowhere")),
        }
        let missing: Vec<_> = self.model.points.keys().filter(|p| !found.contains(p)).cloned().collect();
        if !missing.is_empty() && missing == after.gone {
            self.model.points.retain(|p, _| !missing.contains(p));
            self.model.lost.retain(|(b, s, _)| !missing.contains(&(b.clone(), *s)));
        } else if !missing.is_empty() {
            return Err(format!("points are gone: {missing:?}"));
        } else if !after.gone.is_empty() {
            wanted(false, "the removal of points")?;
        }
        if let Some(next) = after.holds {
            let held = self.held().await;
            if held.len() == next.len() {
                self.model.holds = next;
            } else {
                wanted(false, "a hold")?;
            }
        }
        let recipients = self.recipients().await;
        match after.recipients {
            Some((next, _)) if next == recipients => {
                self.counts.key_changes += 1;
                self.model.recipients = next;
            }
            _ if recipients != self.model.recipients => {
                return Err(format!(
                    "{recipients:?} can open the vault, neither those before nor those after"
                ));
            }
            Some((_, true)) => wanted(false, "a change of keys")?,
            _ => {}
        }
        for (who, shown) in RECIPIENTS.iter().enumerate() {
            let opens = running.opens(Credentials::passphrase(&phrase(who))).await;
            if opens != (recipients.is_empty() || recipients.contains(&who)) {
                return Err(format!("{shown} opens the vault: {opens}"));
            }
        }
        let lost = self.lost().await;
        match after.lost {
            Some(next) if next == lost => {
                self.counts.key_changes += u64::from(next != self.model.lost);
                self.model.lost = next;
            }
            _ if lost != self.model.lost => {
                return Err(format!(
                    "the keys of {lost:?} are gone, and those of {:?} should be",
                    self.model.lost
                ));
            }
            Some(_) => wanted(false, "a shredded key")?,
            None => {}
        }
        // What is recorded of each point is what it must hold, and every stored byte is there.
        for (backup, seq, tables) in points {
            let rows = &self.model.points[&(backup.clone(), seq)];
            if !self.model.records(&backup, seq, &tables, rows) {
                return Err(format!("{backup}@{seq} records other rows than it must hold"));
            }
        }
        let damage = running.damage().await;
        if damage.is_empty() { Ok(()) } else { Err(format!("the vault is damaged: {damage:?}")) }
    }

    async fn recipients(&self) -> BTreeSet<usize> {
        let Ok(vault) = self.world.sound().open_vault().await else { return BTreeSet::new() };
        let (_, recipients) = vault.recipients().await.unwrap();
        let names: Vec<_> = recipients.iter().map(|r| r.name().to_owned()).collect();
        (0..RECIPIENTS.len()).filter(|who| names.iter().any(|name| name == RECIPIENTS[*who])).collect()
    }

    /// How each table of each point is encrypted.
    async fn encryption(&self) -> BTreeMap<(BackupName, LogSeq, &'static str), Encryption> {
        let mut found = BTreeMap::new();
        let Ok(vault) = self.world.sound().open_vault().await else { return found };
        for point in vault.log().await.unwrap().all_points() {
            for table in &point.tables {
                let name = TABLES.into_iter().find(|t| *t == table.name.table).unwrap();
                found.insert((point.backup.clone(), point.seq(), name), table.encryption.clone());
            }
        }
        found
    }

    /// Tables of points that were written under a key that is gone.
    async fn lost(&self) -> Held {
        let mut found = Held::new();
        let Ok(vault) = self.world.sound().open_vault().await else { return found };
        let Some(keyring) = vault.keyring().await.unwrap() else { return found };
        for point in vault.log().await.unwrap().all_points() {
            for table in point.tables.iter().filter(|t| t.encryption != Encryption::None) {
                let known = keyring.table(&table.id).map(|key| key.ids()).unwrap_or_default();
                let known: Vec<&str> = known.split(',').collect();
                if table.sealed.is_some() || !table.key_ids.split(',').all(|id| known.contains(&id)) {
                    let name = TABLES.into_iter().find(|t| *t == table.name.table).unwrap();
                    found.insert((point.backup.clone(), point.seq(), name));
                }
            }
        }
        found
    }

    /// Reads the rows of every point.
    async fn check_content(&self) -> Result<(), String> {
        let running = self.world.sound();
        for ((backup, seq), rows) in &self.model.points {
            if self.model.is_lost(backup, *seq) {
                self.check_rest(backup, *seq, rows).await?;
                continue;
            }
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

impl Run {
    /// Restores the tables of a point that still have all their keys.
    async fn check_rest(&self, backup: &BackupName, seq: LogSeq, rows: &Tables) -> Result<(), String> {
        let point = format!("{backup}@{seq}");
        let lost = |table: &str| self.model.lost.iter().any(|(b, s, t)| (b, *s, *t) == (backup, seq, table));
        for (table, rows) in rows {
            let world = self.world.fork();
            let running = world.sound();
            let restored = running.restore(&point, &[*table], "_again").await;
            match (restored, lost(table)) {
                (Err(_), true) => {}
                (Ok(_), true) => return Err(format!("{table} of {point} was read without its keys")),
                (Err(e), false) => return Err(format!("{table} of {point}: {e}")),
                (Ok(_), false) if running.live(&format!("{table}_again")).await.as_ref() == Some(rows) => {}
                (Ok(_), false) => return Err(format!("{point} holds other rows of {table} than it must")),
            }
        }
        Ok(())
    }
}

impl Model {
    /// Points of a backup, oldest first.
    fn points_of(&self, backup: &BackupName) -> Vec<(BackupName, LogSeq)> {
        self.points.keys().filter(|(b, _)| b == backup).cloned().collect()
    }

    /// Whether any table of a point is lost.
    fn is_lost(&self, backup: &BackupName, seq: LogSeq) -> bool {
        self.lost.iter().any(|(b, s, _)| (b, *s) == (backup, seq))
    }

    /// Whether what a point records is what these rows give. Of a lost table it may tell the count alone.
    fn records(
        &self,
        backup: &BackupName,
        seq: LogSeq,
        found: &BTreeMap<String, Digest>,
        rows: &Tables,
    ) -> bool {
        found.len() == rows.len()
            && rows.iter().all(|(table, rows)| {
                let Some(found) = found.get(*table) else { return false };
                let expected = digest(rows);
                let lost = self.lost.contains(&(backup.clone(), seq, *table));
                *found == expected || lost && found.rows == expected.rows
            })
    }
}

/// Whether digests are those of these rows.
fn same(found: &BTreeMap<String, Digest>, rows: &Tables) -> bool {
    found.len() == rows.len()
        && found.iter().all(|(table, found)| rows.get(table.as_str()).map(digest) == Some(*found))
}

/// What a step may have changed.
#[derive(Default)]
struct After {
    /// How it ended, and whether an error was to be expected; none where there was nothing to do.
    reported: Option<Result<(), (String, bool)>>,
    live: Option<Tables>,
    gone: Vec<(BackupName, LogSeq)>,
    point: Option<(BackupName, Tables)>,
    holds: Option<Vec<BackupName>>,
    restore: Option<(String, Tables)>,
    /// Who can open the vault, and whether that must be so when it was reported.
    recipients: Option<(BTreeSet<usize>, bool)>,
    lost: Option<Held>,
    /// The point that the new one is made of.
    made_of: Option<(BackupName, LogSeq)>,
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
