//! The side-by-side benchmark; `bench/README.md` says what is measured and how.

use crate::python::{Packages, packages};
use crate::workspace::Workspace;
use std::process::{Command, ExitCode};

/// Builds what is measured and hands the options to `bench/compare.py`.
pub fn run(workspace: &Workspace, options: &[&str]) -> ExitCode {
    let folder = match packages(workspace, "bench/requirements.txt") {
        Packages::Ready(folder) => folder,
        Packages::NoPython(why) | Packages::PipFailed(why) => {
            eprintln!("xtask: the benchmark needs Python with DuckDB: {why}");
            return ExitCode::FAILURE;
        }
    };
    // One after the other: together they would be built with other features of the same dependencies, all anew.
    for package in ["keepfast-cli", "keepfast-bench"] {
        let mut build = workspace.cargo(&["build", "--release", "--package", package]);
        if !build.status().is_ok_and(|status| status.success()) {
            return ExitCode::FAILURE;
        }
    }
    let mut script = Command::new("python3");
    script.arg("bench/compare.py").arg("--programs").arg(&workspace.release).args(options);
    match script.current_dir(&workspace.root).env("PYTHONPATH", folder).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: python3 did not start: {why}");
            ExitCode::FAILURE
        }
    }
}
