//! What is remembered of a load: a small table beside its tables, on each of its servers.
//!
//! The first server's journal has the load itself, its notes and its publication; each server's has the parts whose rows stand
//! there, committed together with the rows.

use super::PREFIX;
use crate::connection::Connection;
use crate::names::{full, text};
use crate::wire::WireError;
use std::collections::BTreeMap;

/// The load: what it makes and where.
pub(super) const LOAD: &str = "load";
/// A part whose rows stand on this server, with their digest.
pub(super) const PART: &str = "part";
/// Asks for later processes to find it.
pub(super) const REMEMBER: &str = "remember";
/// A note of whoever makes the load.
pub(super) const NOTE: &str = "note";
/// What a publication renames; written before the first name changes.
pub(super) const PLAN: &str = "plan";
/// Rows that were merged on this server, committed together with them.
pub(super) const MERGED: &str = "merged";
/// What a publication did.
pub(super) const PUBLISHED: &str = "published";
/// Why nobody can go on with it.
pub(super) const OVER: &str = "over";

/// The server's numbers for a key that is there, and a table or a database that is not.
pub(super) const DOUBLE: u16 = 1062;
const NO_TABLE: [u16; 2] = [1146, 1049];

/// The journal of a load on one server.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    pub database: String,
    pub table: String,
}

impl Journal {
    pub fn of(database: &str, run: &str) -> Self {
        Self { database: database.to_owned(), table: format!("{PREFIX}{run}") }
    }

    pub fn name(&self) -> String {
        full(&self.database, &self.table)
    }

    pub async fn create(&self, at: &mut Connection) -> Result<(), WireError> {
        let sql = format!(
            "CREATE TABLE {} (kind VARBINARY(16) NOT NULL, name VARBINARY(200) NOT NULL, body LONGBLOB NOT NULL, \
             PRIMARY KEY (kind, name)) ENGINE=InnoDB",
            self.name()
        );
        at.run(&sql).await.map(drop)
    }

    /// Writes a record down; false where there is one already, which stays.
    pub async fn put(
        &self,
        at: &mut Connection,
        kind: &str,
        name: &str,
        body: &serde_json::Value,
    ) -> Result<bool, WireError> {
        let sql =
            format!("INSERT INTO {} VALUES ({}, {}, {})", self.name(), text(kind), text(name), bytes(body));
        match at.run(&sql).await {
            Err(e) if e.code() == Some(DOUBLE) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Writes over a record.
    pub async fn set(
        &self,
        at: &mut Connection,
        kind: &str,
        name: &str,
        body: &serde_json::Value,
    ) -> Result<(), WireError> {
        let sql = format!(
            "UPDATE {} SET body = {} WHERE kind = {} AND name = {}",
            self.name(),
            bytes(body),
            text(kind),
            text(name)
        );
        at.run(&sql).await.map(drop)
    }

    pub async fn remove(&self, at: &mut Connection, kind: &str) -> Result<(), WireError> {
        at.run(&format!("DELETE FROM {} WHERE kind = {}", self.name(), text(kind))).await.map(drop)
    }

    /// The one record of a kind; none also where there is no journal.
    pub async fn get(&self, at: &mut Connection, kind: &str) -> Result<Option<serde_json::Value>, WireError> {
        Ok(self.all(at, kind).await?.into_values().next())
    }

    /// All records of a kind by name; none where there is no journal. One that is no JSON is left out.
    pub async fn all(
        &self,
        at: &mut Connection,
        kind: &str,
    ) -> Result<BTreeMap<String, serde_json::Value>, WireError> {
        let sql = format!("SELECT name, body FROM {} WHERE kind = {}", self.name(), text(kind));
        let rows = match at.rows(&sql).await {
            Err(e) if e.code().is_some_and(|code| NO_TABLE.contains(&code)) => return Ok(BTreeMap::new()),
            other => other?,
        };
        let record = |row: &crate::connection::TextRow| {
            let name = String::from_utf8(row.first()?.clone()?).ok()?;
            Some((name, serde_json::from_slice(row.get(1)?.as_deref()?).ok()?))
        };
        Ok(rows.iter().filter_map(record).collect())
    }

    pub async fn drop(&self, at: &mut Connection) -> Result<(), WireError> {
        at.run(&format!("DROP TABLE IF EXISTS {}", self.name())).await.map(drop)
    }
}

fn bytes(body: &serde_json::Value) -> String {
    let hex: String = body.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("x'{hex}'")
}
