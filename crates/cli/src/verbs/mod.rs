//! One file per verb: arguments in, one request to the engine, one report out.

mod backup;
mod compact;
mod completions;
mod diff;
mod drop;
mod explain;
mod export;
mod hold;
mod import;
mod key;
mod key_owner;
mod list;
mod prune;
mod query;
mod restore;
mod show;
pub mod sql;
mod undo;
mod vault;
mod vault_copy;
mod verify;
mod worker;

use crate::app::App;
use crate::args::{SelectionArgs, Verb};
use crate::error::CliError;
use crate::exit::Exit;
use keepfast_model::Selection;

/// Runs one verb; says how it ended.
///
/// # Errors
/// Whatever the verb fails with.
pub async fn run(app: &App, verb: Verb) -> Result<Exit, CliError> {
    match verb {
        Verb::Demo(args) => crate::demo::run(app, args).await,
        Verb::Backup(args) => backup::run(app, args).await,
        Verb::Restore(args) => restore::run(app, args).await,
        Verb::Undo(args) => undo::run(app, args).await,
        Verb::Verify(args) => verify::run(app, args).await,
        Verb::Diff(args) => diff::run(app, args).await,
        Verb::List(args) => list::run(app, args).await,
        Verb::Show(args) => show::run(app, args).await,
        Verb::Query(args) => query::run(app, args).await,
        Verb::Sql(args) => sql::run(app, args).await,
        Verb::Compact(args) => compact::run(app, args).await,
        Verb::Prune(args) => prune::run(app, args).await,
        Verb::Drop(args) => drop::run(app, args).await,
        Verb::Hold(args) => hold::hold(app, args).await,
        Verb::Release(args) => hold::release(app, args).await,
        Verb::Vault(verb) => vault::run(app, verb).await,
        Verb::Key(verb) => key::run(app, verb).await,
        Verb::Import(args) => import::run(app, args).await,
        Verb::Export(args) => export::run(app, args).await,
        Verb::Worker => worker::run(app).await,
        Verb::Explain(args) => explain::run(app, args),
        Verb::Completions(args) => completions::run(args),
    }
}

/// The part of the tables that the arguments choose. The condition is read here, so that a mistake in it is found
/// before anything is opened.
///
/// # Errors
/// [`CliError::Sql`] when the condition is no expression; wrong use when a column has no name.
fn selection(args: SelectionArgs) -> Result<Selection, CliError> {
    if args.columns.iter().flatten().any(|c| c.trim().is_empty()) {
        return Err(CliError::usage("--columns names a column without a name"));
    }
    let filter = args.filter.map(|text| keepfast_sql::parse_expression(&text)).transpose()?.map(|e| e.sql);
    Ok(Selection { columns: args.columns, filter })
}
