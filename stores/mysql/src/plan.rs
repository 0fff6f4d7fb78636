//! Ranges of a shard's key that are read side by side.
//!
//! Invariant: of two neighbouring ranges one has the rows whose key is below a key that stands in the table, and the other one all others, by the
//! server's own comparison. The server is asked whether it puts those keys in the order in which they are used. So no row is in two
//! ranges or in none, whatever a column's type and collation; only how large ranges are depends on estimates.

mod cells;
mod index;
mod values;

use crate::catalog::PhysicalTable;
use crate::connection::Connection;
use crate::names::quoted;
use crate::wire::WireError;
use cells::{Cells, Key};
use index::{Comparison, Index, compared};
use serde::{Deserialize, Serialize};
use values::Literal;

/// Rows below which a range is not worth a statement of its own.
const ROWS: u64 = 50_000;

/// Rows of a range at most, about: what goes wrong or is proven is a part of a large table.
const MOST: u64 = 1_000_000;

/// A range of the first columns of an index: from `from` on, before `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// The index that rows stand in, where it is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    columns: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Vec<Literal>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Vec<Literal>>,
    /// Those rows whose first column is NULL, and no others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    null: bool,
    /// Rows, about.
    #[serde(default)]
    pub rows: u64,
}

impl Piece {
    /// All of a table.
    fn whole(rows: u64) -> Self {
        Self { rows, ..Self::default() }
    }

    /// What stands behind the table's name in a SELECT.
    pub fn condition(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|name| quoted(name)).collect();
        let index = self.index.as_ref().map(|name| format!(" FORCE INDEX ({})", quoted(name)));
        let from = self.from.as_ref().map(|from| compared(&names, Comparison::From, from));
        let to = self.to.as_ref().map(|to| compared(&names, Comparison::Below, to));
        let null = names.first().filter(|_| self.null).map(|name| format!("{name} IS NULL"));
        let parts: Vec<String> = null.into_iter().chain(from).chain(to).collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!("{} WHERE {}", index.unwrap_or_default(), parts.join(" AND ")),
        }
    }
}

/// About `wanted` ranges of about as many rows, more of a large shard and fewer of a small one, that cover the shard. The first and the last
/// one have no end, whatever the least and the greatest key are.
///
/// They follow the index that rows stand in. A table without a key is cut by another index, and in no more than `wanted` ranges: where the server
/// finds it quicker it reads all of the table for each of them.
pub(crate) async fn pieces(
    connection: &mut Connection,
    table: &PhysicalTable,
    wanted: u32,
) -> Result<Vec<Piece>, WireError> {
    pieces_of(connection, table, wanted, ROWS).await
}

/// As [`pieces`], of so many rows at least.
pub(crate) async fn pieces_of(
    connection: &mut Connection,
    table: &PhysicalTable,
    wanted: u32,
    least: u64,
) -> Result<Vec<Piece>, WireError> {
    let one = |rows| Ok(vec![Piece::whole(rows)]);
    // Nothing to gain, and nothing to ask: a count of rows that is out of date is of a table that was small once.
    if wanted < 2 && table.rows < 2 * MOST {
        return one(table.rows);
    }
    let Some(index) = Index::choose(connection, table).await? else { return one(table.rows) };
    let mut cells = Cells::new(connection, table, &index);
    let rows = cells.estimate(&["TRUE".into()]).await?.first().copied().unwrap_or(0);
    let wanted = u64::from(wanted);
    let wanted = if index.clustered { wanted.max(rows / MOST) } else { wanted };
    let wanted = wanted.min(rows / least);
    if wanted < 2 {
        return one(rows);
    }
    let nulls = match index.nullable {
        true => cells.estimate(&[format!("{} IS NULL", quoted(&index.columns[0].0))]).await?.first().copied(),
        false => None,
    };
    let rows = rows.saturating_sub(nulls.unwrap_or(0));
    let found = cells.cut(rows, wanted).await?;
    let all: Vec<(&Key, u64)> = found.iter().map(|cell| (&cell.from, cell.rows)).collect();
    let chosen = balanced(&all, wanted);
    let starts: Vec<&Key> = chosen.iter().map(|(at, _)| all[*at].0).collect();
    // The first range has no lower end.
    if starts.len() < 2 || !cells.ascend(&starts[1..]).await? {
        return one(rows + nulls.unwrap_or(0));
    }
    let piece = Piece {
        index: index.clustered.then(|| index.name.clone()),
        columns: index.columns.iter().map(|(name, _)| name.clone()).collect(),
        ..Piece::default()
    };
    let mut pieces: Vec<Piece> =
        nulls.map(|rows| Piece { null: true, rows, ..piece.clone() }).into_iter().collect();
    for (n, (_, rows)) in chosen.iter().enumerate() {
        pieces.push(Piece {
            from: (n > 0).then(|| index.literals(starts[n])),
            to: starts.get(n + 1).map(|to| index.literals(to)),
            rows: *rows,
            ..piece.clone()
        });
    }
    Ok(pieces)
}

