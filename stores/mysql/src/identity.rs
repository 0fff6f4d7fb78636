//! Whether a table is still the one that was described.
//!
//! A snapshot keeps rows, not names. InnoDB refuses tables that were made anew since (error 1412), but reads without a word what a
//! `RENAME TABLE` or an exchanged partition put in the place of another, columns whose names were swapped, and what a dropped
//! partition left. So each table is looked at before the cut, after each statement that reads it, while that session still keeps it from
//! being altered, and at the end.

use crate::catalog::PhysicalTable;
use crate::connection::Connection;
use crate::error::failed;
use crate::names::{full, text};
use crate::store::Server;
use crate::wire::WireError;
use keepfast_store::{Result, StoreError};
use std::collections::BTreeMap;
use tokio::sync::Mutex;

/// The server's numbers for what is no longer as it was: a table, a column, a partition; and for a reader who stood in the way of somebody
/// who alters.
const ALTERED: [u16; 5] = [1412, 1146, 1054, 1735, 1213];
const NO_TABLE: u16 = 1146;
const NO_VIEW: u16 = 1109;
const NO_PROCESS: u16 = 1227;

/// What went wrong while a table was read.
pub(crate) fn failed_at(what: &str, table: &PhysicalTable, server: &Server, error: WireError) -> StoreError {
    match error.code() {
        Some(code) if ALTERED.contains(&code) => altered(table, &error.to_string()),
        _ => failed(what, &server.address, error),
    }
}

fn altered(table: &PhysicalTable, reason: &str) -> StoreError {
    StoreError::SchemaChanged {
        table: format!("{}.{}", table.database, table.name),
        position: "this backup began".into(),
        reason: format!("{reason}; nothing of this backup counts, run it again when nobody alters the table"),
    }
}

/// What tells a table from another one of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    create: String,
    /// When it was made or altered, in whole seconds.
    made: String,
    /// InnoDB's numbers of it and its partitions, by their names; none where the account may not know.
    numbers: Option<BTreeMap<String, String>>,
}

/// A server's tables as they were before a cut, and a session that sees what they are now.
#[derive(Debug)]
pub(crate) struct Witness {
    server: Server,
    seen: BTreeMap<(String, String), Identity>,
    connection: Mutex<Option<Connection>>,
}

impl Witness {
    /// Looks at tables that were described shortly before.
    ///
    /// # Errors
    /// `SchemaChanged` where one is another already; `Denied` for partitioned tables of an account without `PROCESS`.
    pub async fn begin(
        server: &Server,
        mut connection: Connection,
        tables: &[&PhysicalTable],
    ) -> Result<Self> {
        let fail = |e| failed("see which tables these are", &server.address, e);
        for sql in ["SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION READ ONLY"] {
            connection.run(sql).await.map_err(fail)?;
        }
        let mut seen = BTreeMap::new();
        for table in tables {
            // Nobody can alter it until the transaction ends.
            let held = format!("SELECT 1 FROM {} LIMIT 0", full(&table.database, &table.name));
            let held = connection.rows(&held).await;
            held.map_err(|e| failed_at("see which tables these are", table, server, e))?;
            let found = look(&mut connection, table).await.map_err(fail)?;
            let found = found.filter(|(create, _)| *create == uncounted(&table.create));
            let Some((create, made)) = found else {
                return Err(altered(table, "its definition is another one"));
            };
            let numbers = numbers(&mut connection, table).await.map_err(fail)?;
            if numbers.is_none() && create.contains("PARTITION BY") {
                return Err(StoreError::Denied {
                    what: "tell whether a partition is exchanged while it is read, of".into(),
                    object: format!("{}.{} ({})", table.database, table.name, server.address),
                    source: "for partitioned tables the account needs GRANT PROCESS ON *.*".into(),
                });
            }
            seen.insert((table.database.clone(), table.name.clone()), Identity { create, made, numbers });
        }
        connection.run("ROLLBACK").await.map_err(fail)?;
        Ok(Self { server: server.clone(), seen, connection: Mutex::new(Some(connection)) })
    }

