//! Where the physical tables of a load go.

use crate::connection::Connection;
use crate::error::failed;
use crate::names::{quoted, text};
use crate::store::Shared;
use keepfast_model::TableName;
use keepfast_store::{Result, StoreError};
use std::collections::{BTreeMap, BTreeSet};

/// A physical table that is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub server: usize,
    pub database: String,
    /// Its name once it is published.
    pub name: String,
    /// Its name before.
    pub staging: String,
}

/// What stands on the servers, as far as it was asked.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Databases of each server.
    databases: Vec<BTreeSet<String>>,
    /// Names of tables and views of a database of a server.
    names: BTreeMap<(usize, String), BTreeSet<String>>,
}

impl Standing {
    pub async fn look(shared: &Shared, connections: &mut [Connection]) -> Result<Self> {
        let mut all = Self::default();
        for (server, connection) in shared.servers.iter().zip(connections) {
            let rows = connection.rows("SELECT schema_name FROM information_schema.schemata").await;
            let rows = rows.map_err(|e| failed("list the databases", &server.address, e))?;
            all.databases
                .push(rows.into_iter().filter_map(|mut row| word(row.first_mut()?.take())).collect());
        }
        Ok(all)
    }

    /// Whether a table or view of that name is there.
    pub async fn has(
        &mut self,
        shared: &Shared,
        connections: &mut [Connection],
        (server, database, name): (usize, &str, &str),
    ) -> Result<bool> {
        let key = (server, database.to_owned());
        if !self.names.contains_key(&key) {
            let names = names(&mut connections[server], database).await;
            let names = names.map_err(|e| failed("list the tables", &shared.servers[server].address, e))?;
            self.names.insert(key.clone(), names);
        }
        Ok(self.names[&key].contains(name))
    }

    /// The server of each physical table of a logical one: where it stands, else where its database is alone.
    pub async fn places(
        &mut self,
        shared: &Shared,
        connections: &mut [Connection],
        table: &TableName,
    ) -> Result<Vec<(usize, String, String)>> {
        let declared = shared.declared(table, connections).await?.map(|(physical, _)| physical);
        if declared.as_ref().is_some_and(Vec::is_empty) {
            return Err(shared.unsupported(format!(
                "restore table '{}': its pattern finds no shard; name them instead, as in shop_{{0..7}}.orders_{{00..15}}",
                table.table
            )));
        }
        let servers = 0..shared.servers.len();
        let mut places = vec![];
        let mut nowhere: BTreeSet<String> = BTreeSet::new();
        let count = declared.as_ref().map_or(1, Vec::len);
        for n in 0..count {
            let at = |server: usize| match &declared {
                Some(physical) => physical[n].clone(),
                None => (shared.database(table, &shared.servers[server]).to_owned(), table.table.clone()),
            };
            let (mut here, mut could) = (vec![], vec![]);
            for server in servers.clone() {
                let (database, name) = at(server);
                if self.has(shared, connections, (server, &database, &name)).await? {
                    here.push(server);
                }
                if self.databases[server].contains(&database) {
                    could.push(server);
                }
            }
            let found = match (here.as_slice(), could.as_slice()) {
                ([one], _) | ([], [one]) => *one,
                ([], []) if shared.servers.len() == 1 => 0,
                ([], []) => {
                    nowhere.insert(at(0).0);
                    continue;
                }
                ([], several) | (several, _) => {
                    let (database, name) = at(several[0]);
                    let what = if here.is_empty() { "its database is" } else { "a table of its name is" };
                    let servers: Vec<String> =
                        several.iter().map(|s| shared.servers[*s].name().to_owned()).collect();
                    return Err(shared.unsupported(format!(
                        "tell where '{database}.{name}' goes: {what} on {}; make an empty table of that name on the one that is \
                         meant, and drop others",
                        servers.join(" and ")
                    )));
                }
            };
            let (database, name) = at(found);
            places.push((found, database, name));
        }
        if !nowhere.is_empty() {
            let names: Vec<String> =
                nowhere.iter().map(|name| format!("CREATE DATABASE {};", quoted(name))).collect();
            return Err(shared.unsupported(format!(
                "choose a server for databases that none has; run on the one that is to have them: {}",
                names.join(" ")
            )));
        }
        Ok(places)
    }

    /// Whether a server has a database.
    pub fn has_database(&self, server: usize, database: &str) -> bool {
        self.databases[server].contains(database)
    }
}

fn word(value: Option<Vec<u8>>) -> Option<String> {
    String::from_utf8(value?).ok()
}

/// Names of tables and views of a database.
pub(super) async fn names(
    connection: &mut Connection,
    database: &str,
) -> Result<BTreeSet<String>, crate::wire::WireError> {
    let sql =
        format!("SELECT table_name FROM information_schema.tables WHERE table_schema = {}", text(database));
    let rows = connection.rows(&sql).await?;
    Ok(rows.into_iter().filter_map(|mut row| word(row.first_mut()?.take())).collect())
}

/// The longest name of a table.
const LONGEST: usize = 64;

/// A table's name with something behind it, shortened where a server would refuse it.
pub(crate) fn behind(name: &str, suffix: &str) -> String {
    let kept = LONGEST.saturating_sub(suffix.chars().count());
    name.chars().take(kept).chain(suffix.chars()).collect()
}

/// The target is not as it was, or not as it must be.
pub(super) fn conflict(table: &str, reason: impl Into<String>) -> StoreError {
    StoreError::Conflict { table: table.to_owned(), reason: reason.into() }
}
