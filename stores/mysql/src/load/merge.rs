//! Loaded rows over the rows of a table that stands there.
//!
//! They are loaded beside, like others. The publication puts them over the rows of equal key, by the server's own comparison, in one
//! transaction on each server, and all servers have done so before the first one commits. Each transaction leaves a mark in its
//! server's journal: whoever finds a publication half done does it where the mark is missing.
//!
//! No row is deleted and none loses its key, so that foreign keys with `CASCADE` have nothing to do. Foreign keys are not checked row by
//! row, because tables of one load may refer to one another: before the commit rows without their partner are looked for.

use super::controls::{Controls, PATIENCE};
use super::journal::{self, Journal};
use super::place::{Place, conflict};
use super::swap::{keys_of, without_partner};
use super::{MySqlLoad, Target};
use crate::catalog::{self, PhysicalTable};
use crate::connection::Connection;
use crate::names::{full, quoted, text};
use crate::privileges;
use crate::wire::WireError;
use futures::future::join_all;
use keepfast_store::{Result, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::MappedMutexGuard;

/// Times that a server is asked, where others changed the same rows.
const ATTEMPTS: u32 = 3;
/// The server's numbers for a key that is there, a lock that was not had and a deadlock: trying again may succeed.
const AGAIN: [u16; 3] = [journal::DOUBLE, 1205, 1213];

/// What is merged on one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Merge {
    server: String,
    /// The database of its journal.
    journal: String,
    tables: Vec<MergeTable>,
}

/// A physical table and the one with its new rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MergeTable {
    database: String,
    name: String,
    staging: String,
    key: Vec<String>,
    /// Columns that a statement may set.
    columns: Vec<String>,
    /// Those of them in which rows of equal key may differ.
    differ: Vec<String>,
}

impl MySqlLoad {
    /// What a publication merges, from what stands there now.
    ///
    /// # Errors
    /// `Conflict` for tables that are not as they were when the load began.
    pub(super) async fn merges(&self) -> Result<Vec<Merge>> {
        let mut all = vec![];
        for (server, own) in &self.journals {
            let mut tables = vec![];
            for target in self.tables.iter().filter(|target| target.merging) {
                for place in target.places.iter().filter(|place| place.server == *server) {
                    let mut at = self.controls.locked(*server, PATIENCE).await?;
                    tables.push(self.merge_table(&mut at, target, place).await?);
                }
            }
            if !tables.is_empty() {
                let server = self.shared().servers[*server].name().to_owned();
                all.push(Merge { server, journal: own.database.clone(), tables });
            }
        }
        Ok(all)
    }

    async fn merge_table(&self, at: &mut Connection, target: &Target, place: &Place) -> Result<MergeTable> {
        let made = self.described(at, target, place).await?;
        let fail = |e: WireError| self.controls.failed("look at a table to merge into", place.server, e);
        let live = catalog::describe(at, &place.database, &place.name).await;
        let live = live.map_err(|e| self.controls.failed("describe a table", place.server, e))?;
        let same = live.filter(|live| live.columns == made.columns && live.key == made.key);
        let live = same.ok_or_else(|| {
            conflict(&place.name, "it was dropped or altered since rows to merge into it were loaded")
        })?;
        if let Some(problem) = unfit(at, &live).await.map_err(fail)? {
            return Err(self.shared().unsupported(problem));
        }
        let columns: Vec<_> = live.columns.iter().filter(|c| !c.generated).collect();
        // Texts of equal key may have other letters.
        let differ = columns.iter().filter(|c| !live.key.contains(&c.name) || c.collation.is_some());
        Ok(MergeTable {
            database: place.database.clone(),
            name: place.name.clone(),
            staging: place.staging.clone(),
            differ: differ.map(|c| c.name.clone()).collect(),
            columns: columns.iter().map(|c| c.name.clone()).collect(),
            key: live.key,
        })
    }
}

