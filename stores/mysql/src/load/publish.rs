//! A load's tables in place of those that were there, and back.

use super::controls::{Controls, PATIENCE};
use super::journal::{self, Journal};
use super::merge::{self, Merge};
use super::place::{behind, conflict, names};
use super::swap::{self, Failed, Key, Plan, Rename, Step};
use super::{MySqlLoad, Target, beside, partner, short, triggers};
use crate::connection::Connection;
use crate::definition::ForeignKey;
use crate::definitions::{self, Kept};
use crate::names::text;
use crate::store::Shared;
use crate::wire::WireError;
use futures::TryStreamExt;
use keepfast_model::{Digest, RowHasher, TableName};
use keepfast_store::{
    LoadMode, LoadState, OpenCut, PlanOptions, Published, Result, ScanOptions, StoreError, UndoToken,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a publication does, as its journal has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Publication {
    pub plan: Plan,
    #[serde(default)]
    merges: Vec<Merge>,
    /// What is made when the names have changed, where it is missing.
    #[serde(default)]
    beside: Vec<(String, Kept)>,
    replaced: Vec<Option<TableName>>,
    undo: Undo,
}

/// What an undo puts back.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Undo {
    run: String,
    tag: String,
    servers: Vec<UndoServer>,
    /// Tables that rows were merged into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    merged: Vec<TableName>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct UndoServer {
    server: String,
    tables: Vec<UndoTable>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct UndoTable {
    database: String,
    name: String,
    replaced: Option<String>,
    /// When the table was made, as the server says: another one of the name has another.
    made: String,
    /// The foreign keys of the replaced one, which it has not while it is only kept.
    keys: Vec<ForeignKey>,
    /// Its triggers, likewise.
    #[serde(default)]
    triggers: Vec<Kept>,
}

/// How far a plan was brought.
pub(super) enum Brought {
    /// Nothing has changed.
    Nowhere,
    Published(Published),
    Over(String),
}

impl MySqlLoad {
    pub(super) async fn publish_once(&self) -> Result<Published> {
        // What a call that was dropped has sent is done by then, or never will be.
        drop(self.controls.locked(self.first()?.0, PATIENCE).await?);
        match self.recorded().await? {
            LoadState::Published(published) => return Ok(published),
            LoadState::Over(reason) => return Err(conflict(&self.first()?.1.table, reason)),
            LoadState::Open => {}
        }
        let publication = self.plan().await?;
        if !self.write_down(journal::PLAN, "", &json!(publication)).await? {
            return Err(conflict(&self.first()?.1.table, "another process publishes it"));
        }
        let (server, journal) = self.first()?;
        let published = match bring(&self.controls, (server, journal), &publication).await? {
            (Brought::Published(published), _) => published,
            (Brought::Nowhere | Brought::Over(_), Some(error)) => return Err(error),
            (Brought::Over(reason), None) => return Err(conflict(&journal.table, reason)),
            (Brought::Nowhere, None) => return Err(conflict(&journal.table, "nothing was published")),
        };
        if self.record(journal::REMEMBER).await?.is_none() {
            self.remove().await?;
        }
        Ok(published)
    }

    /// How far the load was brought, whatever happened to its tables since; a publication that stopped half done is brought to its end.
    pub(super) async fn recorded(&self) -> Result<LoadState> {
        if self.record(journal::LOAD).await?.is_none() {
            return Ok(LoadState::Over("it was swept, abandoned or forgotten".into()));
        }
        if let Some(reason) = self.record(journal::OVER).await? {
            return Ok(LoadState::Over(reason.as_str().unwrap_or("its publication failed").to_owned()));
        }
        if let Some(published) = self.record(journal::PUBLISHED).await? {
            let published = serde_json::from_value(published).map_err(|e| StoreError::Damaged {
                object: self.run.clone(),
                reason: format!("its publication: {e}"),
            })?;
            return Ok(LoadState::Published(published));
        }
        let Some(plan) = self.record(journal::PLAN).await? else { return Ok(LoadState::Open) };
        let (server, journal) = self.first()?;
        let publication = publication(plan, journal)?;
        match recover(&self.controls, (server, journal), &publication).await? {
            Brought::Nowhere => Ok(LoadState::Open),
            Brought::Published(published) => Ok(LoadState::Published(published)),
            Brought::Over(reason) => Ok(LoadState::Over(reason)),
        }
    }

    /// Whether the published tables still have exactly the rows that were loaded: they are read.
    pub(super) async fn standing(&self, published: Published) -> Result<LoadState> {
        let changed = || Ok(LoadState::Over("its tables were changed since it was published".into()));
        let Some(cut) = self.cut(true).await? else { return changed() };
        if self.other_rows(cut.as_ref(), |_| true).await?.is_some() {
            return changed();
        }
        cut.release().await?;
        Ok(LoadState::Published(published))
    }

    /// The first of some tables whose rows at a cut are not those that were loaded, and how they differ.
    pub(super) async fn other_rows(
        &self,
        cut: &dyn OpenCut,
        some: impl Fn(&Target) -> bool,
    ) -> Result<Option<StoreError>> {
        let mut expected: BTreeMap<usize, Digest> = BTreeMap::new();
        for (mark, digest) in self.marked().await? {
            let table = mark.split_once('/').and_then(|(table, _)| table.parse().ok()).unwrap_or(usize::MAX);
            let sum = expected.entry(table).or_default();
            *sum = sum.merge(digest);
        }
        for (at, target) in self.tables.iter().enumerate().filter(|(_, target)| some(target)) {
            let hasher = RowHasher::new(&target.schema);
            let mut found = Digest::default();
            for partition in cut.plan(&target.logical, &PlanOptions::default()).await? {
                let mut rows = cut.scan(&partition, &ScanOptions::default()).await?;
                while let Some(batch) = rows.try_next().await? {
                    found = found.merge(hasher.digest(&batch)?);
                }
            }
            let expected = expected.get(&at).copied().unwrap_or_default();
            if found != expected {
                return Ok(Some(StoreError::Row {
                    table: target.logical.to_string(),
                    reason: format!(
                        "the server changed values by the types of its columns: {expected} was given and {found} was read back"
                    ),
                }));
            }
        }
        Ok(None)
    }

    /// What is to be renamed, from what stands there now.
    async fn plan(&self) -> Result<Publication> {
        let mut taken: BTreeMap<(usize, &str), BTreeSet<String>> = BTreeMap::new();
        for place in self.tables.iter().flat_map(|target| &target.places) {
            if !taken.contains_key(&(place.server, place.database.as_str())) {
                let mut at = self.controls.locked(place.server, PATIENCE).await?;
                let found = names(&mut at, &place.database).await;
                let found = found.map_err(|e| self.controls.failed("list the tables", place.server, e))?;
                taken.insert((place.server, &place.database), found);
            }
        }
        let has = |server: usize, database: &str, name: &str| {
            taken.get(&(server, database)).is_some_and(|names| names.contains(name))
        };
        let mut replaced = vec![];
        // Each physical table, the table it belongs to, and the name that the replaced one gets.
        let mut all = vec![];
        for (number, target) in self.tables.iter().enumerate() {
            if let Some(gone) = target.places.iter().find(|p| !has(p.server, &p.database, &p.staging)) {
                return Err(conflict(&gone.name, "its unpublished rows were removed"));
            }
            let exists: Vec<bool> =
                target.places.iter().map(|p| has(p.server, &p.database, &p.name)).collect();
            if target.merging {
                replaced.push(None);
                continue;
            }
            if target.mode == LoadMode::Merge && exists.contains(&true) {
                return Err(conflict(&target.logical.to_string(), "it was made since the load began"));
            }
            if target.mode == LoadMode::Create && exists.contains(&true) {
                return Err(StoreError::TableExists {
                    table: target.logical.to_string(),
                    store: self.shared().to_string(),
                });
            }
            // One number for all physical tables.
            let suffix = (1_u32..).map(|n| format!("__replaced_{}_{n}", target.tag)).find(|suffix| {
                target.places.iter().all(|p| !has(p.server, &p.database, &behind(&p.name, suffix)))
            });
            let suffix = suffix.unwrap_or_default();
            for (place, exists) in target.places.iter().zip(&exists) {
                all.push((number, place, exists.then(|| behind(&place.name, &suffix))));
            }
            let kept = behind(&target.logical.table, &suffix);
            replaced
                .push(exists.contains(&true).then(|| TableName { table: kept, ..target.logical.clone() }));
        }
        let mut plan = Plan::default();
        let mut servers = vec![];
        for (server, _) in &self.journals {
            let here: Vec<_> = all.iter().filter(|(_, place, _)| place.server == *server).collect();
            if here.is_empty() {
                continue;
            }
            let mut step =
                Step { server: self.shared().servers[*server].name().to_owned(), ..Step::default() };
            let mut tables = vec![];
            for (_, place, kept) in &here {
                let (database, name) = (place.database.clone(), place.name.clone());
                if let Some(kept) = kept {
                    let (from, to) = (name.clone(), kept.clone());
                    step.renames.push(Rename { database: database.clone(), from, to, from_is_ours: false });
                }
                let (from, to) = (place.staging.clone(), name.clone());
                step.renames.push(Rename { database: database.clone(), from, to, from_is_ours: true });
                tables.push(UndoTable {
                    database,
                    name,
                    replaced: kept.clone(),
                    made: String::new(),
                    keys: vec![],
                    triggers: vec![],
                });
            }
            let mut at = self.controls.locked(*server, PATIENCE).await?;
            let fail = |e: WireError| self.controls.failed("look for foreign keys", *server, e);
            // What a table's name means until the names have changed.
            let meanwhile = |database: &str, name: &str| {
                let found =
                    here.iter().find(|(_, p, _)| (p.database.as_str(), p.name.as_str()) == (database, name));
                found.map_or(name.to_owned(), |(_, p, _)| p.staging.clone())
            };
            let mut moves = Moves { run: &self.run, step: &mut step };
            for (number, place, _) in &here {
                let target = &self.tables[*number];
                let n = target.places.iter().position(|p| p == *place).unwrap_or_default();
                let keys = partner::keys_of(self.shared(), target, n);
                for key in keys.map_err(|why| self.shared().unsupported(format!("publish a table: {why}")))? {
                    moves.add((&place.database, &place.staging, &place.name), &key, &meanwhile);
                }
            }
            let existing: Vec<_> = here.iter().filter(|(_, _, kept)| kept.is_some()).collect();
            let existing: BTreeSet<(String, String)> =
                existing.into_iter().map(|(_, p, _)| (p.database.clone(), p.name.clone())).collect();
            moves.of_others(&mut at, &existing, &meanwhile).await.map_err(fail)?;
            for table in tables.iter_mut().filter(|table| table.replaced.is_some()) {
                table.keys = swap::keys_of(&mut at, &table.database, &table.name).await.map_err(fail)?;
                let live = definitions::triggers(&mut at, &table.database, &table.name).await;
                table.triggers = live.map_err(|e| self.controls.failed("look for triggers", *server, e))?;
                if let (false, Some(kept)) =
                    (table.keys.is_empty() && table.triggers.is_empty(), &table.replaced)
                {
                    step.freed.push((table.database.clone(), kept.clone()));
                }
            }
            let places = here.iter().map(|(number, place, _)| (&self.tables[*number], *place));
            for ((target, place), table) in places.zip(&tables) {
                let own = |k: &&Kept| k.database == place.database && k.table.as_ref() == Some(&place.name);
                let wanted: Vec<Kept> = match &target.triggers {
                    Some(kept) => kept.iter().filter(own).cloned().collect(),
                    // What the backup does not know stays as it is.
                    None => table.triggers.clone(),
                };
                triggers::say_lost(place, &table.triggers, &wanted);
                let names = (place.staging.as_str(), place.name.as_str());
                let new = triggers::moves((&self.run, step.triggers.len()), names, wanted);
                step.triggers.extend(new);
            }
            let free = triggers::name_freely(&mut at, &mut step).await;
            free.map_err(|e| self.controls.failed("look for triggers", *server, e))?;
            servers.push(UndoServer { server: step.server.clone(), tables });
            plan.steps.push(step);
        }
        let tag = self.tables.first().map(|t| t.tag.clone()).unwrap_or_default();
        let merged = self.tables.iter().filter(|t| t.merging).map(|t| t.logical.clone()).collect();
        let undo = Undo { run: self.run.clone(), tag, servers, merged };
        let merges = self.merges().await?;
        Ok(Publication { plan, merges, beside: self.beside.clone(), replaced, undo })
    }
}

/// Foreign keys that a step brings along.
struct Moves<'a> {
    run: &'a str,
    step: &'a mut Step,
}

