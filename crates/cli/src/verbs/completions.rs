//! `keepfast completions`

use crate::args::{Cli, CompletionsArgs, ShellArg};
use crate::error::CliError;
use crate::exit::Exit;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

pub fn run(args: CompletionsArgs) -> Result<Exit, CliError> {
    let shell = match args.shell {
        ShellArg::Bash => Shell::Bash,
        ShellArg::Zsh => Shell::Zsh,
        ShellArg::Fish => Shell::Fish,
    };
    let mut text = vec![];
    clap_complete::generate(shell, &mut Cli::command(), "keepfast", &mut text);
    let mut out = std::io::stdout().lock();
    out.write_all(&text)?;
    out.flush()?;
    Ok(Exit::Done)
}
