//! The documents: every link to a file of the project leads somewhere, and every test that is named exists.

use crate::source_tree::rust_files;
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};

/// Says how many links were followed, or which ones lead nowhere.
pub fn links(workspace: &Workspace) -> Result<String, String> {
    let mut pages = Vec::new();
    for folder in [workspace.root.clone(), workspace.root.join("docs")] {
        markdown_files(&folder, folder != workspace.root, &mut pages)?;
    }
    let (mut followed, mut broken) = (0, Vec::new());
    for page in &pages {
        let text = std::fs::read_to_string(page).map_err(|why| format!("{}: {why}", page.display()))?;
        let folder = page.parent().unwrap_or(&workspace.root);
        for target in targets(&text) {
            followed += 1;
            if !folder.join(target).exists() {
                broken.push(format!(
                    "{} → {target}",
                    page.strip_prefix(&workspace.root).unwrap_or(page).display()
                ));
            }
        }
    }
    if broken.is_empty() {
        Ok(format!("{followed} links in {} pages lead to files", pages.len()))
    } else {
        Err(format!("links that lead nowhere: {}", broken.join("; ")))
    }
}

/// Pages that name tests for what they say.
const NAMING: [&str; 2] = ["docs/architecture.md", "docs/no-lie.md"];

/// Says how many tests the pages name, or which of them do not exist.
pub fn named_tests(workspace: &Workspace) -> Result<String, String> {
    let mut source = String::new();
    for file in rust_files(workspace)? {
        source += &std::fs::read_to_string(&file).map_err(|why| format!("{}: {why}", file.display()))?;
    }
    let mut named = Vec::new();
    for page in NAMING {
        let text = workspace.read(page)?;
        let names = sentences(&text);
        let missing: Vec<&str> =
            names.iter().copied().filter(|name| !source.contains(&format!("fn {name}("))).collect();
        match (names.len(), missing.is_empty()) {
            (0, _) => return Err(format!("{page} names no test")),
            (all, true) => named.push(format!("{all} tests named in {page} exist")),
            _ => return Err(format!("{page} names tests that do not exist: {}", missing.join(", "))),
        }
    }
    Ok(named.join("; "))
}

/// What stands in backticks and reads like a sentence in snake case.
fn sentences(page: &str) -> Vec<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    let is_name =
        |text: &&str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    quoted.filter(is_name).filter(|text| text.matches('_').count() >= 3).collect()
}

/// Targets of links inside the project, without their anchors; text in code fences is no link.
fn targets(text: &str) -> Vec<&str> {
    let outside_code = text.split("```").step_by(2);
    let links =
        outside_code.flat_map(|part| part.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
    let files = links.map(|link| link.split('#').next().unwrap_or_default());
    files.filter(|file| !file.is_empty() && !file.contains("://") && !file.contains(' ')).collect()
}

fn markdown_files(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if deep && path.is_dir() {
            markdown_files(&path, deep, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_files_outside_of_code_are_followed() {
        let text =
            "[a](docs/a.md) [b](b.md#part) [c](https://c.example) [d](#d)\n```\n[e](e.md)\n```\n[f](f.md)";
        assert_eq!(targets(text), ["docs/a.md", "b.md", "f.md"]);
    }

    #[test]
    fn names_of_tests_are_sentences_in_backticks() {
        let page = "`a_test_that_is_named`, `content_percent`, `cargo xtask test` and no_test_that_is_named";
        assert_eq!(sentences(page), ["a_test_that_is_named"]);
    }
}
