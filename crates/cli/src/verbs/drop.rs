//! `keepfast drop`

use crate::app::App;
use crate::args::DropArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::human;
use serde_json::json;

pub async fn run(app: &App, args: DropArgs) -> Result<Exit, CliError> {
    let (name, points) = app.engine().drop_backup(&args.backup).await?;
    let line = format!("dropped {name} with {}", human::plural(points, "restore point", "restore points"));
    app.out.line(&line, &json!({"dropped": name, "points": points}))?;
    Ok(Exit::Done)
}
