//! Servers as one store.

use crate::address::Address;
use crate::catalog::{self, PhysicalTable};
use crate::connection::Connection;
use crate::cut::MySqlCut;
use crate::definition::ForeignKey;
use crate::definitions;
use crate::error::failed;
use crate::load::{self, MySqlLoad};
use crate::names::{full, quoted};
use crate::options::{Lock, Options, Pause, Transactions};
use crate::polite::{Limits, replication};
use crate::rule::Rule;
use crate::sphere;
use crate::topology::{Glob, Physical, Wild, expand};
use async_trait::async_trait;
use keepfast_model::point::Dependent;
use keepfast_model::{ByteCount, ShardId, TableName, TableSchema};
use keepfast_store::{
    Capabilities, CutKind, CutOptions, Load, LoadOptions, OpenCut, Past, PublishKind, Result, Store,
    StoreError, SystemClock, TableInfo, Throttled, UndoToken, UnfinishedLoad, throttled,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How far behind a replica may be that is read, where nothing else is said.
const LAG: Duration = Duration::from_secs(60);

/// The kind of store, as restore points name it.
pub(crate) const KIND: &str = "mysql";

/// MySQL and MariaDB servers as one store.
#[derive(Clone, Debug)]
pub struct MySqlStore {
    pub(crate) shared: Arc<Shared>,
    /// Those that are read in place of the servers, one for each.
    replicas: Vec<Server>,
}

/// A server and how it is entered.
#[derive(Clone)]
pub(crate) struct Server {
    pub address: Address,
    password: Zeroizing<String>,
    /// See [`Self::name`]. A replica has that of the server that it follows.
    name: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub servers: Vec<Server>,
    pub tables: BTreeMap<String, (Vec<Physical>, Vec<String>)>,
    pub rules: BTreeMap<String, Rule>,
    pub sessions: usize,
    pub limits: Limits,
    pub transactions: Transactions,
    /// Whether accounts are kept and made.
    pub accounts: bool,
    pub lock: Lock,
    pub pause: Option<Pause>,
    /// Tables whose shards are all that a pattern with `*` finds.
    wild: BTreeMap<String, Wild>,
    exclude: Vec<Glob>,
    /// How far these servers are behind others whose moment is meant.
    pub behind: Duration,
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

impl Logical {
    /// Work on shards in an order in which servers take turns, so that each of them has some from the beginning on.
    pub fn in_turns<T>(&self, work: Vec<T>, shard: impl Fn(&T) -> usize) -> Vec<T> {
        let mut turns: BTreeMap<usize, usize> = BTreeMap::new();
        let turn = |one: T| {
            let turn = turns.entry(self.shards[shard(&one)].server).or_default();
            *turn += 1;
            (*turn, one)
        };
        let mut work: Vec<(usize, T)> = work.into_iter().map(turn).collect();
        work.sort_by_key(|(turn, _)| *turn);
        work.into_iter().map(|(_, one)| one).collect()
    }
}

impl Server {
    fn parse(url: &str, password: Option<&Zeroizing<String>>) -> Result<Self> {
        let located = Address::parse(url)?;
        let password = located.password.or_else(|| password.cloned()).unwrap_or_default();
        let name = located.address.place();
        Ok(Self { address: located.address, password, name })
    }

    /// Where its change log stands: its address, and for a replica what it follows.
    pub fn place(&self) -> String {
        let own = self.address.place();
        if own == self.name { own } else { format!("{own} (replica of {})", self.name) }
    }

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

    /// Where it is, whoever enters it: what shards, journals and undo tokens call it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl MySqlStore {
    /// The store of these servers. Nothing is connected yet.
    ///
    /// # Errors
    /// `Unsupported` for a URL or a pattern that is none.
    pub fn new(options: &Options) -> Result<Self> {
        let password = options.password.as_ref();
        let mut servers = vec![];
        for url in &options.urls {
            servers.push(Server::parse(url, password)?);
        }
        let refuse = |what: String| StoreError::Unsupported { store: "a MySQL store".into(), what };
        if !options.replicas.is_empty() && options.replicas.len() != servers.len() {
            return Err(refuse(format!(
                "read {} replicas of {} servers: it needs one for each, in the order of the servers",
                options.replicas.len(),
                servers.len()
            )));
        }
        let mut replicas = vec![];
        for (url, server) in options.replicas.iter().zip(&servers) {
            replicas.push(Server { name: server.name.clone(), ..Server::parse(url, password)? });
        }
        let globs = |texts: &[String]| {
            let parsed = texts.iter().map(|text| {
                Glob::parse(text).map_err(|why| refuse(format!("leave out the tables '{text}': {why}")))
            });
            parsed.collect::<Result<Vec<_>>>()
        };
        let (mut wild, mut tables, mut rules) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, sharded) in &options.tables {
            let exclude = globs(&sharded.exclude)?;
            if sharded.shards.contains('*') {
                let found = Glob::parse(&sharded.shards).map_err(|why| {
                    refuse(format!("have table '{name}' with the shards '{}': {why}", sharded.shards))
                })?;
                wild.insert(name.clone(), Wild { shards: found, exclude });
                tables.insert(name.clone(), (vec![], sharded.key.clone()));
                continue;
            }
            let mut shards = expand(&sharded.shards).map_err(|reason| StoreError::Unsupported {
                store: "a MySQL store".into(),
                what: format!("have table '{name}' with the shards '{}': {reason}", sharded.shards),
            })?;
            shards.retain(|place| !exclude.iter().any(|glob| glob.is(place)));
            if let Some(rule) = &sharded.shard_rule {
                let rule = Rule::parse(rule, shards.len())
                    .map_err(|reason| refuse(format!("have table '{name}': {reason}")))?;
                rules.insert(name.clone(), rule);
            }
            tables.insert(name.clone(), (shards, sharded.key.clone()));
        }
        let declared = options.sharding_sphere.as_deref().map(sphere::tables).transpose();
        let declared = declared
            .map_err(|why| refuse(format!("read the ShardingSphere configuration: {why}")))?
            .unwrap_or_default();
        for (name, sphere::Declared { shards, rule }) in declared {
            // What is declared here goes before it.
            if tables.contains_key(&name) {
                continue;
            }
            if let Some(rule) = rule {
                let rule = Rule::parse(&rule, shards.len());
                rules
                    .insert(name.clone(), rule.map_err(|why| refuse(format!("have table '{name}': {why}")))?);
            }
            tables.insert(name, (shards, vec![]));
        }
        let shared = Shared {
            servers,
            tables,
            rules,
            sessions: options.sessions.max(1),
            limits: options.limits,
            transactions: options.transactions.clone(),
            accounts: options.accounts,
            lock: options.lock,
            pause: options.pause.clone(),
            wild,
            exclude: globs(&options.exclude)?,
            behind: Duration::ZERO,
        };
        if shared.pause.as_ref().is_some_and(|p| p.pause.is_empty() || p.resume.is_empty()) {
            return Err(refuse(
                "pause an application with one command alone: it needs one to pause it and one to resume"
                    .into(),
            ));
        }
        Ok(Self { shared: Arc::new(shared), replicas })
    }

    /// As [`Self::new`], read no faster than the options say.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn open(options: &Options) -> Result<Arc<dyn Store>> {
        let store: Arc<dyn Store> = Arc::new(Self::new(options)?);
        Ok(match options.rows_per_second {
            None => store,
            rows_per_second => {
                let limits = throttled::Limits { rows_per_second, bytes_per_second: None };
                Arc::new(Throttled::new(store, limits, Arc::new(SystemClock::default())))
            }
        })
    }

    /// The servers to read: the replicas, where there are some and all of them can be reached and keep up.
    async fn reading(&self) -> Result<Arc<Shared>> {
        if self.replicas.is_empty() {
            return Ok(self.shared.clone());
        }
        let mut behind = Duration::ZERO;
        for (replica, server) in self.replicas.iter().zip(&self.shared.servers) {
            let lag = match self.lag(replica, server).await {
                Ok(Ok(lag)) => lag,
                Ok(Err(why)) => {
                    tracing::warn!(replica = %replica.address, "the servers are read, and not their replicas: {why}");
                    return Ok(self.shared.clone());
                }
                Err(e @ StoreError::Unavailable { .. }) => {
                    tracing::warn!(replica = %replica.address, "the servers are read, and not their replicas: {e}");
                    return Ok(self.shared.clone());
                }
                Err(e) => return Err(e),
            };
            // It says whole seconds.
            behind = behind.max(lag + Duration::from_secs(1));
        }
        Ok(Arc::new(Shared { servers: self.replicas.clone(), behind, ..(*self.shared).clone() }))
    }

    /// How far a replica is behind; why it is not read otherwise.
    async fn lag(&self, replica: &Server, server: &Server) -> Result<std::result::Result<Duration, String>> {
        let fail = |e| failed("read how it replicates", &replica.address, e);
        let mut connection = replica.connect().await?;
        let found = replication(&mut connection).await.map_err(fail)?;
        let id = server.connect().await?.rows("SELECT @@server_id").await;
        let id = id.map_err(|e| failed("read its number", &server.address, e))?;
        let id = id.first().and_then(|row| std::str::from_utf8(row.first()?.as_deref()?).ok()?.parse().ok());
        let source = found.and_then(|f| f.source);
        if source.is_none() || source != id {
            return Err(self.shared.unsupported(format!(
                "read {} in place of {}, because it is no replica of it",
                replica.address, server.address
            )));
        }
        let most = self.shared.limits.replica_lag.unwrap_or(LAG);
        Ok(match found.and_then(|f| f.lag) {
            None => Err("its replication has stopped".into()),
            Some(lag) if lag > most => Err(format!("it is {} s behind", lag.as_secs())),
            Some(lag) => Ok(lag),
        })
    }
}

