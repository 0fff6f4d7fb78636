//! Starts the servers and prints what tests must find in their environment, until standard input ends.
//!
//!     cargo run --release -p keepfast-testbed --example serve -- FOLDER

#![allow(clippy::print_stdout, reason = "a command line program talks on stdout")]

use keepfast_testbed::{Azurite, Gcs, Minio};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("name a folder for what is built once");
        return ExitCode::from(2);
    };
    let (minio, azurite, gcs) = (Minio::start(&folder), Azurite::start(&folder), Gcs::start(&folder));
    for missing in [minio.as_ref().err(), azurite.as_ref().err(), gcs.as_ref().err()].into_iter().flatten() {
        eprintln!("{missing}");
    }
    let minio = minio.iter().flat_map(Minio::environment);
    let azurite = azurite.iter().flat_map(Azurite::environment);
    for (name, value) in minio.chain(azurite).chain(gcs.iter().flat_map(Gcs::environment)) {
        println!("export {name}='{value}'");
    }
    let _ = std::io::stdin().read_to_end(&mut vec![]);
    ExitCode::SUCCESS
}
