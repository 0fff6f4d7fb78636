//! Lists of backups and of restore points.

use super::Report;
use super::human;
use super::table::{Grid, Side::Left, Side::Right};
use super::transfers::mode;
use keepfast_engine::api::{BackupSummary, PointSummary};
use std::io::{self, Write};

impl Report for Vec<BackupSummary> {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_empty() {
            return writeln!(out, "no backups");
        }
        let mut grid = Grid::new([
            ("backup", Left),
            ("points", Right),
            ("newest", Left),
            ("cut", Left),
            ("tables", Left),
            ("rows", Right),
            ("bytes", Right),
            ("proof", Left),
        ]);
        for b in self {
            grid.row([
                b.backup.to_string(),
                human::count(b.points),
                b.newest.point.to_string(),
                human::time(b.newest.cut.at),
                few(&b.newest.tables),
                human::count(b.newest.rows),
                b.newest.bytes.to_string(),
                b.newest.proof.to_string(),
            ]);
        }
        grid.write(out, "")
    }
}

impl Report for Vec<PointSummary> {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_empty() {
            return writeln!(out, "no restore points");
        }
        let mut grid = Grid::new([
            ("point", Left),
            ("cut", Left),
            ("exactness", Left),
            ("mode", Left),
            ("tables", Left),
            ("rows", Right),
            ("bytes", Right),
            ("new bytes", Right),
            ("proof", Left),
            ("held", Left),
        ]);
        for p in self {
            grid.row([
                p.point.to_string(),
                human::time(p.cut.at),
                p.cut.exactness.to_string(),
                mode(p.mode).into(),
                few(&p.tables),
                human::count(p.rows),
                p.bytes.to_string(),
                p.bytes_new.to_string(),
                p.proof.to_string(),
                if p.held { "yes" } else { "no" }.into(),
            ]);
        }
        grid.write(out, "")
    }
}

/// The first three names, and how many more there are.
fn few(names: &[String]) -> String {
    match names.len() {
        0..=3 => names.join(", "),
        n => format!("{}, and {} more", names[..3].join(", "), n - 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_tables_are_cut_short() {
        let names: Vec<String> = ["a", "b", "c", "d", "e"].map(String::from).to_vec();
        assert_eq!(few(&names[..3]), "a, b, c");
        assert_eq!(few(&names), "a, b, c, and 2 more");
    }
}
