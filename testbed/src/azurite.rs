//! Azurite: Microsoft's own emulator of Azure Blob Storage, from npm.

use crate::process::{Server, free_port, full, private_folder, random_word};
use crate::{AZURE_ACCOUNT, AZURE_KEY, AZURE_URL, Missing};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Pinned: what its storage answers differs between versions.
const VERSION: &str = "3.35.0";
const ACCOUNT: &str = "keepfasttest";

/// A running Azurite; it stops when this is dropped.
#[derive(Debug)]
pub struct Azurite {
    server: Server,
    url: String,
    key: String,
}

impl Azurite {
    /// Installs Azurite where it is not in `cache` yet, and starts it on an empty folder.
    ///
    /// # Errors
    /// [`Missing`] says why there is none.
    pub fn start(cache: &Path) -> Result<Self, Missing> {
        let cache = &full(cache)?;
        let program = install(cache)?;
        let folder = private_folder(cache, "azurite-run")?;
        let port = free_port()?;
        // Hex digits are Base64 too.
        let key = random_word()? + &random_word()?;
        let mut command = Command::new("node");
        command.arg(program).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location"]).arg(&folder);
        // In the environment, not in an argument: others see arguments.
        command.current_dir(&folder).env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{key}"));
        let server = Server::start(command, folder, port)?;
        Ok(Self { server, url: format!("http://127.0.0.1:{port}/{ACCOUNT}"), key })
    }

    /// What tests must find in their environment.
    pub fn environment(&self) -> [(&'static str, &str); 3] {
        [(AZURE_URL, &self.url), (AZURE_ACCOUNT, ACCOUNT), (AZURE_KEY, &self.key)]
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.server.id()
    }
}

fn install(cache: &Path) -> Result<PathBuf, Missing> {
    let folder = cache.join(format!("azurite@{VERSION}"));
    let program = |folder: &Path| folder.join("node_modules/azurite/dist/src/blob/main.js");
    if program(&folder).is_file() {
        return Ok(program(&folder));
    }
    let failed = |why: String| Missing::Failed(format!("azurite {VERSION} cannot be installed: {why}"));
    for tool in ["node", "npm"] {
        let there = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            return Err(Missing::Tool(format!("{tool}, which runs azurite, is not installed")));
        }
    }
    eprintln!("   installing azurite@{VERSION}, once");
    let unfinished = cache.join(format!("azurite-{}", std::process::id()));
    std::fs::create_dir_all(&unfinished).map_err(|e| failed(e.to_string()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(&unfinished);
    npm.arg(format!("azurite@{VERSION}")).stdout(Stdio::null());
    match npm.status() {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(failed(format!("npm install ended with {status}"))),
        Err(e) => return Err(failed(e.to_string())),
    }
    let moved = std::fs::rename(&unfinished, &folder);
    match program(&folder).is_file() {
        true => Ok(program(&folder)),
        false => Err(failed(moved.err().map_or("npm left no program".to_owned(), |e| e.to_string()))),
    }
}
