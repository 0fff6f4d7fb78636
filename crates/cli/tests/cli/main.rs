//! The program as a user types it: every test runs the real binary in a folder of its own.

mod bad_input;
mod demo;
mod encryption;
mod files;
mod help;
mod interrupt;
mod killed;
#[cfg(target_os = "linux")]
mod memory;
mod mysql;
mod pages;
mod planted;
mod real_input;
mod repair;
mod retention;
mod run;
mod s3;
mod secrets;
mod selection;
mod seven;
mod shell;
mod statements;
mod store_encryption;
mod vaults;
mod verbs;
mod workers;