/// Why rows cannot be merged into a table; none where they can.
pub(super) async fn unfit(at: &mut Connection, live: &PhysicalTable) -> Result<Option<String>, WireError> {
    let (database, name) = (&live.database, &live.name);
    if !live.is_transactional() {
        return Ok(Some(format!(
            "merge rows into '{database}.{name}': its engine {} cannot take them back where a server refuses them",
            live.engine
        )));
    }
    if !privileges::sees_triggers(at, database).await? {
        return Ok(Some(format!(
            "merge rows into '{database}.{name}': its account is not shown the triggers that would fire for them; it needs GRANT TRIGGER ON {}.*",
            quoted(database)
        )));
    }
    let sql = format!(
        "SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = {} AND event_object_table = {} \
         AND event_manipulation <> 'DELETE' ORDER BY 1",
        text(database),
        text(name)
    );
    if let Some(trigger) = first_word(&at.rows(&sql).await?) {
        return Ok(Some(format!(
            "merge rows into '{database}.{name}': its trigger '{trigger}' would fire for them; drop it for the time of the restore, or restore \
             AS another name"
        )));
    }
    let sql = format!(
        "SELECT CONCAT(table_schema, '.', table_name), referenced_column_name FROM information_schema.key_column_usage \
         WHERE referenced_table_schema = {} AND referenced_table_name = {}",
        text(database),
        text(name)
    );
    let rows = at.rows(&sql).await?;
    let word = |value: Option<&Option<Vec<u8>>>| {
        String::from_utf8_lossy(value.and_then(Option::as_deref).unwrap_or_default()).into_owned()
    };
    let other = rows.iter().find(|row| !live.key.contains(&word(row.get(1))));
    Ok(other.map(|row| {
        format!(
            "merge rows into '{database}.{name}': a foreign key of '{}' refers to its column '{}', which is not of its key and may change",
            word(row.first()),
            word(row.get(1))
        )
    }))
}

fn first_word(rows: &[crate::connection::TextRow]) -> Option<String> {
    rows.first().and_then(|row| row.first()?.as_deref()).map(|w| String::from_utf8_lossy(w).into_owned())
}

/// SQL that is true where rows of two tables, by their names in it, have equal keys.
pub(super) fn equal(key: &[String], a: &str, b: &str) -> String {
    let pairs = key.iter().map(|column| format!("{a}.{0} = {b}.{0}", quoted(column)));
    pairs.collect::<Vec<_>>().join(" AND ")
}

impl MergeTable {
    fn table(&self) -> String {
        full(&self.database, &self.name)
    }

    fn staged(&self) -> String {
        full(&self.database, &self.staging)
    }

    /// Gives rows that are there their new values.
    fn update(&self) -> Option<String> {
        let set = self.differ.iter().map(|column| format!("t.{0} = s.{0}", quoted(column)));
        let set = set.collect::<Vec<_>>().join(", ");
        let on = equal(&self.key, "t", "s");
        // In this order, whatever is guessed of the tables: one row is looked for after the other.
        (!set.is_empty())
            .then(|| format!("UPDATE {} s STRAIGHT_JOIN {} t ON {on} SET {set}", self.staged(), self.table()))
    }

    /// Adds the others.
    fn insert(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|name| quoted(name)).collect();
        let given: Vec<String> = names.iter().map(|name| format!("s.{name}")).collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} s WHERE NOT EXISTS (SELECT 1 FROM {} t WHERE {})",
            self.table(),
            names.join(", "),
            given.join(", "),
            self.staged(),
            self.table(),
            equal(&self.key, "t", "s")
        )
    }
}

/// A server that merges.
pub(super) struct Session<'a> {
    merge: &'a Merge,
    server: usize,
    at: MappedMutexGuard<'a, Connection>,
    /// Whether its tables have the rows already.
    pub done: bool,
}

