//! What a load makes: tables, where their rows go, and how they are given.

use super::PREFIX;
use super::partner;
use super::place::{Place, Standing};
use crate::catalog::PhysicalTable;
use crate::connection::Connection;
use crate::definition::Definition;
use crate::definitions::{Kept, Kind, TRIGGERS_UNSEEN};
use crate::error::failed;
use crate::names::quoted;
use crate::rule::{Router, Rule};
use crate::store::{KIND, Shared};
use keepfast_model::{TableName, TableSchema};
use keepfast_store::load::LoadTable;
use keepfast_store::{LoadMode, Result, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// A table that is loaded.
#[derive(Debug)]
pub(super) struct Target {
    pub logical: TableName,
    pub schema: TableSchema,
    pub mode: LoadMode,
    /// Whether its rows go over those of a table that stands there; else they become a table.
    pub merging: bool,
    pub tag: String,
    /// The server's own statement of where it came from.
    pub statement: Option<String>,
    pub definition: Definition,
    /// Its triggers, in their order; none where the backup does not know them.
    pub triggers: Option<Vec<Kept>>,
    pub rule: Option<String>,
    pub router: Option<Router>,
    pub places: Vec<Place>,
    pub form: OnceCell<Form>,
}

/// How rows are given.
#[derive(Debug)]
pub(super) struct Form {
    /// Positions of the columns that a statement may set.
    pub columns: Vec<usize>,
    /// One for each physical table.
    pub statements: Arc<Vec<String>>,
}

/// A load as its journal has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub tables: Vec<RecordTable>,
    /// Servers and databases of the journals.
    pub journals: Vec<(String, String)>,
    /// What else is made, by the name of its server.
    #[serde(default)]
    pub beside: Vec<(String, Kept)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordTable {
    pub logical: TableName,
    pub schema: TableSchema,
    pub mode: LoadMode,
    #[serde(default)]
    pub merging: bool,
    pub tag: String,
    pub statement: Option<String>,
    #[serde(default)]
    pub triggers: Option<Vec<Kept>>,
    pub rule: Option<String>,
    /// Server, database, name, and name before the publication.
    pub places: Vec<(String, String, String, String)>,
}

impl Target {
    pub async fn new(
        shared: &Shared,
        connections: &mut [Connection],
        standing: &mut Standing,
        table: LoadTable,
        (run, at): (&str, usize),
    ) -> Result<Self> {
        let name = table.target.table.clone();
        let refuse = |what: String| shared.unsupported(what);
        let kept: Vec<Kept> = table.dependents.iter().filter_map(Kept::of_dependent).collect();
        let unseen = table.dependents.iter().any(|d| d.kind == TRIGGERS_UNSEEN);
        let own = table.dependents.iter().find(|d| d.kind == format!("{KIND} table"));
        let triggers: Vec<Kept> = kept.into_iter().filter(|k| k.kind == Kind::Trigger).collect();
        let triggers = (own.is_some() && !(unseen && triggers.is_empty())).then_some(triggers);
        let found = standing.places(shared, connections, &table.target).await?;
        let mut places = vec![];
        for (server, database, name) in found {
            if table.mode == LoadMode::Create
                && standing.has(shared, connections, (server, &database, &name)).await?
            {
                return Err(StoreError::TableExists {
                    table: table.target.to_string(),
                    store: shared.to_string(),
                });
            }
            let staging = format!("{PREFIX}{run}_{at}_{}", places.len());
            places.push(Place { server, database, name, staging });
        }
        if let Some((_, key)) = shared.tables.get(&name).filter(|(_, key)| !key.is_empty())
            && table.schema.key_names() != *key
        {
            return Err(refuse(format!(
                "load table '{name}': its declared key ({}) must be unique over all shards, and the rows are known to be unique by ({}) \
                 only",
                key.join(", "),
                table.schema.key_names().join(", ")
            )));
        }
        let rule =
            table.shard_rule.clone().or_else(|| shared.rules.get(&name).map(|rule| rule.text().to_owned()));
        let rule = match (rule, places.len()) {
            (_, 1) => None,
            (Some(rule), _) => Some(rule),
            (None, many) => {
                return Err(refuse(format!(
                    "load table '{name}' into its {many} shards without a rule; declare one, such as shard_rule = \"user_id % {many}\""
                )));
            }
        };
        let mut stand = 0;
        for place in &places {
            let at = (place.server, place.database.as_str(), place.name.as_str());
            stand += usize::from(standing.has(shared, connections, at).await?);
        }
        let merging = table.mode == LoadMode::Merge && stand > 0;
        let mut statement = own.map(|own| own.definition.clone());
        if merging && table.shard_rule.is_some() {
            return Err(refuse(format!(
                "merge rows into table '{name}' by another rule than its own: its rows stand where its own puts them"
            )));
        }
        if merging {
            let rule = shared.rules.get(&name).filter(|_| places.len() > 1);
            statement = Some(into(shared, connections, &table, rule).await?);
        }
        let record = RecordTable {
            logical: table.target,
            schema: table.schema,
            mode: table.mode,
            merging,
            tag: table.replaced_tag,
            statement,
            triggers: triggers.filter(|_| !merging),
            rule,
            places: vec![],
        };
        Self::with_places(shared, record, places)
    }

    pub fn of_record(shared: &Shared, table: RecordTable) -> Result<Self> {
        let places = table.places.iter().map(|(server, database, name, staging)| {
            Ok(Place {
                server: shared.server_named(server)?,
                database: database.clone(),
                name: name.clone(),
                staging: staging.clone(),
            })
        });
        let places: Vec<Place> = places.collect::<Result<_>>()?;
        Self::with_places(shared, table, places)
    }

    fn with_places(shared: &Shared, table: RecordTable, places: Vec<Place>) -> Result<Self> {
        let name = &table.logical.table;
        let mut definition = match &table.statement {
            None => Definition::of_schema(&table.schema),
            Some(statement) => Definition::of_statement(statement)
                .map_err(|reason| shared.unsupported(format!("make table '{name}' again: {reason}")))?,
        };
        if table.merging {
            // Rows are only read from it, by their key.
            definition.later.clear();
            definition.foreign.clear();
        }
        let router = match &table.rule {
            None => None,
            Some(rule) => Some(
                Rule::parse(rule, places.len())
                    .and_then(|rule| rule.over(&table.schema))
                    .map_err(|reason| shared.unsupported(format!("load table '{name}': {reason}")))?,
            ),
        };
        Ok(Self {
            logical: table.logical,
            schema: table.schema,
            mode: table.mode,
            merging: table.merging,
            tag: table.tag,
            statement: table.statement,
            definition,
            triggers: table.triggers,
            rule: table.rule,
            router,
            places,
            form: OnceCell::new(),
        })
    }
}

/// The server's own statement of a table that rows can be merged into.
///
/// # Errors
/// `Unsupported` and `SchemaChanged` where they cannot.
async fn into(
    shared: &Shared,
    connections: &mut [Connection],
    table: &LoadTable,
    rule: Option<&Rule>,
) -> Result<String> {
    let name = &table.target.table;
    let refuse = |what: String| Err(shared.unsupported(format!("merge rows into table '{name}': {what}")));
    let live = shared.resolve(&table.target, connections).await?;
    // Values that types of one form do not hold are found when they are read back.
    let columns = |schema: &TableSchema| {
        let each = schema.columns.iter().map(|c| (c.name.clone(), c.column_type.physical()));
        each.collect::<Vec<_>>()
    };
    if columns(&live.schema) != columns(&table.schema) || live.schema.key_names() != table.schema.key_names()
    {
        return Err(StoreError::SchemaChanged {
            table: table.target.to_string(),
            position: "the load".into(),
            reason: "the table to merge into has other columns or another key".into(),
        });
    }
    if live.schema.is_bag() {
        return refuse("it has no key by which rows are told apart".into());
    }
    let sorted = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    let key = sorted(live.schema.key_names());
    for shard in &live.shards {
        if key != sorted(shard.table.key.iter().map(String::as_str).collect()) {
            return refuse(format!(
                "its declared key is not the one that '{}' has ({})",
                shard.id.0,
                shard.table.key.join(", ")
            ));
        }
        let problem = super::merge::unfit(&mut connections[shard.server], &shard.table).await;
        let address = &shared.servers[shard.server].address;
        if let Some(problem) = problem.map_err(|e| failed("look at a table to merge into", address, e))? {
            return Err(shared.unsupported(problem));
        }
    }
    // A row keeps its shard, so that its key never stands in two.
    if let Some(column) = rule.and_then(|rule| rule.columns().into_iter().find(|c| !key.contains(*c))) {
        return refuse(format!(
            "its shard_rule reads column '{column}', which is not of its key: the row of a key may stand in another shard than the one where \
             it goes now"
        ));
    }
    match live.shards.into_iter().next() {
        Some(first) => Ok(first.table.create),
        None => refuse("it has no shards".into()),
    }
}

/// Refuses foreign keys that could not be made again, before any row is loaded.
pub(super) async fn check_foreign_keys(
    shared: &Shared,
    connections: &mut [Connection],
    standing: &mut Standing,
    tables: &[Target],
) -> Result<()> {
    let mut missing = vec![];
    for target in tables.iter().filter(|target| !target.definition.foreign.is_empty()) {
        for (n, place) in target.places.iter().enumerate() {
            let name = &target.logical.table;
            let keys = partner::keys_of(shared, target, n);
            for key in keys.map_err(|why| shared.unsupported(format!("load table '{name}': {why}")))? {
                let database = key.database.as_ref().unwrap_or(&place.database);
                let is = |other: &Place| {
                    (other.server, &other.database, &other.name) == (place.server, database, &key.table)
                };
                if tables.iter().any(|t| t.merging && t.places.iter().any(is)) {
                    return Err(shared.unsupported(format!(
                        "make table '{name}', whose foreign key '{}' refers to '{database}.{}', while rows are merged into that one; restore that one \
                         first",
                        key.name, key.table
                    )));
                }
                let loaded = tables.iter().flat_map(|t| &t.places).any(is);
                if !loaded && !standing.has(shared, connections, (place.server, database, &key.table)).await?
                {
                    missing.push(format!("'{}' of '{name}' to '{database}.{}'", key.name, key.table));
                }
            }
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(shared.unsupported(format!(
            "make foreign keys to tables that are not there: {}; restore those tables too",
            missing.join(", ")
        ))),
    }
}

/// Which columns are loaded, and how a statement loads them: what stands behind the table's name.
pub(super) fn statement(schema: &TableSchema, made: &PhysicalTable) -> Result<(Vec<usize>, String), String> {
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
    let form = "CHARACTER SET binary FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n'";
    Ok((columns, format!("{form} ({}){sets}", fields.join(", "))))
}
