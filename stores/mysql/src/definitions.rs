//! What belongs to tables and is no table: triggers, views, routines, events, sequences and accounts, as the server itself writes them.
//!
//! They are read shortly before a cut's moment: no server keeps old versions of them. Bytes are kept as they were sent when the
//! definition was made, because literals in it may stand in any character set. An account that may not see all of them gets a point
//! that says so, never one that looks as if there were none.

use crate::connection::{Connection, TextRow};
use crate::error::failed;
use crate::family;
use crate::names::{full, quoted, text};
use crate::privileges;
use crate::store::{KIND, Logical, Shared};
use crate::wire::WireError;
use keepfast_model::TableName;
use keepfast_model::point::Dependent;
use keepfast_store::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a definition is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Trigger,
    View,
    Procedure,
    Function,
    Event,
    Sequence,
    User,
}

/// Of a table whose triggers could not be read.
pub(crate) const TRIGGERS_UNSEEN: &str = "not mysql triggers";
/// Of a database some of whose definitions could not be read.
pub(crate) const UNSEEN: &str = "not mysql definitions";

/// A definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub kind: Kind,
    pub name: String,
    /// Empty for accounts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub database: String,
    /// The table, of a trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The server's own statement; hexadecimal where it is no UTF-8.
    statement: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    hexadecimal: bool,
    /// What the session that made it had set: that is part of what it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sql_mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    character_set_client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    collation_connection: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    /// Statements behind it: a sequence's next value, an account's grants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<String>,
}

impl Kind {
    /// As SHOW CREATE names it.
    fn word(self) -> &'static str {
        match self {
            Self::Trigger => "TRIGGER",
            Self::View => "VIEW",
            Self::Procedure => "PROCEDURE",
            Self::Function => "FUNCTION",
            Self::Event => "EVENT",
            Self::Sequence => "SEQUENCE",
            Self::User => "USER",
        }
    }

    /// As people read it.
    pub fn name(self) -> String {
        self.word().to_lowercase()
    }
}

impl Kept {
    fn to_dependent(&self) -> Dependent {
        Dependent {
            kind: format!("{KIND} {}", self.kind.name()),
            name: self.name.clone(),
            definition: serde_json::json!(self).to_string(),
        }
    }

    /// From what a point has; none for what is none of these.
    pub fn of_dependent(dependent: &Dependent) -> Option<Self> {
        dependent.kind.strip_prefix(KIND)?;
        serde_json::from_str(&dependent.definition).ok()
    }

    /// The statement as it was sent.
    pub fn statement(&self) -> Vec<u8> {
        if !self.hexadecimal {
            return self.statement.clone().into_bytes();
        }
        let digits = self.statement.as_bytes().chunks(2);
        digits.filter_map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect()
    }

    /// Whether another one does the same; when it was made does not matter.
    pub fn is_like(&self, other: &Self) -> bool {
        let settings = |k: &Self| (k.kind, k.statement(), k.sql_mode.clone(), k.time_zone.clone());
        settings(self) == settings(other)
    }

    /// In words: `view 'shop.totals'`.
    pub fn called(&self) -> String {
        match self.kind {
            Kind::User => format!("account {}", self.name),
            kind => format!("{} '{}.{}'", kind.name(), self.database, self.name),
        }
    }

    /// Runs a statement that makes it, in a session that is as the one was that made it first. Another use of that session begins
    /// with [`settled`].
    pub async fn make(&self, session: &mut Connection, statement: &[u8]) -> Result<(), WireError> {
        settled(session).await?;
        if !self.database.is_empty() {
            session.run(&format!("USE {}", quoted(&self.database))).await?;
        }
        // MySQL has given this one up, which never said anything of definitions.
        let modes =
            |m: &String| m.split(',').filter(|m| *m != "NO_AUTO_CREATE_USER").collect::<Vec<_>>().join(",");
        let mode = self.sql_mode.as_ref().map(modes);
        let statement = family::adapted_aloud(session, statement, &self.called()).await?;
        // It says how literals are compared that name no collation.
        let collation = match &self.collation_connection {
            Some(name) => Some(family::adapted(session, name.as_bytes()).await?.0),
            None => None,
        };
        let collation = collation.map(|name| String::from_utf8_lossy(&name).into_owned());
        let set = [
            ("time_zone", self.time_zone.as_ref()),
            ("sql_mode", mode.as_ref()),
            ("collation_connection", collation.as_ref()),
            // The last: what is sent from then on is meant so.
            ("character_set_client", self.character_set_client.as_ref()),
        ];
        let set: Vec<String> =
            set.iter().filter_map(|(name, v)| Some(format!("{name} = {}", text((*v)?)))).collect();
        if !set.is_empty() {
            session.run(&format!("SET SESSION {}", set.join(", "))).await?;
        }
        let made = session.run_bytes(&statement).await;
        settled(session).await?;
        made?;
        if self.kind == Kind::Sequence {
            for more in &self.then {
                session.run(more).await?;
            }
        }
        Ok(())
    }
}

