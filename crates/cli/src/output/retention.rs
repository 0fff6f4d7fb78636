//! Reports of prune and hold.

use super::Report;
use super::human;
use super::table::{Grid, Side::Left};
use keepfast_engine::api::{Amount, HoldReport, PruneReport};
use std::io::{self, Write};

impl Report for PruneReport {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.kept.is_empty() || !self.removed.is_empty() {
            let mut points: Vec<_> = self
                .kept
                .iter()
                .map(|k| {
                    let why: Vec<String> = k.reasons.iter().map(ToString::to_string).collect();
                    (&k.point, k.cut, "stays", why.join(", "))
                })
                .chain(self.removed.iter().map(|r| (&r.point, r.cut, "goes", String::new())))
                .collect();
            points.sort_by_key(|(point, ..)| point.seq);
            let mut grid = Grid::new([("point", Left), ("cut", Left), ("verdict", Left), ("why", Left)]);
            for (point, cut, verdict, why) in points {
                grid.row([point.to_string(), human::time(cut), verdict.to_owned(), why]);
            }
            grid.write(out, "")?;
        }
        let would = if self.dry_run { "would be " } else { "" };
        writeln!(
            out,
            "{} {would}condemned: {} that only removed points need, {} that dead runs left",
            amount(Amount {
                objects: self.unneeded.objects + self.orphans.objects,
                bytes: self.unneeded.bytes + self.orphans.bytes,
            }),
            human::count(self.unneeded.objects),
            human::count(self.orphans.objects),
        )?;
        if let Some(after) = self.delete_after {
            writeln!(
                out,
                "their space comes back with the first `keepfast prune` after {}",
                human::time(after)
            )?;
        }
        if self.deleted.objects > 0 {
            writeln!(out, "{} of earlier removals {would}deleted", amount(self.deleted))?;
        }
        if self.waiting.objects > 0 {
            writeln!(out, "{} of earlier removals wait for their time", amount(self.waiting))?;
        }
        if self.dry_run {
            writeln!(out, "nothing was done")?;
        }
        Ok(())
    }
}

fn amount(amount: Amount) -> String {
    format!("{} ({})", human::plural(amount.objects, "object", "objects"), amount.bytes)
}

impl Report for HoldReport {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let what =
            self.point.map_or_else(|| format!("all of {}", self.backup), |p| format!("{}@{p}", self.backup));
        let until =
            self.until.map_or_else(|| "until it is released".into(), |t| format!("until {}", human::time(t)));
        writeln!(out, "hold {} keeps {what} {until}", self.id)?;
        writeln!(out, "`keepfast release {}` ends it", self.id)
    }
}