/// Joins neighbouring cells to `wanted` ranges of like size at most: where each begins, and its rows.
fn balanced(cells: &[(&Key, u64)], wanted: u64) -> Vec<(usize, u64)> {
    let all = cells.iter().map(|(_, rows)| u128::from(*rows)).sum::<u128>().max(1);
    let mut chosen: Vec<(usize, u64)> = vec![];
    let (mut before, mut last) = (0_u128, None);
    for (at, (_, rows)) in cells.iter().enumerate() {
        // The range that its middle is in, were all of them equal.
        let range = (before + u128::from(*rows) / 2) * u128::from(wanted) / all;
        let range = range.min(u128::from(wanted.max(1)) - 1);
        before += u128::from(*rows);
        match chosen.last_mut() {
            Some((_, sum)) if last == Some(range) => *sum += rows,
            _ => chosen.push((at, *rows)),
        }
        last = Some(range);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_say_where_they_begin_and_end() {
        let number = |n: i32| Literal::Number(n.to_string());
        let one = Piece {
            columns: vec!["i`d".into()],
            from: Some(vec![number(-3)]),
            to: Some(vec![number(7)]),
            ..Piece::default()
        };
        assert_eq!(one.condition(), " WHERE `i``d` >= -3 AND `i``d` < 7");
        assert_eq!(Piece::default().condition(), "");
        let two = Piece {
            index: Some("PRIMARY".into()),
            columns: vec!["a".into(), "b".into()],
            from: Some(vec![Literal::Hex(Some("gbk".into()), "d6d0".into()), Literal::Quoted("it's".into())]),
            ..Piece::default()
        };
        assert_eq!(
            two.condition(),
            " FORCE INDEX (`PRIMARY`) WHERE (`a` > _gbk x'd6d0' OR `a` = _gbk x'd6d0' AND `b` >= 'it''s')"
        );
        let null = Piece { null: true, from: None, to: None, ..one.clone() };
        assert_eq!(null.condition(), " WHERE `i``d` IS NULL");
        let token = serde_json::to_value(&two).unwrap();
        assert_eq!(serde_json::from_value::<Piece>(token).unwrap(), two);
    }

    #[test]
    fn cells_are_joined_to_ranges_of_like_size() {
        let key: Key = vec![];
        let sizes = |rows: &[u64], wanted| {
            let cells: Vec<(&Key, u64)> = rows.iter().map(|rows| (&key, *rows)).collect();
            balanced(&cells, wanted).into_iter().map(|(_, rows)| rows).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[10; 8], 4), [20, 20, 20, 20]);
        assert_eq!(sizes(&[1, 1, 90, 1, 1, 6], 4), [2, 90, 8]);
        assert_eq!(sizes(&[5], 4), [5]);
        assert_eq!(sizes(&[0, 0], 4), [0]);
        assert_eq!(sizes(&[30, 30, 30, 9, 1, 0], 3), [30, 30, 40], "no crumb at the end");
    }
}
