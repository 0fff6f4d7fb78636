//! A Google Cloud Storage for tests: fake-gcs-server behind a front of ours, `testbed/gcs/main.go`.
//!
//! What the emulator alone does not do, and what the front adds, stands at the head of that file.

use crate::go::{self, Source};
use crate::process::{Server, free_port, full, private_folder};
use crate::{GCS_KEY, GCS_URL, Missing};
use std::path::Path;
use std::process::Command;

const SOURCE: Source = Source {
    name: "keepfast-gcs",
    text: include_str!("../gcs/main.go"),
    module: "github.com/fsouza/fake-gcs-server",
    version: "v1.56.1",
    go: (1, 26),
};

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub struct Gcs {
    server: Server,
    url: String,
    key: String,
}

impl Gcs {
    /// Builds the server where it is not in `cache` yet, and starts it without buckets.
    ///
    /// # Errors
    /// [`Missing`] says why there is none.
    pub fn start(cache: &Path) -> Result<Self, Missing> {
        let cache = &full(cache)?;
        let program = go::build(cache, &SOURCE)?;
        let folder = private_folder(cache, "gcs-run")?;
        let port = free_port()?;
        let address = format!("127.0.0.1:{port}");
        // The server makes the key, so that nobody else ever has it.
        let key = folder.join("key.json");
        let mut command = Command::new(program);
        command.arg(&address).arg(&key).current_dir(&folder).env("HOME", &folder);
        let key = key.to_string_lossy().into_owned();
        let server = Server::start(command, folder, port)?;
        Ok(Self { server, url: format!("http://{address}"), key })
    }

    /// What tests must find in their environment.
    pub fn environment(&self) -> [(&'static str, &str); 2] {
        [(GCS_URL, &self.url), (GCS_KEY, &self.key)]
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.server.id()
    }
}
