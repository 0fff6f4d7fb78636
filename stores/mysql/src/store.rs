//! Servers as one store.

use crate::address::Address;
use crate::catalog::{self, PhysicalTable};
use crate::connection::Connection;
use crate::cut::MySqlCut;
use crate::error::failed;
use crate::load::{self, MySqlLoad};
use crate::rule::Rule;
use crate::topology::{Physical, expand};
use async_trait::async_trait;
use keepfast_model::point::Dependent;
use keepfast_model::{ByteCount, ShardId, TableName, TableSchema};
use keepfast_store::{
    Capabilities, CutKind, CutOptions, Load, LoadOptions, OpenCut, PublishKind, Result, Store, StoreError,
    TableInfo, UndoToken, UnfinishedLoad,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The kind of store, as restore points name it.
pub(crate) const KIND: &str = "mysql";

/// How a store of servers is opened.
#[derive(Clone, Default)]
pub struct Options {
    /// One URL a server.
    pub urls: Vec<String>,
    /// The password of all of them, where their URLs have none.
    pub password: Option<Zeroizing<String>>,
    /// Logical tables and the patterns of their shards.
    pub tables: BTreeMap<String, ShardedTable>,
    /// Sessions a server that read or write at once.
    pub sessions: usize,
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
}

impl fmt::Debug for Options {
    /// Without passwords, which URLs may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("servers", &self.urls.len()).field("tables", &self.tables).finish()
    }
}

/// MySQL and MariaDB servers as one store.
#[derive(Clone, Debug)]
pub struct MySqlStore {
    pub(crate) shared: Arc<Shared>,
}

/// A server and how it is entered.
pub(crate) struct Server {
    pub address: Address,
    password: Zeroizing<String>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub servers: Vec<Server>,
    pub tables: BTreeMap<String, (Vec<Physical>, Vec<String>)>,
    pub rules: BTreeMap<String, Rule>,
    pub sessions: usize,
}

/// A shard: a physical table on one of the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// Index of its server.
    pub server: usize,
    pub table: PhysicalTable,
    pub id: ShardId,
}

/// A logical table as its shards have it.
#[derive(Clone, Debug)]
pub(crate) struct Logical {
    pub schema: TableSchema,
    pub shards: Vec<Shard>,
    pub dependents: Vec<Dependent>,
}

impl Server {
    pub async fn connect(&self) -> Result<Connection> {
        let opened = Connection::open(&self.address, &self.password).await;
        opened.map_err(|e| failed("connect", &self.address, e))
    }

    /// A connection that writes: into the binary log only where the address does not forbid it.
    pub async fn connect_to_write(&self) -> Result<Connection> {
        let mut connection = self.connect().await?;
        if !self.address.binlog {
            let off = connection.run("SET SESSION sql_log_bin = 0").await;
            off.map_err(|e| {
                failed("keep what is written out of the binary log (binlog=off)", &self.address, e)
            })?;
        }
        // One that waits for others to load must not be closed meanwhile.
        let waits = connection.run("SET SESSION wait_timeout = 2147483").await;
        waits.map_err(|e| failed("connect", &self.address, e))?;
        Ok(connection)
    }

    /// Where it is, whoever enters it: what journals and undo tokens call it.
    pub fn name(&self) -> String {
        match &self.address.socket {
            Some(path) => path.display().to_string(),
            None => format!("{}:{}", self.address.host, self.address.port),
        }
    }
}

impl MySqlStore {
    /// The store of these servers. Nothing is connected yet.
    ///
    /// # Errors
    /// `Unsupported` for a URL or a pattern that is none.
    pub fn new(options: &Options) -> Result<Self> {
        let mut servers = vec![];
        for url in &options.urls {
            let located = Address::parse(url)?;
            let password = located.password.or_else(|| options.password.clone()).unwrap_or_default();
            servers.push(Server { address: located.address, password });
        }
        let (mut tables, mut rules) = (BTreeMap::new(), BTreeMap::new());
        for (name, sharded) in &options.tables {
            let shards = expand(&sharded.shards).map_err(|reason| StoreError::Unsupported {
                store: "a MySQL store".into(),
                what: format!("have table '{name}' with the shards '{}': {reason}", sharded.shards),
            })?;
            if let Some(rule) = &sharded.shard_rule {
                let rule = Rule::parse(rule, shards.len()).map_err(|reason| StoreError::Unsupported {
                    store: "a MySQL store".into(),
                    what: format!("have table '{name}': {reason}"),
                })?;
                rules.insert(name.clone(), rule);
            }
            tables.insert(name.clone(), (shards, sharded.key.clone()));
        }
        let sessions = options.sessions.max(1);
        Ok(Self { shared: Arc::new(Shared { servers, tables, rules, sessions }) })
    }
}