impl Moves<'_> {
    /// One key of a table, which has other names before and after.
    fn add(
        &mut self,
        (database, before, after): (&str, &str, &str),
        key: &ForeignKey,
        meanwhile: &impl Fn(&str, &str) -> String,
    ) {
        let refers = key.database.clone().unwrap_or_else(|| database.to_owned());
        self.step.keys.push(Key {
            database: database.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            temporary: format!("__keepfast_{}_{}", self.run, self.step.keys.len()),
            refers_before: (refers.clone(), meanwhile(&refers, &key.table)),
            refers_after: (refers, key.table.clone()),
            key: key.clone(),
        });
    }

    /// Keys by which other tables refer to these.
    async fn of_others(
        &mut self,
        at: &mut Connection,
        tables: &BTreeSet<(String, String)>,
        meanwhile: &impl Fn(&str, &str) -> String,
    ) -> Result<(), WireError> {
        if tables.is_empty() {
            return Ok(());
        }
        let wanted: Vec<String> = tables.iter().map(|(d, t)| format!("({}, {})", text(d), text(t))).collect();
        let sql = format!(
            "SELECT DISTINCT table_schema, table_name FROM information_schema.key_column_usage \
             WHERE (referenced_table_schema, referenced_table_name) IN ({})",
            wanted.join(", ")
        );
        for row in at.rows(&sql).await? {
            let word = |at: usize| row.get(at).and_then(|t| String::from_utf8(t.clone()?).ok());
            let (Some(database), Some(table)) = (word(0), word(1)) else { continue };
            // The keys of a table that is itself replaced come from its own definition.
            if tables.contains(&(database.clone(), table.clone())) {
                continue;
            }
            for key in swap::keys_of(at, &database, &table).await? {
                let refers = key.database.clone().unwrap_or_else(|| database.clone());
                if tables.contains(&(refers, key.table.clone())) {
                    self.add((&database, &table, &table), &key, meanwhile);
                }
            }
        }
        Ok(())
    }
}

