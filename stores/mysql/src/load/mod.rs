//! Rows on their way back: into tables beside the visible ones, which one RENAME a server puts in their place.
//!
//! A running load holds a lock of its name on its servers; a sweep removes tables of loads whose lock is free. `send` writes rows,
//! `swap` changes names, `journal` is what a later process finds, `sweep` what becomes of loads whose process died.

mod beside;
mod controls;
mod journal;
mod merge;
mod merged;
mod partner;
mod place;
mod publish;
mod send;
mod swap;
mod sweep;
mod target;
mod triggers;

use crate::catalog::{self, PhysicalTable};
use crate::connection::Connection;
use crate::cut::MySqlCut;
use crate::definition::name_in;
use crate::definitions::{Kept, Kind, UNSEEN};
use crate::family;
use crate::names::{full, quoted, text};
use crate::store::{Logical, Shared};
use crate::wire::WireError;
use async_trait::async_trait;
use controls::{Controls, PATIENCE};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use journal::Journal;
use keepfast_model::{Digest, TableName};
use keepfast_store::{
    BatchStream, Load, LoadOptions, LoadState, LoadedPart, OpenCut, Published, Result, StoreError,
};
use merged::MergedCut;
pub(crate) use place::behind;
use place::{Place, Standing, conflict};
pub(crate) use publish::undo;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
pub(crate) use sweep::{sweep, unfinished};
use target::{Form, Record, RecordTable, Target, check_foreign_keys, statement};
use tokio::sync::Mutex;

/// What names of unpublished tables begin with.
pub(crate) const PREFIX: &str = "__keepfast_load_";

/// A load of tables, over all servers that have a part of them.
#[derive(Debug)]
pub(crate) struct MySqlLoad {
    run: String,
    controls: Controls,
    /// In the order of the request.
    tables: Vec<Target>,
    /// Where the journal of each server is; the first is the one that counts.
    journals: Vec<(usize, Journal)>,
    /// What is made beside the tables, by its server's name.
    beside: Vec<(String, Kept)>,
    published: Mutex<Option<Published>>,
}

/// What finds a load again.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    run: String,
    server: String,
    database: String,
}

impl MySqlLoad {
    pub async fn begin(shared: Arc<Shared>, options: LoadOptions) -> Result<Self> {
        // A publication that a dead process left half done is finished before anything is decided by what stands there.
        sweep::finish_publications(&shared).await?;
        let run = short(&options.run.to_string());
        let mut connections = shared.connect().await?;
        let mut standing = Standing::look(&shared, &mut connections).await?;
        let (mut tables, mut kept) = (vec![], vec![]);
        for (at, table) in options.tables.into_iter().enumerate() {
            kept.extend(
                table.dependents.iter().filter_map(Kept::of_dependent).filter(|k| k.kind != Kind::Trigger),
            );
            for lacking in table.dependents.iter().filter(|d| d.kind == UNSEEN) {
                tracing::warn!(
                    database = lacking.name,
                    "the backup has not all definitions of this database: its account could not read {}",
                    lacking.definition
                );
            }
            tables.push(Target::new(&shared, &mut connections, &mut standing, table, (&run, at)).await?);
        }
        check_foreign_keys(&shared, &mut connections, &mut standing, &tables).await?;
        let beside = beside::places(&shared, &tables, kept);
        let mut journals: Vec<(usize, Journal)> = vec![];
        for place in tables.iter().flat_map(|table| &table.places) {
            if journals.iter().all(|(server, _)| *server != place.server) {
                journals.push((place.server, Journal::of(&place.database, &run)));
            }
        }
        let controls = Controls::new(shared.clone(), &run);
        let load = Self { run, controls, tables, journals, beside, published: Mutex::default() };
        for (server, _) in &load.journals {
            drop(load.controls.locked(*server, 0).await?);
        }
        for place in load.tables.iter().flat_map(|table| &table.places) {
            if !standing.has_database(place.server, &place.database) {
                let sql = format!("CREATE DATABASE IF NOT EXISTS {}", quoted(&place.database));
                let mut at = load.controls.plain(place.server).await?;
                at.run(&sql)
                    .await
                    .map_err(|e| load.controls.failed(&format!("run {sql}"), place.server, e))?;
            }
        }
        if let Err(error) = load.make().await {
            // The first error tells more than one that follows from it.
            let _ = load.remove().await;
            return Err(error);
        }
        Ok(load)
    }

