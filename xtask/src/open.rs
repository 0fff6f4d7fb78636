//! The open-format test: DuckDB, pyarrow, Polars and a Delta reader read a vault from outside.

use crate::python::{Packages, packages};
use crate::steps::{Outcome, Steps, run_tests};
use crate::workspace::Workspace;
use std::process::Command;

/// Runs `tests/open/read_from_outside.py` with the program of the last build.
pub fn run(workspace: &Workspace, steps: &mut Steps) {
    steps.step("open format", |tests| match packages(workspace, "tests/open/requirements.txt") {
        Packages::NoPython(why) => Outcome::Skipped(why),
        Packages::PipFailed(why) => Outcome::Failed(why),
        Packages::Ready(folder) => {
            let mut script = Command::new("python3");
            script
                .arg("tests/open/read_from_outside.py")
                .arg(workspace.keepfast())
                .current_dir(&workspace.root);
            run_tests(script.env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1"), tests, || {})
        }
    });
}
