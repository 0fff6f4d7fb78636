//! `keepfast prune`

use crate::app::App;
use crate::args::PruneArgs;
use crate::error::CliError;
use crate::exit::Exit;
use keepfast_engine::api::PruneRequest;
use keepfast_model::{Period, RetentionPolicy};

pub async fn run(app: &App, args: PruneArgs) -> Result<Exit, CliError> {
    let counts = [args.keep_hourly, args.keep_daily, args.keep_weekly, args.keep_monthly, args.keep_yearly];
    let policy = RetentionPolicy {
        last: args.keep_last.unwrap_or(0),
        periods: Period::ALL.into_iter().zip(counts).filter_map(|(p, n)| Some((p, n?))).collect(),
        within: args.keep_within,
    };
    let asked = args.keep_last.is_some() || !policy.periods.is_empty() || policy.within.is_some();
    if asked && policy.keeps_nothing() {
        return Err(CliError::usage(
            "a policy that keeps nothing is refused; `keepfast drop` removes a backup",
        ));
    }
    let request = PruneRequest {
        target: args.name,
        policy: asked.then_some(policy),
        grace: args.grace,
        dry_run: args.dry_run,
    };
    app.out.report(&app.engine().prune(&request).await?)?;
    Ok(Exit::Done)
}
