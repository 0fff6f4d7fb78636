//! Tables of text: a header, a line under it, columns side by side, numbers on the right.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent};
use std::io::{self, Write};

/// On which side a column's values stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table that grows row by row.
#[derive(Debug)]
pub struct Grid {
    table: Table,
    sides: Vec<Side>,
}

impl Grid {
    /// A table with these columns: a title and a side each.
    pub fn new<T: AsRef<str>>(columns: impl IntoIterator<Item = (T, Side)>) -> Self {
        let mut grid = Self { table: plain(), sides: vec![] };
        let header: Vec<Cell> = columns
            .into_iter()
            .map(|(title, side)| {
                grid.sides.push(side);
                cell(title.as_ref(), side)
            })
            .collect();
        grid.table.set_header(header);
        grid
    }

    /// A table of titles and values, without a header.
    pub fn pairs<T: AsRef<str>>(pairs: impl IntoIterator<Item = (T, String)>) -> Self {
        let mut grid = Self { table: plain(), sides: vec![Side::Left, Side::Left] };
        for (title, value) in pairs {
            grid.row([title.as_ref().to_owned(), value]);
        }
        grid
    }

    /// Adds a row; values beyond the columns are not shown.
    pub fn row(&mut self, values: impl IntoIterator<Item = String>) -> &mut Self {
        let cells: Vec<Cell> = values.into_iter().zip(&self.sides).map(|(v, side)| cell(&v, *side)).collect();
        self.table.add_row(cells);
        self
    }

    /// Makes every column at least as wide as these, so that a table can be written in pieces.
    pub fn at_least(&mut self, widths: &[u16]) {
        for (column, width) in self.table.column_iter_mut().zip(widths) {
            let (left, right) = (1, 1);
            column.set_constraint(comfy_table::ColumnConstraint::LowerBoundary(comfy_table::Width::Fixed(
                width + left + right,
            )));
        }
    }

    /// The width of each column's widest value.
    pub fn widths(&self) -> Vec<u16> {
        self.table.column_max_content_widths()
    }

    /// Writes it, each line with `indent` in front and nothing behind.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, out: &mut dyn Write, indent: &str) -> io::Result<()> {
        for line in self.table.lines() {
            writeln!(out, "{indent}{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Writes its rows without the header.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_body(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in self.table.lines().skip(2) {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_style(TableComponent::HeaderLines, '─');
    table.set_style(TableComponent::MiddleHeaderIntersections, '─');
    // Wrapping long values is the terminal's part: a copied value must be whole.
    table.set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn cell(text: &str, side: Side) -> Cell {
    Cell::new(super::human::safe(text)).set_alignment(match side {
        Side::Left => CellAlignment::Left,
        Side::Right => CellAlignment::Right,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(grid: &Grid) -> String {
        let mut out = vec![];
        grid.write(&mut out, "").unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_stand_on_the_right_and_no_line_ends_in_blanks() {
        let mut grid = Grid::new([("name", Side::Left), ("rows", Side::Right)]);
        grid.row(["a".into(), "1,000".into()]);
        grid.row(["long name".into(), "2".into()]);
        let line = "─".repeat(19);
        assert_eq!(
            text(&grid),
            format!(" name         rows\n{line}\n a           1,000\n long name       2\n")
        );
    }

    #[test]
    fn values_cannot_break_the_table() {
        let mut grid = Grid::new([("a", Side::Left)]);
        grid.row(["x\ny\u{1b}[31m".into()]);
        assert_eq!(text(&grid).lines().count(), 3);
        assert!(!text(&grid).contains('\u{1b}'));
    }
}
