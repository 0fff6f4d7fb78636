//! The command line of Keepfast.
//!
//! Arguments are read and checked first ([`args`], [`config`]); then one verb runs ([`verbs`]) with an engine over the
//! stores that this program links ([`stores`]). Results go to standard output ([`output`]), everything else to
//! standard error, and the exit code says how it ended ([`exit`]).

mod app;
mod args;
mod credentials;
mod demo;
mod error;
mod exit;
mod interrupt;
mod logging;
mod output;
mod progress;
mod shell;
mod stores;
mod values;
mod verbs;

use app::App;
use args::Cli;
use clap::Parser;
use clap::error::ErrorKind;
use error::CliError;
use exit::{Exit, exit_of, install_panic_hook, print_error};
use keepfast_keys::Credentials;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return arguments(&e).into(),
    };
    let json = cli.global.json;
    install_panic_hook(json);
    logging::start(cli.global.verbose);
    match run(cli).or_else(|e| if e.wants_passphrase() { ask_and_run_again(e) } else { Err(e) }) {
        Ok(exit) => exit.into(),
        Err(e) => {
            print_error(&e, json);
            exit_of(&e).into()
        }
    }
}

/// Stack of the threads that work: plans of deep queries are walked in it.
const STACK: usize = 32 << 20;

fn run(cli: Cli) -> Result<Exit, CliError> {
    let credentials = credentials::given(&cli.global)?;
    run_with(cli, credentials)
}

/// Runs the same command with a passphrase from the terminal, where there is somebody to ask and none was given.
fn ask_and_run_again(error: CliError) -> Result<Exit, CliError> {
    let Ok(cli) = Cli::try_parse() else { return Err(error) };
    if !credentials::can_ask() || !credentials::given(&cli.global)?.is_empty() {
        return Err(error);
    }
    let passphrase = credentials::ask(error.locked_thing(), error.wants_new_passphrase())?;
    run_with(cli, Credentials::none().with_passphrase(passphrase))
}

fn run_with(cli: Cli, credentials: Credentials) -> Result<Exit, CliError> {
    let threads = app::threads(&cli.global);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .map_err(|source| CliError::Threads { threads, source })?;
    let work = || {
        runtime.block_on(async {
            let interrupt = interrupt::Interrupt::listen(cli.global.json);
            let app = App::new(cli.global, interrupt, credentials)?;
            verbs::run(&app, cli.verb).await
        })
    };
    // The main thread has the stack that the shell's limits give it.
    let result = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|source| CliError::Threads { threads, source })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    // A blocking call of an abandoned task must not hold up the end.
    runtime.shutdown_background();
    result
}

/// What clap says: help and version on standard output, everything else as one of our errors.
fn arguments(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody may be reading; that is no failure of help.
            let _ = error.print();
            Exit::Done
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage
        }
        _ => {
            let text = error.render().to_string();
            let (message, usage) = arguments_message(&text);
            let json = std::env::args_os().any(|a| a == "--json");
            let error = CliError::Arguments { message, usage };
            print_error(&error, json);
            exit_of(&error)
        }
    }
}

/// The first paragraph of clap's text with its tips, and its usage line.
fn arguments_message(text: &str) -> (String, Option<String>) {
    let mut message = String::new();
    let mut usage = None;
    for line in text.lines().map(str::trim) {
        if let Some(form) = line.strip_prefix("Usage: ") {
            usage = Some(format!("The right form: {form}"));
        } else if !line.is_empty() && !line.starts_with("For more information") {
            if !message.is_empty() {
                message.push(' ');
            }
            message.push_str(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    (message, usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_contradict_nothing() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_clap_refuses_becomes_one_line_with_the_right_form() {
        let error = Cli::try_parse_from(["keepfast", "backup", "t"]).unwrap_err();
        let (message, usage) = arguments_message(&error.render().to_string());
        assert!(
            message.contains("--to") && !message.contains('\n') && !message.starts_with("error"),
            "{message}"
        );
        assert!(usage.unwrap().contains("keepfast backup"));
    }
}