impl Shared {
    /// Whether the configuration says that no transaction is torn at a cut that is closed.
    pub fn whole(&self) -> bool {
        self.transactions != Transactions::Unknown || self.pause.is_some()
    }

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

    /// The shards of a declared table, those that a pattern with `*` finds now, and its key; also of one that a restore replaced or an
    /// undo put aside, under that name.
    pub async fn declared(
        &self,
        table: &TableName,
        connections: &mut [Connection],
    ) -> Result<Option<(Vec<Physical>, &[String])>> {
        let name = table.table.as_str();
        let (name, suffix) = match name.find("__replaced_").or_else(|| name.find("__undone_")) {
            Some(at) if !self.tables.contains_key(name) => name.split_at(at),
            _ => (name, ""),
        };
        let Some((shards, key)) = self.tables.get(name) else { return Ok(None) };
        let mut shards = shards.clone();
        if let Some(wild) = self.wild.get(name) {
            let mut all = BTreeSet::new();
            for (server, connection) in self.servers.iter().zip(connections) {
                let found = catalog::tables(connection, None).await;
                let found = found.map_err(|e| failed("list the tables", &server.address, e))?;
                all.extend(found.into_iter().filter(|place| wild.is(place)));
            }
            shards = all.into_iter().collect();
        }
        if !suffix.is_empty() {
            shards.iter_mut().for_each(|(_, name)| *name = load::behind(name, suffix));
        }
        Ok(Some((shards, key)))
    }

