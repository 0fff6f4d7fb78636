//! `keepfast export`

use crate::app::App;
use crate::args::ExportArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::human;
use keepfast_files::ExportOptions;
use serde_json::json;
use std::time::Instant;

pub async fn run(app: &App, args: ExportArgs) -> Result<Exit, CliError> {
    let options = ExportOptions {
        format: args.file.format,
        overwrite: args.overwrite,
        header: !args.file.no_header,
        delimiter: args.file.delimiter,
        null: args.null,
    };
    let began = Instant::now();
    let rows = app.engine().export(&args.table, &args.to, &options).await?;
    let seconds = began.elapsed().as_secs_f64();
    let file = args.to.display().to_string();
    let line =
        format!("exported {} of {} to {file} in {}", human::rows(rows), args.table, human::seconds(seconds));
    app.out.line(
        &line,
        &json!({"table": args.table.to_string(), "file": file, "rows": rows, "seconds": seconds}),
    )?;
    Ok(Exit::Done)
}