/// Gives a session what all of ours have.
pub(crate) async fn settled(session: &mut Connection) -> Result<(), WireError> {
    session.run("SET NAMES utf8mb4").await?;
    session.run("SET SESSION sql_mode = '', time_zone = '+00:00'").await.map(drop)
}

fn word(row: &TextRow, at: usize) -> String {
    row.get(at)
        .and_then(|v| v.as_deref())
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .unwrap_or_default()
}

/// One definition now; none where there is none, or where the account may not see it. The session's database is another one afterwards.
pub(crate) async fn read(
    connection: &mut Connection,
    (kind, database, name): (Kind, &str, &str),
) -> Result<Option<Kept>, WireError> {
    // A view names the tables of its own database without it only where that is the session's.
    connection.run(&format!("USE {}", quoted(database))).await?;
    // As they were sent, not converted.
    connection.run("SET SESSION character_set_results = NULL").await?;
    let shown = connection.table(&format!("SHOW CREATE {} {}", kind.word(), quoted(name))).await;
    connection.run("SET SESSION character_set_results = utf8mb4").await?;
    let (columns, rows) = match shown {
        Err(WireError::Refused { .. }) => return Ok(None),
        other => other?,
    };
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let at = |wanted: &str| columns.iter().position(|c| c.eq_ignore_ascii_case(wanted));
    let of = |wanted: &str| at(wanted).map(|at| word(&row, at));
    let stands = columns.iter().position(|c| c.starts_with("Create ") || c == "SQL Original Statement");
    let Some(bytes) = stands.and_then(|at| row.get(at)?.clone()) else { return Ok(None) };
    let (statement, hexadecimal) = match String::from_utf8(bytes) {
        Ok(statement) => (statement, false),
        Err(e) => (e.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect(), true),
    };
    let mut kept = Kept {
        kind,
        name: name.to_owned(),
        database: database.to_owned(),
        table: None,
        statement,
        hexadecimal,
        sql_mode: of("sql_mode"),
        character_set_client: of("character_set_client"),
        collation_connection: of("collation_connection"),
        time_zone: of("time_zone"),
        then: vec![],
    };
    if kind == Kind::Sequence {
        let next =
            connection.rows(&format!("SELECT next_not_cached_value FROM {}", full(database, name))).await?;
        if let Some(next) = next.first() {
            kept.then.push(format!("DO SETVAL({}, {}, 0)", full(database, name), word(next, 0)));
        }
    }
    Ok(Some(kept))
}

/// The names of what one statement finds.
async fn names(connection: &mut Connection, sql: &str) -> Result<Vec<(String, String)>, WireError> {
    Ok(connection.rows(sql).await?.iter().map(|row| (word(row, 0), word(row, 1))).collect())
}

/// The triggers of all tables of a database that the account may see, by name and table; those of a table in their order.
pub(crate) async fn trigger_names(
    connection: &mut Connection,
    database: &str,
) -> Result<Vec<(String, String)>, WireError> {
    let sql = format!(
        "SELECT trigger_name, event_object_table FROM information_schema.triggers WHERE trigger_schema = {} \
         ORDER BY event_object_table, action_order, trigger_name",
        text(database)
    );
    names(connection, &sql).await
}

/// The triggers of a table, in their order.
pub(crate) async fn triggers(
    connection: &mut Connection,
    database: &str,
    table: &str,
) -> Result<Vec<Kept>, WireError> {
    let mut all = vec![];
    for (name, on) in trigger_names(connection, database).await? {
        if on == table
            && let Some(kept) = read(connection, (Kind::Trigger, database, &name)).await?
        {
            all.push(Kept { table: Some(on), ..kept });
        }
    }
    Ok(all)
}