    /// Checks that a table is the one that was seen first. Definition and time are asked for, and at the end InnoDB's numbers too:
    /// servers read long lists for them.
    ///
    /// # Errors
    /// `SchemaChanged` where it is not.
    pub async fn check(&self, table: &PhysicalTable, end: bool) -> Result<()> {
        let Some(before) = self.seen.get(&(table.database.clone(), table.name.clone())) else {
            return Ok(());
        };
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take().filter(Connection::is_idle) {
            Some(connection) => connection,
            None => self.server.connect().await?,
        };
        let fail = |e| failed("see whether a table was altered", &self.server.address, e);
        let found = look(&mut connection, table).await.map_err(fail)?;
        let numbers = match end && before.numbers.is_some() {
            true => numbers(&mut connection, table).await.map_err(fail)?,
            false => before.numbers.clone(),
        };
        *slot = Some(connection);
        match found {
            None => Err(altered(table, "it was dropped or renamed")),
            Some((create, _)) if create != before.create => {
                Err(altered(table, "its definition is another one"))
            }
            Some((_, made)) if made != before.made => {
                Err(altered(table, "it was altered, or another table has its name"))
            }
            Some(_) if numbers != before.numbers => {
                Err(altered(table, "another table, or partition, is in its place"))
            }
            Some(_) => Ok(()),
        }
    }
}

/// Definition and time of a table; none where there is none.
async fn look(
    connection: &mut Connection,
    table: &PhysicalTable,
) -> Result<Option<(String, String)>, WireError> {
    let word = |row: &crate::connection::TextRow, at: usize| {
        let value = row.get(at).and_then(|v| v.as_deref()).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    let create = format!("SHOW CREATE TABLE {}", full(&table.database, &table.name));
    let create = match connection.rows(&create).await {
        Err(e) if e.code() == Some(NO_TABLE) => return Ok(None),
        found => found?,
    };
    let sql = format!(
        "SELECT create_time FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
        text(&table.database),
        text(&table.name)
    );
    let made = connection.rows(&sql).await?;
    let (Some(create), Some(made)) = (create.first(), made.first()) else { return Ok(None) };
    Ok(Some((uncounted(&word(create, 1)), word(made, 0))))
}

/// InnoDB's numbers of a table and its partitions; none where the account may not know.
async fn numbers(
    connection: &mut Connection,
    table: &PhysicalTable,
) -> Result<Option<BTreeMap<String, String>>, WireError> {
    let name = text(&format!("{}/{}", as_file(&table.database), as_file(&table.name)));
    // MySQL calls it by the one name, MariaDB by the other.
    for view in ["innodb_tables", "innodb_sys_tables"] {
        let sql = format!(
            "SELECT name, table_id FROM information_schema.{view} WHERE LOWER(name) LIKE LOWER({name}) \
             OR LOWER(name) LIKE LOWER(CONCAT({name}, '#p#%'))"
        );
        match connection.rows(&sql).await {
            Err(e) if e.code() == Some(NO_VIEW) => {}
            Err(e) if e.code() == Some(NO_PROCESS) => return Ok(None),
            rows => {
                let word = |value: &Option<Vec<u8>>| {
                    String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned()
                };
                let pair = |row: &crate::connection::TextRow| Some((word(row.first()?), word(row.get(1)?)));
                return Ok(Some(rows?.iter().filter_map(pair).collect()));
            }
        }
    }
    Ok(None)
}

/// A name as InnoDB writes it, as a pattern of `LIKE`: characters beyond ASCII stand there in ways of their own.
fn as_file(name: &str) -> String {
    let mut pattern = String::new();
    for letter in name.chars() {
        match letter {
            '_' => pattern.push_str("\\_"),
            _ if letter.is_ascii_alphanumeric() => pattern.push(letter),
            _ if letter.is_ascii() => pattern.push_str(&format!("@{:04x}", u32::from(letter))),
            _ => pattern.push_str("@%"),
        }
    }
    pattern
}

/// A server's own statement without its counter, which rows move.
fn uncounted(create: &str) -> String {
    let lines = create.lines().map(|line| match line.starts_with(')') {
        true => {
            let words = line.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT="));
            words.collect::<Vec<_>>().join(" ")
        }
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_innodb_writes_them() {
        assert_eq!(as_file("orders_00"), "orders\\_00");
        assert_eq!(as_file("d-é"), "d@002d@%");
    }

    #[test]
    fn rows_that_are_counted_alter_nothing() {
        let create = "CREATE TABLE `t` (\n  `id` int COMMENT 'AUTO_INCREMENT=1'\n) ENGINE=InnoDB AUTO_INCREMENT=7 COMMENT='x'";
        assert_eq!(uncounted(create), uncounted(&create.replace("=7", "=8")));
        assert_ne!(uncounted(create), uncounted(&create.replace("=1'", "=2'")));
    }
}
