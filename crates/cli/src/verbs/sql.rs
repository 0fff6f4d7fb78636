//! `keepfast sql`: statements from an argument, a file, standard input, or an interactive shell.
//!
//! All statements are read before the first one runs: a script with a mistake in it does nothing.

use crate::app::App;
use crate::args::{SqlArgs, WorkersArg};
use crate::error::CliError;
use crate::exit::{Exit, print_error};
use crate::output::statements;
use keepfast_engine::Engine;
use std::io::{IsTerminal, Read, Write};
use std::time::Instant;

pub async fn run(app: &App, args: SqlArgs) -> Result<Exit, CliError> {
    let text = match (args.command, args.file) {
        (Some(text), _) => text,
        (None, Some(path)) => std::fs::read_to_string(&path).map_err(|e| CliError::file("read", &path, e))?,
        (None, None) if args.interactive || std::io::stdin().is_terminal() => {
            return crate::shell::run(app).await;
        }
        (None, None) => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|source| CliError::Stream { what: "read statements from standard input", source })?;
            text
        }
    };
    let parsed = keepfast_sql::parse(&text)?;
    let engine = app.engine_with(WorkersArg::Threads, app.interrupt.current());
    if app.out.json {
        all_as_json(app, &engine, &parsed).await
    } else {
        all_as_text(app, &engine, &parsed).await
    }
}

/// An error while statements ran is a failure, whatever it says: something may have been done before it.
fn failed(app: &App, error: &CliError) -> Exit {
    print_error(error, app.out.json);
    statements::running_exit(error)
}

async fn all_as_text(app: &App, engine: &Engine, parsed: &[keepfast_sql::Located]) -> Result<Exit, CliError> {
    let mut out = app.out.writer();
    let cancel = app.interrupt.current();
    for statement in parsed {
        let began = Instant::now();
        let ended = match engine.execute(statement).await {
            Ok(outcome) => statements::write_text(&mut out, outcome, began, &cancel, false).await,
            Err(e) => Err(e.into()),
        };
        out.flush()?;
        match ended {
            Ok(Exit::Done) => {}
            Ok(other) => return Ok(other),
            Err(e) => return Ok(failed(app, &e)),
        }
    }
    Ok(Exit::Done)
}

async fn all_as_json(app: &App, engine: &Engine, parsed: &[keepfast_sql::Located]) -> Result<Exit, CliError> {
    let mut out = app.out.writer();
    let cancel = app.interrupt.current();
    let mut exit = Exit::Done;
    out.write_all(b"{\"results\":[")?;
    for (i, statement) in parsed.iter().enumerate() {
        let ended = match engine.execute(statement).await {
            Ok(outcome) => {
                if i > 0 {
                    out.write_all(b",")?;
                }
                statements::write_object(&mut out, i + 1, outcome, &cancel).await
            }
            Err(e) => Err(e.into()),
        };
        match ended {
            Ok(Exit::Done) => continue,
            Ok(other) => exit = other,
            Err(e) => exit = failed(app, &e),
        }
        break;
    }
    out.write_all(b"]}\n")?;
    out.flush()?;
    Ok(exit)
}
