//! Real servers for the tests: built once, started for one run, stopped with it.
//!
//! `cargo xtask test` starts them and tells the tests by environment variables where they are; a test that needs a
//! server and finds none says `SKIPPED` and is counted so. Everything stands in one private folder, listens on the
//! loopback address with a password or key of its own, and is stopped by the id of its process, also when a test failed.

pub mod azurite;
pub mod debian;
pub mod gcs;
pub mod go;
pub mod maven;
pub mod minio;
pub mod mysql;
pub mod process;
pub mod sharding_sphere;

#[cfg(feature = "client")]
pub mod azure;
#[cfg(feature = "client")]
pub mod google;
#[cfg(feature = "client")]
pub mod s3;

pub use azurite::Azurite;
pub use gcs::Gcs;
pub use minio::Minio;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// The Azure server's URL, with the account.
pub const AZURE_URL: &str = "KEEPFAST_TEST_AZURE";
/// Its account.
pub const AZURE_ACCOUNT: &str = "KEEPFAST_TEST_AZURE_ACCOUNT";
/// The account's key.
pub const AZURE_KEY: &str = "KEEPFAST_TEST_AZURE_KEY";
/// The Google server's URL.
pub const GCS_URL: &str = "KEEPFAST_TEST_GCS";
/// The file with the key of its service account.
pub const GCS_KEY: &str = "KEEPFAST_TEST_GCS_KEY";
/// The S3 server's URL.
pub const S3_URL: &str = "KEEPFAST_TEST_S3";
/// Its user.
pub const S3_USER: &str = "KEEPFAST_TEST_S3_USER";
/// Its password.
pub const S3_PASSWORD: &str = "KEEPFAST_TEST_S3_PASSWORD";

/// Why a server is not there.
#[derive(Debug)]
pub enum Missing {
    /// A tool that builds or runs it is not installed: the tests that need it are skipped.
    Tool(String),
    /// It should work and does not.
    Failed(String),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tool(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Says that the test that calls is skipped, or a part of it, in a form that the run counts; once a test. To be called by the test's own thread.
pub fn skipped(why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(test.clone()) {
        // Not `print!`, which the test harness keeps for itself.
        let _ = std::io::stdout().write_all(format!("\nSKIPPED {test}: {why}\n").as_bytes());
    }
}

/// A folder for what is built once for all runs, outside the clone: beside the builds of cargo.
pub fn cache_folder(release: &std::path::Path) -> std::path::PathBuf {
    release.join("../testbed")
}
