//! What is seen without running anything: formatting, lints, the pinned version line, licences, direction of dependencies.

use crate::steps::{Steps, run as run_command};
use crate::workspace::Workspace;
use crate::{deny, documents, source_tree};
use std::process::Command;

/// Crates that move together: each stands exactly once in `Cargo.lock`, in this line of versions.
const PINNED: [(&str, &str); 5] = [
    ("arrow", "59.3."),
    ("parquet", "59.3."),
    ("datafusion", "55.2."),
    ("object_store", "0.13."),
    ("sqlparser", "0.62."),
];

/// Runs every check.
pub fn run(workspace: &Workspace, steps: &mut Steps) {
    steps.step("formatting", |_| run_command(&mut workspace.cargo(&["fmt", "--all", "--check"])));
    steps.step("pinned version line", |_| workspace.read("Cargo.lock").and_then(|lock| pinned(&lock)).into());
    steps.step("direction of dependencies", |_| source_tree::directions(workspace).into());
    steps.step("links in documents", |_| documents::links(workspace).into());
    steps.step("tests named in documents", |_| documents::named_tests(workspace).into());
    steps.step("length of files", |_| source_tree::lengths(workspace).into());
    steps.step("licences and sources of dependencies", |_| deny::run(workspace));
}

/// Lints of all crates.
pub fn lints(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo(&["clippy", "--quiet", "--release", "--workspace", "--all-targets"]);
    cargo.args(["--", "-D", "warnings"]);
    cargo
}

/// Each pinned crate once, and in its line.
fn pinned(lock: &str) -> Result<String, String> {
    let mut found = Vec::new();
    for (name, line) in PINNED {
        let versions = versions_of(lock, name);
        match versions.as_slice() {
            [version] if version.starts_with(line) => found.push(format!("{name} {version}")),
            [version] => {
                return Err(format!("{name} is {version} in Cargo.lock; the pinned line is {line}x"));
            }
            [] => return Err(format!("{name} is not in Cargo.lock")),
            more => return Err(format!("{name} is in Cargo.lock {} times: {}", more.len(), more.join(", "))),
        }
    }
    Ok(found.join(", "))
}

fn versions_of(lock: &str, name: &str) -> Vec<String> {
    let heading = format!("name = \"{name}\"");
    let mut lines = lock.lines();
    let mut versions = Vec::new();
    while let Some(line) = lines.next() {
        if line == heading {
            let version = lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
            versions.extend(version.map(str::to_owned));
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str)]) -> String {
        packages
            .iter()
            .map(|(name, version)| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n"))
            .collect()
    }

    const GOOD: [(&str, &str); 6] = [
        ("arrow", "59.3.0"),
        ("arrow-array", "59.3.0"),
        ("datafusion", "55.2.1"),
        ("object_store", "0.13.2"),
        ("parquet", "59.3.0"),
        ("sqlparser", "0.62.0"),
    ];

    #[test]
    fn the_pinned_line_is_accepted() {
        assert!(pinned(&lock(&GOOD)).is_ok());
    }

    #[test]
    fn a_second_version_another_line_and_a_missing_crate_are_refused_by_name() {
        let mut twice = GOOD.to_vec();
        twice.push(("arrow", "60.0.0"));
        assert!(pinned(&lock(&twice)).unwrap_err().contains("arrow is in Cargo.lock 2 times"));
        let mut other = GOOD;
        other[3] = ("object_store", "0.14.0");
        assert!(pinned(&lock(&other)).unwrap_err().contains("object_store is 0.14.0"));
        assert!(pinned(&lock(&GOOD[1..])).unwrap_err().contains("arrow is not in"));
    }
}
