//! The suite that every store passes: on one server of each kind, and with tables that are spread over two.
//!
//! One property at a time on the servers of a kind: the suite lists and sweeps all that there is.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "it/common/mod.rs"]
mod common;

use crate::common::{fresh, servers};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use keepfast_model::{ColumnType, TableName, TableSchema};
use keepfast_mysql::{MySqlStore, Options, ShardedTable, testing};
use keepfast_store::conformance::{Abilities, Fixture, Outcome, PROPERTIES, Write, check};
use keepfast_store::{CutOptions, Result, Store, StoreError, sample};
use keepfast_testbed::mysql::{MARIADB_URLS, MYSQL_URLS};
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard};

static MARIADB: Mutex<()> = Mutex::const_new(());
static MYSQL: Mutex<()> = Mutex::const_new(());

/// Names that the suite gives tables, and by which column they are spread.
const SPREAD: [(&str, &[&str]); 3] = [
    ("k0", &["texts", "bytes", "pairs"]),
    ("word", &["words", "counting", "loaded_bag_4"]),
    (
        "id",
        &[
            "abandoned",
            "alive",
            "changing",
            "created",
            "created_again",
            "dropped",
            "existing",
            "first",
            "foreign",
            "from_elsewhere",
            "given_up",
            "go_on_1",
            "go_on_2",
            "go_on_3",
            "goes_on",
            "gone",
            "held",
            "here",
            "large",
            "left_behind",
            "loaded_0",
            "loaded_empty_1",
            "loaded_nothing_2",
            "loaded_one_3",
            "made_meanwhile",
            "many",
            "merged",
            "merged_into_nothing",
            "moving",
            "none",
            "one",
            "other",
            "parts_twice",
            "refused",
            "released",
            "replaced",
            "replaced_again",
            "replaced_nothing",
            "second",
            "some_columns",
            "swept",
            "third",
            "three",
            "twice",
            "two",
            "types",
            "wide",
            "written_since",
        ],
    ),
];

/// A fresh database on one server, or on each of two.
struct OnServers {
    kind: &'static str,
    urls: Vec<String>,
    database: String,
    _alone: MutexGuard<'static, ()>,
}

impl OnServers {
    async fn new(kind: &'static str, count: usize) -> Option<Self> {
        let urls = servers(kind)?[..count].to_vec();
        let alone = if kind == MARIADB_URLS { &MARIADB } else { &MYSQL };
        let alone = alone.lock().await;
        let database = fresh("conformance");
        let made = Self { kind, urls, database, _alone: alone };
        for (at, url) in made.urls.iter().enumerate() {
            testing::run(url, &[&format!("CREATE DATABASE {}", made.database_of(at))]).await.unwrap();
        }
        Some(made)
    }

    fn spread(&self) -> bool {
        self.urls.len() > 1
    }

    fn database_of(&self, server: usize) -> String {
        if self.spread() { format!("{}_{server}", self.database) } else { self.database.clone() }
    }

    /// The physical tables of a table by their servers.
    fn places(&self, table: &TableName) -> Vec<(&str, String)> {
        let place = |at| format!("`{}`.`{}`", self.database_of(at), table.table);
        self.urls.iter().enumerate().map(|(at, url)| (url.as_str(), place(at))).collect()
    }

    async fn run(&self, url: &str, statements: &[String]) -> Result<()> {
        let all: Vec<&str> = ["SET sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'"]
            .into_iter()
            .chain(statements.iter().map(String::as_str))
            .collect();
        testing::run(url, &all).await.map_err(|e| StoreError::Unavailable {
            what: "a statement of the test".into(),
            object: e.chars().take(500).collect(),
            source: "the server refused it".into(),
        })
    }
}

/// Which column spreads a table over two servers.
fn spreading(table: &str) -> &'static str {
    let found = SPREAD.iter().find(|(_, names)| names.contains(&table));
    found.map_or("k0", |(column, _)| column)
}

fn rule(table: &str) -> String {
    match spreading(table) {
        "id" => "abs(id) % 2".into(),
        column => format!("crc32({column}) % 2"),
    }
}

/// The server of a row, by the rule of its table.
fn place_of(table: &str, batch: &RecordBatch, row: usize) -> usize {
    let column = batch.column_by_name(spreading(table)).unwrap();
    let bytes = match column.data_type() {
        DataType::Int64 if spreading(table) == "id" => {
            return (column.as_primitive::<Int64Type>().value(row).unsigned_abs() % 2) as usize;
        }
        DataType::Binary => column.as_binary::<i32>().value(row).to_vec(),
        DataType::FixedSizeBinary(_) => column.as_fixed_size_binary().value(row).to_vec(),
        _ => array_value_to_string(column, row).unwrap().into_bytes(),
    };
    (crc32fast::hash(&bytes) % 2) as usize
}

