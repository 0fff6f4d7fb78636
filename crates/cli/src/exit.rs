//! How a command ends: its exit code, and its error on standard error.

use crate::error::{CliError, DEFECT, one_line};
use keepfast_config::ConfigError;
use keepfast_engine::EngineError;
use keepfast_files::FilesError;
use keepfast_model::{Code, Coded, ModelError};
use keepfast_objects::ObjectsError;
use keepfast_vault::VaultError;
use std::io::Write;
use std::process::ExitCode;

/// How a command ended; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// It was used wrongly; nothing was opened.
    Usage = 2,
    /// A difference or damage was found.
    Found = 3,
    /// It was interrupted and can be resumed.
    Interrupted = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit code of an error.
pub fn exit_of(error: &CliError) -> Exit {
    match error {
        e if e.is_broken_pipe() => Exit::Done,
        CliError::Arguments { .. } | CliError::NoPage { .. } => Exit::Usage,
        CliError::Config(ConfigError::Form { .. }) => Exit::Usage,
        CliError::Sql(_) | CliError::Model(_) => Exit::Usage,
        CliError::Engine(EngineError::Model(ModelError::Name { .. })) => Exit::Usage,
        CliError::Vault(e) | CliError::Engine(EngineError::Vault(e)) if is_location(e) => Exit::Usage,
        CliError::Engine(EngineError::Usage { .. } | EngineError::Sql(_)) => Exit::Usage,
        CliError::Engine(EngineError::Files(
            FilesError::Options { .. } | FilesError::UnknownFormat { .. },
        )) => Exit::Usage,
        CliError::Engine(EngineError::Interrupted) => Exit::Interrupted,
        _ => Exit::Failed,
    }
}

/// Whether the error only says that a text is no place for a vault.
fn is_location(error: &VaultError) -> bool {
    matches!(error, VaultError::Objects(ObjectsError::Location { .. }))
}

/// Writes an error to standard error: for people one line and the next step, with `json` one document.
pub fn print_error(error: &CliError, json: bool) {
    if error.is_broken_pipe() {
        return;
    }
    print(error.code(), &one_line(error), &error.next_step(), json);
}

/// Writes what every error shows. Nothing can be done when standard error itself fails.
fn print(code: Code, message: &str, next_step: &str, json: bool) {
    let mut stderr = std::io::stderr().lock();
    let _ = if json {
        writeln!(stderr, "{}", error_json(code, message, next_step))
    } else {
        writeln!(stderr, "error {code}: {message}\n  → {next_step}")
    };
}

/// The documented form of an error.
pub fn error_json(code: Code, message: &str, next_step: &str) -> serde_json::Value {
    serde_json::json!({"error": {"code": code.to_string(), "message": message, "next_step": next_step}})
}

/// Makes a panic, which no input should cause, one line with its code, and ends the process with code 1.
pub fn install_panic_hook(json: bool) {
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let what = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("unknown reason");
        let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let message = one_text(&format!("defect in Keepfast {}: {what}{place}", env!("CARGO_PKG_VERSION")));
        let next = "Nothing that was committed is lost. Please report this line; `keepfast explain KF0799` says more.";
        print(Code(DEFECT), &message, next, json);
        // Other threads may hold locks that this one needs to unwind; committed data survives an exit at any place.
        std::process::exit(Exit::Failed as i32);
    }));
}

fn one_text(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
