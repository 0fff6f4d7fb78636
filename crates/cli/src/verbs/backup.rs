//! `keepfast backup`

use crate::app::App;
use crate::args::BackupArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{backup_json, statements::targets_exit};
use keepfast_engine::api::{BackupRequest, RetainTerms, TableSet, Until};

pub async fn run(app: &App, args: BackupArgs) -> Result<Exit, CliError> {
    let request = BackupRequest {
        tables: args.database.map_or(TableSet::Tables(args.tables), TableSet::Database),
        to: args.to,
        selection: super::selection(args.selection)?,
        mode: args.mode.into(),
        until: args.until.map(Until::Time).or(args.before_transaction.map(Until::Before)),
        certify: args.certify.into(),
        encrypt: args.encrypt,
        segment_rows: args.segment_rows,
        parity: args.parity,
        require: args.require,
        retain: RetainTerms { time: args.retain_for.map(|time| time.0), mode: args.retain_mode },
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
