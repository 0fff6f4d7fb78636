//! `keepfast import`

use crate::app::App;
use crate::args::ImportArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::human;
use keepfast_files::ImportOptions;
use serde_json::json;
use std::time::Instant;

pub async fn run(app: &App, args: ImportArgs) -> Result<Exit, CliError> {
    let mut options = ImportOptions {
        format: args.file.format,
        header: !args.file.no_header,
        delimiter: args.file.delimiter,
        key: args.key,
        ..ImportOptions::default()
    };
    options.null.extend(args.null);
    let began = Instant::now();
    let rows = app.engine().import(&args.files, &args.into, &options).await?;
    let seconds = began.elapsed().as_secs_f64();
    let line = format!("imported {} into {} in {}", human::rows(rows), args.into, human::seconds(seconds));
    app.out.line(&line, &json!({"table": args.into.to_string(), "rows": rows, "seconds": seconds}))?;
    Ok(Exit::Done)
}
