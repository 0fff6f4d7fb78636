//! JSON lines as rows of a table.

use super::batch::Growing;
use super::{MOST_COLUMNS, Source, Target};
use crate::error::{FilesError, Place, shown};
use crate::infer::Evidence;
use crate::input::{Progress, Text};
use crate::json::{self, JsonError};
use crate::lines::{Line, Lines};
use arrow::array::RecordBatch;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The rows of one file of JSON lines.
#[derive(Debug)]
pub(super) struct JsonRows {
    path: PathBuf,
    lines: Lines,
    rows: Growing,
    target: Arc<Target>,
    names: Names,
    /// The last line in which each column stood.
    seen: Vec<u64>,
}

impl JsonRows {
    pub(super) fn open(path: &Path, target: Arc<Target>, progress: &Progress) -> Result<Self, FilesError> {
        let names = Names::default();
        let seen = vec![0; target.schema.columns.len()];
        let lines = Lines::new(path, Text::open(path, progress)?);
        Ok(Self { path: path.to_owned(), lines, rows: Growing::new(target.clone()), target, names, seen })
    }
}

impl Source for JsonRows {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, FilesError> {
        while let Some(line) = self.lines.next()? {
            let place = || Place::line(&self.path, line.number);
            let refuse =
                |name: &str, reason| FilesError::Columns { place: place(), column: shown(name), reason };
            self.names.restart();
            json::members(line.text, |name, value| {
                let at = match self.names.position(&name) {
                    Some(at) => at,
                    None => {
                        let at = self.target.schema.position(&name);
                        let at = at.ok_or_else(|| refuse(&name, "is not one of the table"))?;
                        self.names.insert(name.clone().into_owned(), at);
                        at
                    }
                };
                if std::mem::replace(&mut self.seen[at], line.number) == line.number {
                    return Err(refuse(&name, "stands twice").into());
                }
                Ok::<_, Stop>(self.rows.push_json(at, &value, place)?)
            })
            .map_err(|stop| stop.at(&self.path, &line))?;
            for (at, seen) in self.seen.iter().enumerate() {
                if *seen != line.number {
                    self.rows.push_null(at, place)?;
                }
            }
            if self.rows.end_row(line.text.len()) {
                break;
            }
        }
        self.rows.finish(&self.path)
    }
}

/// What stops the reading of a line.
enum Stop {
    Json(JsonError),
    Files(Box<FilesError>),
}

impl From<JsonError> for Stop {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl From<FilesError> for Stop {
    fn from(error: FilesError) -> Self {
        Self::Files(Box::new(error))
    }
}

impl Stop {
    fn at(self, path: &Path, line: &Line<'_>) -> FilesError {
        match self {
            Self::Files(error) => *error,
            Self::Json(error) => {
                let array = line.text.trim_start().starts_with('[');
                let hint =
                    if array { "; write one object a line, without the array around them" } else { "" };
                FilesError::Malformed {
                    place: Place::line(path, line.number),
                    reason: format!("{}{hint}", error.in_text(line.text)),
                }
            }
        }
    }
}

/// Positions of columns by name. Members mostly come in one order, so that the next one is tried first.
#[derive(Debug, Default)]
struct Names {
    order: Vec<(String, usize)>,
    next: usize,
    by_name: HashMap<String, usize>,
}

impl Names {
    fn restart(&mut self) {
        self.next = 0;
    }

    fn position(&mut self, name: &str) -> Option<usize> {
        if let Some((expected, at)) = self.order.get(self.next)
            && expected == name
        {
            self.next += 1;
            return Some(*at);
        }
        let place = *self.by_name.get(name)?;
        self.next = place + 1;
        Some(self.order[place].1)
    }

    fn insert(&mut self, name: String, at: usize) {
        self.by_name.insert(name.clone(), self.order.len());
        self.order.push((name, at));
        self.next = self.order.len();
    }
}

/// What all values of a file show of its columns, in the order of their first appearance.
pub(super) fn observe(path: &Path) -> Result<Vec<(String, Evidence)>, FilesError> {
    let mut lines = Lines::new(path, Text::open(path, &Progress::default())?);
    let mut names = Names::default();
    let mut found: Vec<(String, Evidence)> = vec![];
    let mut seen: Vec<u64> = vec![];
    let mut first = None;
    while let Some(line) = lines.next()? {
        let place = || Place::line(path, line.number);
        names.restart();
        let mut count = 0;
        json::members(line.text, |name, value| {
            let at = match names.position(&name) {
                Some(at) => at,
                None => {
                    let at = found.len();
                    if at == MOST_COLUMNS {
                        let reason =
                            format!("member '{}' is the {}th of them", shown(&name), MOST_COLUMNS + 1);
                        return Err(FilesError::Malformed { place: place(), reason }.into());
                    }
                    let mut evidence = Evidence::default();
                    // The lines before lack it.
                    if let Some(first) = first {
                        evidence.see_null(|| Place::line(path, first));
                    }
                    names.insert(name.clone().into_owned(), at);
                    found.push((name.clone().into_owned(), evidence));
                    seen.push(0);
                    at
                }
            };
            if std::mem::replace(&mut seen[at], line.number) == line.number {
                let error =
                    FilesError::Columns { place: place(), column: shown(&name), reason: "stands twice" };
                return Err(error.into());
            }
            count += 1;
            found[at].1.see_json(&value, &place);
            Ok::<_, Stop>(())
        })
        .map_err(|stop| stop.at(path, &line))?;
        if count < found.len() {
            for ((_, evidence), seen) in found.iter_mut().zip(&seen) {
                if *seen != line.number {
                    evidence.see_null(place);
                }
            }
        }
        first = first.or(Some(line.number));
    }
    Ok(found)
}
