//! Cells of an index with about as many rows as the server says, the largest cut again and again.
//!
//! Ends of cells are keys that stand in the table, found by reading an index at guessed values; how many rows lie between two of them is
//! the server's own estimate, which it makes from a few pages of the index. So neither holes nor rows that crowd in one range matter.

use super::index::{Comparison, Index};
use super::values::Value;
use crate::catalog::PhysicalTable;
use crate::connection::Connection;
use crate::names::full;
use crate::wire::WireError;
use std::time::{Duration, Instant};

/// Time for the cells of one table.
const TIME: Duration = Duration::from_secs(2);
/// A cell has so many tenths of a piece's rows at most, about.
const CELL_TENTHS: u64 = 4;
/// Cuts in vain after which a cell stays as it is.
const TRIES: u32 = 8;
/// Bytes of a statement, about.
const STATEMENT: usize = 1 << 20;

/// A key as its columns.
pub(super) type Key = Vec<Value>;

/// Rows from a key on.
#[derive(Debug)]
pub(super) struct Cell {
    pub from: Key,
    /// The server's estimate.
    pub rows: u64,
    /// How often cutting it left nearly all of it in one cell.
    slow: u32,
}

/// A table whose index is cut.
pub(super) struct Cells<'a> {
    connection: &'a mut Connection,
    table: &'a PhysicalTable,
    index: &'a Index,
    /// The table with a word on its index.
    from: String,
}

impl<'a> Cells<'a> {
    pub fn new(connection: &'a mut Connection, table: &'a PhysicalTable, index: &'a Index) -> Self {
        let name = crate::names::quoted(&index.name);
        let from = format!("{} FORCE INDEX ({name})", full(&table.database, &table.name));
        Self { connection, table, index, from }
    }

    /// Cells in the order of the index, small enough to make `pieces` pieces of `rows` rows.
    pub async fn cut(&mut self, rows: u64, pieces: u64) -> Result<Vec<Cell>, WireError> {
        let until = Instant::now() + TIME;
        let Some(first) = self.end(self.index.nullable.then(|| self.not_null()), false).await? else {
            return Ok(vec![]);
        };
        let mut cells = vec![Cell { from: first, rows, slow: 0 }];
        let small = (rows.saturating_mul(CELL_TENTHS) / pieces.saturating_mul(10).max(1)).max(1);
        while Instant::now() < until {
            let wide = cells.iter().enumerate().filter(|(_, cell)| cell.slow < TRIES);
            let Some(at) = wide.max_by_key(|(_, cell)| cell.rows).map(|(at, _)| at) else { break };
            if cells[at].rows <= small {
                break;
            }
            let upper = cells.get(at + 1).map(|next| next.from.clone());
            let from = cells[at].from.clone();
            let found = self.split(&from, upper.as_deref()).await?;
            if found.is_empty() {
                cells[at].slow = TRIES;
                continue;
            }
            let keys: Vec<Key> = std::iter::once(from).chain(found).collect();
            let counted = self.count(&keys, upper.as_deref()).await?;
            let (before, slow) = (cells[at].rows, cells[at].slow + 1);
            // Estimates of small ranges are about as much too large, or too small, as one another.
            let sum = counted.iter().map(|rows| u128::from(*rows)).sum::<u128>().max(1);
            let share = |part: u64| (u128::from(part) * u128::from(before) / sum) as u64;
            let new = keys.into_iter().zip(counted).map(|(from, rows)| {
                let rows = share(rows);
                let slow = if rows >= before / 10 * 9 { slow } else { 0 };
                Cell { from, rows, slow }
            });
            cells.splice(at..=at, new);
        }
        Ok(cells)
    }

    fn not_null(&self) -> String {
        format!("{} IS NOT NULL", self.index.names()[0])
    }

