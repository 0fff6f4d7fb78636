//! Reports of verify and diff.

use super::Report;
use super::human;
use super::table::{Grid, Side::Left};
use keepfast_engine::api::{DiffReport, Level, VerifyReport};
use std::io::{self, Write};

impl Report for VerifyReport {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        // One line an object, so that other programs can cut it.
        for h in &self.healed {
            let [object, what, by] = [&h.object, &h.what, &h.by].map(|t| human::safe(t));
            writeln!(out, "healed {object}: {what}; from {by}")?;
        }
        for d in &self.damage {
            write!(
                out,
                "damaged {}: {}; tables {}; points {}",
                human::safe(&d.object),
                human::safe(&d.what),
                list(&d.tables),
                list(&d.points)
            )?;
            if let Some(why) = &d.not_healed {
                write!(out, "; not healed: {}", human::safe(why))?;
            }
            for lost in &d.lost {
                write!(out, "; lost: {}", human::safe(lost))?;
            }
            writeln!(out)?;
        }
        if !self.healed.is_empty() {
            let (healed, left) = (self.healed.len() as u64, self.damage.len() as u64);
            match left {
                0 => writeln!(
                    out,
                    "{} healed, nothing is damaged any more",
                    human::plural(healed, "object", "objects")
                )?,
                _ => writeln!(
                    out,
                    "{} healed, {} still damaged",
                    human::plural(healed, "object", "objects"),
                    human::count(left)
                )?,
            }
        }
        if !self.tables.is_empty() {
            let mut grid =
                Grid::new([("table", Left), ("rows and digest", Left), ("of", Left), ("result", Left)]);
            for t in &self.tables {
                let says = |equal: bool| if equal { "equal" } else { "DIFFERENT" }.to_owned();
                let table = t.table.to_string();
                grid.row([table, t.recorded.to_string(), "the point's record".into(), String::new()]);
                grid.row([
                    String::new(),
                    t.vault.to_string(),
                    "the vault's rows, read now".into(),
                    says(t.vault == t.recorded),
                ]);
                if let Some(live) = t.live {
                    let of = format!("the rows of {}, read now", t.against);
                    grid.row([String::new(), live.to_string(), of, says(live == t.recorded)]);
                }
            }
            grid.write(out, "")?;
            for t in self.tables.iter().filter(|t| !t.equal && t.differences.is_none()) {
                writeln!(out, " {} is NOT as its point says", t.table)?;
            }
            for t in &self.tables {
                if let Some(differences) = t.differences.as_ref().filter(|d| !d.is_same()) {
                    writeln!(out)?;
                    differences.write_text(out)?;
                }
            }
        }
        let level = match self.level {
            Level::Checksum => "every stored byte, record and key file",
            Level::Compare => "digests of all rows",
            Level::Content => "every row, one by one,",
        };
        writeln!(
            out,
            "{}: {} in {}: {level} of {}; read {} in {} ({}, {})",
            if self.ok { "ok" } else { "NOT OK" },
            self.backup,
            self.vault,
            human::plural(self.points, "point", "points"),
            self.bytes,
            human::plural(self.objects, "object", "objects"),
            human::seconds(self.seconds),
            human::rate(self.bytes, self.seconds),
        )?;
        writeln!(out, "head {}", self.head)
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

impl Report for DiffReport {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.rows.is_empty() {
            let mut grid =
                Grid::new([("row", Left), ("key", Left), ("column", Left), ("left", Left), ("right", Left)]);
            let null = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".into());
            for row in &self.rows {
                let mut head = [kind(row.kind).to_owned(), row.key.clone()];
                if row.columns.is_empty() {
                    grid.row(head.clone());
                }
                for c in &row.columns {
                    let [k, key] = std::mem::take(&mut head);
                    let (left, right) = match row.kind {
                        "only_left" => (null(&c.left), String::new()),
                        "only_right" => (String::new(), null(&c.right)),
                        _ => (null(&c.left), null(&c.right)),
                    };
                    grid.row([k, key, c.column.clone(), left, right]);
                }
            }
            grid.write(out, "")?;
        }
        let listed = self.rows.len() as u64;
        let differing = self.only_left + self.only_right + self.changed;
        if listed < differing {
            writeln!(out, " … and {} more", human::count(differing - listed))?;
        }
        writeln!(
            out,
            "left is {}, right is {}: {} changed, {} only left, {} only right, {} the same",
            self.left,
            self.right,
            human::count(self.changed),
            human::count(self.only_left),
            human::count(self.only_right),
            human::count(self.same)
        )
    }
}

fn kind(kind: &str) -> &str {
    match kind {
        "only_left" => "only left",
        "only_right" => "only right",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepfast_engine::api::{ColumnDifference, RowDifference};

    #[test]
    fn differing_rows_show_each_column_once_and_how_many_more_there_are() {
        let column = |name: &str, left: &str, right: Option<&str>| ColumnDifference {
            column: name.into(),
            left: Some(left.into()),
            right: right.map(Into::into),
        };
        let report = DiffReport {
            left: "b@1".into(),
            right: "t".into(),
            changed: 3,
            same: 7,
            rows: vec![RowDifference {
                kind: "changed",
                key: "id = 1".into(),
                columns: vec![column("a", "x", None), column("b", "1", Some("2"))],
            }],
            ..DiffReport::default()
        };
        let mut out = vec![];
        report.write_text(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2].split_whitespace().collect::<Vec<_>>(),
            ["changed", "id", "=", "1", "a", "x", "NULL"]
        );
        assert_eq!(lines[3].split_whitespace().collect::<Vec<_>>(), ["b", "1", "2"]);
        assert_eq!(lines[4], " … and 2 more");
        assert_eq!(lines[5], "left is b@1, right is t: 3 changed, 0 only left, 0 only right, 7 the same");
    }
}
