//! Runs the binary in a folder of its own and looks at what it gave.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder in which a user types.
pub struct Folder {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// What a command gave.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Folder {
    pub fn new() -> Self {
        Self::with_variables(vec![])
    }

    /// With these environment variables for every command.
    pub fn with_variables(variables: Vec<(String, String)>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), variables }
    }

    /// With the seven statements' table in it.
    pub fn with_example() -> Self {
        let folder = Self::new();
        folder.sql(
            "CREATE TABLE example (id INT PRIMARY KEY, name VARCHAR(255), age INT);
             INSERT INTO example (id, name, age) VALUES (1, 'John', 25), (2, 'Jane', 22), (3, 'Bob', 30);",
        );
        folder
    }

    /// With the seven statements' table in it, and a backup of it.
    pub fn with_backup() -> Self {
        let folder = Self::with_example();
        folder.ok(&["backup", "example", "--to", "example_backup"]);
        folder
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keepfast"));
        command
            .args(args)
            .current_dir(self.path())
            .env_remove("KEEPFAST_DATA")
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE")
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }

    /// With this on standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Run {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        // A command that ends before it reads everything closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Run::of(child.wait_with_output().unwrap())
    }

    /// Standard output of a command that must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?} gave {run:?}");
        run.out
    }

    /// The document of a command that must succeed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        document(&self.ok(&all))
    }

    /// The error of a command that must end so, one line with its code, and the next step.
    #[track_caller]
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, code, "{args:?} gave {run:?}");
        run.assert_error();
        run.err
    }

    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.ok(&["sql", "-c", sql])
    }

    /// The rows of a query as JSON.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Value {
        self.json(&["query", sql])["rows"].clone()
    }

    /// The only value of a query.
    #[track_caller]
    pub fn value(&self, sql: &str) -> Value {
        let rows = self.rows(sql);
        let row = rows[0].as_object().unwrap();
        assert_eq!((rows.as_array().unwrap().len(), row.len()), (1, 1), "{sql} gave {rows}");
        row.values().next().unwrap().clone()
    }
}

impl Run {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Exactly one error: a line with a code, and the next step.
    #[track_caller]
    pub fn assert_error(&self) {
        let errors: Vec<usize> =
            self.err.lines().enumerate().filter(|(_, l)| l.starts_with("error KF")).map(|(i, _)| i).collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        let lines: Vec<&str> = self.err.lines().collect();
        let line = lines[errors[0]];
        let code = line.strip_prefix("error KF").unwrap().split(':').next().unwrap();
        assert!(code.len() == 4 && code.chars().all(|c| c.is_ascii_digit()), "{line}");
        assert!(lines.get(errors[0] + 1).is_some_and(|l| l.starts_with("  → ") && l.len() > 8), "{self:?}");
        assert!(!self.err.contains("panicked") && !self.err.contains("KF0799"), "{self:?}");
    }
}

/// Exactly one JSON document.
#[track_caller]
pub fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Whether the object has exactly these members.
#[track_caller]
pub fn assert_members(value: &Value, members: &[&str]) {
    let mut found: Vec<&str> =
        value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect();
    let mut wanted = members.to_vec();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{value}");
}

/// All files under a folder, sorted.
pub fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Flips a bit in the middle of a file.
pub fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
