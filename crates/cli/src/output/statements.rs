//! What a statement gave, in either form.

use super::rows::{self, footer};
use super::transfers::backup_json;
use super::{Report, human, write_json};
use crate::error::CliError;
use crate::exit::{Exit, exit_of};
use crate::values::shown;
use keepfast_engine::api::{BackupOutcome, RestoreReport, RestoreTableReport, VerifyReport};
use keepfast_engine::{Cancel, EngineError, Outcome};
use serde::Serialize;
use std::io::Write;
use std::time::Instant;

/// Writes an outcome for people; says how the statement ended. `timing` says how long it took, where the outcome does
/// not say it itself.
///
/// # Errors
/// Those of rows that come while they are written, and of a backup that failed in a target.
pub async fn write_text(
    out: &mut (dyn Write + Send),
    outcome: Outcome,
    began: Instant,
    cancel: &Cancel,
    timing: bool,
) -> Result<Exit, CliError> {
    let seconds = || began.elapsed().as_secs_f64();
    match outcome {
        Outcome::Rows { schema, batches } => {
            let n = rows::write_table(out, &schema, batches, cancel).await?;
            writeln!(out, "{}", footer(n, seconds()))?;
        }
        Outcome::Changed { verb, rows } => {
            writeln!(out, "{} {verb} in {}", human::rows(rows), human::seconds(seconds()))?;
        }
        Outcome::Done(what) if timing => writeln!(out, "{what} in {}", human::seconds(seconds()))?,
        Outcome::Done(what) => writeln!(out, "{what}")?,
        Outcome::Backup(outcome) => {
            outcome.write_text(out)?;
            return targets_exit(outcome, false);
        }
        Outcome::BackupPlan(plan) => plan.write_text(out)?,
        Outcome::Restore(report) => report.write_text(out)?,
        Outcome::RestorePlan(plan) => plan.write_text(out)?,
        Outcome::Verify(report) => {
            report.write_text(out)?;
            return Ok(verify_exit(&report));
        }
        Outcome::Backups(list) => list.write_text(out)?,
        Outcome::Points(list) => list.write_text(out)?,
        Outcome::Point(report) => report.write_text(out)?,
    }
    Ok(Exit::Done)
}

/// Writes `{"statement":n,"kind":…,"result":…}` without a line end; says how the statement ended.
///
/// # Errors
/// As [`write_text`]. What was written then is still one whole object.
pub async fn write_object(
    out: &mut (dyn Write + Send),
    number: usize,
    outcome: Outcome,
    cancel: &Cancel,
) -> Result<Exit, CliError> {
    fn result(out: &mut dyn Write, value: &impl Serialize) -> Result<Exit, CliError> {
        write_json(out, value)?;
        Ok(Exit::Done)
    }
    let kind = match &outcome {
        Outcome::Rows { .. } => "rows",
        Outcome::Changed { .. } => "changed",
        Outcome::Done(_) => "done",
        Outcome::Backup(_) => "backup",
        Outcome::BackupPlan(_) => "backup_plan",
        Outcome::Restore(_) => "restore",
        Outcome::RestorePlan(_) => "restore_plan",
        Outcome::Verify(_) => "verify",
        Outcome::Backups(_) => "backups",
        Outcome::Points(_) => "points",
        Outcome::Point(_) => "point",
    };
    write!(out, "{{\"statement\":{number},\"kind\":\"{kind}\",\"result\":")?;
    let ended = match outcome {
        Outcome::Rows { schema, batches } => {
            rows::write_object(out, &schema, batches, cancel).await.map(|_| Exit::Done)
        }
        Outcome::Changed { verb, rows } => result(out, &serde_json::json!({"verb": verb, "rows": rows})),
        Outcome::Done(message) => result(out, &serde_json::json!({"message": message})),
        Outcome::Backup(outcome) => {
            write_json(out, &backup_json(&outcome))?;
            targets_exit(outcome, true)
        }
        Outcome::BackupPlan(plan) => result(out, &plan),
        Outcome::Restore(report) => result(out, &report),
        Outcome::RestorePlan(plan) => result(out, &plan),
        Outcome::Verify(report) => {
            write_json(out, &report)?;
            Ok(verify_exit(&report))
        }
        Outcome::Backups(list) => result(out, &list),
        Outcome::Points(list) => result(out, &list),
        Outcome::Point(report) => result(out, &report),
    };
    out.write_all(b"}")?;
    ended
}

/// How a backup over several targets ended. The errors of all but the last failed target go to standard error here;
/// so does the last one where enough targets stand all the same.
///
/// # Errors
/// The only target's error; with several, which of them stand and why the last one failed.
pub fn targets_exit(mut outcome: BackupOutcome, json: bool) -> Result<Exit, CliError> {
    let holds = outcome.holds();
    let stand = outcome.reports.len() + outcome.copies.len();
    let (required, standing) = (outcome.required, outcome.standing());
    let of = stand + outcome.failed.len();
    let last = if holds { None } else { outcome.failed.pop() };
    for (_, error) in outcome.failed {
        crate::exit::print_error(&CliError::from(error), json);
    }
    match last {
        None => Ok(Exit::Done),
        Some((_, error)) if of == 1 => Err(error.into()),
        Some((target, error)) => Err(EngineError::TooFewTargets {
            stand,
            of,
            required,
            standing,
            target: shown(&target),
            source: Box::new(error),
        }
        .into()),
    }
}

/// How a verification ended.
pub fn verify_exit(report: &VerifyReport) -> Exit {
    if report.ok { Exit::Done } else { Exit::Found }
}

/// How a restore ended: rows and columns that were left out are damage that was found.
pub fn restore_exit(report: &RestoreReport) -> Exit {
    let whole = |t: &RestoreTableReport| t.missing.is_empty() && t.shredded.is_empty();
    if report.tables.iter().all(whole) { Exit::Done } else { Exit::Found }
}

/// The exit code of an error that came while statements ran: wrong use is found before, so it is a failure here.
pub fn running_exit(error: &CliError) -> Exit {
    match exit_of(error) {
        Exit::Usage => Exit::Failed,
        other => other,
    }
}
