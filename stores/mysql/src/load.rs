//! Rows on their way back: into tables beside the visible ones, which one RENAME puts in their place.
//!
//! A running load holds a lock of its name on the server; a sweep removes tables of loads whose lock is free.

use crate::catalog::{self, PhysicalTable};
use crate::connection::Connection;
use crate::cut::MySqlCut;
use crate::definition::Definition;
use crate::encode::{Encoder, Refused};
use crate::error::failed;
use crate::names::{full, quoted, text};
use crate::store::{KIND, Logical, Shared};
use crate::wire::WireError;
use async_trait::async_trait;
use futures::StreamExt;
use keepfast_model::{Digest, RowHasher, TableName, TableSchema};
use keepfast_store::{
    BatchStream, Load, LoadMode, LoadOptions, LoadedPart, OpenCut, Published, Result, StoreError, UndoToken,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What names of unpublished tables begin with.
pub(crate) const PREFIX: &str = "__keepfast_load_";

/// A load of tables of one server.
#[derive(Debug)]
pub(crate) struct MySqlLoad {
    shared: Arc<Shared>,
    server: usize,
    tables: BTreeMap<TableName, Target>,
    order: Vec<TableName>,
    /// Holds the load's lock as long as it lives, and makes and renames tables.
    control: Mutex<Connection>,
    /// Parts that stand, for those that are written again.
    parts: Mutex<BTreeMap<(TableName, u32), LoadedPart>>,
    published: Mutex<Option<Published>>,
}

#[derive(Debug)]
struct Target {
    database: String,
    name: String,
    staging: String,
    schema: TableSchema,
    mode: LoadMode,
    tag: String,
    definition: Definition,
    /// Positions of the columns that a statement may set.
    columns: Vec<usize>,
    load: String,
}

/// What an undo puts back.
#[derive(Debug, Serialize, Deserialize)]
struct Undo {
    server: usize,
    tables: Vec<UndoTable>,
}

#[derive(Debug, Serialize, Deserialize)]
struct UndoTable {
    database: String,
    name: String,
    replaced: Option<String>,
    /// When the table was made, as the server says: another one of the name has another.
    made: String,
}

impl MySqlLoad {
    pub async fn begin(shared: Arc<Shared>, options: LoadOptions) -> Result<Self> {
        let refuse = |what: String| Err(shared.unsupported(what));
        let [server] = shared.servers.as_slice() else {
            return refuse("be restored into with several servers in this version".into());
        };
        let mut control = server.connect().await?;
        let run = short(&options.run.to_string());
        let lock = format!("keepfast {run}");
        let fail = |what: &'static str| move |e: WireError| failed(what, &server.address, e);
        let held = control.rows(&format!("SELECT GET_LOCK({}, 0)", text(&lock))).await;
        if held.map_err(fail("take the load's lock"))?.first().and_then(|r| r[0].as_deref()) != Some(b"1") {
            return Err(StoreError::Conflict {
                table: lock,
                reason: "a load of this run is under way".into(),
            });
        }
        let mut tables = BTreeMap::new();
        let mut order = vec![];
        for (at, table) in options.tables.into_iter().enumerate() {
            if shared.tables.contains_key(&table.target.table) {
                return refuse(format!("restore the sharded table '{}' in this version", table.target.table));
            }
            if table.mode == LoadMode::Merge {
                return refuse("merge rows into a table".into());
            }
            let database = shared.database(&table.target, server).to_owned();
            let name = table.target.table.clone();
            let existing = catalog::describe(&mut control, &database, &name).await;
            let existing = existing.map_err(fail("describe a table"))?;
            if existing.is_some() && table.mode == LoadMode::Create {
                return Err(StoreError::TableExists {
                    table: table.target.to_string(),
                    store: shared.to_string(),
                });
            }
            let own = table.dependents.iter().find(|d| d.kind == format!("{KIND} table"));
            let definition = match own {
                None => Definition::of_schema(&table.schema),
                Some(own) => match Definition::of_statement(&own.definition) {
                    Ok(definition) => definition,
                    Err(reason) => return refuse(format!("make table '{name}' again: {reason}")),
                },
            };
            let staging = format!("{PREFIX}{run}_{at}");
            let make = definition.create(&full(&database, &staging));
            control
                .run(&format!("CREATE DATABASE IF NOT EXISTS {}", quoted(&database)))
                .await
                .map_err(fail("make a database"))?;
            control.run(&make).await.map_err(fail("make a table"))?;
            let made = catalog::describe(&mut control, &database, &staging)
                .await
                .map_err(fail("describe a table"))?;
            let made = made.ok_or_else(|| shared.unsupported("show a table that it made".into()))?;
            let (columns, load) = match statement(&table.schema, &made) {
                Ok(found) => found,
                Err(reason) => return refuse(format!("load table '{name}': {reason}")),
            };
            order.push(table.target.clone());
            let target = Target {
                database,
                name,
                staging,
                schema: table.schema,
                mode: table.mode,
                tag: table.replaced_tag,
                definition,
                columns,
                load,
            };
            tables.insert(table.target, target);
        }
        Ok(Self {
            shared,
            server: 0,
            tables,
            order,
            control: Mutex::new(control),
            parts: Mutex::default(),
            published: Mutex::default(),
        })
    }

    fn fail(&self, what: &'static str) -> impl Fn(WireError) -> StoreError {
        move |e| failed(what, &self.shared.servers[self.server].address, e)
    }

    fn target(&self, table: &TableName) -> Result<&Target> {
        self.tables
            .get(table)
            .ok_or_else(|| StoreError::NoTable { table: table.to_string(), store: self.shared.to_string() })
    }

    /// Sends rows as one statement, which is one transaction.
    async fn send(&self, target: &Target, rows: BatchStream) -> Result<Digest> {
        let mut session = self.shared.servers[self.server].connect().await?;
        let hasher = RowHasher::new(&target.schema);
        let encoder = Encoder::new(&target.schema, &target.columns);
        let mut digest = Digest::default();
        let mut rows = rows;
        session.begin_file(&target.load).await.map_err(self.fail("load rows"))?;
        while let Some(batch) = rows.next().await.transpose()? {
            digest = digest.merge(hasher.digest(&batch)?);
            let mut bytes = Vec::with_capacity(batch.get_array_memory_size());
            let written = encoder.write(&batch, &mut bytes);
            written.map_err(|Refused(reason)| StoreError::Row { table: target.name.clone(), reason })?;
            session.send_file(&bytes).await.map_err(self.fail("load rows"))?;
        }
        let (count, warnings) = session.end_file().await.map_err(self.fail("load rows"))?;
        if warnings > 0 {
            let said = session.rows("SHOW WARNINGS LIMIT 3").await.unwrap_or_default();
            let said: Vec<String> = said
                .iter()
                .filter_map(|row| Some(String::from_utf8_lossy(row.get(2)?.as_deref()?).into_owned()))
                .collect();
            return Err(StoreError::Row { table: target.name.clone(), reason: said.join("; ") });
        }
        if count != digest.rows {
            let reason = format!("{count} of {} rows were taken", digest.rows);
            return Err(StoreError::Row { table: target.name.clone(), reason });
        }
        Ok(digest)
    }

    /// The staging tables, as a cut reads them.
    async fn staged(&self) -> Result<BTreeMap<TableName, Logical>> {
        let mut control = self.control.lock().await;
        let mut all = BTreeMap::new();
        for (name, target) in &self.tables {
            let found = catalog::describe(&mut control, &target.database, &target.staging).await;
            let found =
                found.map_err(self.fail("describe a table"))?.ok_or_else(|| StoreError::Conflict {
                    table: name.to_string(),
                    reason: "its unpublished rows were removed".into(),
                })?;
            let shard = self.shared.shard(self.server, found);
            let mut schema = target.schema.clone();
            // Ids stay those of the restored table; what the server says of its types is how they are read.
            let own = shard
                .table
                .schema()
                .map_err(|e| self.shared.unsupported(format!("read '{name}' back: {e}")))?;
            for (column, own) in schema.columns.iter_mut().zip(&own.columns) {
                column.origin = own.origin.clone();
            }
            all.insert(name.clone(), Logical { schema, shards: vec![shard], dependents: vec![] });
        }
        Ok(all)
    }
}

/// A run's id, short enough for a table's name.
fn short(run: &str) -> String {
    run.bytes().filter(u8::is_ascii_alphanumeric).take(32).map(char::from).collect()
}

/// Which columns are loaded, and the statement that loads them.
fn statement(schema: &TableSchema, made: &PhysicalTable) -> Result<(Vec<usize>, String), String> {
    let mut columns = vec![];
    let (mut fields, mut sets) = (vec![], vec![]);
    for (at, column) in schema.columns.iter().enumerate() {
        let own = made.columns.iter().find(|c| c.name == column.name);
        let own = own.ok_or_else(|| format!("column '{}' is not in its definition", column.name))?;
        if own.generated {
            continue;
        }
        columns.push(at);
        let variable = format!("@v{at}");
        // The file is read as bytes, so that nothing is converted twice; what is no text says how it is meant.
        let set = match own.declared.data_type.as_str() {
            "bit" => Some(format!("CAST({variable} AS UNSIGNED)")),
            "json" | "uuid" | "inet4" | "inet6" | "enum" | "set" => {
                Some(format!("CONVERT({variable} USING utf8mb4)"))
            }
            _ => match own.collation.as_deref() {
                Some(collation) if !(collation.starts_with("utf8mb4") || collation == "binary") => {
                    Some(format!("CONVERT({variable} USING utf8mb4)"))
                }
                _ => None,
            },
        };
        match set {
            None => fields.push(quoted(&column.name)),
            Some(set) => {
                fields.push(variable);
                sets.push(format!("{} = {set}", quoted(&column.name)));
            }
        }
    }
    if made.columns.len() != schema.columns.len() {
        return Err("its definition has other columns".into());
    }
    let sets = if sets.is_empty() { String::new() } else { format!(" SET {}", sets.join(", ")) };
    let into = full(&made.database, &made.name);
    let form = "CHARACTER SET binary FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n'";
    Ok((
        columns,
        format!("LOAD DATA LOCAL INFILE 'rows' INTO TABLE {into} {form} ({}){sets}", fields.join(", ")),
    ))
}

#[async_trait]
impl Load for MySqlLoad {
    fn token(&self) -> Option<serde_json::Value> {
        None
    }

    async fn write_part(&self, table: &TableName, part: u32, rows: BatchStream) -> Result<LoadedPart> {
        let target = self.target(table)?;
        let key = (table.clone(), part);
        if let Some(stands) = self.parts.lock().await.get(&key) {
            return Ok(stands.clone());
        }
        let digest = self.send(target, rows).await?;
        let loaded = LoadedPart { part, digest, token: serde_json::Value::Null };
        self.parts.lock().await.insert(key, loaded.clone());
        Ok(loaded)
    }

    async fn finish(&self, _: Vec<(TableName, Vec<LoadedPart>)>) -> Result<()> {
        let mut control = self.control.lock().await;
        for target in self.tables.values().filter(|t| !t.definition.later.is_empty()) {
            let adds: Vec<String> =
                target.definition.later.iter().map(|index| format!("ADD {index}")).collect();
            let sql = format!("ALTER TABLE {} {}", full(&target.database, &target.staging), adds.join(", "));
            control.run(&sql).await.map_err(self.fail("make the indexes"))?;
        }
        Ok(())
    }

    async fn open_cut(&self) -> Result<Arc<dyn OpenCut>> {
        Ok(Arc::new(MySqlCut::hold(self.shared.clone(), self.staged().await?).await?))
    }

    async fn publish(&self) -> Result<Published> {
        let mut published = self.published.lock().await;
        if let Some(answer) = published.as_ref() {
            return Ok(answer.clone());
        }
        let mut control = self.control.lock().await;
        let (mut renames, mut replaced, mut undo) = (vec![], vec![], vec![]);
        for name in &self.order {
            let target = self.target(name)?;
            let existing = catalog::describe(&mut control, &target.database, &target.name).await;
            let kept = match (existing.map_err(self.fail("describe a table"))?, target.mode) {
                (Some(_), LoadMode::Create) => {
                    return Err(StoreError::TableExists {
                        table: name.to_string(),
                        store: self.shared.to_string(),
                    });
                }
                (Some(_), _) => Some(self.free_name(&mut control, target).await?),
                (None, _) => None,
            };
            let place = full(&target.database, &target.name);
            if let Some(kept) = &kept {
                renames.push(format!("{place} TO {}", full(&target.database, kept)));
            }
            renames.push(format!("{} TO {place}", full(&target.database, &target.staging)));
            undo.push((target, kept.clone()));
            replaced.push(kept.map(|kept| TableName { table: kept, ..name.clone() }));
        }
        // One statement: all of it happens or nothing.
        let sql = format!("RENAME TABLE {}", renames.join(", "));
        control.run(&sql).await.map_err(self.fail("publish"))?;
        let mut tables = vec![];
        for (target, kept) in undo {
            let made =
                made(&mut control, &target.database, &target.name).await.map_err(self.fail("publish"))?;
            tables.push(UndoTable {
                database: target.database.clone(),
                name: target.name.clone(),
                replaced: kept,
                made: made.unwrap_or_default(),
            });
        }
        let undo = serde_json::to_value(Undo { server: self.server, tables });
        let undo = UndoToken(undo.map_err(|e| self.shared.unsupported(format!("write an undo down: {e}")))?);
        Ok(published.insert(Published { replaced, undo }).clone())
    }

    async fn abandon(&self) -> Result<()> {
        let mut control = self.control.lock().await;
        for target in self.tables.values() {
            let sql = format!("DROP TABLE IF EXISTS {}", full(&target.database, &target.staging));
            control.run(&sql).await.map_err(self.fail("remove what was loaded"))?;
        }
        Ok(())
    }
}

impl MySqlLoad {
    /// The next free name for the table that is replaced.
    async fn free_name(&self, control: &mut Connection, target: &Target) -> Result<String> {
        for n in 1.. {
            let name = format!("{}__replaced_{}_{n}", target.name, target.tag);
            let found = catalog::describe(control, &target.database, &name).await;
            if found.map_err(self.fail("describe a table"))?.is_none() {
                return Ok(name);
            }
        }
        unreachable!("names do not end")
    }
}

/// When a table was made, as the server says, in seconds; none where there is none.
async fn made(control: &mut Connection, database: &str, name: &str) -> Result<Option<String>, WireError> {
    let sql = format!(
        "SELECT create_time FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
        text(database),
        text(name)
    );
    let rows = control.rows(&sql).await?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()).map(|t| String::from_utf8_lossy(t).into_owned()))
}

