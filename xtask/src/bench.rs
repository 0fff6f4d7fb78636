//! The side-by-side benchmarks; `docs/bench.md` says what is measured and how.

use crate::python::{Packages, packages};
use crate::workspace::Workspace;
use keepfast_testbed::mysql::{Kind, MARIADB_URLS, MySql, dump_tools};
use keepfast_testbed::{Missing, cache_folder};
use std::ffi::OsStr;
use std::process::{Command, ExitCode};

/// Programs of [`dump_tools`], each given to `bench/mysql.py` as a variable of its name.
const TOOLS: [&str; 5] = ["mydumper", "myloader", "mariadb-dump", "mariadb", "zstd"];

/// Builds what is measured and hands the options to `bench/compare.py`.
pub fn run(workspace: &Workspace, options: &[&str]) -> ExitCode {
    let folder = match packages(workspace, "bench/requirements.txt") {
        Packages::Ready(folder) => folder,
        Packages::NoPython(why) | Packages::PipFailed(why) => {
            eprintln!("xtask: the benchmark needs Python with DuckDB: {why}");
            return ExitCode::FAILURE;
        }
    };
    if !built(workspace) {
        return ExitCode::FAILURE;
    }
    let mut script = Command::new("python3");
    script.arg("bench/compare.py").arg("--programs").arg(&workspace.release).args(options);
    ended(script.current_dir(&workspace.root).env("PYTHONPATH", folder))
}

/// Starts two MariaDB servers and hands the options to `bench/mysql.py`.
pub fn mysql(workspace: &Workspace, options: &[&str]) -> ExitCode {
    if !built(workspace) {
        return ExitCode::FAILURE;
    }
    let cache = cache_folder(&workspace.release);
    let start = |id| {
        let settings = ["--innodb-buffer-pool-size=2G", "--innodb-log-file-size=1G"].map(str::to_owned);
        MySql::start_with(&cache, Kind::MariaDb, id, &settings)
    };
    let ready = || Ok::<_, Missing>(([start(1)?, start(2)?], dump_tools(&cache)?));
    let (servers, tools) = match ready() {
        Ok(ready) => ready,
        Err(Missing::Tool(why) | Missing::Failed(why)) => {
            eprintln!("xtask: the benchmark needs servers and dump tools: {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut script = Command::new("python3");
    script.arg("bench/mysql.py").arg("--programs").arg(&workspace.release).args(options);
    script.env(MARIADB_URLS, servers.each_ref().map(MySql::url).join(" "));
    script.env("SERVER_PROCESSES", servers.each_ref().map(|server| server.id().to_string()).join(" "));
    for name in TOOLS {
        let command = tools.command(&tools.path(&format!("usr/bin/{name}")));
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<&OsStr> = words.collect();
        script.env(format!("TOOL_{}", name.replace('-', "_")), words.join(OsStr::new("\n")));
    }
    ended(script.current_dir(&workspace.root))
}

/// Builds what is measured.
fn built(workspace: &Workspace) -> bool {
    // One after the other: together they would be built with other features of the same dependencies, all anew.
    ["keepfast-cli", "keepfast-bench"].iter().all(|package| {
        let mut build = workspace.cargo(&["build", "--release", "--package", package]);
        build.status().is_ok_and(|status| status.success())
    })
}

fn ended(script: &mut Command) -> ExitCode {
    match script.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: python3 did not start: {why}");
            ExitCode::FAILURE
        }
    }
}
