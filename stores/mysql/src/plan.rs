//! Ranges of a shard's key that are read side by side.

use crate::catalog::PhysicalTable;
use crate::connection::Connection;
use crate::names::{full, quoted};
use crate::wire::WireError;
use serde::{Deserialize, Serialize};

/// Rows below which a range is not worth a statement of its own.
const ROWS: u64 = 50_000;

/// Rows of a range at most, about: what goes wrong or is proven is a part of a large table.
const MOST: u64 = 1_000_000;

/// A range of the first key column: from `from` on, before `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<i128>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<i128>,
}

impl Piece {
    /// As the end of a SELECT.
    pub fn condition(&self) -> String {
        let Some(column) = &self.column else { return String::new() };
        let column = quoted(column);
        let from = self.from.map(|from| format!("{column} >= {from}"));
        let to = self.to.map(|to| format!("{column} < {to}"));
        let parts: Vec<String> = from.into_iter().chain(to).collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", parts.join(" AND ")),
        }
    }
}

/// `wanted` ranges, more of a large shard and fewer of a small one, that cover the shard. The first and the last one have no end, whatever the least and the greatest key are.
pub(crate) async fn pieces(
    connection: &mut Connection,
    table: &PhysicalTable,
    wanted: u32,
) -> Result<Vec<Piece>, WireError> {
    let wanted = u64::from(wanted).max(table.rows / MOST).min(table.rows / ROWS).max(1);
    let first = table.key.first().and_then(|name| table.columns.iter().find(|c| c.name == *name));
    let number = first.filter(|c| c.declared.data_type.ends_with("int"));
    let (Some(column), 2..) = (number, wanted) else { return Ok(vec![Piece::default()]) };
    let name = quoted(&column.name);
    let sql = format!("SELECT MIN({name}), MAX({name}) FROM {}", full(&table.database, &table.name));
    let rows = connection.rows(&sql).await?;
    let bound = |at: usize| -> Option<i128> {
        let text = rows.first()?.get(at)?.as_deref()?;
        std::str::from_utf8(text).ok()?.parse().ok()
    };
    let (Some(least), Some(greatest)) = (bound(0), bound(1)) else { return Ok(vec![Piece::default()]) };
    let width = (greatest - least) / i128::from(wanted) + 1;
    let starts = (1..i128::from(wanted)).map(|n| least + n * width).filter(|start| *start <= greatest);
    let bounds: Vec<Option<i128>> = std::iter::once(None).chain(starts.map(Some)).chain([None]).collect();
    Ok(bounds
        .windows(2)
        .map(|ends| Piece { column: Some(column.name.clone()), from: ends[0], to: ends[1] })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_say_where_they_begin_and_end() {
        let piece = Piece { column: Some("i`d".into()), from: Some(-3), to: Some(7) };
        assert_eq!(piece.condition(), " WHERE `i``d` >= -3 AND `i``d` < 7");
        assert_eq!(Piece::default().condition(), "");
    }
}
