//! The index whose order ranges follow, and conditions over its columns.

use super::values::{Kind, Literal, Value};
use crate::catalog::PhysicalTable;
use crate::connection::Connection;
use crate::names::{full, quoted};
use crate::wire::WireError;

/// Columns of an index that ranges are made of at most: those of longer keys differ in the first ones.
const COLUMNS: usize = 3;

/// An index, as far as its order is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub name: String,
    pub columns: Vec<(String, Kind)>,
    /// Whether its first column may be NULL.
    pub nullable: bool,
    /// Whether rows stand in its order.
    pub clustered: bool,
}

/// A part of an index, as `SHOW INDEX` has it.
struct Part {
    index: String,
    column: String,
    unique: bool,
    nullable: bool,
    descending: bool,
    /// The column as a whole, in a tree, and visible.
    whole: bool,
    different: u64,
}

impl Index {
    /// The index that rows stand in; for a table without a key one that is unique where values are, else the one with
    /// the most different values.
    pub async fn choose(
        connection: &mut Connection,
        table: &PhysicalTable,
    ) -> Result<Option<Self>, WireError> {
        let sql = format!("SHOW INDEX FROM {}", full(&table.database, &table.name));
        let (names, rows) = connection.table(&sql).await?;
        let at = |name: &str| names.iter().position(|found| found.eq_ignore_ascii_case(name));
        let parts: Vec<Part> = rows
            .iter()
            .map(|row| {
                let word = |name: &str| {
                    let value = at(name).and_then(|at| row.get(at)?.as_deref());
                    value.map(|v| String::from_utf8_lossy(v).into_owned())
                };
                let shown =
                    word("Visible").as_deref() != Some("NO") && word("Ignored").as_deref() != Some("YES");
                Part {
                    index: word("Key_name").unwrap_or_default(),
                    column: word("Column_name").unwrap_or_default(),
                    unique: word("Non_unique").as_deref() == Some("0"),
                    nullable: word("Null").as_deref() == Some("YES"),
                    descending: word("Collation").as_deref() == Some("D"),
                    whole: shown
                        && word("Sub_part").is_none()
                        && word("Index_type").as_deref() == Some("BTREE"),
                    different: word("Cardinality").and_then(|n| n.parse().ok()).unwrap_or(0),
                }
            })
            .collect();
        let mut best: Option<(u64, Self)> = None;
        for parts in parts.chunk_by(|a, b| a.index == b.index) {
            let whole = parts.iter().all(|part| part.unique && !part.nullable);
            // A table without a primary key stands in the order of its first unique index without NULL.
            let clustered =
                parts[0].index == "PRIMARY" || whole && table.index.as_ref() == Some(&parts[0].index);
            let Some(found) = Self::of(table, parts, clustered) else { continue };
            let value = match (clustered, parts[0].unique) {
                (true, _) => u64::MAX,
                (false, true) => u64::MAX - 1,
                (false, false) => parts[0].different,
            };
            if best.as_ref().is_none_or(|(than, _)| value > *than) {
                best = Some((value, found));
            }
        }
        Ok(best.map(|(_, index)| index))
    }

    fn of(table: &PhysicalTable, parts: &[Part], clustered: bool) -> Option<Self> {
        let mut columns = vec![];
        for part in parts.iter().take(COLUMNS) {
            let column = table.columns.iter().find(|c| c.name == part.column);
            let kind = column.and_then(Kind::of).filter(|_| part.whole);
            // One direction, so that all of it can be read along the index; NULL only where it is a range of its own.
            let fits = part.descending == parts[0].descending && (columns.is_empty() || !part.nullable);
            match kind {
                Some(kind) if fits => columns.push((part.column.clone(), kind)),
                _ => break,
            }
        }
        let nullable = parts[0].nullable;
        (!columns.is_empty()).then(|| Self { name: parts[0].index.clone(), columns, nullable, clustered })
    }

    /// Names of the columns, quoted.
    pub fn names(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| quoted(name)).collect()
    }

    pub fn literals(&self, key: &[Value]) -> Vec<Literal> {
        self.columns.iter().zip(key).map(|((_, kind), value)| kind.literal(value.own.clone())).collect()
    }

    /// Rows whose key compares so with another one.
    pub fn compared(&self, comparison: Comparison, key: &[Value]) -> String {
        compared(&self.names(), comparison, &self.literals(key))
    }

    /// Rows whose first columns are those of a key.
    pub fn equal(&self, key: &[Value], columns: usize) -> Option<String> {
        let (names, literals) = (self.names(), self.literals(key));
        let parts = names
            .iter()
            .zip(&literals)
            .take(columns)
            .map(|(name, value)| format!("{name} = {}", value.sql()));
        Some(parts.collect::<Vec<_>>().join(" AND ")).filter(|parts| !parts.is_empty())
    }
}

/// How rows compare with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Below,
    From,
    Above,
}

/// A comparison of several columns, written as the server's optimizer understands it. `Below` and `From` of one key are each
/// true where the other one is not, whatever the columns' collation.
pub(super) fn compared(names: &[String], comparison: Comparison, key: &[Literal]) -> String {
    let (strict, last) = match comparison {
        Comparison::Below => ("<", "<"),
        Comparison::From => (">", ">="),
        Comparison::Above => (">", ">"),
    };
    let count = names.len().min(key.len());
    let parts = (0..count).map(|at| {
        let equal = (0..at).map(|n| format!("{} = {}", names[n], key[n].sql()));
        let sign = if at + 1 == count { last } else { strict };
        let compared = format!("{} {sign} {}", names[at], key[at].sql());
        equal.chain([compared]).collect::<Vec<_>>().join(" AND ")
    });
    let parts: Vec<String> = parts.collect();
    if count == 1 { parts.join("") } else { format!("({})", parts.join(" OR ")) }
}
