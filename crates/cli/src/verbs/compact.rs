//! `keepfast compact`

use crate::app::App;
use crate::args::CompactArgs;
use crate::error::CliError;
use crate::exit::Exit;

pub async fn run(app: &App, args: CompactArgs) -> Result<Exit, CliError> {
    let engine = app.engine_with(args.workers, app.interrupt.current());
    app.out.report(&engine.compact(&args.backup).await?)?;
    Ok(Exit::Done)
}