/// What a database has beside its tables, and what of it could not be read.
async fn of_database(
    connection: &mut Connection,
    database: &str,
    tables: BTreeSet<String>,
) -> Result<(Vec<Kept>, Vec<String>), WireError> {
    let (mut all, mut unseen) = (vec![], vec![]);
    let schema = text(database);
    let sql = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {schema} AND table_type = 'SEQUENCE' ORDER BY 1"
    );
    let mut wanted: Vec<_> =
        names(connection, &sql).await?.into_iter().map(|(n, _)| (Kind::Sequence, n)).collect();
    let sql = format!(
        "SELECT routine_name, routine_type FROM information_schema.routines WHERE routine_schema = {schema} ORDER BY 2, 1"
    );
    for (name, kind) in names(connection, &sql).await? {
        match kind.as_str() {
            "FUNCTION" => wanted.push((Kind::Function, name)),
            "PROCEDURE" => wanted.push((Kind::Procedure, name)),
            other => unseen.push(format!("{} {name}", other.to_lowercase())),
        }
    }
    let sql =
        format!("SELECT table_name FROM information_schema.views WHERE table_schema = {schema} ORDER BY 1");
    wanted.extend(names(connection, &sql).await?.into_iter().map(|(name, _)| (Kind::View, name)));
    let sql =
        format!("SELECT event_name FROM information_schema.events WHERE event_schema = {schema} ORDER BY 1");
    wanted.extend(names(connection, &sql).await?.into_iter().map(|(name, _)| (Kind::Event, name)));
    for (kind, name) in wanted {
        match read(connection, (kind, database, &name)).await? {
            Some(kept) => all.push(kept),
            None => unseen.push(format!("{} {name}", kind.name())),
        }
    }
    // Of the views those that are of these tables, or of such views.
    let mut meant: BTreeSet<String> = tables;
    loop {
        let before = meant.len();
        for view in all.iter().filter(|k| k.kind == Kind::View) {
            let statement = String::from_utf8_lossy(&view.statement()).into_owned();
            // Its own name stands in it, too.
            if meant.iter().any(|name| *name != view.name && statement.contains(&quoted(name))) {
                meant.insert(view.name.clone());
            }
        }
        if meant.len() == before {
            break;
        }
    }
    all.retain(|k| k.kind != Kind::View || meant.contains(&k.name));
    Ok((all, unseen))
}

/// Accounts that are the servers' own.
const OWN: [&str; 5] = ["mysql.sys", "mysql.session", "mysql.infoschema", "mariadb.sys", "PUBLIC"];

/// The server's numbers for an account that is not there.
const NO_ACCOUNT: [u16; 3] = [1133, 1141, 1396];

/// The accounts and roles of a server, with their grants.
async fn accounts(connection: &mut Connection) -> Result<Vec<Kept>, WireError> {
    let mariadb = connection.rows("SELECT VERSION()").await?;
    let mariadb = mariadb.first().is_some_and(|row| word(row, 0).contains("MariaDB"));
    let sql = match mariadb {
        true => "SELECT user, host, is_role FROM mysql.user ORDER BY is_role DESC, user, host",
        false => {
            // A hash of bytes that no text has would come back as another one.
            connection.run("SET SESSION print_identified_with_as_hex = 1").await?;
            "SELECT user, host, 'N' FROM mysql.user ORDER BY user, host"
        }
    };
    let mut all = vec![];
    for row in connection.rows(sql).await? {
        let (user, host, role) = (word(&row, 0), word(&row, 1), word(&row, 2) == "Y");
        if OWN.contains(&user.as_str()) {
            continue;
        }
        let name = if role { quoted(&user) } else { format!("{}@{}", quoted(&user), quoted(&host)) };
        // One that is dropped meanwhile is none.
        let shown = async |connection: &mut Connection, sql: String| match connection.rows(&sql).await {
            Err(e) if e.code().is_some_and(|code| NO_ACCOUNT.contains(&code)) => Ok(None),
            other => other.map(Some),
        };
        let statement = match role {
            true => format!("CREATE ROLE {name}"),
            false => match shown(connection, format!("SHOW CREATE USER {name}")).await? {
                Some(rows) => rows.first().map(|row| word(row, 0)).unwrap_or_default(),
                None => continue,
            },
        };
        let Some(grants) = shown(connection, format!("SHOW GRANTS FOR {name}")).await? else { continue };
        all.push(Kept {
            kind: Kind::User,
            name,
            database: String::new(),
            table: None,
            statement,
            hexadecimal: false,
            sql_mode: None,
            character_set_client: None,
            collation_connection: None,
            time_zone: None,
            then: grants.iter().map(|row| word(row, 0)).collect(),
        });
    }
    Ok(all)
}

