//! `keepfast verify`

use crate::app::App;
use crate::args::{LevelArg, VerifyArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::statements::verify_exit;
use crate::values::PointSelector;
use keepfast_engine::api::VerifyRequest;

pub async fn run(app: &App, args: VerifyArgs) -> Result<Exit, CliError> {
    // A table to compare with asks for a comparison.
    let level =
        args.level.unwrap_or(if args.against.is_some() { LevelArg::Compare } else { LevelArg::Checksum });
    if matches!(level, LevelArg::Checksum) && args.against.is_some() {
        return Err(CliError::usage("--against compares rows; use it with --level compare or content"));
    }
    if !matches!(level, LevelArg::Checksum) && args.repair {
        return Err(CliError::usage("--repair heals stored bytes; use it with --level checksum"));
    }
    let request = VerifyRequest {
        as_of: PointSelector::of(args.point.as_ref(), &args.backup)?,
        backup: args.backup,
        level: level.into(),
        against: args.against,
        expect: args.expect,
        repair: args.repair,
        repair_from: args.repair_from,
        accept_head: args.accept_head,
        limit: args.limit,
    };
    let report = app.engine().verify(&request).await?;
    app.out.report(&report)?;
    Ok(verify_exit(&report))
}
