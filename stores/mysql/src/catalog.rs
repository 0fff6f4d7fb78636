//! What a server says of its tables.

use crate::connection::{Connection, TextRow};
use crate::names::{full, text};
use crate::types::{self, Declared};
use crate::wire::WireError;
use keepfast_model::{Column, ColumnId, TableSchema, TableShape};

/// A physical table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PhysicalTable {
    pub database: String,
    pub name: String,
    pub columns: Vec<PhysicalColumn>,
    /// Names of the key's columns: of the primary key, else of the first unique index without NULL.
    pub key: Vec<String>,
    /// The name of that index.
    pub index: Option<String>,
    pub engine: String,
    pub rows: u64,
    pub bytes: u64,
    /// The server's own statement that makes it.
    pub create: String,
}

/// A column of a physical table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PhysicalColumn {
    pub name: String,
    pub declared: Declared,
    pub nullable: bool,
    /// Charset and collation, of texts.
    pub collation: Option<String>,
    /// Made from others, so that no statement may set it.
    pub generated: bool,
}

/// Why a table cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("column '{column}' has type {found}, which this version cannot read")]
    Type { column: String, found: String },
    #[error("{0}")]
    Schema(String),
}

fn word(row: &TextRow, at: usize) -> String {
    row.get(at)
        .and_then(|v| v.as_deref())
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .unwrap_or_default()
}

fn number(row: &TextRow, at: usize) -> Option<u64> {
    word(row, at).parse().ok()
}

/// Databases that are the server's own.
const OWN: &str = "'information_schema', 'mysql', 'performance_schema', 'sys'";

/// Base tables of one database, or of all but the server's own; sorted.
pub(crate) async fn tables(
    connection: &mut Connection,
    database: Option<&str>,
) -> Result<Vec<(String, String)>, WireError> {
    let of = match database {
        Some(database) => format!("table_schema = {}", text(database)),
        None => format!("table_schema NOT IN ({OWN})"),
    };
    let sql = format!(
        "SELECT table_schema, table_name FROM information_schema.tables \
         WHERE {of} AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY 1, 2"
    );
    Ok(connection.rows(&sql).await?.iter().map(|row| (word(row, 0), word(row, 1))).collect())
}

/// One table as it is; none where there is none.
pub(crate) async fn describe(
    connection: &mut Connection,
    database: &str,
    name: &str,
) -> Result<Option<PhysicalTable>, WireError> {
    let of = format!("table_schema = {} AND table_name = {}", text(database), text(name));
    let sql = format!(
        "SELECT engine, table_rows, data_length FROM information_schema.tables \
         WHERE {of} AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')"
    );
    let Some(row) = connection.rows(&sql).await?.into_iter().next() else { return Ok(None) };
    let sql = format!(
        "SELECT column_name, data_type, column_type, character_maximum_length, numeric_precision, numeric_scale, \
         is_nullable, collation_name, extra, generation_expression FROM information_schema.columns WHERE {of} ORDER BY ordinal_position"
    );
    let columns = connection.rows(&sql).await?;
    // When a row of a system-versioned table began to be true is no value of the row: no statement can set it.
    let (period, columns): (Vec<TextRow>, Vec<TextRow>) =
        columns.into_iter().partition(|row| matches!(word(row, 9).as_str(), "ROW START" | "ROW END"));
    let columns: Vec<PhysicalColumn> = columns
        .iter()
        .map(|row| PhysicalColumn {
            name: word(row, 0),
            declared: Declared {
                data_type: word(row, 1).to_lowercase(),
                column_type: word(row, 2),
                characters: number(row, 3),
                precision: number(row, 4),
                scale: number(row, 5),
            },
            nullable: word(row, 6) == "YES",
            collation: Some(word(row, 7)).filter(|c| !c.is_empty()),
            generated: word(row, 8).contains("GENERATED") && !word(row, 8).contains("DEFAULT_GENERATED"),
        })
        .collect();
    let sql = format!(
        "SELECT index_name, column_name, sub_part FROM information_schema.statistics \
         WHERE {of} AND non_unique = 0 ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index"
    );
    let mut indexes = connection.rows(&sql).await?;
    // Rows that are true now are told apart without it.
    indexes.retain(|row| !period.iter().any(|column| word(column, 0) == word(row, 1)));
    let (index, key) = key_of(&indexes, &columns);
    let sql = format!("SHOW CREATE TABLE {}", full(database, name));
    let create = connection.rows(&sql).await?.first().map(|row| word(row, 1)).unwrap_or_default();
    Ok(Some(PhysicalTable {
        database: database.to_owned(),
        name: name.to_owned(),
        columns,
        key,
        index,
        engine: word(&row, 0),
        rows: number(&row, 1).unwrap_or(0),
        bytes: number(&row, 2).unwrap_or(0),
        create,
    }))
}

/// The primary key, else the first unique index of whole columns that are never NULL.
fn key_of(indexes: &[TextRow], columns: &[PhysicalColumn]) -> (Option<String>, Vec<String>) {
    let mut names: Vec<String> = indexes.iter().map(|row| word(row, 0)).collect();
    names.dedup();
    for name in names {
        let parts: Vec<&TextRow> = indexes.iter().filter(|row| word(row, 0) == name).collect();
        let whole = parts.iter().all(|row| {
            let column = columns.iter().find(|c| c.name == word(row, 1));
            // A text's prefix tells rows apart that the whole text would not.
            row.get(2).is_none_or(Option::is_none) && column.is_some_and(|c| !c.nullable && keyable(c))
        });
        if whole {
            return (Some(name), parts.iter().map(|row| word(row, 1)).collect());
        }
    }
    (None, vec![])
}

/// Whether our key may hold the column: values that stand in the hidden column of exact values cannot be a key.
fn keyable(column: &PhysicalColumn) -> bool {
    let declared = &column.declared;
    match declared.data_type.as_str() {
        "date" | "datetime" | "timestamp" | "time" | "json" => false,
        "decimal" => declared.precision.unwrap_or(0) <= 38,
        _ => true,
    }
}

impl PhysicalTable {
    /// Columns and key as ours.
    pub fn schema(&self) -> Result<TableSchema, CatalogError> {
        let mut columns = vec![];
        for (column, id) in self.columns.iter().zip(1..) {
            let column_type = types::of(&column.declared).ok_or_else(|| CatalogError::Type {
                column: column.name.clone(),
                found: column.declared.column_type.clone(),
            })?;
            let origin = match &column.collation {
                Some(collation) => format!("{} COLLATE {collation}", column.declared.column_type),
                None => column.declared.column_type.clone(),
            };
            columns.push(Column {
                id: ColumnId(id),
                name: column.name.clone(),
                column_type,
                // What cannot be held is NULL there, whatever the column allows.
                nullable: column.nullable || !keyable(column),
                default: None,
                origin: Some(origin),
            });
        }
        let key = self.key.iter().filter_map(|name| columns.iter().find(|c| c.name == *name)).map(|c| c.id);
        let schema = TableSchema { key: key.collect(), columns, shape: TableShape::Rows };
        schema.check(&self.name).map_err(|e| CatalogError::Schema(e.to_string()))?;
        Ok(schema)
    }

    /// Whether its engine keeps a snapshot for readers.
    pub fn is_transactional(&self) -> bool {
        self.engine.eq_ignore_ascii_case("InnoDB") || self.engine.eq_ignore_ascii_case("RocksDB")
    }
}
