//! Words that must be nowhere, and commands of one who holds the passphrase.

use crate::run::{Folder, Run, files_under};
use std::path::Path;

pub const PHRASE: &str = "planted-passphrase";

/// A table whose rows, column and condition hold planted words.
pub const PEOPLE: &str = "CREATE TABLE people (id INT PRIMARY KEY, planted_column TEXT, city TEXT);
     INSERT INTO people SELECT value, 'planted-value ' || value, 'city ' || (value % 7) FROM generate_series(1, 3000)";

/// Runs a command with a passphrase in its environment.
pub fn with(folder: &Folder, phrase: &str, args: &[&str]) -> Run {
    Run::of(folder.command(args).env("KEEPFAST_PASSPHRASE", phrase).output().unwrap())
}

#[track_caller]
pub fn ok(folder: &Folder, args: &[&str]) -> String {
    let run = with(folder, PHRASE, args);
    assert_eq!(run.code, 0, "{args:?} gave {run:?}");
    run.out
}

/// The error of a command that must fail with this code, and tell nothing secret.
#[track_caller]
pub fn fails(folder: &Folder, phrase: &str, args: &[&str], code: &str) -> String {
    let run = with(folder, phrase, args);
    assert_eq!(run.code, 1, "{args:?} gave {run:?}");
    assert!(run.err.contains(code), "{run:?}");
    assert!(!run.err.contains(PHRASE) && !run.err.contains("planted-value"), "{run:?}");
    run.err
}

/// Files under a folder in which one of these words stands.
pub fn holding(folder: &Path, words: &[&str]) -> Vec<String> {
    let files = files_under(folder);
    assert!(files.len() > 5, "{files:?}");
    let holds =
        |bytes: &[u8]| words.iter().any(|word| bytes.windows(word.len()).any(|w| w == word.as_bytes()));
    files.iter().filter(|f| holds(&std::fs::read(f).unwrap())).map(|f| f.display().to_string()).collect()
}