/// Sessions on all servers that merge. `controls` has a lock of its own for them: with it no transaction of a process before this one is
/// under way.
pub(super) async fn sessions<'a>(
    controls: &'a Controls,
    run: &str,
    merges: &'a [Merge],
) -> Result<Vec<Session<'a>>> {
    let mut all = vec![];
    for merge in merges {
        let server = controls.shared.server_named(&merge.server)?;
        let mut at = controls.locked(server, PATIENCE).await?;
        let mark = Journal::of(&merge.journal, run).get(&mut at, journal::MERGED).await;
        let done = mark.map_err(|e| controls.failed("read a load's journal", server, e))?.is_some();
        all.push(Session { merge, server, at, done });
    }
    Ok(all)
}

/// Puts the rows over those of equal key on all servers that have not done so, without committing.
///
/// # Errors
/// `Row` and `Unsupported` for rows that a server does not take. Nothing is changed then.
pub(super) async fn put(controls: &Controls, run: &str, sessions: &mut [Session<'_>]) -> Result<()> {
    let left = sessions.iter_mut().filter(|session| !session.done);
    join_all(left.map(|session| session.put(controls, run))).await.into_iter().collect()
}

/// Commits on all servers.
pub(super) async fn commit(controls: &Controls, sessions: &mut [Session<'_>]) -> Result<()> {
    let left = sessions.iter_mut().filter(|session| !session.done).map(|session| async {
        let committed = session.at.run("COMMIT").await;
        committed.map(drop).map_err(|e| controls.failed("commit merged rows", session.server, e))
    });
    join_all(left).await.into_iter().collect()
}

/// Takes back what was not committed.
pub(super) async fn roll_back(sessions: &mut [Session<'_>]) {
    for session in sessions {
        // A connection that broke rolls back by itself.
        let _ = session.at.run("ROLLBACK").await;
    }
}

impl Session<'_> {
    async fn put(&mut self, controls: &Controls, run: &str) -> Result<()> {
        for attempt in 1.. {
            let mut now = String::new();
            match self.put_once(run, &mut now).await {
                Ok(None) => break,
                Ok(Some(problem)) => return Err(controls.shared.unsupported(problem)),
                Err(e) if attempt < ATTEMPTS && e.code().is_some_and(|code| AGAIN.contains(&code)) => {
                    let back = self.at.run("ROLLBACK").await;
                    back.map_err(|e| controls.failed("merge rows", self.server, e))?;
                }
                Err(e) if e.code() == Some(journal::DOUBLE) => {
                    let reason =
                        format!("{e}: another row than the one of its key has this value, and stays");
                    return Err(StoreError::Row { table: now, reason });
                }
                Err(e) => {
                    return Err(controls.failed(&format!("merge rows into {now}"), self.server, e));
                }
            }
        }
        Ok(())
    }

    /// One try; says what is wrong with the rows. `now` is the table that it was at.
    async fn put_once(&mut self, run: &str, now: &mut String) -> Result<Option<String>, WireError> {
        let at = &mut *self.at;
        at.run("SET SESSION foreign_key_checks = 0").await?;
        // Rows that are only looked at stay free for others.
        at.run("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        at.run("BEGIN").await?;
        let own = Journal::of(&self.merge.journal, run);
        own.put(at, journal::MERGED, "", &serde_json::Value::Null).await?;
        for table in &self.merge.tables {
            *now = format!("{}.{}", table.database, table.name);
            for sql in table.update().into_iter().chain([table.insert()]) {
                at.run(&sql).await?;
            }
        }
        let mut lonely = vec![];
        for table in &self.merge.tables {
            *now = format!("{}.{}", table.database, table.name);
            for key in keys_of(at, &table.database, &table.name).await? {
                let refers = full(key.database.as_ref().unwrap_or(&table.database), &key.table);
                // The partners that are found stay until the commit.
                let count = at.rows(&without_partner(&table.staged(), &key, &refers, true)).await?;
                let count = first_word(&count).unwrap_or_default();
                if count != "0" {
                    lonely.push(format!(
                        "{count} rows for '{now}' have no row in {refers} for foreign key '{}'",
                        key.name
                    ));
                }
            }
        }
        Ok((!lonely.is_empty()).then(|| {
            format!("merge rows: {}; bring those tables back together, to one moment", lonely.join("; "))
        }))
    }
}
