//! The project's habits as one command: `cargo xtask check`, `test` and `bench`.
//!
//! Only the standard library, so that it builds in seconds. Every step shows its own output; the summary says what
//! passed, what failed, and what was skipped and why. Exit 0 only when nothing failed. Start with [`steps`].

#![allow(clippy::print_stdout, reason = "a command line program talks on stdout")]

mod bench;
mod check;
mod demo;
mod deny;
mod documents;
mod fuzz;
mod guide;
mod open;
mod python;
mod source_tree;
mod steps;
mod tests_of_workspace;
mod tried;
mod workspace;

use std::process::ExitCode;
use steps::Steps;
use workspace::Workspace;

const USAGE: &str = "\
cargo xtask check             formatting, lints, pinned versions, licences, direction of dependencies
cargo xtask test              check, all tests, the open-format test, the demo, the commands of the guide,
                              the fuzzer for a minute a target
cargo xtask fuzz [TARGET…]    the fuzzer alone: [--seconds N | --minutes N] for each target, a minute without
cargo xtask bench [OPTIONS]   side by side with DuckDB and restic; `cargo xtask bench --help` lists the options
cargo xtask bench mysql [OPTIONS]   side by side with mydumper, myloader and mariadb-dump on two servers";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if std::env::var_os(fuzz::COUNTED).is_some() {
        return fuzz::counted_rustc(&arguments);
    }
    let workspace = match Workspace::find() {
        Ok(workspace) => workspace,
        Err(why) => {
            eprintln!("xtask: {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut steps = Steps::default();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["check"] => {
            check::run(&workspace, &mut steps);
            steps.step("lints", |_| steps::run(&mut check::lints(&workspace)));
        }
        ["test"] => {
            check::run(&workspace, &mut steps);
            tests_of_workspace::run(&workspace, &mut steps);
            if demo::build(&workspace, &mut steps) {
                open::run(&workspace, &mut steps);
                demo::run(&workspace, &mut steps);
                guide::run(&workspace, &mut steps);
            }
            fuzz::run(&workspace, &mut steps, &[]);
        }
        ["fuzz", options @ ..] => fuzz::run(&workspace, &mut steps, options),
        ["bench", "mysql", options @ ..] => return bench::mysql(&workspace, options),
        ["bench", options @ ..] => return bench::run(&workspace, options),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    steps.summary();
    if steps.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
