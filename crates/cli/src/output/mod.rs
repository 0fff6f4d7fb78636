//! What goes to standard output: short tables for people, or one JSON document.
//!
//! Invariant: with `--json` standard output holds exactly one document; everything else goes to standard error.

pub mod human;
mod listing;
mod points;
mod retention;
pub mod rows;
pub mod statements;
pub mod table;
mod transfers;
mod verification;

pub use transfers::backup_json;

use crate::error::CliError;
use serde::Serialize;
use std::io::{self, BufWriter, Write};

/// A report that people can read.
pub trait Report {
    /// Writes it as text.
    ///
    /// # Errors
    /// Those of the writer.
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Standard output in the form that the user asked for.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// One JSON document instead of tables.
    pub json: bool,
}

impl Output {
    /// Standard output, buffered; flush it.
    pub fn writer(self) -> BufWriter<io::Stdout> {
        BufWriter::with_capacity(1 << 16, io::stdout())
    }

    /// Shows a report whose JSON form is its own.
    ///
    /// # Errors
    /// [`CliError::Stream`] when standard output fails.
    pub fn report<R: Report + Serialize>(self, report: &R) -> Result<(), CliError> {
        self.show(report, report)
    }

    /// Shows a report whose JSON form is another value.
    ///
    /// # Errors
    /// [`CliError::Stream`] when standard output fails.
    pub fn show(self, report: &dyn Report, json: &impl Serialize) -> Result<(), CliError> {
        let mut out = self.writer();
        if self.json {
            write_json(&mut out, json)?;
            out.write_all(b"\n")?;
        } else {
            report.write_text(&mut out)?;
        }
        out.flush()?;
        Ok(())
    }

    /// Shows one line, or a value.
    ///
    /// # Errors
    /// [`CliError::Stream`] when standard output fails.
    pub fn line(self, text: &str, json: &impl Serialize) -> Result<(), CliError> {
        self.show(&Line(text), json)
    }
}

/// Writes one value without a line end.
///
/// # Errors
/// Those of the writer.
pub fn write_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(out, value).map_err(|e| e.into())
}

struct Line<'a>(&'a str);

impl Report for Line<'_> {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.0)
    }
}
