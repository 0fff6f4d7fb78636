//! `keepfast compact`

use crate::app::App;
use crate::args::CompactArgs;
use crate::error::CliError;
use crate::exit::Exit;

pub async fn run(app: &App, args: CompactArgs) -> Result<Exit, CliError> {
    app.out.report(&app.engine().compact(&args.backup).await?)?;
    Ok(Exit::Done)
}