    pub async fn attach(shared: Arc<Shared>, token: &serde_json::Value) -> Result<Self> {
        let foreign = || shared.unsupported("go on with a load that is not its own".into());
        let token: Token = serde_json::from_value(token.clone()).map_err(|_| foreign())?;
        if token.run != short(&token.run) {
            return Err(foreign());
        }
        let server = shared.server_named(&token.server)?;
        let controls = Controls::new(shared.clone(), &token.run);
        let journal = Journal::of(&token.database, &token.run);
        let found = {
            let mut at = controls.plain(server).await?;
            let found = journal.get(&mut at, journal::LOAD).await;
            found.map_err(|e| controls.failed("find a load", server, e))?
        };
        let found =
            found.ok_or_else(|| conflict(&journal.table, "the load was swept, abandoned or forgotten"))?;
        let record: Record = serde_json::from_value(found).map_err(|_| foreign())?;
        let tables = record.tables.into_iter().map(|table| Target::of_record(&shared, table));
        let journals = record.journals.into_iter().map(|(server, database)| {
            Ok((shared.server_named(&server)?, Journal::of(&database, &token.run)))
        });
        let (tables, journals) = (tables.collect::<Result<_>>()?, journals.collect::<Result<Vec<_>>>()?);
        for (server, _) in &journals {
            // Its process may live, and this one a worker of it.
            let _ = controls.locked(*server, 0).await;
        }
        let beside = record.beside;
        Ok(Self { run: token.run, controls, tables, journals, beside, published: Mutex::default() })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.controls.shared
    }

    fn target(&self, table: &TableName) -> Result<(usize, &Target)> {
        let found = self.tables.iter().enumerate().find(|(_, target)| target.logical == *table);
        found
            .ok_or_else(|| StoreError::NoTable { table: table.to_string(), store: self.shared().to_string() })
    }

    fn journal(&self, server: usize) -> Result<Journal> {
        let found = self.journals.iter().find(|(at, _)| *at == server).map(|(_, journal)| journal.clone());
        found.ok_or_else(|| self.shared().unsupported("find the journal of a load".into()))
    }

    /// The journal that counts, and its server.
    fn first(&self) -> Result<(usize, &Journal)> {
        let found = self.journals.first().map(|(server, journal)| (*server, journal));
        found.ok_or_else(|| self.shared().unsupported("load no tables".into()))
    }

    async fn record(&self, kind: &str) -> Result<Option<serde_json::Value>> {
        let (server, journal) = self.first()?;
        let mut at = self.controls.plain(server).await?;
        journal.get(&mut at, kind).await.map_err(|e| self.controls.failed("read a load's journal", server, e))
    }

    /// Writes a record where it is not there yet.
    async fn write_down(&self, kind: &str, name: &str, body: &serde_json::Value) -> Result<bool> {
        let (server, journal) = self.first()?;
        let mut at = self.controls.plain(server).await?;
        let written = journal.put(&mut at, kind, name, body).await;
        written.map_err(|e| self.controls.failed("write a load's journal", server, e))
    }

    /// Makes the journals, the first one first, and then the tables.
    async fn make(&self) -> Result<()> {
        for (server, journal) in &self.journals {
            let fail = |e: WireError| self.controls.failed("make a load's journal", *server, e);
            let mut at = self.controls.locked(*server, 0).await?;
            journal.create(&mut at).await.map_err(fail)?;
            if journal.name() == self.journals[0].1.name() && *server == self.journals[0].0 {
                journal.put(&mut at, journal::LOAD, "", &json!(self.to_record())).await.map_err(fail)?;
            }
        }
        self.make_sequences().await?;
        try_join_all(self.journals.iter().map(|(server, _)| async move {
            let mut at = self.controls.locked(*server, 0).await?;
            for target in &self.tables {
                for place in target.places.iter().filter(|place| place.server == *server) {
                    let sql = target.definition.create(&full(&place.database, &place.staging));
                    let what = format!("make table '{}' by the statement that it was made by", place.name);
                    let fail = |e| self.controls.failed(&what, *server, e);
                    let named = format!("table '{}'", place.name);
                    let sql = family::adapted_aloud(&mut at, sql.as_bytes(), &named).await.map_err(fail)?;
                    at.run_bytes(&sql).await.map_err(fail)?;
                }
            }
            Ok(())
        }))
        .await
        .map(drop)
    }

