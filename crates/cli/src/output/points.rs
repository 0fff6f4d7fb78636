//! One restore point in full.

use super::Report;
use super::human;
use super::table::{Grid, Side::Left};
use super::transfers::{cut, mode, proof};
use keepfast_engine::api::{PointReport, TableDetail};
use std::io::{self, Write};

impl Report for PointReport {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let s = &self.summary;
        Grid::pairs([
            ("restore point", s.point.to_string()),
            ("cut", cut(&s.cut)),
            ("store", self.store.clone()),
            ("written by", self.program.clone()),
            ("rows", human::count(s.rows)),
            ("bytes", format!("{}, {} of them new in this point", s.bytes, s.bytes_new)),
            ("weakest proof", s.proof.to_string()),
            ("held", if s.held { "yes" } else { "no" }.into()),
        ])
        .write(out, "")?;
        for hold in &self.holds {
            let until =
                hold.until.map_or_else(|| "until released".into(), |t| format!("until {}", human::time(t)));
            writeln!(out, " hold {} {until}: {}", hold.id, human::safe(&hold.reason))?;
        }
        for table in &self.details {
            writeln!(out)?;
            write_table(table, out)?;
        }
        Ok(())
    }
}

fn write_table(t: &TableDetail, out: &mut dyn Write) -> io::Result<()> {
    let key = if t.schema.is_bag() { "none".into() } else { t.schema.key_names().join(", ") };
    let mut pairs = vec![
        ("table", t.table.to_string()),
        ("folder in the vault", format!("tables/{}", t.id)),
        ("mode", mode(t.mode).into()),
        ("rows", human::count(t.rows)),
        ("digest", t.digest.to_string()),
        ("segments", format!("{} and {} of changes, {}", t.segments, t.change_segments, t.bytes)),
        ("proof", format!("{} ({})", proof(&t.certificate), t.certificate.method)),
        ("key", key),
    ];
    if let Some(columns) = &t.selection.columns {
        pairs.push(("only columns", columns.join(", ")));
    }
    if let Some(filter) = &t.selection.filter {
        pairs.push(("only rows where", filter.clone()));
    }
    for position in &t.positions {
        pairs.push(("change log at", position.to_string()));
    }
    for d in &t.dependents {
        pairs.push(("comes back with it", format!("{} {}", d.kind, d.name)));
    }
    Grid::pairs(pairs).write(out, "")?;
    let mut grid = Grid::new([("column", Left), ("type", Left), ("NULL", Left), ("default", Left)]);
    for c in &t.schema.columns {
        grid.row([
            c.name.clone(),
            c.column_type.sql(),
            if c.nullable { "allowed" } else { "no" }.into(),
            c.default.clone().unwrap_or_default(),
        ]);
    }
    grid.write(out, "   ")
}
