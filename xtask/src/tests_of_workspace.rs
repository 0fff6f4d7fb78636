//! All tests of all crates, with the servers that they need.

use crate::steps::{Outcome, Steps, run_tests};
use crate::workspace::Workspace;
use keepfast_testbed::{Minio, Missing, cache_folder};

/// Builds and runs them; a failing test does not stop the others. Servers stop when the tests have ended.
pub fn run(workspace: &Workspace, steps: &mut Steps) {
    let mut minio = None;
    steps.step("an S3 server for the tests", |_| match Minio::start(&cache_folder(&workspace.release)) {
        Ok(started) => {
            let id = started.id();
            minio = Some(started);
            Outcome::Passed(format!("MinIO, process {id}"))
        }
        Err(Missing::Tool(why)) => Outcome::Skipped(why),
        Err(Missing::Failed(why)) => Outcome::Failed(why),
    });
    steps.step("tests of all crates", |tests| {
        let mut cargo = workspace.cargo(&["test", "--release", "--workspace", "--no-fail-fast"]);
        if let Some(minio) = &minio {
            cargo.envs(minio.environment());
        }
        run_tests(&mut cargo, tests)
    });
}
