//! `keepfast query`

use crate::app::App;
use crate::args::QueryArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{rows, statements};
use keepfast_engine::Outcome;
use std::io::Write;
use std::time::Instant;

pub async fn run(app: &App, args: QueryArgs) -> Result<Exit, CliError> {
    let statements = keepfast_sql::parse(&args.sql)?;
    let [statement] = &statements[..] else {
        return Err(CliError::usage(format!(
            "query takes one SELECT, and {} statements were given",
            statements.len()
        )));
    };
    if !matches!(statement.statement, keepfast_sql::Statement::Query(_)) {
        return Err(CliError::Arguments {
            message: "query takes a SELECT, and this is another statement".into(),
            usage: Some("Use `keepfast sql -c` for other statements.".into()),
        });
    }
    let began = Instant::now();
    let cancel = app.interrupt.current();
    let outcome = app.engine().execute(statement).await?;
    let mut out = app.out.writer();
    let result = match outcome {
        Outcome::Rows { schema, batches } if app.out.json => {
            let result = rows::write_object(&mut out, &schema, batches, &cancel).await;
            out.write_all(b"\n")?;
            result.map(|_| Exit::Done)
        }
        outcome => statements::write_text(&mut out, outcome, began, &cancel, false).await,
    };
    out.flush()?;
    result
}
