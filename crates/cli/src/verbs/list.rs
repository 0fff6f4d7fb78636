//! `keepfast list`

use crate::app::App;
use crate::args::ListArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::values::is_vault;

pub async fn run(app: &App, args: ListArgs) -> Result<Exit, CliError> {
    let engine = app.engine();
    match args.name {
        Some(name) if !is_vault(&name) => app.out.report(&engine.points(&name).await?)?,
        vault => app.out.report(&engine.list(vault.as_deref()).await?)?,
    }
    Ok(Exit::Done)
}