    /// Finds a table's shards and checks that they agree. `connections` has one for each server.
    pub async fn resolve(&self, table: &TableName, connections: &mut [Connection]) -> Result<Logical> {
        let declared = self.declared(table, connections).await?;
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
        // A declared table is made by a restore; before it there is none.
        if !missing.is_empty() && shards.is_empty() {
            return Err(StoreError::NoTable { table: table.to_string(), store: self.to_string() });
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

    /// The databases of a table whose shards a pattern with `*` finds, as that pattern.
    pub fn databases_of(&self, table: &str) -> Option<&str> {
        self.wild.get(table).map(|wild| wild.shards.database())
    }

    pub fn shard(&self, server: usize, table: PhysicalTable) -> Shard {
        let place = format!("{}.{}", table.database, table.name);
        let id = match self.servers.as_slice() {
            [_] => place,
            servers => format!("{}/{place}", servers[server].name()),
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
            let creates = (self.unsharded(&first.table), self.unsharded(&shard.table));
            if let Some(difference) = difference((&first.table, &creates.0), (&shard.table, &creates.1)) {
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

    /// The server's own statement of a shard, whose foreign keys name declared tables in place of their shards, and without the names of
    /// indexes for them.
    fn unsharded(&self, table: &PhysicalTable) -> String {
        let mut create = table.create.clone();
        for key in ForeignKey::all_of(&table.create) {
            let database = key.database.as_ref().unwrap_or(&table.database).clone();
            let place = (database, key.table.clone());
            let declared = self.tables.iter().find(|(_, (shards, _))| shards.contains(&place));
            let own = match &key.database {
                Some(database) => full(database, &key.table),
                None => quoted(&key.table),
            };
            if let Some((name, _)) = declared {
                let (own, all) = (format!(" REFERENCES {own} ("), format!(" REFERENCES {} (", quoted(name)));
                create = create.replace(&own, &all);
            }
            // An index that the server made for the key has its name.
            let columns: Vec<String> = key.columns.iter().map(|column| quoted(column)).collect();
            let end = format!(" ({})", columns.join(","));
            let unnamed = |line: &str| match line.trim().trim_end_matches(',') {
                index if index.starts_with("KEY ") && index.ends_with(&end) => format!("KEY{end}"),
                _ => line.to_owned(),
            };
            create = create.lines().map(unnamed).collect::<Vec<_>>().join("\n");
        }
        create
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
fn difference(
    (first, first_create): (&PhysicalTable, &str),
    (other, other_create): (&PhysicalTable, &str),
) -> Option<String> {
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
    if first.key != other.key {
        return Some("shards have other keys".into());
    }
    // Indexes, checks, engine, character set, row format, partitions: what the server itself says of them.
    let (a, b) = (parts_of(first_create), parts_of(other_create));
    match (a.difference(&b).next(), b.difference(&a).next()) {
        (None, None) => None,
        (Some(one), Some(other)) => Some(format!("'{one}' is in one shard and '{other}' in another")),
        (Some(part), None) | (None, Some(part)) => {
            Some(format!("'{part}' is in one shard and not in another"))
        }
    }
}

/// The parts of a server's own statement that two shards have in common: without names and counters, and in no order.
fn parts_of(create: &str) -> BTreeSet<String> {
    let parts = create.lines().skip(1).map(|line| {
        let line = line.trim().trim_end_matches(',');
        let line = match line.strip_prefix("CONSTRAINT `").and_then(|rest| rest.split_once("` ")) {
            Some((_, constraint)) => constraint,
            None => line,
        };
        if !line.starts_with(')') {
            return line.to_owned();
        }
        let words = line.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT="));
        words.collect::<Vec<_>>().join(" ")
    });
    // Every line of it says something; comments of people do not matter.
    parts.map(|part| part.split(" COMMENT").next().unwrap_or_default().to_owned()).collect()
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
            changes: true,
            source_proof: true,
            key_order: false,
            publish: Some(match self.shared.servers.len() {
                1 => PublishKind::Atomic,
                _ => PublishKind::Journaled,
            }),
            merge: true,
            segments: false,
        }
    }

    async fn list_tables(&self, database: Option<&str>) -> Result<Vec<TableName>> {
        let mut connections = self.shared.connect().await?;
        let declared = self.shared.tables.iter();
        // Declared tables are of the database that names without one mean, wherever their shards are.
        let own = TableName::bare("t").database;
        let whole = database.is_none_or(|database| database == own);
        let shards: BTreeMap<&Physical, &String> =
            declared.flat_map(|(name, (shards, _))| shards.iter().map(move |shard| (shard, name))).collect();
        let mut names = BTreeSet::new();
        for (server, connection) in self.shared.servers.iter().zip(&mut connections) {
            let found = catalog::tables(connection, database.filter(|_| !whole)).await;
            for place in found.map_err(|e| failed("list the tables", &server.address, e))? {
                if self.shared.exclude.iter().any(|glob| glob.is(&place)) {
                    continue;
                }
                let wild = self.shared.wild.iter().find(|(_, wild)| wild.is(&place)).map(|(name, _)| name);
                match shards.get(&place).copied().or(wild) {
                    None if place.1.starts_with(load::PREFIX) => {}
                    None if database.is_some_and(|database| database != place.0) => {}
                    None => {
                        names.insert(TableName { store: None, database: place.0, table: place.1 });
                    }
                    // A declared table is there when one of its shards is; reading it names those that are missing.
                    Some(name) if whole => {
                        names.insert(TableName::bare(name));
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
        let mut found = BTreeMap::from([(table.clone(), logical)]);
        definitions::attach(&self.shared, &mut connections, &mut found).await?;
        let missing = || StoreError::NoTable { table: table.to_string(), store: self.to_string() };
        let logical = found.remove(table).ok_or_else(missing)?;
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
        Ok(Arc::new(MySqlCut::open(self.reading().await?, tables, options).await?))
    }

    async fn open_past_cut(&self, tables: &[TableName], past: &Past) -> Result<Option<Arc<dyn OpenCut>>> {
        let cut = MySqlCut::past(self.reading().await?, tables, past).await?;
        Ok(cut.map(|cut| Arc::new(cut) as _))
    }

    async fn attach_cut(&self, _: &serde_json::Value) -> Result<Arc<dyn OpenCut>> {
        Err(self
            .shared
            .unsupported("open a cut again: its sessions end with the process that opened them".into()))
    }

    async fn begin_load(&self, options: LoadOptions) -> Result<Arc<dyn Load>> {
        crate::privileges::check_restore(&self.shared, &options).await?;
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
