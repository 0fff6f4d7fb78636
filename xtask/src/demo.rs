//! The demo as the README starts it.

use crate::steps::{Outcome, Steps, run as run_command};
use crate::workspace::Workspace;
use std::process::Command;

/// Builds the program as users do, for every later step; whether it is there.
pub fn build(workspace: &Workspace, steps: &mut Steps) -> bool {
    let built =
        steps.step("build of keepfast", |_| run_command(&mut workspace.cargo(&["build", "--release"])));
    if !built {
        for name in ["open format", "demo", "commands of the pages"] {
            steps.step(name, |_| Outcome::Skipped("keepfast could not be built".into()));
        }
    }
    built
}

/// Runs `keepfast demo` in an empty folder; it must succeed and leave nothing there.
pub fn run(workspace: &Workspace, steps: &mut Steps) {
    steps.step("demo", |_| match in_empty_folder(workspace) {
        Ok(outcome) => outcome,
        Err(why) => Outcome::Failed(format!("the demo's folder: {why}")),
    });
}

fn in_empty_folder(workspace: &Workspace) -> std::io::Result<Outcome> {
    let folder = std::env::temp_dir().join(format!("keepfast-demo-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let outcome = run_command(Command::new(workspace.keepfast()).arg("demo").current_dir(&folder));
    let left = std::fs::read_dir(&folder)?.count();
    std::fs::remove_dir_all(&folder)?;
    Ok(match outcome {
        Outcome::Passed(_) if left > 0 => Outcome::Failed(format!("it left {left} things in its folder")),
        Outcome::Passed(_) => Outcome::Passed("ran to its end and left nothing behind".into()),
        other => other,
    })
}
