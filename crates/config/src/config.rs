//! `keepfast.toml`: stores by name.
//!
//! Everything in it is checked before anything is opened; an unknown key is an error with its line, so that a typing
//! mistake never silently changes what is backed up. Secrets stay where the file points to until a store is opened.

use crate::backup::BackupConfig;
use crate::error::ConfigError;
use crate::scheme::is_store_url;
use keepfast_sql::Address;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The configuration file's usual name.
pub const FILE_NAME: &str = "keepfast.toml";

/// What the configuration declares.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Stores by name.
    #[serde(default)]
    pub stores: BTreeMap<String, StoreConfig>,
    /// What holds for every backup whose command does not say otherwise.
    #[serde(default)]
    pub backup: BackupConfig,
}

/// One declared store.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Where it is: one URL, or one an instance.
    pub url: Urls,
    /// The file that holds its password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds its password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// Whether its password is asked for at the terminal.
    #[serde(default)]
    pub password_prompt: bool,
    /// The file that holds the passphrase of an encrypted store.
    #[serde(default)]
    pub passphrase_file: Option<PathBuf>,
    /// The age identity file that opens an encrypted store.
    #[serde(default)]
    pub identity: Option<PathBuf>,
    /// Replicas that are read in place of `url`, one for each.
    #[serde(default)]
    pub replica_url: Option<Urls>,
    /// Rows a second that are read at most.
    #[serde(default)]
    pub rows_per_second: Option<u64>,
    /// Reading pauses while more threads than these run on a server.
    #[serde(default)]
    pub threads_running: Option<u64>,
    /// Reading pauses while a server's replication lags by more seconds than these.
    #[serde(default)]
    pub replica_lag: Option<u64>,
    /// How applications write on several of its servers at once: `xa`, `marker:COLUMN` or `intents:DATABASE.TABLE`.
    #[serde(default)]
    pub transactions: Option<String>,
    /// How its servers are read at one moment: `barrier` or `none`.
    #[serde(default)]
    pub lock: Option<String>,
    /// The program that makes applications pause, with its arguments.
    #[serde(default)]
    pub pause: Vec<String>,
    /// The program that ends the pause, with its arguments.
    #[serde(default)]
    pub resume: Vec<String>,
    /// Seconds that a pause may take.
    #[serde(default)]
    pub pause_seconds: Option<u64>,
    /// A ShardingSphere configuration file whose sharded tables are declared too.
    #[serde(default)]
    pub sharding_sphere: Option<PathBuf>,
    /// Patterns of tables that are left out where a whole database is meant.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// What is kept of its servers besides what belongs to tables and their databases: `users`.
    #[serde(default)]
    pub definitions: Vec<String>,
    /// Its sharded tables by name.
    #[serde(default)]
    pub tables: BTreeMap<String, ShardedTable>,
}

impl fmt::Debug for StoreConfig {
    /// URLs are shown without their secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("url", &self.url)
            .field("password_file", &self.password_file)
            .field("password_env", &self.password_env)
            .field("password_prompt", &self.password_prompt)
            .field("passphrase_file", &self.passphrase_file)
            .field("identity", &self.identity)
            .field("replica_url", &self.replica_url)
            .field("rows_per_second", &self.rows_per_second)
            .field("threads_running", &self.threads_running)
            .field("replica_lag", &self.replica_lag)
            .field("transactions", &self.transactions)
            .field("lock", &self.lock)
            .field("pause", &self.pause.first())
            .field("resume", &self.resume.first())
            .field("pause_seconds", &self.pause_seconds)
            .field("sharding_sphere", &self.sharding_sphere)
            .field("exclude", &self.exclude)
            .field("definitions", &self.definitions)
            .field("tables", &self.tables)
            .finish()
    }
}

impl fmt::Debug for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().iter().map(|url| Address::new(url).to_string())).finish()
    }
}

/// One URL or several.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "url is a text or a list of texts")]
pub enum Urls {
    /// One.
    One(String),
    /// One an instance.
    Many(Vec<String>),
}

impl Urls {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(url) => std::slice::from_ref(url),
            Self::Many(urls) => urls,
        }
    }
}

/// A table that is spread over shards.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardedTable {
    /// Pattern of its shards, such as `shop_{00..07}.orders_{00..15}`.
    pub shards: String,
    /// Patterns of tables that are none of its shards, though `*` in `shards` finds them.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Key columns.
    #[serde(default)]
    pub key: Option<String>,
    /// SQL that gives a row's shard.
    #[serde(default)]
    pub shard_rule: Option<String>,
}