impl Drop for OnServers {
    fn drop(&mut self) {
        let databases: Vec<_> =
            self.urls.iter().cloned().enumerate().map(|(at, url)| (url, self.database_of(at))).collect();
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for (url, database) in databases {
                // A session of a failed test may still hold a table.
                let _ = runtime.block_on(testing::run(&url, &[&format!("DROP DATABASE {database}")]));
            }
        });
        let _ = removed.join();
    }
}

fn sql_type(column: &ColumnType, keyed: bool) -> String {
    match column {
        ColumnType::Varchar { length: None } | ColumnType::Text | ColumnType::Json if keyed => {
            "VARCHAR(255)".into()
        }
        ColumnType::Varchar { length: None } | ColumnType::Text | ColumnType::Json => "LONGTEXT".into(),
        ColumnType::Varchar { length: Some(n) } => format!("VARCHAR({n})"),
        ColumnType::Binary { length } => format!("BINARY({length})"),
        ColumnType::Varbinary { length: Some(n) } => format!("VARBINARY({n})"),
        ColumnType::Varbinary { length: None } | ColumnType::Blob if keyed => "VARBINARY(255)".into(),
        ColumnType::Varbinary { length: None } | ColumnType::Blob => "LONGBLOB".into(),
        ColumnType::Int8 => "TINYINT".into(),
        ColumnType::Int16 => "SMALLINT".into(),
        ColumnType::Int32 => "INT".into(),
        ColumnType::Int64 => "BIGINT".into(),
        ColumnType::UInt8 => "TINYINT UNSIGNED".into(),
        ColumnType::UInt16 => "SMALLINT UNSIGNED".into(),
        ColumnType::UInt32 => "INT UNSIGNED".into(),
        ColumnType::UInt64 => "BIGINT UNSIGNED".into(),
        ColumnType::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
        ColumnType::Date => "DATE".into(),
        ColumnType::Time => "TIME(6)".into(),
        ColumnType::Timestamp { zone: false } => "DATETIME(6)".into(),
        other => panic!("the suite is not to make columns of {other}"),
    }
}

