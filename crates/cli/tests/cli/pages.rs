//! Every error code has a page, every page a code, and `explain` shows it.

use crate::run::{Folder, files_under};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../..")
}

/// The numbers in the body of every `fn code(&self) -> Code`, with the file that holds it.
fn codes_in_sources() -> BTreeMap<u16, PathBuf> {
    let mut codes = BTreeMap::new();
    for folder in ["crates", "stores"] {
        for path in files_under(&root().join(folder)) {
            if path.extension().is_none_or(|e| e != "rs")
                || path.components().any(|c| c.as_os_str() == "tests")
            {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for body in text.split("fn code(&self) -> Code {").skip(1) {
                let end = body.find("\n    }").unwrap_or(body.len());
                for number in numbers(&body[..end]) {
                    codes.insert(number, path.clone());
                }
            }
        }
    }
    codes
}

fn numbers(text: &str) -> Vec<u16> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter_map(|word| word.parse().ok()).collect()
}

fn pages() -> BTreeMap<u16, String> {
    files_under(&root().join("docs/errors"))
        .into_iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_prefix("KF")?.strip_suffix(".md")?.to_owned();
            Some((name.parse().unwrap(), std::fs::read_to_string(&path).unwrap()))
        })
        .collect()
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let codes = codes_in_sources();
    assert!(codes.len() > 60, "only {} codes were found in the sources", codes.len());
    let known: BTreeSet<u16> = codes.keys().copied().collect();
    let pages: BTreeSet<u16> = pages().keys().copied().collect();
    let missing: Vec<_> = known.difference(&pages).map(|n| (n, &codes[n])).collect();
    assert!(missing.is_empty(), "codes without a page: {missing:?}");
    let unused: Vec<_> = pages.difference(&known).collect();
    assert!(unused.is_empty(), "pages without a code: {unused:?}");
}

#[test]
fn every_page_says_meaning_cause_remedy_and_shows_an_example() {
    for (number, text) in pages() {
        let code = format!("KF{number:04}");
        assert!(text.starts_with(&format!("# {code}: ")), "{code} has another heading");
        for part in ["**Meaning.** ", "**Cause.** ", "**Remedy.** ", &format!("    error {code}: ")] {
            assert!(text.contains(part), "{code} lacks {part}");
        }
    }
}

#[test]
fn explain_shows_the_page_of_a_code() {
    let folder = Folder::new();
    let text = folder.ok(&["explain", "KF0301"]);
    assert!(text.starts_with("# KF0301: "), "{text}");
    let document = folder.json(&["explain", "301"]);
    assert_eq!(document["code"], "KF0301");
    assert_eq!(document["text"].as_str().unwrap().trim_end(), text.trim_end());
    let all = folder.json(&["explain"]);
    assert_eq!(all.as_array().unwrap().len(), pages().len());
    assert!(folder.ok(&["explain"]).contains("KF0799"));
}
