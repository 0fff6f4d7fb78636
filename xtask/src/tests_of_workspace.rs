//! All tests of all crates, with the servers that they need.

use crate::check;
use crate::steps::{Beside, Outcome, Steps, run as run_command, run_tests};
use crate::tried::SHOW;
use crate::workspace::Workspace;
use keepfast_testbed::mysql::{DUMP_TOOLS, Kind, MARIADB_URLS, MYSQL_URLS, MYSQL80_URLS, MySql, dump_tools};
use keepfast_testbed::{Azurite, Gcs, Minio, Missing, cache_folder};
use std::path::Path;

/// Builds and runs them; a failing test does not stop the others. Servers stop when the tests have ended. Lints compile every crate once
/// more, beside the tests, which leave a part of the machine idle.
pub fn run(workspace: &Workspace, steps: &mut Steps) {
    const TEST: [&str; 4] = ["test", "--release", "--workspace", "--no-fail-fast"];
    let mut lints = Beside::new(check::lints(workspace));
    if steps.step("build of all tests", |_| run_command(workspace.cargo(&TEST).arg("--no-run"))) {
        // Cargo builds for one command at a time, so lints begin when the first test has begun.
        tests(workspace, steps, &TEST, || lints.start());
    }
    steps.step("lints", |_| lints.end());
}

fn tests(workspace: &Workspace, steps: &mut Steps, test: &[&str], begun: impl FnOnce()) {
    let cache = cache_folder(&workspace.release);
    let minio = server(steps, "an S3 server for the tests", "MinIO", || Minio::start(&cache), Minio::id);
    let azurite =
        server(steps, "an Azure server for the tests", "Azurite", || Azurite::start(&cache), Azurite::id);
    let gcs =
        server(steps, "a Google server for the tests", "fake-gcs-server", || Gcs::start(&cache), Gcs::id);
    let mariadb = pair(steps, "two MariaDB servers for the tests", &cache, Kind::MariaDb);
    let mysql = pair(steps, "two MySQL servers for the tests", &cache, Kind::MySql);
    let start = || MySql::start(&cache, Kind::MySql80, 1);
    let oldest = server(steps, "an old MySQL server for the tests", "MySQL 8.0", start, MySql::id);
    let mut tools = None;
    steps.step("dump tools that the tests are beside", |_| match dump_tools(&cache) {
        Ok(unpacked) => {
            tools = Some(unpacked);
            Outcome::Passed("mydumper and others of Debian".into())
        }
        Err(Missing::Tool(why)) => Outcome::Skipped(why),
        Err(Missing::Failed(why)) => Outcome::Failed(why),
    });
    steps.step("tests of all crates", |tests| {
        let mut cargo = workspace.cargo(test);
        cargo.args(SHOW);
        cargo.envs(minio.iter().flat_map(Minio::environment));
        cargo.envs(azurite.iter().flat_map(Azurite::environment));
        cargo.envs(gcs.iter().flat_map(Gcs::environment));
        for (name, servers) in [(MARIADB_URLS, &mariadb), (MYSQL_URLS, &mysql)] {
            let urls: Vec<String> = servers.iter().flatten().map(MySql::url).collect();
            cargo.env(name, urls.join(" "));
        }
        cargo.envs(oldest.iter().map(|server| (MYSQL80_URLS, server.url())));
        cargo.envs(tools.iter().map(|tools| (DUMP_TOOLS, tools.root())));
        run_tests(&mut cargo, tests, begun)
    });
}

/// Two servers of a kind that share nothing.
fn pair(steps: &mut Steps, step: &str, cache: &Path, kind: Kind) -> Option<[MySql; 2]> {
    let start = || Ok([MySql::start(cache, kind, 1)?, MySql::start(cache, kind, 2)?]);
    server(steps, step, "both", start, |servers| servers[0].id())
}

/// Starts a server as a step of its own. Without the tools for it the step, and each test that needs it, is skipped.
fn server<S>(
    steps: &mut Steps,
    step: &str,
    name: &str,
    start: impl FnOnce() -> Result<S, Missing>,
    id: impl FnOnce(&S) -> u32,
) -> Option<S> {
    let mut server = None;
    steps.step(step, |_| match start() {
        Ok(started) => {
            let id = id(&started);
            server = Some(started);
            Outcome::Passed(format!("{name}, process {id}"))
        }
        Err(Missing::Tool(why)) => Outcome::Skipped(why),
        Err(Missing::Failed(why)) => Outcome::Failed(why),
    });
    server
}
