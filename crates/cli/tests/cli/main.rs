//! The program as a user types it: every test runs the real binary in a folder of its own.

mod bad_input;
mod demo;
mod files;
mod help;
mod interrupt;
mod pages;
mod real_input;
mod run;
mod s3;
mod selection;
mod seven;
mod shell;
mod statements;
mod vaults;
mod verbs;
mod workers;
