//! Where passphrases and identities come from: the environment, files, or a prompt. Never from an argument's text.

use crate::args::Global;
use crate::error::CliError;
use keepfast_engine::EngineError;
use keepfast_keys::{Credentials, KeyError, Passphrase};
use std::io::IsTerminal;
use std::path::Path;
use zeroize::Zeroizing;

/// Names the variable that holds a passphrase.
pub const PASSPHRASE: &str = "KEEPFAST_PASSPHRASE";

/// What the options and the environment give.
///
/// # Errors
/// [`CliError::File`] for a file that cannot be read, [`CliError::Key`] for one that holds no identity.
pub fn given(global: &Global) -> Result<Credentials, CliError> {
    let mut credentials = Credentials::none();
    for path in &global.passphrase_file {
        credentials = credentials.with_passphrase(passphrase_of(path)?);
    }
    if let Some(text) = std::env::var(PASSPHRASE).ok().filter(|text| !text.is_empty()) {
        protect_memory();
        credentials = credentials.with_passphrase(Passphrase::new(text));
    }
    for path in &global.identity {
        credentials = with_identities(credentials, path)?;
    }
    Ok(credentials)
}

/// With the identities that a file holds.
///
/// # Errors
/// [`CliError::File`], [`CliError::Key`] for one that holds none.
pub fn with_identities(credentials: Credentials, path: &Path) -> Result<Credentials, CliError> {
    Ok(credentials.with_identities(&read(path)?)?)
}

/// The passphrase that a file holds.
///
/// # Errors
/// [`CliError::File`], [`CliError::Key`] for an empty one.
pub fn passphrase_of(path: &Path) -> Result<Passphrase, CliError> {
    let passphrase = Passphrase::new(read(path)?);
    if passphrase.is_empty() {
        return Err(KeyError::EmptyPassphrase.into());
    }
    Ok(passphrase)
}

fn read(path: &Path) -> Result<String, CliError> {
    protect_memory();
    std::fs::read_to_string(path).map_err(|e| CliError::file("read the secret in", path, e))
}

/// Whether a person can be asked.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a passphrase without showing it; for a new one, twice.
///
/// # Errors
/// [`CliError::Stream`] when the terminal fails, wrong use when the two differ.
pub fn ask(what: &str, new: bool) -> Result<Passphrase, CliError> {
    protect_memory();
    let ask = |prompt: String| {
        rpassword::prompt_password(prompt)
            .map_err(|source| CliError::Stream { what: "read the passphrase from the terminal", source })
    };
    let first = Passphrase::new(ask(format!("Passphrase of {what}: "))?);
    if new && Passphrase::new(ask("Once more: ".to_owned())?) != first {
        return Err(CliError::usage("the two passphrases differ"));
    }
    Ok(first)
}

/// Asks for the password of a store without showing it.
///
/// # Errors
/// [`EngineError::Usage`] where nobody can be asked.
pub fn password(store: &str) -> Result<Zeroizing<String>, EngineError> {
    protect_memory();
    let refuse = |reason: String| EngineError::Usage { what: format!("store '{store}'"), reason };
    if !can_ask() {
        let reason = "its password is asked for at a terminal, and here is none; password_file and password_env name other places";
        return Err(refuse(reason.into()));
    }
    let asked = rpassword::prompt_password(format!("Password of store {store}: "));
    asked
        .map(Zeroizing::new)
        .map_err(|e| refuse(format!("its password cannot be read from the terminal: {e}")))
}

/// Keeps keys out of core files and from other processes of the same user, from before the first secret is read or made
/// until the process ends. Where the system refuses, nothing is lost but this.
pub fn protect_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