impl Shared {
    pub fn unsupported(&self, what: String) -> StoreError {
        StoreError::Unsupported { store: self.to_string(), what }
    }

    /// The name of the database that a table's name means on a server.
    pub fn database<'a>(&'a self, table: &'a TableName, server: &'a Server) -> &'a str {
        match &server.address.database {
            Some(database) if table.database == TableName::bare("t").database => database,
            _ => &table.database,
        }
    }

    /// The place of a server among these by its [`Server::name`].
    pub fn server_named(&self, name: &str) -> Result<usize> {
        let found = self.servers.iter().position(|server| server.name() == name);
        found.ok_or_else(|| self.unsupported(format!("reach the server {name}: it is not declared any more")))
    }

    /// The shards of a declared table and its key; also of one that a restore replaced or an undo put aside, under that name.
    fn declared(&self, table: &str) -> Option<(Vec<Physical>, &[String])> {
        if let Some((shards, key)) = self.tables.get(table) {
            return Some((shards.clone(), key));
        }
        let at = table.find("__replaced_").or_else(|| table.find("__undone_"))?;
        let (shards, key) = self.tables.get(&table[..at])?;
        let kept = shards.iter().map(|(database, name)| (database.clone(), load::behind(name, &table[at..])));
        Some((kept.collect(), key))
    }

    /// Finds a table's shards and checks that they agree. `connections` has one for each server.
    pub async fn resolve(&self, table: &TableName, connections: &mut [Connection]) -> Result<Logical> {
        let declared = self.declared(&table.table);
        let mut shards = vec![];
        let mut missing = BTreeSet::new();
        let wanted: Vec<Option<&Physical>> = match &declared {
            Some((shards, _)) => shards.iter().map(Some).collect(),
            None => vec![None],
        };
        for physical in wanted {
            let mut found: Vec<Shard> = vec![];
            for (at, (server, connection)) in self.servers.iter().zip(connections.iter_mut()).enumerate() {
                let (database, name) = match physical {
                    Some((database, name)) => (database.as_str(), name.as_str()),
                    None => (self.database(table, server), table.table.as_str()),
                };
                let described = catalog::describe(connection, database, name).await;
                let described = described.map_err(|e| failed("describe a table", &server.address, e))?;
                if let Some(described) = described {
                    found.push(self.shard(at, described));
                }
            }
            match (found.as_slice(), physical) {
                ([_], _) => shards.append(&mut found),
                ([], None) => {
                    return Err(StoreError::NoTable { table: table.to_string(), store: self.to_string() });
                }
                ([], Some((database, name))) => {
                    missing.insert(format!("{database}.{name}"));
                }
                ([first, second, ..], _) => {
                    return Err(self.unsupported(format!(
                        "tell which shard is meant: '{}' and '{}' are both there",
                        first.id.0, second.id.0
                    )));
                }
            }
        }
        if !missing.is_empty() {
            let names: Vec<String> = missing.into_iter().collect();
            return Err(self.unsupported(format!(
                "read all of table '{}': its shards {} are on no server",
                table.table,
                names.join(", ")
            )));
        }
        self.agree(table, shards, declared.as_ref().map_or(&[][..], |(_, key)| key))
    }

    pub fn shard(&self, server: usize, table: PhysicalTable) -> Shard {
        let place = format!("{}.{}", table.database, table.name);
        let id = match self.servers.as_slice() {
            [_] => place,
            servers => {
                let address = &servers[server].address;
                format!("{}:{}/{place}", address.host, address.port)
            }
        };
        Shard { server, table, id: ShardId(id) }
    }

    /// Checks that all shards have the same columns and the same key.
    fn agree(&self, table: &TableName, shards: Vec<Shard>, key: &[String]) -> Result<Logical> {
        let Some(first) = shards.first() else {
            return Err(StoreError::NoTable { table: table.to_string(), store: self.to_string() });
        };
        let refuse = |what: String| self.unsupported(format!("read table '{}': {what}", table.table));
        let mut schema = first.table.schema().map_err(|e| refuse(format!("{} of {}", e, first.id.0)))?;
        if !key.is_empty() {
            let ids = key.iter().map(|name| schema.columns.iter().find(|c| c.name == *name).map(|c| c.id));
            let ids: Option<Vec<_>> = ids.collect();
            schema.key = ids.ok_or_else(|| refuse("its key names a column that is not there".into()))?;
            schema.check(&table.table)?;
        }
        for shard in &shards[1..] {
            if let Some(difference) = difference(&first.table, &shard.table) {
                return Err(refuse(format!("{difference} ('{}' and '{}')", first.id.0, shard.id.0)));
            }
        }
        let dependents = vec![Dependent {
            kind: format!("{KIND} table"),
            name: first.table.name.clone(),
            definition: first.table.create.clone(),
        }];
        Ok(Logical { schema, shards, dependents })
    }

    /// One connection to each server.
    pub async fn connect(&self) -> Result<Vec<Connection>> {
        let mut all = vec![];
        for server in &self.servers {
            all.push(server.connect().await?);
        }
        Ok(all)
    }
}

