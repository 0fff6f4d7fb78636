//! `cargo deny`: licences and sources of all dependencies, and crates we do not want, by the rules of `deny.toml`.
//!
//! Known advisories are looked up over the network, from a list that changes without us: `cargo deny check advisories`.

use crate::steps::{Outcome, run as run_command};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that is installed where none, or another one, is.
const VERSION: &str = "0.20.2";

/// Runs `cargo deny`, which is installed beside the builds first.
pub fn run(workspace: &Workspace) -> Outcome {
    let tools = workspace.release.parent().unwrap_or(&workspace.release).join("tools");
    let program = match installed(workspace, &tools) {
        Ok(program) => program,
        Err(why) => return Outcome::Failed(why),
    };
    run_command(Command::new(program).current_dir(&workspace.root).args([
        "--workspace",
        "--locked",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))
}

/// The program, installed if it is not there yet.
fn installed(workspace: &Workspace, tools: &Path) -> Result<PathBuf, String> {
    let program = tools.join("bin").join(format!("cargo-deny{}", std::env::consts::EXE_SUFFIX));
    let version = Command::new(&program).arg("--version").output();
    if version.is_ok_and(|v| String::from_utf8_lossy(&v.stdout).trim().ends_with(VERSION)) {
        return Ok(program);
    }
    println!("   installing cargo-deny {VERSION}");
    let builds = tools.join("build");
    // Unoptimized: it runs for a second and would be compiled for minutes.
    let mut install =
        workspace.cargo(&["install", "cargo-deny", "--version", VERSION, "--locked", "--debug", "--quiet"]);
    install.arg("--force").arg("--root").arg(tools).arg("--target-dir").arg(&builds);
    let ended = install.status().map_err(|why| format!("cargo install did not start: {why}"))?;
    if !ended.success() {
        return Err(format!("cargo-deny {VERSION} could not be installed: cargo install ended with {ended}"));
    }
    // Nothing else is built there.
    let _ = std::fs::remove_dir_all(builds);
    Ok(program)
}
