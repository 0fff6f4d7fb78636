//! From names and URLs to open stores. The only place that knows which kinds of stores this program links.

use crate::credentials::{self, passphrase_of, protect_memory, with_identities};
use crate::error::CliError;
use crate::values::shown;
use async_trait::async_trait;
use keepfast_columnar::{ColumnarStore, Options};
use keepfast_config::{Config, ConfigError, SCHEMES, StoreConfig, is_store_url, scheme};
use keepfast_engine::{EngineError, StoreResolver, StoreSpec};
use keepfast_keys::Credentials;
use keepfast_mysql::{Limits as MySqlLimits, Lock, MySqlStore, Options as MySqlOptions, Pause, ShardedTable};
use keepfast_objects::open_target;
use keepfast_store::Store;
use keepfast_vault::VaultError;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// What one store may use of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads that decode and encode at once.
    pub threads: usize,
    /// Bytes of rows that one change sorts in memory.
    pub memory: usize,
}

/// Opens stores, each once.
#[derive(Debug)]
pub struct Stores {
    data: PathBuf,
    config: Config,
    limits: Limits,
    credentials: Credentials,
    open: Mutex<HashMap<StoreSpec, Arc<dyn Store>>>,
}

impl Stores {
    /// The stores of a data folder and a configuration, with what opens those that are encrypted. Nothing is opened yet.
    pub fn new(data: &Path, config: Config, limits: Limits, credentials: Credentials) -> Self {
        Self { data: data.to_owned(), config, limits, credentials, open: Mutex::default() }
    }

    /// A columnar store as itself, for changes of its keys: it may have none yet.
    ///
    /// # Errors
    /// `Unknown` for a name that the configuration does not have, `Unsupported` for a store of another kind.
    pub fn columnar(&self, spec: &StoreSpec) -> Result<ColumnarStore, EngineError> {
        self.columnar_with(spec, Keys::MayBeMissing)
    }

    fn columnar_with(&self, spec: &StoreSpec, keys: Keys) -> Result<ColumnarStore, EngineError> {
        match spec {
            StoreSpec::Embedded => {
                self.at(&self.data.join("store").to_string_lossy(), Credentials::none(), keys)
            }
            StoreSpec::Url(url) => self.by_url(url, Credentials::none(), keys),
            StoreSpec::Named(name) => {
                let Some(store) = self.config.stores.get(name) else {
                    return Err(EngineError::Unknown { what: "store", name: name.clone() });
                };
                match store.url.all() {
                    [url] if store.tables.is_empty() => self.by_url(url, own(name, store)?, keys),
                    [url, ..] => Err(not_in_this_version(&format!("store '{name}'"), url)),
                    [] => Err(EngineError::Unknown { what: "url of store", name: name.clone() }),
                }
            }
        }
    }

