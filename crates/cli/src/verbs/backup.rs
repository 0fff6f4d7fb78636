//! `keepfast backup`

use crate::app::App;
use crate::args::BackupArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{backup_json, statements::targets_exit};
use crate::values::RetainFor;
use keepfast_engine::api::{BackupRequest, TableSet};

pub async fn run(app: &App, args: BackupArgs) -> Result<Exit, CliError> {
    let config = app.config.backup;
    let retain = match (args.retain_for, args.retain_mode) {
        (None, None) => None,
        (time, mode) => {
            let time = time.or(config.retain_for.map(RetainFor)).ok_or_else(|| {
                CliError::usage("--retain-mode says how firmly to lock; --retain-for says how long")
            })?;
            Some(time.with(mode.unwrap_or(config.retain_mode)))
        }
    };
    let request = BackupRequest {
        tables: args.database.map_or(TableSet::Tables(args.tables), TableSet::Database),
        to: args.to,
        selection: super::selection(args.selection)?,
        mode: args.mode.into(),
        certify: args.certify.into(),
        encrypt: args.encrypt,
        segment_rows: args.segment_rows,
        parity: args.parity,
        require: args.require,
        retain,
    };
    let engine = app.engine_with(args.workers, app.interrupt.current());
    if args.dry_run {
        app.out.report(&engine.plan_backup(&request).await?)?;
        return Ok(Exit::Done);
    }
    let outcome = engine.backup(&request).await?;
    if !(outcome.reports.is_empty() && outcome.copies.is_empty()) || outcome.failed.len() > 1 {
        app.out.show(&outcome, &backup_json(&outcome))?;
    }
    targets_exit(outcome, app.out.json)
}