/// A value as statements write it.
fn literal(column: &dyn Array, row: usize, of: &ColumnType) -> String {
    let hex = |bytes: &[u8]| format!("x'{}'", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
    if column.is_null(row) {
        return "NULL".into();
    }
    match column.data_type() {
        // Microseconds of a day.
        DataType::Int64 if *of == ColumnType::Time => {
            let all = column.as_primitive::<Int64Type>().value(row);
            let (seconds, part) = (all / 1_000_000, all % 1_000_000);
            format!("'{}:{:02}:{:02}.{part:06}'", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }
        DataType::Utf8 => format!("_utf8mb4 {}", hex(column.as_string::<i32>().value(row).as_bytes())),
        DataType::Binary => hex(column.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => hex(column.as_fixed_size_binary().value(row)),
        other if other.is_integer() || matches!(other, DataType::Decimal128(..)) => {
            array_value_to_string(column, row).unwrap()
        }
        _ => format!("'{}'", array_value_to_string(column, row).unwrap().replace('T', " ")),
    }
}

#[async_trait]
impl Fixture for OnServers {
    fn store(&self) -> Arc<dyn Store> {
        let mut tables = std::collections::BTreeMap::new();
        if self.spread() {
            let names = SPREAD.iter().flat_map(|(_, names)| names.iter().map(|n| (*n).to_owned()));
            let keyed = (5..40).flat_map(|n| ["a", "b"].map(|letter| format!("loaded_key_{letter}_{n}")));
            for name in names.chain(keyed) {
                let shards = format!("{}_{{0..1}}.{name}", self.database);
                let shard_rule = Some(rule(&name));
                tables.insert(name, ShardedTable { shards, shard_rule, ..ShardedTable::default() });
            }
        }
        let options = Options { urls: self.urls.clone(), tables, sessions: 2, ..Options::default() };
        Arc::new(MySqlStore::new(&options).unwrap())
    }

    fn table(&self, name: &str) -> TableName {
        match self.spread() {
            true => TableName::bare(name),
            false => common::named(&self.database, name),
        }
    }

    fn abilities(&self) -> Abilities {
        use ColumnType::*;
        let kept = |column: &ColumnType| match column {
            // A number from zero to one, and one of 36 characters.
            Boolean | Uuid => false,
            // Neither NaN nor infinity.
            Float32 | Float64 => false,
            // A text loses spaces at its end.
            Char { .. } => false,
            // Moments from 1970 to 2038.
            Timestamp { zone: true } => false,
            List(_) => false,
            // MySQL has 30 digits behind the point.
            Decimal { scale, .. } => *scale <= 30 || self.kind == MARIADB_URLS,
            _ => true,
        };
        let key = |column: &ColumnType| match column {
            // Dates and times may have values beyond those of a calendar.
            Date | Time | Timestamp { .. } => false,
            // No rule takes them.
            Decimal { .. } if self.spread() => false,
            other => kept(other),
        };
        Abilities {
            types: sample::all_types().into_iter().filter(kept).collect(),
            key_types: sample::key_types().into_iter().filter(key).collect(),
            // As many as a row of a page takes.
            columns: 100,
            cut: CutOptions { allow_fuzzy: self.spread() },
            ..Abilities::default()
        }
    }

    fn described(&self, column: &ColumnType) -> ColumnType {
        match column {
            // The one type of texts without a length.
            ColumnType::Varchar { length: None } => ColumnType::Text,
            other => other.clone(),
        }
    }

    async fn create_table(&self, table: &TableName, schema: &TableSchema) -> Result<()> {
        let mut parts: Vec<String> = schema
            .columns
            .iter()
            .map(|c| {
                let null = if c.nullable { "NULL" } else { "NOT NULL" };
                format!("`{}` {} {null}", c.name, sql_type(&c.column_type, schema.key.contains(&c.id)))
            })
            .collect();
        if !schema.is_bag() {
            parts.push(format!("PRIMARY KEY (`{}`)", schema.key_names().join("`, `")));
        }
        for (url, place) in self.places(table) {
            let sql = format!(
                "CREATE TABLE {place} ({}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
                parts.join(", ")
            );
            self.run(url, &[sql]).await?;
        }
        Ok(())
    }

    async fn write(&self, table: &TableName, write: Write) -> Result<()> {
        let (Write::Insert(batch) | Write::Upsert(batch) | Write::Delete(batch)) = &write;
        let schema = self.store().describe(table).await?.schema;
        for (at, (url, place)) in self.places(table).into_iter().enumerate() {
            let rows: Vec<usize> = (0..batch.num_rows())
                .filter(|row| !self.spread() || place_of(&table.table, batch, *row) == at)
                .collect();
            if rows.is_empty() {
                continue;
            }
            let names: Vec<String> =
                batch.schema().fields().iter().map(|f| format!("`{}`", f.name())).collect();
            let value = |column: usize, row: usize| {
                let of = schema.columns.iter().find(|c| c.name == *batch.schema().field(column).name());
                literal(batch.column(column).as_ref(), row, &of.unwrap().column_type)
            };
            let all = |row: &usize| {
                let values: Vec<String> = (0..batch.num_columns()).map(|c| value(c, *row)).collect();
                format!("({})", values.join(", "))
            };
            let sql = match write {
                Write::Insert(_) | Write::Upsert(_) => format!(
                    "{} INTO {place} ({}) VALUES {}",
                    if matches!(write, Write::Insert(_)) { "INSERT" } else { "REPLACE" },
                    names.join(", "),
                    rows.iter().map(all).collect::<Vec<_>>().join(", ")
                ),
                Write::Delete(_) => {
                    let keys = schema.key_names();
                    let by: Vec<usize> = (0..batch.num_columns())
                        .filter(|c| {
                            schema.is_bag() || keys.contains(&batch.schema().field(*c).name().as_str())
                        })
                        .collect();
                    let equal = rows.iter().map(|row| {
                        let each = by.iter().map(|c| format!("{} <=> {}", names[*c], value(*c, *row)));
                        format!("({})", each.collect::<Vec<_>>().join(" AND "))
                    });
                    format!("DELETE FROM {place} WHERE {}", equal.collect::<Vec<_>>().join(" OR "))
                }
            };
            self.run(url, &["BEGIN".into(), sql, "COMMIT".into()]).await?;
        }
        Ok(())
    }
}

/// Properties that a store of these servers does not offer.
const NOT_OFFERED: [&str; 1] = ["rows_of_a_partition_come_in_key_order"];

fn keeps(name: &str, kind: &'static str, servers: usize) {
    let property = PROPERTIES.iter().find(|p| p.name == name).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let fixture = OnServers::new(kind, servers).await?;
        Some(check(property, &fixture).await)
    });
    match outcome {
        None => {}
        Some(Ok(Outcome::Passed)) => assert!(!NOT_OFFERED.contains(&name), "it is offered now"),
        Some(Ok(Outcome::NotOffered(why))) => {
            eprintln!("not offered: {name}: {why}");
            assert!(NOT_OFFERED.contains(&name), "{why}");
        }
        Some(Err(failure)) => panic!("{failure}"),
    }
}

macro_rules! on {
    (($kind:expr, $servers:expr) $($module:ident $name:ident;)*) => {
        $(
            #[test]
            fn $name() {
                keeps(stringify!($name), $kind, $servers);
            }
        )*
    };
}

mod mariadb {
    use super::*;
    keepfast_store::__for_each_property!(on, MARIADB_URLS, 1);
}

mod mysql {
    use super::*;
    keepfast_store::__for_each_property!(on, MYSQL_URLS, 1);
}

mod mariadb_two_servers {
    use super::*;
    keepfast_store::__for_each_property!(on, MARIADB_URLS, 2);
}

mod mysql_two_servers {
    use super::*;
    keepfast_store::__for_each_property!(on, MYSQL_URLS, 2);
}