    /// MySQL and MariaDB servers; none where the store is of another kind.
    fn mysql(&self, spec: &StoreSpec) -> Result<Option<Arc<dyn Store>>, EngineError> {
        let ours = |url: &String| matches!(scheme(url), Some("mysql" | "mariadb"));
        let mut options = MySqlOptions { sessions: self.limits.threads.max(2), ..MySqlOptions::default() };
        match spec {
            StoreSpec::Url(url) if ours(url) => options.urls.push(url.clone()),
            StoreSpec::Named(name) => match self.config.stores.get(name) {
                Some(store) if store.url.all().iter().all(ours) => {
                    options.urls = store.url.all().to_vec();
                    let refused = |e: ConfigError| EngineError::Usage {
                        what: format!("store '{name}'"),
                        reason: e.to_string(),
                    };
                    options.password = match store.password_prompt {
                        true => Some(credentials::password(name)?),
                        false => store.password(name).map_err(refused)?.map(Zeroizing::new),
                    };
                    let sharded = store.tables.iter().map(|(name, table)| {
                        let key =
                            table.key.iter().flat_map(|key| key.split(',')).map(|key| key.trim().to_owned());
                        let key = key.collect();
                        let (shards, exclude) = (table.shards.clone(), table.exclude.clone());
                        let shard_rule = table.shard_rule.clone();
                        (name.clone(), ShardedTable { shards, exclude, key, shard_rule })
                    });
                    options.tables = sharded.collect();
                    if let Some(path) = &store.sharding_sphere {
                        let text = std::fs::read_to_string(path).map_err(|e| EngineError::Usage {
                            what: format!("store '{name}'"),
                            reason: format!(
                                "its ShardingSphere configuration {} cannot be read: {e}",
                                path.display()
                            ),
                        })?;
                        options.sharding_sphere = Some(text);
                    }
                    let wrong =
                        |reason: String| EngineError::Usage { what: format!("store '{name}'"), reason };
                    if let Some(transactions) = &store.transactions {
                        options.transactions = transactions.parse().map_err(wrong)?;
                    }
                    options.lock = match store.lock.as_deref() {
                        None | Some("barrier") => Lock::Barrier,
                        Some("none") => Lock::None,
                        Some(other) => {
                            let reason = format!("lock is 'barrier' or 'none', and here it is '{other}'");
                            return Err(wrong(reason));
                        }
                    };
                    options.accounts = match store.definitions.as_slice() {
                        [] => false,
                        [one] if one == "users" => true,
                        other => {
                            let reason =
                                format!("definitions is [\"users\"] or not set, and here it is {other:?}");
                            return Err(wrong(reason));
                        }
                    };
                    if !store.pause.is_empty() || !store.resume.is_empty() {
                        options.pause = Some(Pause {
                            pause: store.pause.clone(),
                            resume: store.resume.clone(),
                            limit: Duration::from_secs(store.pause_seconds.unwrap_or(10)),
                        });
                    }
                    options.exclude = store.exclude.clone();
                    options.replicas = store.replica_url.iter().flat_map(|u| u.all().to_vec()).collect();
                    options.rows_per_second = store.rows_per_second;
                    options.limits = MySqlLimits {
                        threads_running: store.threads_running,
                        replica_lag: store.replica_lag.map(Duration::from_secs),
                    };
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        }
        protect_memory();
        Ok(Some(MySqlStore::open(&options)?))
    }

    fn at(&self, location: &str, own: Credentials, keys: Keys) -> Result<ColumnarStore, EngineError> {
        let target = open_target(location).map_err(VaultError::from)?;
        let Limits { threads, memory } = self.limits;
        // A store whose own passphrase or identity is named is no plain one, whatever stands in its place.
        let sealed = keys == Keys::AsConfigured && !own.is_empty();
        let credentials = own.and(&self.credentials);
        Ok(ColumnarStore::with_options(
            target,
            Options { threads, sort_memory: memory, credentials, sealed, ..Options::default() },
        ))
    }

    fn by_url(&self, url: &str, own: Credentials, keys: Keys) -> Result<ColumnarStore, EngineError> {
        if let Some(rest) = url.strip_prefix("columnar://") {
            if !rest.starts_with('/') {
                return Err(EngineError::Usage {
                    what: format!("store '{}'", shown(url)),
                    reason: "its URL has the form columnar:///path".into(),
                });
            }
            return self.at(&format!("file://{rest}"), own, keys);
        }
        if let Some(inner) = url.strip_prefix("columnar+") {
            return self.at(inner, own, keys);
        }
        Err(not_in_this_version(&format!("store '{}'", shown(url)), url))
    }
}

/// Whether a store must have keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// Where the configuration names what opens it.
    AsConfigured,
    /// They may be about to be given.
    MayBeMissing,
}

/// What the configuration names for this store alone.
fn own(name: &str, store: &StoreConfig) -> Result<Credentials, EngineError> {
    let refused = |e: CliError| EngineError::Usage { what: format!("store '{name}'"), reason: e.to_string() };
    let mut credentials = Credentials::none();
    if let Some(path) = &store.passphrase_file {
        credentials = credentials.with_passphrase(passphrase_of(path).map_err(refused)?);
    }
    if let Some(path) = &store.identity {
        credentials = with_identities(credentials, path).map_err(refused)?;
    }
    Ok(credentials)
}

#[async_trait]
impl StoreResolver for Stores {
    async fn open(&self, spec: &StoreSpec) -> Result<Arc<dyn Store>, EngineError> {
        let mut open = self.open.lock().await;
        if let Some(store) = open.get(spec) {
            return Ok(store.clone());
        }
        let store: Arc<dyn Store> = match self.mysql(spec)? {
            Some(store) => store,
            None => Arc::new(self.columnar_with(spec, Keys::AsConfigured)?),
        };
        open.insert(spec.clone(), store.clone());
        Ok(store)
    }

    fn is_store_url(&self, url: &str) -> bool {
        is_store_url(url)
    }
}

fn not_in_this_version(what: &str, url: &str) -> EngineError {
    EngineError::Unsupported {
        what: what.to_owned(),
        reason: match scheme(url) {
            Some("columnar") => "sharded tables are not in this version of Keepfast".into(),
            Some(kind) if SCHEMES.contains(&kind) => {
                format!(
                    "stores of kind {kind} are not in this version of Keepfast; columnar:///path and mysql://user@host are"
                )
            }
            _ => "a store's URL has the form columnar:///path".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stores_of_later_versions_say_so_and_show_no_password() {
        let config =
            Config::parse("[stores.shop]\nurl = \"phoenix://u:geheim@h\"\n", Path::new("c.toml")).unwrap();
        let stores = Stores::new(
            Path::new("unused"),
            config,
            Limits { threads: 1, memory: 1 << 20 },
            Credentials::none(),
        );
        for spec in [StoreSpec::Named("shop".into()), StoreSpec::Url("phoenix://u:geheim@h/d".into())] {
            let error = stores.open(&spec).await.unwrap_err().to_string();
            assert!(error.contains("not in this version") && !error.contains("geheim"), "{error}");
        }
        let error = stores.open(&StoreSpec::Named("nope".into())).await.unwrap_err().to_string();
        assert!(error.contains("nope"), "{error}");
    }
}