/// Adds to tables what comes back with them. What belongs to a database stands with the first of its tables, and only where that is no
/// shard; accounts stand with the first table of all. `connections` has one for each server; their database is another one afterwards.
pub(crate) async fn attach(
    shared: &Shared,
    connections: &mut [Connection],
    tables: &mut BTreeMap<TableName, Logical>,
) -> Result<()> {
    let mut databases: BTreeMap<(usize, String), Vec<(TableName, String)>> = BTreeMap::new();
    for (name, logical) in &*tables {
        for shard in &logical.shards {
            let held = databases.entry((shard.server, shard.table.database.clone())).or_default();
            held.push((name.clone(), shard.table.name.clone()));
        }
    }
    let mut add = |table: &TableName, dependent: Dependent| {
        if let Some(logical) = tables.get_mut(table) {
            logical.dependents.push(dependent);
        }
    };
    let first =
        databases.iter().next().and_then(|((server, _), held)| Some((*server, held.first()?.0.clone())));
    for ((server, database), held) in databases {
        let (at, address) = (&mut connections[server], &shared.servers[server].address);
        let fail = |e| failed("read the definitions of a database", address, e);
        let plain: Vec<_> =
            held.iter().filter(|(name, _)| !shared.tables.contains_key(&name.table)).collect();
        let lacks = privileges::unseen(at, &shared.servers[server], &database).await.map_err(fail)?;
        for (name, table) in &held {
            for trigger in triggers(at, &database, table).await.map_err(fail)? {
                add(name, trigger.to_dependent());
            }
            if let Some(grant) = lacks.iter().find(|grant| grant.contains("TRIGGER")) {
                let kind = TRIGGERS_UNSEEN.to_owned();
                add(name, Dependent { kind, name: table.clone(), definition: grant.clone() });
            }
        }
        if let Some((first, _)) = plain.first() {
            let tables = plain.iter().map(|(_, table)| table.clone()).collect();
            let (all, mut unseen) = of_database(at, &database, tables).await.map_err(fail)?;
            all.iter().for_each(|kept| add(first, kept.to_dependent()));
            unseen.extend(lacks.iter().cloned());
            if !unseen.is_empty() {
                let (kind, definition) = (UNSEEN.to_owned(), unseen.join("; "));
                add(first, Dependent { kind, name: database.clone(), definition });
            }
        }
        if !lacks.is_empty() {
            tracing::warn!(
                database,
                "triggers, views, routines or events are not in the backup where its account may not see them: {}",
                lacks.join("; ")
            );
        }
    }
    if let (true, Some((server, first))) = (shared.accounts, first) {
        let address = &shared.servers[server].address;
        let found = accounts(&mut connections[server]).await;
        let found = found.map_err(|e| failed("read its accounts (definitions = [\"users\"])", address, e))?;
        found.iter().for_each(|kept| add(&first, kept.to_dependent()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_of_any_bytes_comes_back_from_a_point() {
        for bytes in [b"CREATE VIEW `v` AS select 'a'".to_vec(), b"CREATE TRIGGER t \xe9".to_vec()] {
            let hexadecimal = std::str::from_utf8(&bytes).is_err();
            let statement = match String::from_utf8(bytes.clone()) {
                Ok(statement) => statement,
                Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            };
            let kept = Kept {
                kind: Kind::Trigger,
                name: "t".into(),
                database: "d".into(),
                table: Some("x".into()),
                statement,
                hexadecimal,
                sql_mode: Some("ANSI_QUOTES".into()),
                character_set_client: Some("latin1".into()),
                collation_connection: None,
                time_zone: None,
                then: vec![],
            };
            let dependent = kept.to_dependent();
            assert_eq!(dependent.kind, "mysql trigger");
            let back = Kept::of_dependent(&dependent).unwrap();
            assert_eq!((back.statement(), &back), (bytes, &kept));
            assert!(back.is_like(&kept));
        }
        let table =
            Dependent { kind: "mysql table".into(), name: "t".into(), definition: "CREATE TABLE `t`".into() };
        assert_eq!(Kept::of_dependent(&table), None);
    }
}
