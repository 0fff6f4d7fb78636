//! MinIO: an S3 server with object lock, versions, policies and temporary credentials.

use crate::process::{Server, free_port, full, private_folder, random_word};
use crate::{Missing, S3_PASSWORD, S3_URL, S3_USER, go};
use std::path::Path;
use std::process::Command;

/// What is built: the module has no released versions that the proxy serves, only commits.
const MODULE: &str = "github.com/minio/minio";
const VERSION: &str = "v0.0.0-20260212201848-7aac2a2c5b7c";

/// A running MinIO; it stops when this is dropped.
#[derive(Debug)]
pub struct Minio {
    server: Server,
    url: String,
    user: String,
    password: String,
}

impl Minio {
    /// Builds MinIO where it is not in `cache` yet, and starts it on an empty folder.
    ///
    /// # Errors
    /// [`Missing`] says why there is none.
    pub fn start(cache: &Path) -> Result<Self, Missing> {
        let cache = &full(cache)?;
        let program = go::install(cache, MODULE, VERSION)?;
        let folder = private_folder(cache, "minio-run")?;
        let port = free_port()?;
        let (user, password) = (format!("test{}", &random_word()?[..12]), random_word()?);
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.args(["server", "--quiet", "--address", &address, "--certs-dir"]).arg(folder.join("certs"));
        command.arg(folder.join("data")).current_dir(&folder).env("HOME", &folder);
        // In the environment, not in an argument: others see arguments.
        command.env("MINIO_ROOT_USER", &user).env("MINIO_ROOT_PASSWORD", &password);
        command.env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off").env("MINIO_CI_CD", "1");
        let server = Server::start(command, folder, port)?;
        Ok(Self { server, url: format!("http://{address}"), user, password })
    }

    /// What tests must find in their environment.
    pub fn environment(&self) -> [(&'static str, &str); 3] {
        [(S3_URL, &self.url), (S3_USER, &self.user), (S3_PASSWORD, &self.password)]
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.server.id()
    }
}
