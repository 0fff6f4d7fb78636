//! From names to stores, vaults and backups.

use crate::Result;
use async_trait::async_trait;
use keepfast_store::Store;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::sync::Arc;

/// Which store is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "store", content = "value", rename_all = "snake_case")]
pub enum StoreSpec {
    /// The embedded Table Store of the data folder.
    Embedded,
    /// A store declared in the configuration.
    Named(String),
    /// A store's URL, such as `columnar:///path`.
    Url(String),
}

/// Opens stores; only programs that link them know how.
#[async_trait]
pub trait StoreResolver: Debug + Send + Sync {
    /// Opens a store. Opening the same one twice gives equal views of it.
    async fn open(&self, spec: &StoreSpec) -> Result<Arc<dyn Store>>;

    /// Whether the URL names a store rather than a vault.
    fn is_store_url(&self, url: &str) -> bool;
}