pub(super) fn publication(record: serde_json::Value, journal: &Journal) -> Result<Publication> {
    serde_json::from_value(record)
        .map_err(|e| StoreError::Damaged { object: journal.name(), reason: format!("its plan: {e}") })
}

/// Goes on with a plan that a process left: to its end where any name has changed, else nowhere.
pub(super) async fn recover(
    controls: &Controls,
    (server, journal): (usize, &Journal),
    publication: &Publication,
) -> Result<Brought> {
    let begun = {
        let merging = controls.another("merge");
        let sessions = merge::sessions(&merging, &publication.undo.run, &publication.merges).await?;
        sessions.iter().any(|session| session.done)
    };
    if !begun && !swap::begun(controls, &publication.plan).await? {
        swap::give_up(controls, &publication.plan).await?;
        let mut at = controls.locked(server, PATIENCE).await?;
        journal.remove(&mut at, journal::PLAN).await.map_err(|e| controls.failed("publish", server, e))?;
        return Ok(Brought::Nowhere);
    }
    match bring(controls, (server, journal), publication).await? {
        (Brought::Nowhere, Some(error)) => Err(error),
        (brought, _) => Ok(brought),
    }
}

/// Brings a plan that is written down to its end, and writes down what became of it. With the error that sent it back.
async fn bring(
    controls: &Controls,
    (server, journal): (usize, &Journal),
    publication: &Publication,
) -> Result<(Brought, Option<StoreError>)> {
    let fail = |e: WireError| controls.failed("publish", server, e);
    let (merging, run) = (controls.another("merge"), &publication.undo.run);
    let mut sessions = merge::sessions(&merging, run, &publication.merges).await?;
    let begun = sessions.iter().any(|session| session.done);
    // Servers merge first and commit last, so that nothing is done where one refuses.
    if let Err(error) = merge::put(&merging, run, &mut sessions).await {
        merge::roll_back(&mut sessions).await;
        if begun || swap::begun(controls, &publication.plan).await? {
            return Err(error);
        }
        swap::give_up(controls, &publication.plan).await?;
        let mut at = controls.locked(server, PATIENCE).await?;
        journal.remove(&mut at, journal::PLAN).await.map_err(fail)?;
        return Ok((Brought::Nowhere, Some(error)));
    }
    let swapped = swap::run(controls, &publication.plan).await;
    if swapped.is_err() {
        merge::roll_back(&mut sessions).await;
    }
    match swapped {
        Ok(()) => {
            merge::commit(&merging, &mut sessions).await?;
            drop(sessions);
            let problems = beside::make(controls, &publication.beside).await?;
            problems
                .iter()
                .for_each(|problem| tracing::warn!("not made with the restored tables: {problem}"));
            let mut undo = publication.undo.clone();
            for tables in &mut undo.servers {
                let on = controls.shared.server_named(&tables.server)?;
                let mut at = controls.locked(on, PATIENCE).await?;
                for table in &mut tables.tables {
                    let made = made(&mut at, &table.database, &table.name).await;
                    table.made = made.map_err(|e| controls.failed("publish", on, e))?.unwrap_or_default();
                }
            }
            let published =
                Published { replaced: publication.replaced.clone(), undo: UndoToken(json!(undo)) };
            let mut at = controls.locked(server, PATIENCE).await?;
            journal.put(&mut at, journal::PUBLISHED, "", &json!(published)).await.map_err(fail)?;
            Ok((Brought::Published(published), None))
        }
        Err(Failed::Back(error)) => {
            let mut at = controls.locked(server, PATIENCE).await?;
            journal.remove(&mut at, journal::PLAN).await.map_err(fail)?;
            Ok((Brought::Nowhere, Some(error)))
        }
        Err(Failed::Undone(error)) => {
            let reason = format!(
                "its publication went back, since one server refused it ({error}); rows that were visible meanwhile stand in '…__undone_…'"
            );
            let mut at = controls.locked(server, PATIENCE).await?;
            journal.put(&mut at, journal::OVER, "", &json!(reason)).await.map_err(fail)?;
            Ok((Brought::Over(reason), Some(error)))
        }
        Err(Failed::Half(error)) => Err(error),
    }
}