impl Config {
    /// The configuration of this run: the file given, else `keepfast.toml` here, else in the data folder, else none.
    ///
    /// # Errors
    /// [`ConfigError::File`] when the file that was given cannot be read, [`ConfigError::Form`] when it breaks a rule.
    pub fn find(given: Option<&Path>, data: &Path) -> Result<Self, ConfigError> {
        if let Some(path) = given {
            return Self::read(path);
        }
        for path in [PathBuf::from(FILE_NAME), data.join(FILE_NAME)] {
            if path.is_file() {
                return Self::read(&path);
            }
        }
        Ok(Self::default())
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// [`ConfigError::Form`] with the line of the first rule that is broken.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let refuse = |span: Option<Range<usize>>, reason: String| ConfigError::Form {
            path: path.to_owned(),
            line: line_of(text, span.map_or(0, |s| s.start)),
            reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let config: Self = toml::from_str(text).map_err(|e| refuse(e.span(), e.message().to_owned()))?;
        for (name, store) in &config.stores {
            let at = text.find(&format!("[stores.{name}]")).map(|at| at..at);
            let wrong = |reason: &str| Err(refuse(at.clone(), format!("store '{name}' {reason}")));
            if store.url.all().is_empty() {
                return wrong("has no url");
            }
            let replicas = store.replica_url.iter().flat_map(|urls| urls.all());
            if store.url.all().iter().chain(replicas).any(|u| !is_store_url(u)) {
                return wrong("has a url that is not of a store, such as columnar:///path");
            }
            if store.replica_url.as_ref().is_some_and(|urls| urls.all().len() != store.url.all().len()) {
                return wrong("needs one replica_url for each url, or none");
            }
            let places = [store.password_file.is_some(), store.password_env.is_some(), store.password_prompt];
            if places.into_iter().filter(|given| *given).count() > 1 {
                return wrong("has more than one of password_file, password_env and password_prompt");
            }
        }
        Ok(config)
    }
}

impl StoreConfig {
    /// Its password, where the configuration says where it stands.
    ///
    /// # Errors
    /// [`ConfigError::Secret`] when it is not where the configuration says.
    pub fn password(&self, store: &str) -> Result<Option<String>, ConfigError> {
        let missing = |reason: String| ConfigError::Secret { store: store.to_owned(), reason };
        if let Some(variable) = &self.password_env {
            return std::env::var(variable)
                .map(Some)
                .map_err(|_| missing(format!("variable {variable} is not set")));
        }
        if let Some(path) = &self.password_file {
            return std::fs::read_to_string(path)
                .map(|text| Some(text.trim_end_matches(['\r', '\n']).to_owned()))
                .map_err(|e| missing(format!("cannot read {}: {e}", path.display())));
        }
        Ok(None)
    }
}

/// The line of a byte offset, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("keepfast.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn stores_and_their_sharded_tables_are_read() {
        let config = read(
            "[stores.shop]\nurl = [\"mysql://b@10.0.0.1:3306\", \"mysql://b@10.0.0.2\"]\npassword_file = \"/etc/pw\"\n\
             [stores.shop.tables.orders]\nshards = \"shop_{00..07}.orders_{00..15}\"\nkey = \"order_id\"\n\
             shard_rule = \"user_id % 128\"\n[stores.old]\nurl = \"columnar:///var/old\"\n",
        )
        .unwrap();
        assert_eq!(config.stores["shop"].url.all().len(), 2);
        assert_eq!(config.stores["shop"].tables["orders"].key.as_deref(), Some("order_id"));
        assert_eq!(config.stores["old"].url.all(), ["columnar:///var/old"]);
    }

    #[test]
    fn what_breaks_a_rule_is_named_with_its_line() {
        for (text, line, part) in [
            ("[stores.a]\nurl = \"columnar:///x\"\npasword_file = \"x\"\n", 3, "pasword_file"),
            ("\n\nthreads = 3\n", 3, "threads"),
            ("[stores.a]\nurl = \n", 2, ""),
            ("[stores.a]\nurl = 3\n", 2, "url is a text"),
            ("\n[stores.a]\nurl = []\n", 2, "has no url"),
            ("[stores.a]\nurl = \"s3://bucket\"\n", 1, "not of a store"),
            (
                "[stores.a]\nurl = \"mysql://h\"\npassword_env = \"P\"\npassword_file = \"p\"\n",
                1,
                "more than one",
            ),
            ("[stores.a]\nurl = \"columnar:///x\"\n[stores.a]\nurl = \"columnar:///y\"\n", 3, "duplicate"),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                error.contains(&format!("line {line}: ")) && error.contains(part),
                "{text:?} gave {error}"
            );
        }
    }

    #[test]
    fn passwords_in_urls_are_not_shown() {
        let config = read("[stores.a]\nurl = \"mysql://user:geheim@host/db\"\n").unwrap();
        assert!(!format!("{config:?}").contains("geheim"));
    }

    #[test]
    fn a_missing_password_names_where_it_should_be() {
        let config =
            read("[stores.a]\nurl = \"mysql://h\"\npassword_env = \"KEEPFAST_TEST_UNSET\"\n").unwrap();
        let error = config.stores["a"].password("a").unwrap_err().to_string();
        assert!(error.contains("KEEPFAST_TEST_UNSET"), "{error}");
    }
}
