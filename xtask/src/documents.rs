//! The documents: every link to a file of the project leads somewhere.

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
}
