//! All tests of all crates.

use crate::steps::{Steps, run_tests};
use crate::workspace::Workspace;

/// Builds and runs them; a failing test does not stop the others.
pub fn run(workspace: &Workspace, steps: &mut Steps) {
    steps.step("tests of all crates", |tests| {
        run_tests(&mut workspace.cargo(&["test", "--release", "--workspace", "--no-fail-fast"]), tests)
    });
}
