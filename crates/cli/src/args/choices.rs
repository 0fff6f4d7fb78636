//! What some options choose between.

use clap::ValueEnum;
use keepfast_engine::api;
use std::path::PathBuf;
use std::str::FromStr;

/// Shells with completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ShellArg {
    /// GNU Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

/// `--mode`
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum ModeArg {
    /// Incremental where it is exact and worth it, else full
    #[default]
    Auto,
    /// A new base
    Full,
    /// Changes only
    Incremental,
}

impl From<ModeArg> for api::Mode {
    fn from(arg: ModeArg) -> Self {
        match arg {
            ModeArg::Auto => Self::Auto,
            ModeArg::Full => Self::Full,
            ModeArg::Incremental => Self::Incremental,
        }
    }
}

/// `--certify`
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum CertifyArg {
    /// Sampled, rotating ranges; everything where the store has it for free
    #[default]
    Sample,
    /// Everything
    Full,
}

impl From<CertifyArg> for api::Certify {
    fn from(arg: CertifyArg) -> Self {
        match arg {
            CertifyArg::Sample => Self::Sample,
            CertifyArg::Full => Self::Full,
        }
    }
}

/// `--if-exists`
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum IfExistsArg {
    /// Keep it under another name; undo brings it back
    #[default]
    Replace,
    /// Refuse
    Fail,
    /// Put restored rows over its rows of equal key
    Merge,
}

impl From<IfExistsArg> for api::IfExists {
    fn from(arg: IfExistsArg) -> Self {
        match arg {
            IfExistsArg::Replace => Self::Replace,
            IfExistsArg::Fail => Self::Fail,
            IfExistsArg::Merge => Self::Merge,
        }
    }
}

/// `--level`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LevelArg {
    /// Every stored byte, record and key file of all points
    Checksum,
    /// Digests computed anew from the rows of vault and live table
    Compare,
    /// Row by row, naming keys and columns
    Content,
}

impl From<LevelArg> for api::Level {
    fn from(arg: LevelArg) -> Self {
        match arg {
            LevelArg::Checksum => Self::Checksum,
            LevelArg::Compare => Self::Compare,
            LevelArg::Content => Self::Content,
        }
    }
}

/// `--workers`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WorkersArg {
    /// In threads of this process.
    #[default]
    Threads,
    /// Each in a process of its own, `keepfast worker`.
    Processes,
    /// Each by this program, which gets the arguments and the input of `keepfast worker`.
    Program(PathBuf),
}

impl FromStr for WorkersArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "threads" => Ok(Self::Threads),
            "processes" => Ok(Self::Processes),
            path if path.contains('/') => Ok(Self::Program(path.into())),
            _ => Err("it is `threads`, `processes`, or the path of a program, with a '/' in it"),
        }
    }
}