    /// Makes sequences first where tables take their defaults from them.
    async fn make_sequences(&self) -> Result<()> {
        let mut statements = self.tables.iter().filter_map(|table| table.statement.as_deref());
        if !statements.any(|statement| statement.contains("nextval(") || statement.contains("lastval(")) {
            return Ok(());
        }
        let sequences = self.beside.iter().filter(|(_, kept)| kept.kind == Kind::Sequence).cloned();
        match beside::make(&self.controls, &sequences.collect::<Vec<_>>()).await?.into_iter().next() {
            None => Ok(()),
            Some(problem) => {
                Err(self.shared().unsupported(format!("make the sequences of its tables: {problem}")))
            }
        }
    }

    fn to_record(&self) -> Record {
        let name = |server: usize| self.shared().servers[server].name().to_owned();
        let tables = self.tables.iter().map(|table| RecordTable {
            logical: table.logical.clone(),
            schema: table.schema.clone(),
            mode: table.mode,
            merging: table.merging,
            tag: table.tag.clone(),
            statement: table.statement.clone(),
            triggers: table.triggers.clone(),
            rule: table.rule.clone(),
            places: table
                .places
                .iter()
                .map(|p| (name(p.server), p.database.clone(), p.name.clone(), p.staging.clone()))
                .collect(),
        });
        let journals = self.journals.iter().map(|(server, j)| (name(*server), j.database.clone()));
        Record { tables: tables.collect(), journals: journals.collect(), beside: self.beside.clone() }
    }

