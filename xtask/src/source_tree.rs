//! The shape of the source: which crate may depend on which, and how long files are.

use crate::workspace::Workspace;
use std::path::{Path, PathBuf};

/// What each crate may name under `[dependencies]`, by folder. Stores share one rule.
///
/// Only the engine knows DataFusion, so that a change in a store never rebuilds it; nobody but the command line knows
/// which stores exist.
const RULES: [(&str, &[&str]); 15] = [
    ("crates/model", &[]),
    ("crates/objects", &["model"]),
    ("crates/files", &["model", "format"]),
    ("crates/store", &["model", "keys"]),
    ("crates/sql", &["model"]),
    ("crates/config", &["model", "sql"]),
    ("crates/keys", &["model"]),
    ("crates/format", &["model", "keys"]),
    ("crates/vault", &["model", "keys", "objects", "format"]),
    (
        "crates/engine",
        &["model", "keys", "objects", "files", "format", "vault", "store", "sql", "datafusion"],
    ),
    (
        "crates/cli",
        &[
            "model", "keys", "files", "format", "vault", "store", "sql", "engine", "objects", "columnar",
            "mysql", "config",
        ],
    ),
    ("stores", &["model", "keys", "objects", "format", "store"]),
    ("bench", &["model", "mysql"]),
    ("testbed", &[]),
    ("xtask", &["testbed"]),
];

/// A file longer than this is listed, not refused.
const LONG: usize = 500;

/// Refuses a dependency that points upwards; says how many crates were looked at.
pub fn directions(workspace: &Workspace) -> Result<String, String> {
    let mut crates = vec!["bench".to_owned(), "testbed".to_owned(), "xtask".to_owned()];
    for parent in ["crates", "stores"] {
        crates.extend(folders(&workspace.root, parent)?);
    }
    let mut wrong = Vec::new();
    for folder in &crates {
        let parent = folder.split('/').next().unwrap_or_default();
        let Some((_, may)) =
            RULES.iter().find(|(rule, _)| rule == folder || (*rule == "stores" && parent == "stores"))
        else {
            wrong.push(format!("{folder} has no rule in xtask/src/source_tree.rs"));
            continue;
        };
        for dependency in ruled_dependencies(&workspace.read(&format!("{folder}/Cargo.toml"))?) {
            if !may.contains(&dependency.as_str()) {
                wrong.push(format!("{folder} may not depend on {dependency}"));
            }
        }
    }
    if wrong.is_empty() {
        Ok(format!("{} crates point downwards only", crates.len()))
    } else {
        Err(wrong.join("; "))
    }
}

/// Our own crates (without their prefix) and DataFusion's, as named in the dependency sections that users build.
fn ruled_dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.contains("dependencies") && !section.contains("dev-dependencies");
        } else if inside {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            match name.strip_prefix("keepfast-") {
                Some(own) => found.push(own.to_owned()),
                None if name.starts_with("datafusion") => found.push("datafusion".into()),
                None => {}
            }
        }
    }
    found
}

/// Lists files over the length that still reads as one idea.
pub fn lengths(workspace: &Workspace) -> Result<String, String> {
    let files = rust_files(workspace)?;
    let mut long = Vec::new();
    let mut lines = 0;
    for file in &files {
        let length = std::fs::read_to_string(file)
            .map_err(|why| format!("{}: {why}", file.display()))?
            .lines()
            .count();
        lines += length;
        if length > LONG {
            long.push((length, file.strip_prefix(&workspace.root).unwrap_or(file).display().to_string()));
        }
    }
    long.sort();
    for (length, file) in long.iter().rev() {
        println!("   {length:>5} lines: {file}");
    }
    Ok(format!("{} Rust files, {lines} lines; {} files over {LONG} lines", files.len(), long.len()))
}

fn folders(root: &Path, parent: &str) -> Result<Vec<String>, String> {
    let mut found: Vec<String> = entries(&root.join(parent))?
        .into_iter()
        .filter(|path| path.join("Cargo.toml").is_file())
        .filter_map(|path| Some(format!("{parent}/{}", path.file_name()?.to_str()?)))
        .collect();
    found.sort();
    Ok(found)
}

/// Every Rust file of the workspace.
pub fn rust_files(workspace: &Workspace) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for folder in ["crates", "stores", "testbed", "xtask", "bench", "fuzz"] {
        rust_files_below(&workspace.root.join(folder), &mut files)?;
    }
    Ok(files)
}

fn rust_files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    for path in entries(folder)? {
        if path.is_dir() {
            rust_files_below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let named = |why: std::io::Error| format!("{}: {why}", folder.display());
    std::fs::read_dir(folder)
        .map_err(named)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(named))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_crates_and_datafusion_are_found_in_every_way_of_writing_them_but_not_among_dev_dependencies() {
        let manifest = "[package]\nname = \"keepfast-vault\"\n[dependencies]\nkeepfast-model.workspace = true\n\
            keepfast-format = { path = \"../format\" }\ndatafusion-expr = \"55\"\nserde.workspace = true\n\
            [target.'cfg(unix)'.dependencies]\nkeepfast-engine.workspace = true\n\
            [dev-dependencies]\nkeepfast-columnar.workspace = true\n";
        assert_eq!(ruled_dependencies(manifest), ["model", "format", "datafusion", "engine"]);
    }
}
