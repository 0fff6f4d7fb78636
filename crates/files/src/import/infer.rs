//! The schema that the values of CSV and JSON lines files show together.

use super::{Found, Input, csv, json, new_schema};
use crate::error::{FilesError, Place, shown};
use crate::infer::Evidence;
use crate::options::{Format, ImportOptions};
use keepfast_model::TableSchema;
use std::collections::HashMap;
use std::path::Path;

/// Reads all files once.
pub(super) fn schema_of(inputs: &[Input], options: &ImportOptions) -> Result<TableSchema, FilesError> {
    // A member of JSON lines may be missing, a column of CSV may not.
    let strict = inputs.iter().any(|i| i.format == Format::Csv);
    let mut found: Vec<(String, Evidence)> = vec![];
    for input in inputs {
        let next = match input.format {
            Format::Csv => csv::observe(&input.path, options)?,
            Format::JsonLines => json::observe(&input.path)?,
            Format::Parquet => continue,
        };
        if found.is_empty() {
            found = next;
        } else if !next.is_empty() {
            merge(&mut found, next, input, strict, &inputs[0].path)?;
        }
    }
    let found = found
        .into_iter()
        .map(|(name, evidence)| Found {
            name,
            column_type: evidence.decide(),
            nullable: evidence.nullable(),
            null: evidence.null().cloned(),
        })
        .collect();
    new_schema(found, &options.key, &inputs[0].path)
}

/// Adds the evidence of a further file. When `strict`, its columns must be those found before.
fn merge(
    found: &mut Vec<(String, Evidence)>,
    next: Vec<(String, Evidence)>,
    input: &Input,
    strict: bool,
    first: &Path,
) -> Result<(), FilesError> {
    let disagree = |name: &str, reason: &str| FilesError::Disagree {
        path: input.path.clone(),
        other: first.to_owned(),
        column: shown(name),
        reason: reason.into(),
    };
    let positions: HashMap<String, usize> =
        found.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
    let mut seen = vec![false; found.len()];
    for (name, evidence) in next {
        match positions.get(&name) {
            // Twice in the header of one file.
            Some(at) if seen[*at] => {
                return Err(FilesError::Columns {
                    place: Place::file(&input.path),
                    column: shown(&name),
                    reason: "stands twice",
                });
            }
            Some(at) => {
                seen[*at] = true;
                found[*at].1.merge(evidence);
            }
            None if strict => return Err(disagree(&name, "is new")),
            None => {
                let mut evidence = evidence;
                evidence.see_null(|| Place::file(first));
                found.push((name, evidence));
            }
        }
    }
    for (at, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
        if strict {
            return Err(disagree(&found[at].0, "is missing"));
        }
        found[at].1.see_null(|| Place::file(&input.path));
    }
    Ok(())
}
