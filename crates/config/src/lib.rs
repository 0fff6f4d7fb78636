//! `keepfast.toml`: stores by name, and what kinds of stores there are.
//!
//! Apart from the command line, so that reading a configuration can be attacked by itself, without DataFusion. Start
//! with [`Config`].

mod backup;
mod config;
mod error;
mod scheme;

pub use backup::BackupConfig;
pub use config::{Config, FILE_NAME, ShardedTable, StoreConfig, Urls};
pub use error::ConfigError;
pub use scheme::{SCHEMES, is_store_url, scheme};
