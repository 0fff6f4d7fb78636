//! `keepfast restore`

use crate::app::App;
use crate::args::RestoreArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::statements::restore_exit;
use crate::values::PointSelector;
use keepfast_engine::api::{RestoreRequest, TableSet};
use keepfast_model::TableName;

pub async fn run(app: &App, args: RestoreArgs) -> Result<Exit, CliError> {
    let as_of = PointSelector::of(args.as_of.as_ref(), &args.from)?;
    let (mut into, mut rename) = (None, vec![None; args.tables.len()]);
    match args.into {
        Some(url) if url.contains("://") => into = Some(url),
        Some(name) => match &mut rename[..] {
            [one] => *one = Some(name.parse::<TableName>()?),
            _ => {
                return Err(CliError::usage(
                    "--into gives another name to one table; several tables are restored into a store by its URL",
                ));
            }
        },
        None => {}
    }
    let request = RestoreRequest {
        tables: match args.database {
            _ if args.all => TableSet::All,
            Some(database) => TableSet::Database(database),
            None => TableSet::Tables(args.tables),
        },
        rename,
        as_of,
        from: args.from,
        into,
        selection: super::selection(args.selection)?,
        if_exists: args.if_exists.into(),
        shard_rule: args.shard_rule,
        segment_rows: args.segment_rows,
        skip_damaged: args.skip_damaged,
        skip_shredded: args.skip_shredded,
    };
    let engine = app.engine_with(args.workers, app.interrupt.current());
    if args.dry_run {
        app.out.report(&engine.plan_restore(&request).await?)?;
    } else {
        let report = engine.restore(&request).await?;
        app.out.report(&report)?;
        return Ok(restore_exit(&report));
    }
    Ok(Exit::Done)
}