    /// How rows of a table are given, once its tables stand.
    async fn form<'a>(&self, target: &'a Target) -> Result<&'a Form> {
        target
            .form
            .get_or_try_init(|| async {
                let place = &target.places[0];
                let made = {
                    let mut at = self.controls.plain(place.server).await?;
                    self.described(&mut at, target, place).await?
                };
                let (columns, form) = statement(&target.schema, &made).map_err(|reason| {
                    self.shared().unsupported(format!("load table '{}': {reason}", target.logical.table))
                })?;
                let statements = target.places.iter().map(|place| {
                    let into = full(&place.database, &place.staging);
                    format!("LOAD DATA LOCAL INFILE 'rows' INTO TABLE {into} {form}")
                });
                Ok(Form { columns, statements: Arc::new(statements.collect()) })
            })
            .await
    }

    async fn described(&self, at: &mut Connection, target: &Target, place: &Place) -> Result<PhysicalTable> {
        let found = catalog::describe(at, &place.database, &place.staging).await;
        let found = found.map_err(|e| self.controls.failed("describe a table", place.server, e))?;
        found.ok_or_else(|| conflict(&target.logical.to_string(), "its unpublished rows were removed"))
    }

    /// The tables as a cut reads them: before the publication or after it. None where one is missing.
    async fn as_logical(&self, published: bool) -> Result<Option<BTreeMap<TableName, Logical>>> {
        let mut all = BTreeMap::new();
        for target in &self.tables {
            let mut schema = target.schema.clone();
            let mut shards = vec![];
            for place in &target.places {
                let mut at = self.controls.plain(place.server).await?;
                let name = if published { &place.name } else { &place.staging };
                let found = catalog::describe(&mut at, &place.database, name).await;
                let found = found.map_err(|e| self.controls.failed("describe a table", place.server, e))?;
                let Some(found) = found else { return Ok(None) };
                shards.push(self.shared().shard(place.server, found));
            }
            // Ids stay those of the restored table; what the server says of its types is how they are read.
            if let Some(first) = shards.first() {
                let own = first.table.schema().map_err(|e| {
                    self.shared().unsupported(format!("read '{}' back: {e}", target.logical.table))
                })?;
                if own.columns.len() != schema.columns.len() {
                    return Ok(None);
                }
                for (column, own) in schema.columns.iter_mut().zip(&own.columns) {
                    column.origin = own.origin.clone();
                }
            }
            all.insert(target.logical.clone(), Logical { schema, shards, dependents: vec![] });
        }
        Ok(Some(all))
    }

    /// The tables before the publication or after it, of merged ones the loaded rows then. None where one is missing.
    async fn cut(&self, published: bool) -> Result<Option<Arc<dyn OpenCut>>> {
        if self.tables.iter().any(|target| target.merging) {
            return Ok(MergedCut::open(self, published).await?.map(|cut| Arc::new(cut) as Arc<dyn OpenCut>));
        }
        let Some(tables) = self.as_logical(published).await? else { return Ok(None) };
        Ok(Some(Arc::new(MySqlCut::private(self.shared().clone(), tables).await?)))
    }

    /// The parts whose rows stand on the servers, by mark.
    async fn marked(&self) -> Result<BTreeMap<String, Digest>> {
        let mut all: BTreeMap<String, Digest> = BTreeMap::new();
        for (server, journal) in &self.journals {
            let mut at = self.controls.plain(*server).await?;
            let found = journal.all(&mut at, journal::PART).await;
            for (mark, digest) in
                found.map_err(|e| self.controls.failed("read a load's journal", *server, e))?
            {
                let digest: Digest = serde_json::from_value(digest).map_err(|e| StoreError::Damaged {
                    object: journal.name(),
                    reason: format!("part {mark}: {e}"),
                })?;
                let sum = all.entry(mark).or_default();
                *sum = sum.merge(digest);
            }
        }
        Ok(all)
    }

    /// Checks that what stands there is exactly what was given.
    async fn check_parts(&self, parts: &[(TableName, Vec<LoadedPart>)]) -> Result<()> {
        let mut marked = self.marked().await?;
        for (table, parts) in parts {
            let (at, _) = self.target(table)?;
            for part in parts {
                let found = marked.remove(&send::mark(at, part.part)).unwrap_or_default();
                if found != part.digest {
                    return Err(StoreError::Damaged {
                        object: format!("part {} of '{table}'", part.part),
                        reason: format!("{} was given, and {found} stands on the servers", part.digest),
                    });
                }
            }
        }
        match marked.into_keys().next() {
            None => Ok(()),
            Some(mark) => Err(conflict(
                &self.first()?.1.table,
                format!(
                    "rows of part {mark} stand there, and this restore has no such part; it has to begin anew"
                ),
            )),
        }
    }

    /// Makes the indexes of one physical table that are not there yet, and asks the server for rows that belong elsewhere.
    async fn complete(&self, target: &Target, n: usize) -> Result<()> {
        let place = &target.places[n];
        let table = full(&place.database, &place.staging);
        let fail = |what: &'static str| move |e: WireError| self.controls.failed(what, place.server, e);
        let mut session = self.shared().servers[place.server].connect_to_write().await?;
        self.check_rule(target, n, &mut session).await?;
        if !target.definition.later.is_empty() {
            let sql = format!(
                "SELECT DISTINCT index_name FROM information_schema.statistics WHERE table_schema = {} AND table_name = {}",
                text(&place.database),
                text(&place.staging)
            );
            let there = session.rows(&sql).await.map_err(fail("make the indexes"))?;
            let there: BTreeSet<String> = there
                .into_iter()
                .filter_map(|mut row| String::from_utf8(row.first_mut()?.take()?).ok())
                .collect();
            let later = target.definition.later.iter();
            let missing: Vec<String> = later
                .filter(|index| name_in(index).is_none_or(|name| !there.contains(&name)))
                .map(|index| format!("ADD {index}"))
                .collect();
            if !missing.is_empty() {
                let sql = format!("ALTER TABLE {table} {}", missing.join(", "));
                session.run(&sql).await.map_err(fail("make the indexes"))?;
            }
        }
        Ok(())
    }

    /// Asks the server for rows that belong elsewhere. Before the indexes are made it reads the rows as they stand; of an index that is new it
    /// would look up each row beside.
    async fn check_rule(&self, target: &Target, n: usize, session: &mut Connection) -> Result<()> {
        let Some(router) = &target.router else { return Ok(()) };
        let place = &target.places[n];
        let table = full(&place.database, &place.staging);
        let live = full(&place.database, &place.name);
        let fail = |e: WireError| self.controls.failed("evaluate the shard rule", place.server, e);
        for (table, stands) in
            [(table, false), (live, true)].into_iter().take(1 + usize::from(target.merging))
        {
            let sql = format!("SELECT 1 FROM {table} WHERE {} LIMIT 1", router.elsewhere(n));
            let found = session.rows(&sql).await.map_err(fail)?;
            if stands && !found.is_empty() {
                return Err(StoreError::Row {
                    table: target.logical.table.clone(),
                    reason: format!(
                        "the shard rule '{}' puts a row of '{}.{}' elsewhere, so that its key could come to stand in two shards",
                        target.rule.as_deref().unwrap_or_default(),
                        place.database,
                        place.name
                    ),
                });
            }
            if !found.is_empty() {
                return Err(StoreError::Row {
                    table: target.logical.table.clone(),
                    reason: format!(
                        "the server's own value of the shard rule '{}' puts a row elsewhere than into '{}.{}'; the values of its \
                         columns may have been changed by their types",
                        target.rule.as_deref().unwrap_or_default(),
                        place.database,
                        place.name
                    ),
                });
            }
        }
        Ok(())
    }

    /// Reads the rows back that are to be merged: nobody else compares them, because a merged table has others besides.
    async fn verify_merging(&self) -> Result<()> {
        if self.tables.iter().all(|target| !target.merging) {
            return Ok(());
        }
        let Some(tables) = self.as_logical(false).await? else { return Ok(()) };
        let cut = MySqlCut::private(self.shared().clone(), tables).await?;
        let other = self.other_rows(&cut, |target| target.merging).await?;
        cut.release().await?;
        other.map_or(Ok(()), Err)
    }

    /// Removes all that is not visible, the journal that counts last.
    async fn remove(&self) -> Result<()> {
        for (server, journal) in self.journals.iter().rev() {
            let fail = |e: WireError| self.controls.failed("remove what was loaded", *server, e);
            let mut at = self.controls.locked(*server, PATIENCE).await?;
            for target in &self.tables {
                for place in target.places.iter().filter(|place| place.server == *server) {
                    let sql = format!("DROP TABLE IF EXISTS {}", full(&place.database, &place.staging));
                    at.run(&sql).await.map_err(fail)?;
                }
            }
            journal.drop(&mut at).await.map_err(fail)?;
        }
        self.controls.let_go().await;
        Ok(())
    }
}

