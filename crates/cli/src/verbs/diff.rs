//! `keepfast diff`

use crate::app::App;
use crate::args::DiffArgs;
use crate::error::CliError;
use crate::exit::Exit;
use keepfast_engine::api::DiffRequest;

pub async fn run(app: &App, args: DiffArgs) -> Result<Exit, CliError> {
    let request = DiffRequest { left: args.left, right: args.right, table: args.table, limit: args.limit };
    let report = app.engine().diff(&request).await?;
    app.out.report(&report)?;
    Ok(if report.is_same() { Exit::Done } else { Exit::Found })
}
