//! How a store of servers is opened, as its configuration says.

use crate::polite::Limits;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// How a store of servers is opened.
#[derive(Clone, Default)]
pub struct Options {
    /// One URL a server.
    pub urls: Vec<String>,
    /// The password of all of them, where their URLs have none.
    pub password: Option<Zeroizing<String>>,
    /// Logical tables and the patterns of their shards.
    pub tables: BTreeMap<String, ShardedTable>,
    /// The text of a ShardingSphere configuration whose sharded tables are declared too.
    pub sharding_sphere: Option<String>,
    /// Tables that are left out where a whole database is meant: patterns such as `shop.tmp_*` or `*.log`.
    pub exclude: Vec<String>,
    /// Sessions a server that read or write at once.
    pub sessions: usize,
    /// One URL for each of `urls`, of a replica that is read in its place; none reads the servers themselves.
    pub replicas: Vec<String>,
    /// Rows a second that are read at most, of all servers together.
    pub rows_per_second: Option<u64>,
    /// When reading pauses.
    pub limits: Limits,
    /// How applications write on several servers at once.
    pub transactions: Transactions,
    /// Whether accounts and their grants are kept with the backup, and made where they are missing by a restore.
    pub accounts: bool,
    /// How all servers are read at one moment.
    pub lock: Lock,
    /// What is run around the moment.
    pub pause: Option<Pause>,
}

/// How servers are read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// All servers are locked for some milliseconds, while snapshots of them begin.
    #[default]
    Barrier,
    /// No server is locked: snapshots begin when they do, and the binary logs tell what they lack of one moment at the end of the
    /// reading. Tables without a key are refused.
    None,
}

/// Commands that make applications stop writing, and go on: a cut between them is exact.
#[derive(Clone)]
pub struct Pause {
    /// The program that returns once nothing is written any more, with its arguments.
    pub pause: Vec<String>,
    /// The program that ends the pause. It is run whatever happens.
    pub resume: Vec<String>,
    /// How long each of them, and what is done between them, may take.
    pub limit: Duration,
}

impl fmt::Debug for Pause {
    /// Without arguments, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pause")
            .field("pause", &self.pause.first())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// How applications write on several servers at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transactions {
    /// Nothing is known: a cut over several servers is `bounded`, though closed over the XA transactions there are.
    #[default]
    Unknown,
    /// Every transaction on several servers is an XA transaction, with one gtrid for all its branches: a cut that is closed over
    /// them is `exact`.
    Xa,
    /// Every other transaction on several servers carries an id that is the same on all of them: a cut that is closed over those ids
    /// is `exact`.
    Marked(Marker),
}

/// Where the ids of transactions stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// In a column of the tables. Each transaction on both of two servers sets it to its id in a row on each of them, and commits there
    /// within a second of the other; nothing else sets it, but to NULL.
    Column(String),
    /// In a table that each server has, with columns `id` and `servers`: each transaction adds a row on each of its servers, with its
    /// id and their number.
    Intents {
        /// Its database.
        database: String,
        /// Its name.
        table: String,
    },
}

impl std::str::FromStr for Transactions {
    type Err = String;

    /// `xa`, `marker:COLUMN` or `intents:DATABASE.TABLE`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            None if text == "xa" => return Ok(Self::Xa),
            Some(("marker", column)) if !column.is_empty() => {
                return Ok(Self::Marked(Marker::Column(column.to_owned())));
            }
            Some(("intents", place)) => {
                if let Some((database, table)) =
                    place.split_once('.').filter(|(d, t)| !d.is_empty() && !t.is_empty())
                {
                    let (database, table) = (database.to_owned(), table.to_owned());
                    return Ok(Self::Marked(Marker::Intents { database, table }));
                }
            }
            _ => {}
        }
        Err(format!(
            "transactions is 'xa', 'marker:COLUMN' or 'intents:DATABASE.TABLE', and here it is '{text}'"
        ))
    }
}

/// A logical table.
#[derive(Clone, Debug, Default)]
pub struct ShardedTable {
    /// Its shards, such as `shop_{00..07}.orders_{00..15}`, over all servers.
    pub shards: String,
    /// Its key's columns, where the shards' own key is another one.
    pub key: Vec<String>,
    /// SQL whose number says which shard a row belongs to, such as `user_id % 128`; restores into several shards need it.
    pub shard_rule: Option<String>,
    /// Patterns such as `*.orders_old` of tables that are none of its shards.
    pub exclude: Vec<String>,
}

impl fmt::Debug for Options {
    /// Without passwords, which URLs may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("servers", &self.urls.len()).field("tables", &self.tables).finish()
    }
}