/// The first way in which the columns of two shards differ.
fn difference(first: &PhysicalTable, other: &PhysicalTable) -> Option<String> {
    for column in &first.columns {
        match other.columns.iter().find(|c| c.name == column.name) {
            None => return Some(format!("column '{}' is in one shard and not in another", column.name)),
            Some(found) if found != column => {
                return Some(format!(
                    "column '{}' is {} in one shard and {} in another",
                    column.name, column.declared.column_type, found.declared.column_type
                ));
            }
            Some(_) => {}
        }
    }
    let names = |table: &PhysicalTable| table.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    if names(first) != names(other) {
        return Some("shards have other columns or another order of them".into());
    }
    (first.key != other.key).then(|| "shards have other keys".into())
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self.servers.iter().map(|s| s.address.to_string()).collect();
        f.write_str(&servers.join(", "))
    }
}

impl fmt::Display for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

#[async_trait]
impl Store for MySqlStore {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cut: CutKind::Live,
            changes: false,
            source_proof: true,
            key_order: false,
            publish: Some(match self.shared.servers.len() {
                1 => PublishKind::Atomic,
                _ => PublishKind::Journaled,
            }),
            merge: false,
            segments: false,
        }
    }

    async fn list_tables(&self, database: Option<&str>) -> Result<Vec<TableName>> {
        let mut connections = self.shared.connect().await?;
        let declared = self.shared.tables.iter();
        let shards: BTreeMap<&Physical, &String> =
            declared.flat_map(|(name, (shards, _))| shards.iter().map(move |shard| (shard, name))).collect();
        let mut names = BTreeSet::new();
        for (server, connection) in self.shared.servers.iter().zip(&mut connections) {
            let found = catalog::tables(connection, database).await;
            for place in found.map_err(|e| failed("list the tables", &server.address, e))? {
                match shards.get(&place) {
                    None if place.1.starts_with(load::PREFIX) => {}
                    None => {
                        names.insert(TableName { store: None, database: place.0, table: place.1 });
                    }
                    // A declared table is there when one of its shards is; reading it names those that are missing.
                    Some(name) if database.is_none() => {
                        names.insert(TableName::bare(*name));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    async fn describe(&self, table: &TableName) -> Result<TableInfo> {
        let mut connections = self.shared.connect().await?;
        let logical = self.shared.resolve(table, &mut connections).await?;
        Ok(TableInfo {
            name: table.clone(),
            schema: logical.schema,
            rows: logical.shards.iter().map(|s| s.table.rows).sum(),
            bytes: ByteCount(logical.shards.iter().map(|s| s.table.bytes).sum()),
            shards: logical.shards.into_iter().map(|s| s.id).collect(),
            dependents: logical.dependents,
        })
    }

    async fn open_cut(&self, tables: &[TableName], options: &CutOptions) -> Result<Arc<dyn OpenCut>> {
        Ok(Arc::new(MySqlCut::open(self.shared.clone(), tables, options).await?))
    }

    async fn attach_cut(&self, _: &serde_json::Value) -> Result<Arc<dyn OpenCut>> {
        Err(self
            .shared
            .unsupported("open a cut again: its sessions end with the process that opened them".into()))
    }

    async fn begin_load(&self, options: LoadOptions) -> Result<Arc<dyn Load>> {
        Ok(Arc::new(MySqlLoad::begin(self.shared.clone(), options).await?))
    }

    async fn attach_load(&self, token: &serde_json::Value) -> Result<Arc<dyn Load>> {
        Ok(Arc::new(MySqlLoad::attach(self.shared.clone(), token).await?))
    }

    async fn unfinished_loads(&self) -> Result<Vec<UnfinishedLoad>> {
        load::unfinished(&self.shared).await
    }

    async fn undo(&self, token: &UndoToken) -> Result<()> {
        load::undo(&self.shared, token).await
    }

    async fn sweep(&self) -> Result<Vec<String>> {
        load::sweep(&self.shared).await
    }
}