/// A run's id, short enough for a table's name.
fn short(run: &str) -> String {
    run.bytes().filter(u8::is_ascii_alphanumeric).take(32).map(char::from).collect()
}

#[async_trait]
impl Load for MySqlLoad {
    fn token(&self) -> Option<serde_json::Value> {
        let (server, journal) = self.first().ok()?;
        let server = self.shared().servers[server].name().to_owned();
        Some(json!(Token { run: self.run.clone(), server, database: journal.database.clone() }))
    }

    async fn write_part(&self, table: &TableName, part: u32, rows: BatchStream) -> Result<LoadedPart> {
        let target = self.target(table)?;
        let digest = send::send(self, target, part, rows).await?;
        Ok(LoadedPart { part, digest, token: serde_json::Value::Null })
    }

    async fn finish(&self, parts: Vec<(TableName, Vec<LoadedPart>)>) -> Result<()> {
        for (server, _) in &self.journals {
            drop(self.controls.locked(*server, PATIENCE).await?);
        }
        self.check_parts(&parts).await?;
        let all = self.tables.iter().flat_map(|target| (0..target.places.len()).map(move |n| (target, n)));
        let jobs: Vec<_> = all.map(|(target, n)| self.complete(target, n)).collect();
        let at_once = self.shared().sessions * self.journals.len().max(1);
        futures::stream::iter(jobs).buffer_unordered(at_once).try_collect::<()>().await?;
        self.verify_merging().await
    }

    async fn open_cut(&self) -> Result<Arc<dyn OpenCut>> {
        let (_, journal) = self.first()?;
        let cut = self.cut(false).await?;
        cut.ok_or_else(|| conflict(&journal.table, "its unpublished tables were removed"))
    }

    async fn publish(&self) -> Result<Published> {
        let mut published = self.published.lock().await;
        if let Some(answer) = published.as_ref() {
            return Ok(answer.clone());
        }
        let answer = self.publish_once().await?;
        Ok(published.insert(answer).clone())
    }

    async fn abandon(&self) -> Result<()> {
        // One that is published on a server is published on all first.
        self.recorded().await?;
        self.remove().await
    }

    async fn remember(&self, purpose: &serde_json::Value) -> Result<bool> {
        let body = json!({ "purpose": purpose, "begun": jiff::Timestamp::now() });
        self.write_down(journal::REMEMBER, "", &body).await?;
        Ok(true)
    }

    async fn note(&self, name: &str, note: &serde_json::Value) -> Result<bool> {
        self.write_down(journal::NOTE, name, note).await
    }

    async fn notes(&self) -> Result<BTreeMap<String, serde_json::Value>> {
        let (server, journal) = self.first()?;
        let mut at = self.controls.plain(server).await?;
        let notes = journal.all(&mut at, journal::NOTE).await;
        notes.map_err(|e| self.controls.failed("read a load's journal", server, e))
    }

    async fn state(&self) -> Result<LoadState> {
        match self.recorded().await? {
            LoadState::Published(published) => self.standing(published).await,
            other => Ok(other),
        }
    }

    async fn forget(&self) -> Result<()> {
        match self.recorded().await? {
            LoadState::Open => {
                let (server, journal) = self.first()?;
                let mut at = self.controls.plain(server).await?;
                let forgotten = journal.remove(&mut at, journal::REMEMBER).await;
                forgotten.map_err(|e| self.controls.failed("forget a load", server, e))
            }
            LoadState::Published(_) | LoadState::Over(_) => self.remove().await,
        }
    }
}
