//! Arguments of the verbs about vaults and about who can open them.

use clap::{Args, Subcommand, ValueEnum};
use keepfast_model::{Hash256, LogSeq, TableName};
use std::path::PathBuf;

/// `vault …`
#[derive(Debug, Subcommand)]
pub enum VaultVerb {
    /// Make a vault
    Init {
        /// Its URL or folder; DIR/vault where none is given
        #[arg(value_name = "URL")]
        url: Option<String>,
    },
    /// Show what a vault holds
    Info {
        /// Its URL or folder; DIR/vault where none is given
        #[arg(value_name = "URL")]
        url: Option<String>,
    },
    /// Copy a vault to another place, or bring an earlier copy up to date
    Copy(CopyArgs),
    /// Bring back deleted and replaced objects from the versions that the place keeps
    Recover {
        /// The vault's URL
        #[arg(value_name = "URL")]
        url: String,
        /// The head of the vault's log as a verify printed it, where the place keeps two histories
        #[arg(long, value_name = "HEAD", value_parser = head)]
        expect: Option<(LogSeq, Hash256)>,
    },
}

fn head(text: &str) -> Result<(LogSeq, Hash256), &'static str> {
    let parts = text.split_once(':');
    let head = parts.and_then(|(seq, hash)| Some((LogSeq(seq.parse().ok()?), Hash256::from_hex(hash)?)));
    head.ok_or("it has the form number:hash, as `verify` printed it")
}

/// `vault copy`
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// The vault's URL or folder
    #[arg(value_name = "FROM")]
    pub from: String,
    /// An empty place, or an earlier copy
    #[arg(value_name = "TO")]
    pub to: String,
    /// Who can open the copy, with an age public key, age1…; may be repeated. Without any, who can open the vault
    #[arg(long, value_name = "[NAME=]PUBLIC_KEY")]
    pub recipient: Vec<String>,
    /// Who can open the copy, with the passphrase that a file holds; may be repeated
    #[arg(long, value_name = "[NAME=]FILE")]
    pub recipient_passphrase_file: Vec<String>,
    /// Make another vault with the same restore points, encrypted anew
    #[arg(long)]
    pub reencrypt: bool,
    /// How its tables are encrypted; each as it was where nothing is said
    #[arg(long, value_name = "HOW", requires = "reencrypt")]
    pub encrypt: Option<CopyEncryption>,
}

/// How tables of another vault are encrypted.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CopyEncryption {
    /// All of them whole
    Full,
    /// None of them
    None,
}

/// `key …`
#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Add one who can open the vault or store; one without keys gets them
    Add(NewKeyArgs),
    /// Give the vault or store a new vault key; no data are written again
    Rotate {
        /// Whose keys
        #[command(flatten)]
        of: KeyOwnerArgs,
    },
    /// Remove one who can open the vault or store, with a new vault key
    Remove {
        /// The recipient's name
        #[arg(value_name = "NAME")]
        name: String,
        /// Whose keys
        #[command(flatten)]
        of: KeyOwnerArgs,
    },
    /// List those who can open the vault or store
    List {
        /// Whose keys
        #[command(flatten)]
        of: KeyOwnerArgs,
    },
    /// Drop the keys of a table or of a secret column: what they encrypted can never be read again
    Shred {
        /// The backup
        #[arg(value_name = "BACKUP")]
        backup: String,
        /// The table
        #[arg(value_name = "TABLE")]
        table: TableName,
        /// Only this column
        #[arg(long, value_name = "COLUMN")]
        column: Option<String>,
    },
}

/// Whose keys are meant.
#[derive(Debug, Args)]
pub struct KeyOwnerArgs {
    /// The vault; DIR/vault where none is given
    #[arg(long, value_name = "URL", conflicts_with = "store")]
    pub vault: Option<String>,
    /// A store instead of a vault: its name in keepfast.toml, or its URL; DIR/store where neither is given
    #[arg(long, value_name = "STORE", num_args = 0..=1, default_missing_value = "")]
    pub store: Option<String>,
}

/// `key add`
#[derive(Debug, Args)]
pub struct NewKeyArgs {
    /// The recipient's name; `passphrase`, `recovery` or the public key where none is given
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// An age public key, age1…
    #[arg(long, value_name = "PUBLIC_KEY")]
    pub recipient: Option<String>,
    /// Make a key pair and show its secret half, once
    #[arg(long, conflicts_with = "recipient")]
    pub recovery: bool,
    /// A file that holds the new passphrase
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipient", "recovery"])]
    pub new_passphrase_file: Option<PathBuf>,
    /// Whose keys
    #[command(flatten)]
    pub of: KeyOwnerArgs,
}