    /// Keys of a cell, in order and without its own.
    async fn split(&mut self, low: &[Value], high: Option<&[Value]>) -> Result<Vec<Key>, WireError> {
        let index = self.index;
        let above = index.compared(Comparison::Above, low);
        let below = high.map(|high| index.compared(Comparison::Below, high));
        let within = [Some(above), below].into_iter().flatten().collect::<Vec<_>>().join(" AND ");
        let mut next = None;
        for (at, (name, kind)) in index.columns.iter().enumerate() {
            // The rows that agree with the cell's first one in all columns before this one.
            let group = index.equal(low, at);
            let alike = group.iter().chain([&within]).cloned().collect::<Vec<_>>().join(" AND ");
            let Some(last) = self.end(Some(alike.clone()), true).await? else { break };
            if last[at] == low[at] {
                continue;
            }
            let name = crate::names::quoted(name);
            if !kind.is_ordered() && next.is_none() {
                next = self.end(Some(within.clone()), false).await?;
            }
            let own = index.literals(&last)[at].sql();
            for depth in 0.. {
                let mut guesses = kind.between(&low[at], &last[at], depth);
                if guesses.is_empty() && depth > 0 {
                    break;
                }
                guesses.push(own.clone());
                let most = (STATEMENT / (2 * (alike.len() + 200))).max(2);
                let guesses = guesses.iter().step_by(guesses.len().div_ceil(most));
                let dives = guesses.flat_map(|guess| {
                    let from = (format!("{alike} AND {name} >= {guess}"), false);
                    // What stands before a hole.
                    let before = (format!("{alike} AND {name} < {guess}"), true);
                    std::iter::once(from).chain(kind.is_ordered().then_some(before))
                });
                let dives: Vec<(String, bool)> = dives.collect();
                let mut found = self.dive(&dives).await?;
                found.retain(|key| *key != low);
                if !kind.is_ordered() {
                    // Guesses before the second row find that one, and the cell would be no smaller.
                    found.retain(|key| Some(key) != next.as_ref() && *key != last);
                }
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
        Ok(next.into_iter().collect())
    }

    /// The first or the last key of the rows that meet a condition.
    async fn end(&mut self, condition: Option<String>, last: bool) -> Result<Option<Key>, WireError> {
        let condition = condition.unwrap_or_else(|| "TRUE".into());
        Ok(self.dive(&[(condition, last)]).await?.pop())
    }

    /// The first, or the last, key of the rows of each condition; in the server's order, and each once.
    async fn dive(&mut self, conditions: &[(String, bool)]) -> Result<Vec<Key>, WireError> {
        let names = self.index.names();
        let asked: Vec<String> =
            names.iter().enumerate().map(|(at, name)| format!("{name} AS k{at}")).collect();
        let asked = asked.join(", ");
        let order = |last: bool| {
            let way = if last { " DESC" } else { "" };
            names.iter().map(|name| format!("{name}{way}")).collect::<Vec<_>>().join(", ")
        };
        let dives = conditions.iter().map(|(condition, last)| {
            format!("(SELECT {asked} FROM {} WHERE {condition} ORDER BY {} LIMIT 1)", self.from, order(*last))
        });
        let dives: Vec<String> = dives.collect();
        let kinds = self.index.columns.iter().enumerate();
        let shown: Vec<String> = kinds
            .map(|(at, (_, kind))| {
                let (own, text) = kind.asked(&format!("k{at}"));
                format!("{own}, {text}")
            })
            .collect();
        let by: Vec<String> = (0..names.len()).map(|at| format!("k{at}")).collect();
        let sql = format!(
            "SELECT {} FROM ({}) AS dives ORDER BY {}",
            shown.join(", "),
            dives.join(" UNION ALL "),
            by.join(", ")
        );
        let rows = self.connection.rows(&sql).await?;
        let text =
            |value: &Option<Vec<u8>>| value.as_deref().map(|v| String::from_utf8_lossy(v).into_owned());
        let mut keys: Vec<Key> = rows
            .iter()
            .map(|row| {
                let pairs = row.chunks_exact(2);
                pairs
                    .map(|pair| Value {
                        own: text(&pair[0]).unwrap_or_default(),
                        text: text(&pair[1]).unwrap_or_default(),
                    })
                    .collect()
            })
            .collect();
        keys.dedup();
        Ok(keys)
    }

    /// The server's estimate of the rows from each key to the next one, and from the last one to the end.
    async fn count(&mut self, keys: &[Key], end: Option<&[Value]>) -> Result<Vec<u64>, WireError> {
        let ends = keys.iter().skip(1).map(|key| Some(key.as_slice())).chain([end]);
        let ranges = keys.iter().zip(ends).map(|(from, to)| {
            let from = self.index.compared(Comparison::From, from);
            let to = to.map(|to| format!(" AND {}", self.index.compared(Comparison::Below, to)));
            format!("{from}{}", to.unwrap_or_default())
        });
        let ranges: Vec<String> = ranges.collect();
        self.estimate(&ranges).await
    }

    /// The server's estimates of the rows that meet conditions.
    pub async fn estimate(&mut self, conditions: &[String]) -> Result<Vec<u64>, WireError> {
        let mut all = vec![];
        let longest = conditions.iter().map(String::len).max().unwrap_or(0);
        for some in conditions.chunks((STATEMENT / (longest + 200)).max(1)) {
            let name = self.index.names().swap_remove(0);
            let parts = some.iter().map(|c| format!("SELECT {name} FROM {} WHERE {c}", self.from));
            let sql = format!("EXPLAIN FORMAT=TRADITIONAL {}", parts.collect::<Vec<_>>().join(" UNION ALL "));
            let (names, rows) = self.connection.table(&sql).await?;
            let at = |name: &str| names.iter().position(|found| found.eq_ignore_ascii_case(name));
            let (Some(id), Some(count)) = (at("id"), at("rows")) else {
                return Err(WireError::Malformed("it explains a statement in another form"));
            };
            let number = |row: &[Option<Vec<u8>>], at: usize| -> Option<u64> {
                std::str::from_utf8(row.get(at)?.as_deref()?).ok()?.parse().ok()
            };
            let mut counts = vec![0; some.len()];
            for row in &rows {
                let select = number(row, id).and_then(|id| usize::try_from(id).ok());
                if let Some(to) = select.and_then(|id| counts.get_mut(id.checked_sub(1)?)) {
                    *to = number(row, count).unwrap_or(0);
                }
            }
            all.extend(counts);
        }
        Ok(all)
    }

    /// Whether the server puts no row both before one of these keys and behind the next one.
    pub async fn ascend(&mut self, keys: &[&Key]) -> Result<bool, WireError> {
        let index = self.index;
        let wrong: Vec<String> = keys
            .windows(2)
            .map(|pair| {
                let (before, behind) =
                    (index.compared(Comparison::Below, pair[0]), index.compared(Comparison::From, pair[1]));
                format!("EXISTS (SELECT 1 FROM {} WHERE {before} AND {behind})", self.from)
            })
            .collect();
        for some in wrong.chunks(50) {
            let rows = self.connection.rows(&format!("SELECT {}", some.join(" OR "))).await?;
            let none = rows.first().and_then(|row| row.first()?.as_deref()) == Some(b"0");
            if !none {
                tracing::warn!(
                    table = self.table.name,
                    "keys are in no order, and the table is read in one piece"
                );
                return Ok(false);
            }
        }
        Ok(true)
    }
}
