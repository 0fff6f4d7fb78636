//! Reports of backup and restore, and their plans.

use super::Report;
use super::human;
use super::table::{Grid, Side::Left, Side::Right};
use crate::error::one_line;
use crate::values::shown;
use keepfast_engine::api::{BackupOutcome, BackupPlan, BackupReport, CopyReport, RestorePlan, RestoreReport};
use keepfast_model::{Certificate, Coded, Cut, TableName, WriteMode};
use serde_json::{Value, json};
use std::io::{self, Write};

/// `full`, `incremental`, `synthetic`.
pub fn mode(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Full => "full",
        WriteMode::Incremental => "incremental",
        WriteMode::Synthetic => "synthetic",
    }
}

/// `exact cut at 2026-01-31 10:00:00Z`
pub fn cut(cut: &Cut) -> String {
    format!("{} cut at {}", cut.exactness, human::time(cut.at))
}

/// `source, content 100 %`
pub fn proof(certificate: &Certificate) -> String {
    if certificate.content_percent == 0 {
        format!("{}, count only", certificate.kind)
    } else {
        format!("{}, content {} %", certificate.kind, certificate.content_percent)
    }
}

impl Report for BackupReport {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut grid = Grid::new([
            ("table", Left),
            ("mode", Left),
            ("rows", Right),
            ("segments", Right),
            ("new", Right),
            ("bytes", Right),
            ("new bytes", Right),
            ("proof", Left),
        ]);
        for t in &self.tables {
            grid.row([
                t.table.to_string(),
                mode(t.mode).into(),
                human::count(t.rows),
                human::count(t.segments.into()),
                human::count(t.segments_new.into()),
                t.bytes.to_string(),
                t.bytes_new.to_string(),
                proof(&t.certificate),
            ]);
        }
        grid.write(out, "")?;
        for t in self.tables.iter().filter(|t| !t.why.is_empty()) {
            writeln!(out, " {} is {}: {}", t.table, mode(t.mode), t.why)?;
        }
        writeln!(
            out,
            "restore point {} in {}, {}, made in {}",
            self.point,
            self.vault,
            cut(&self.cut),
            human::seconds(self.seconds)
        )
    }
}

impl Report for BackupOutcome {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for (i, report) in self.reports.iter().enumerate() {
            if i > 0 {
                writeln!(out)?;
            }
            report.write_text(out)?;
        }
        for (i, copy) in self.copies.iter().enumerate() {
            if i > 0 || !self.reports.is_empty() {
                writeln!(out)?;
            }
            copy.write_text(out)?;
        }
        Ok(())
    }
}

impl Report for CopyReport {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut grid = Grid::new([
            ("table", Left),
            ("rows", Right),
            ("digest", Left),
            ("proof of the source", Left),
            ("replaced table kept as", Left),
        ]);
        for t in &self.tables {
            grid.row([
                t.table.to_string(),
                human::count(t.rows),
                t.digest.to_string(),
                proof(&t.certificate),
                t.replaced.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            ]);
        }
        grid.write(out, "")?;
        writeln!(
            out,
            "copied into {}, {}, read back and equal, in {}",
            self.store,
            cut(&self.cut),
            human::seconds(self.seconds)
        )
    }
}

/// The document of a backup: its report where it had one target, else `backups`, `failed`, and `copies` where a target is a store.
pub fn backup_json(outcome: &BackupOutcome) -> Value {
    match (&outcome.reports[..], &outcome.copies[..], &outcome.failed[..]) {
        ([report], [], []) => return json!(report),
        ([], [copy], []) => return json!(copy),
        _ => {}
    }
    let failed: Vec<Value> = outcome
        .failed
        .iter()
        .map(|(target, e)| {
            let error = crate::exit::error_json(e.code(), &one_line(e), &e.next_step());
            json!({"target": shown(target), "error": error["error"]})
        })
        .collect();
    let mut document = json!({"backups": outcome.reports, "failed": failed, "required": outcome.required, "ok": outcome.holds()});
    if !outcome.copies.is_empty() {
        document["copies"] = json!(outcome.copies);
    }
    document
}

impl Report for BackupPlan {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut grid = Grid::new([
            ("table", Left),
            ("mode", Left),
            ("rows", Right),
            ("partitions", Right),
            ("rows a segment", Right),
            ("reads", Right),
            ("writes", Right),
            ("why", Left),
        ]);
        for t in &self.tables {
            grid.row([
                t.table.to_string(),
                mode(t.mode).into(),
                human::count(t.rows),
                human::count(t.partitions.into()),
                human::count(t.segment_rows.into()),
                t.bytes_read.to_string(),
                t.bytes_written.to_string(),
                t.why.clone(),
            ]);
        }
        grid.write(out, "")?;
        writeln!(
            out,
            "plan for {}: {}, reads {}, writes {}, about {}; nothing was done",
            self.targets.join(", "),
            human::plural(self.tasks.into(), "task", "tasks"),
            self.bytes_read,
            self.bytes_written,
            human::seconds(self.seconds)
        )
    }
}

/// Columns that a restore fills with NULL.
fn write_shredded(out: &mut dyn Write, columns: &[String], is: &str, table: &TableName) -> io::Result<()> {
    columns.iter().try_for_each(|column| {
        writeln!(out, "{} {is} NULL in all rows of {table}: its key was dropped", human::safe(column))
    })
}

impl Report for RestoreReport {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut grid =
            Grid::new([("table", Left), ("rows", Right), ("digest", Left), ("replaced table kept as", Left)]);
        for t in &self.tables {
            grid.row([
                t.table.to_string(),
                human::count(t.rows),
                t.digest.to_string(),
                t.replaced.as_ref().map_or_else(|| "-".into(), ToString::to_string),
            ]);
        }
        grid.write(out, "")?;
        for t in &self.tables {
            for missing in &t.missing {
                writeln!(out, "NOT restored of {}: {}", t.table, human::safe(missing))?;
            }
            write_shredded(out, &t.shredded, "is", &t.table)?;
        }
        writeln!(
            out,
            "restored {} in {}, {} of it verification before publication",
            self.point,
            human::seconds(self.seconds),
            human::seconds(self.verify_seconds)
        )?;
        writeln!(
            out,
            "restore id {} (`keepfast undo {}` puts back what was there)",
            self.restore, self.restore
        )
    }
}

impl Report for RestorePlan {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut grid = Grid::new([
            ("table", Left),
            ("to", Left),
            ("rows", Right),
            ("segments", Right),
            ("reads", Right),
            ("existing table", Left),
        ]);
        for t in &self.tables {
            grid.row([
                t.from.to_string(),
                t.to.to_string(),
                human::count(t.rows),
                human::count(t.segments.into()),
                t.bytes.to_string(),
                t.existing.clone().unwrap_or_else(|| "none".into()),
            ]);
        }
        grid.write(out, "")?;
        for t in &self.tables {
            write_shredded(out, &t.shredded, "will be", &t.to)?;
        }
        writeln!(
            out,
            "plan for {}: reads {}, about {}; nothing was done",
            self.point,
            self.bytes_read,
            human::seconds(self.seconds)
        )
    }
}