/// When a table was made, as the server says, in seconds; none where there is none.
async fn made(control: &mut Connection, database: &str, name: &str) -> Result<Option<String>, WireError> {
    let sql = format!(
        "SELECT create_time FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
        text(database),
        text(name)
    );
    let rows = control.rows(&sql).await?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()).map(|t| String::from_utf8_lossy(t).into_owned()))
}

/// Puts back what a publication replaced; what it published stands as `<table>__undone_<tag>_<n>` then.
pub(crate) async fn undo(shared: &Arc<Shared>, token: &UndoToken) -> Result<()> {
    let wrong = |what: &str| shared.unsupported(format!("undo this restore: {what}"));
    let undo: Undo = serde_json::from_value(token.0.clone()).map_err(|_| wrong("it is not of this store"))?;
    if let Some(merged) = undo.merged.first() {
        return Err(wrong(&format!(
            "rows were merged into '{merged}', and those that they took the place of were not kept; restore an earlier point instead"
        )));
    }
    let run = short(&format!("undo{}", undo.run));
    let controls = Controls::new(shared.clone(), &run);
    let (Some(first), Some(table)) =
        (undo.servers.first(), undo.servers.first().and_then(|server| server.tables.first()))
    else {
        return Ok(());
    };
    let server = shared.server_named(&first.server)?;
    let journal = Journal::of(&table.database, &run);
    let fail = |e: WireError| controls.failed("undo a restore", server, e);
    let left = {
        let mut at = controls.locked(server, PATIENCE).await?;
        if journal.get(&mut at, journal::PUBLISHED).await.map_err(fail)?.is_some() {
            // Another process has brought an undo that died to its end.
            return journal.drop(&mut at).await.map_err(fail);
        }
        journal.get(&mut at, journal::PLAN).await.map_err(fail)?
    };
    let plan = match left {
        // An undo that a dead process left is brought to its end.
        Some(left) => {
            serde_json::from_value(left).map_err(|_| wrong("the journal of an earlier try is damaged"))?
        }
        None => {
            let plan = undo_plan(&controls, &undo, &run).await?;
            let mut at = controls.locked(server, PATIENCE).await?;
            journal.drop(&mut at).await.map_err(fail)?;
            journal.create(&mut at).await.map_err(fail)?;
            let begun = json!({ "begun": jiff::Timestamp::now() });
            journal.put(&mut at, journal::REMEMBER, "", &begun).await.map_err(fail)?;
            journal.put(&mut at, journal::PLAN, "", &json!(plan)).await.map_err(fail)?;
            plan
        }
    };
    let done = swap::run(&controls, &plan).await;
    if !matches!(done, Err(Failed::Half(_))) {
        let mut at = controls.locked(server, PATIENCE).await?;
        journal.drop(&mut at).await.map_err(fail)?;
    }
    match done {
        Ok(()) => Ok(()),
        Err(Failed::Back(error) | Failed::Undone(error) | Failed::Half(error)) => Err(error),
    }
}

