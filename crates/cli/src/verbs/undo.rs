//! `keepfast undo`

use crate::app::App;
use crate::args::UndoArgs;
use crate::error::CliError;
use crate::exit::Exit;
use serde_json::json;

pub async fn run(app: &App, args: UndoArgs) -> Result<Exit, CliError> {
    let tables: Vec<String> =
        app.engine().undo(&args.restore).await?.iter().map(ToString::to_string).collect();
    let line = format!("undone {}: as before it are {}", args.restore, tables.join(", "));
    app.out.line(&line, &json!({"restore": args.restore, "tables": tables}))?;
    Ok(Exit::Done)
}
