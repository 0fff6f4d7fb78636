//! `keepfast worker`: one task from standard input, its result on standard output.

use crate::app::App;
use crate::error::CliError;
use crate::exit::Exit;
use std::io::{Read, Write};

pub async fn run(app: &App) -> Result<Exit, CliError> {
    let mut task = String::new();
    std::io::stdin()
        .read_to_string(&mut task)
        .map_err(|source| CliError::Stream { what: "read the task from standard input", source })?;
    let result = app.engine().run_task(&task).await?;
    let mut out = app.out.writer();
    writeln!(out, "{result}")?;
    out.flush()?;
    Ok(Exit::Done)
}