async fn undo_plan(controls: &Controls, undo: &Undo, run: &str) -> Result<Plan> {
    let mut plan = Plan::default();
    for tables in &undo.servers {
        let server = controls.shared.server_named(&tables.server)?;
        let fail = |e: WireError| controls.failed("undo a restore", server, e);
        let mut at = controls.locked(server, PATIENCE).await?;
        let mut step = Step { server: tables.server.clone(), ..Step::default() };
        let mut published = BTreeSet::new();
        for table in &tables.tables {
            let now = made(&mut at, &table.database, &table.name).await.map_err(fail)?;
            let there = names(&mut at, &table.database).await.map_err(fail)?;
            let kept = table.replaced.as_ref().is_none_or(|kept| there.contains(kept));
            if now.as_deref() != Some(table.made.as_str()) || !kept {
                return Err(conflict(&table.name, "it is another one, or it was undone already"));
            }
            let aside = swap::free_name(&there, &table.name, &format!("__undone_{}_", undo.tag));
            step.renames.push(Rename {
                database: table.database.clone(),
                from: table.name.clone(),
                to: aside.clone(),
                from_is_ours: false,
            });
            if let Some(kept) = &table.replaced {
                step.renames.push(Rename {
                    database: table.database.clone(),
                    from: kept.clone(),
                    to: table.name.clone(),
                    from_is_ours: true,
                });
            }
            step.freed.push((table.database.clone(), aside));
            if table.replaced.is_some() {
                published.insert((table.database.clone(), table.name.clone()));
            }
        }
        let meanwhile = |database: &str, name: &str| {
            let found =
                tables.tables.iter().find(|t| (t.database.as_str(), t.name.as_str()) == (database, name));
            found.and_then(|t| t.replaced.clone()).unwrap_or_else(|| name.to_owned())
        };
        let mut moves = Moves { run, step: &mut step };
        for table in &tables.tables {
            for key in table.replaced.iter().flat_map(|_| &table.keys) {
                let before = table.replaced.as_deref().unwrap_or_default();
                moves.add((&table.database, before, &table.name), key, &meanwhile);
            }
        }
        moves.of_others(&mut at, &published, &meanwhile).await.map_err(fail)?;
        for table in &tables.tables {
            let Some(before) = &table.replaced else { continue };
            let names = (before.as_str(), table.name.as_str());
            let new = triggers::moves((run, step.triggers.len()), names, table.triggers.clone());
            step.triggers.extend(new);
        }
        triggers::name_freely(&mut at, &mut step).await.map_err(fail)?;
        plan.steps.push(step);
    }
    Ok(plan)
}