/// Puts back what a publication replaced.
pub(crate) async fn undo(shared: &Shared, token: &UndoToken) -> Result<()> {
    let wrong = |what: &str| shared.unsupported(format!("undo this restore: {what}"));
    let undo: Undo = serde_json::from_value(token.0.clone()).map_err(|_| wrong("it is not of this store"))?;
    let server =
        shared.servers.get(undo.server).ok_or_else(|| wrong("its server is not declared any more"))?;
    let fail = |e: WireError| failed("undo a restore", &server.address, e);
    let mut control = server.connect().await?;
    let (mut renames, mut drops) = (vec![], vec![]);
    for table in &undo.tables {
        let place = full(&table.database, &table.name);
        let now = made(&mut control, &table.database, &table.name).await.map_err(fail)?;
        let kept = match &table.replaced {
            Some(replaced) => made(&mut control, &table.database, replaced).await.map_err(fail)?.is_some(),
            None => true,
        };
        if now.as_deref() != Some(table.made.as_str()) || !kept {
            return Err(StoreError::Conflict {
                table: table.name.clone(),
                reason: "it is another one, or it was undone already".into(),
            });
        }
        let aside = format!("{PREFIX}undone_{}", table.name);
        renames.push(format!("{place} TO {}", full(&table.database, &aside)));
        if let Some(replaced) = &table.replaced {
            renames.push(format!("{} TO {place}", full(&table.database, replaced)));
        }
        drops.push(full(&table.database, &aside));
    }
    control.run(&format!("RENAME TABLE {}", renames.join(", "))).await.map_err(fail)?;
    for table in drops {
        control.run(&format!("DROP TABLE {table}")).await.map_err(fail)?;
    }
    Ok(())
}

/// Removes unpublished tables of loads that nobody holds.
pub(crate) async fn sweep(shared: &Shared) -> Result<Vec<String>> {
    let mut removed = vec![];
    for server in &shared.servers {
        let fail = |e: WireError| failed("sweep", &server.address, e);
        let mut control = server.connect().await?;
        for (database, name) in catalog::tables(&mut control, None).await.map_err(fail)? {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let run = rest.rsplit_once('_').map_or(rest, |(run, _)| run);
            let held = control.rows(&held_by(run)).await.map_err(fail)?;
            if held.is_empty() {
                control.run(&format!("DROP TABLE {}", full(&database, &name))).await.map_err(fail)?;
                removed.push(format!("{database}.{name}"));
            }
        }
    }
    Ok(removed)
}

/// Gives a row where somebody holds the lock of a load.
fn held_by(run: &str) -> String {
    format!("SELECT 1 FROM DUAL WHERE IS_USED_LOCK({}) IS NOT NULL", text(&format!("keepfast {run}")))
}
