//! SQL over tables and restore points, by DataFusion.
//!
//! The tables of a query are found in its syntax tree before planning, and all live ones are read at one cut per
//! store. `backup('name', 'table' [, 'as of'])` becomes a table of the restore point.

use crate::Result;
use crate::api::AsOf;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::resolve::StoreSpec;
use crate::source::{LiveSource, TableSource, TellsShard, native_schema};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, Session, TableProvider,
};
use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as PlannedStatement;
use futures::{StreamExt, TryStreamExt};
use keepfast_model::convert::column_to_native;
use keepfast_model::{Column, ColumnId, TableName, change::hidden, name::DEFAULT_DATABASE};
use keepfast_sql::sqlparser::ast::{
    self, Expr as SqlExpr, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor, VisitMut, VisitorMut,
};
use keepfast_store::{CutOptions, OpenCut};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

const CATALOG: &str = "keepfast";

/// A source as DataFusion sees it.
#[derive(Debug)]
pub struct SourceTable {
    source: Arc<dyn TableSource>,
    schema: SchemaRef,
}

impl SourceTable {
    /// The table in native types.
    pub fn new(source: Arc<dyn TableSource>) -> Self {
        let schema = native_schema(source.schema(), None);
        Self { source, schema }
    }
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(at) => Arc::new(self.schema.project(at)?),
            None => self.schema.clone(),
        };
        // The source gives columns in table order; the plan may want another one.
        let mut ascending: Vec<usize> =
            projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let wanted = ascending.clone();
        ascending.sort_unstable();
        ascending.dedup();
        let reorder: Vec<usize> =
            wanted.iter().filter_map(|w| ascending.iter().position(|a| a == w)).collect();
        let columns: Vec<ColumnId> =
            ascending.iter().map(|at| self.source.schema().columns[*at].id).collect();
        let partitions: Vec<Arc<dyn PartitionStream>> = (0..self.source.partitions().max(1))
            .map(|partition| {
                Arc::new(SourcePartition {
                    source: self.source.clone(),
                    partition,
                    columns: columns.clone(),
                    reorder: reorder.clone(),
                    output: wanted.iter().map(|at| self.source.schema().columns[*at].clone()).collect(),
                    schema: schema.clone(),
                }) as Arc<dyn PartitionStream>
            })
            .collect();
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, [], false, limit)?))
    }
}

#[derive(Debug)]
struct SourcePartition {
    source: Arc<dyn TableSource>,
    partition: usize,
    columns: Vec<ColumnId>,
    reorder: Vec<usize>,
    output: Vec<Column>,
    schema: SchemaRef,
}

impl PartitionStream for SourcePartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (source, partition, columns) = (self.source.clone(), self.partition, self.columns.clone());
        let (schema, reorder, output) = (self.schema.clone(), self.reorder.clone(), self.output.clone());
        let stream = futures::stream::once(async move {
            if partition >= source.partitions() {
                return Ok(futures::stream::empty().boxed());
            }
            // A query that needs no column still needs the number of rows.
            let read = if columns.is_empty() { vec![source.schema().columns[0].id] } else { columns };
            source.open(partition, Some(&read)).await
        })
        .try_flatten()
        .map(move |batch| {
            let batch = batch?;
            let columns = reorder
                .iter()
                .zip(&output)
                .map(|(at, column)| column_to_native(column, batch.column(*at)))
                .collect::<Result<Vec<_>, _>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
        })
        .map_err(|e: EngineError| DataFusionError::External(Box::new(e)));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream))
    }
}

/// A context that plans as the rest of the engine expects: exact types, bounded memory.
pub fn context(engine: &Engine) -> Result<SessionContext> {
    let mut config = SessionConfig::new()
        .with_target_partitions(engine.options.threads.max(1))
        .with_default_catalog_and_schema(CATALOG, DEFAULT_DATABASE)
        .with_create_default_catalog_and_schema(true)
        .with_information_schema(false);
    let parser = &mut config.options_mut().sql_parser;
    parser.map_string_types_to_utf8view = false;
    // `1.10` is a decimal; only a number with an exponent is a float (see `Floats`).
    parser.parse_float_as_decimal = true;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(engine.options.memory)))
        .build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// The name that DataFusion looks a part up by.
fn looked_up(part: &Ident) -> String {
    if part.quote_style.is_some() { part.value.clone() } else { part.value.to_lowercase() }
}

fn idents(name: &ObjectName) -> Option<Vec<&Ident>> {
    name.0
        .iter()
        .map(|p| match p {
            ObjectNamePart::Identifier(ident) => Some(ident),
            ObjectNamePart::Function(_) => None,
        })
        .collect()
}

/// A `backup(…)` call found in a query.
struct BackupCall {
    name: String,
    table: String,
    as_of: Option<String>,
    placeholder: String,
}

/// Finds tables and replaces `backup(…)` calls by names of their own.
#[derive(Default)]
struct Relations {
    tables: Vec<Vec<Ident>>,
    calls: Vec<BackupCall>,
    /// Whether rows are to tell their shard.
    shards: bool,
    refused: Option<EngineError>,
}

fn text_argument(arg: &ast::FunctionArg) -> Option<String> {
    let (ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr))
    | ast::FunctionArg::Named { arg: ast::FunctionArgExpr::Expr(expr), .. }) = arg
    else {
        return None;
    };
    match expr {
        SqlExpr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(s) => Some(s.clone()),
            ast::Value::Number(n, _) => Some(n.to_string()),
            _ => None,
        },
        _ => None,
    }
}

impl VisitorMut for Relations {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        let last = match expr {
            SqlExpr::Identifier(ident) => Some(&*ident),
            SqlExpr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        self.shards |= last.is_some_and(|ident| ident.value.eq_ignore_ascii_case(hidden::SHARD));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, args, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(parts) = idents(name) else { return ControlFlow::Continue(()) };
        let Some(call) = args else {
            self.tables.push(parts.into_iter().cloned().collect());
            return ControlFlow::Continue(());
        };
        if parts.len() != 1 || !parts[0].value.eq_ignore_ascii_case("backup") {
            return ControlFlow::Continue(());
        }
        let given: Vec<Option<String>> = call.args.iter().map(text_argument).collect();
        let [Some(backup), Some(table), rest @ ..] = given.as_slice() else {
            self.refused = Some(EngineError::Usage {
                what: "backup(…)".into(),
                reason: "its arguments are texts: backup('name', 'table' [, 'as of'])".into(),
            });
            return ControlFlow::Break(());
        };
        let as_of = match rest {
            [] => None,
            [Some(text)] => Some(text.clone()),
            _ => {
                self.refused = Some(EngineError::Usage {
                    what: "backup(…)".into(),
                    reason:
                        "its third argument is a time or a point's number as text, and there is no fourth"
                            .into(),
                });
                return ControlFlow::Break(());
            }
        };
        let placeholder = format!("__backup_{}", self.calls.len());
        if alias.is_none() {
            let shown = table.parse::<TableName>().map_or_else(|_| table.clone(), |t| t.table);
            *alias = Some(TableAlias {
                explicit: true,
                name: Ident::with_quote('"', shown),
                columns: vec![],
                at: None,
            });
        }
        self.calls.push(BackupCall {
            name: backup.clone(),
            table: table.clone(),
            as_of,
            placeholder: placeholder.clone(),
        });
        *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote('"', placeholder))]);
        *args = None;
        ControlFlow::Continue(())
    }
}

/// Quotes identifiers that mean a column whose name has upper-case letters: DataFusion would lower-case them.
struct ColumnCase {
    names: HashMap<String, String>,
}

impl VisitorMut for ColumnCase {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        let ident = match expr {
            SqlExpr::Identifier(ident) => Some(ident),
            SqlExpr::CompoundIdentifier(parts) => parts.last_mut(),
            _ => None,
        };
        if let Some(ident) = ident
            && ident.quote_style.is_none()
            && let Some(name) = self.names.get(&ident.value.to_lowercase())
        {
            *ident = Ident::with_quote('"', name.clone());
        }
        ControlFlow::Continue(())
    }
}

/// Makes numbers with an exponent floats, because plain ones are read as decimals.
struct Floats;

impl VisitorMut for Floats {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        if let SqlExpr::Value(value) = expr
            && let ast::Value::Number(text, _) = &value.value
            && text.contains(['e', 'E'])
        {
            *expr = SqlExpr::Cast {
                kind: ast::CastKind::Cast,
                expr: Box::new(SqlExpr::Value(ast::Value::SingleQuotedString(text.clone()).into())),
                data_type: ast::DataType::Double(ast::ExactNumberInfo::None),
                array: false,
                format: None,
            };
        }
        ControlFlow::Continue(())
    }
}

/// The expression with identifiers quoted that mean one of these columns.
pub fn quote_columns(mut expr: SqlExpr, columns: &[&str]) -> SqlExpr {
    let names = columns.iter().map(|c| (c.to_lowercase(), (*c).to_owned())).collect();
    let _ = expr.visit(&mut ColumnCase { names });
    let _ = expr.visit(&mut Floats);
    expr
}

/// Reads `2026-01-31 …` or a point's number.
pub fn parse_as_of(text: &str) -> Result<AsOf> {
    if let Ok(n) = text.parse::<u64>() {
        return Ok(AsOf::Point(keepfast_model::LogSeq(n)));
    }
    if let Some((_, n)) = text.rsplit_once('@')
        && let Ok(n) = n.parse::<u64>()
    {
        return Ok(AsOf::Point(keepfast_model::LogSeq(n)));
    }
    keepfast_sql::parse_moment(text)
        .map(AsOf::Time)
        .map_err(|e| EngineError::Usage { what: format!("as of '{text}'"), reason: e.to_string() })
}

/// Tables that a query reads besides those that it names itself.
pub type Given = Vec<(TableName, Arc<dyn TableSource>)>;

/// A query ready to be planned: its tables are known to the context, and its names are those it looks them up by.
pub struct Prepared {
    /// Knows the tables.
    pub context: SessionContext,
    /// The query as rewritten.
    pub query: Box<ast::Query>,
    cuts: Vec<Arc<dyn OpenCut>>,
}

impl Prepared {
    /// Gives back the cuts of the live tables; call it after the last row.
    pub async fn release(&self) -> Result<()> {
        for cut in &self.cuts {
            cut.release().await?;
        }
        Ok(())
    }

    /// Plans and starts the query; dropping the stream ends it.
    pub async fn run(&self, statement: ast::Statement) -> Result<SendableRecordBatchStream> {
        let state = self.context.state();
        let plan = state.statement_to_plan(PlannedStatement::Statement(Box::new(statement))).await?;
        let frame = self.context.execute_logical_plan(plan).await?;
        Ok(frame.execute_stream().await?)
    }
}

fn register(
    context: &SessionContext,
    catalog: &str,
    schema: &str,
    table: &str,
    source: Arc<dyn TableSource>,
) -> Result<()> {
    let catalogs: Arc<dyn CatalogProvider> = match context.catalog(catalog) {
        Some(found) => found,
        None => {
            let made: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
            context.register_catalog(catalog, made.clone());
            made
        }
    };
    let tables: Arc<dyn SchemaProvider> = match catalogs.schema(schema) {
        Some(found) => found,
        None => {
            let made: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
            catalogs.register_schema(schema, made.clone())?;
            made
        }
    };
    if !tables.table_exist(table) {
        tables.register_table(table.to_owned(), Arc::new(SourceTable::new(source)))?;
    }
    Ok(())
}

impl Engine {
    /// Finds the tables of a query and makes it ready for planning. `given` tables shadow those of stores.
    pub(crate) async fn prepare(&self, query: &ast::Query, given: Given) -> Result<Prepared> {
        let context = context(self)?;
        let mut query = Box::new(query.clone());
        let mut relations = Relations::default();
        let _ = query.visit(&mut relations);
        if let Some(refused) = relations.refused {
            return Err(refused);
        }
        let mut names = HashMap::new();
        let telling = |source: Arc<dyn TableSource>| match relations.shards {
            true => Arc::new(TellsShard::new(source)) as _,
            false => source,
        };
        let mut remember = |source: &Arc<dyn TableSource>| {
            for c in &source.schema().columns {
                if c.name.chars().any(char::is_uppercase) {
                    names.insert(c.name.to_lowercase(), c.name.clone());
                }
            }
        };
        for call in &relations.calls {
            let as_of = call.as_of.as_deref().map_or(Ok(AsOf::Latest), parse_as_of)?;
            let source = self.point_table(&call.name, &as_of, &call.table.parse()?).await?;
            remember(&source);
            register(&context, CATALOG, DEFAULT_DATABASE, &call.placeholder, telling(source))?;
        }
        // One cut per store over all its tables in the query.
        let mut wanted: BTreeMap<Option<String>, Vec<(Vec<Ident>, TableName)>> = BTreeMap::new();
        for parts in relations.tables {
            let texts: Vec<String> = parts.iter().map(|i| i.value.clone()).collect();
            let Ok(name) = TableName::from_parts(&texts) else { continue };
            if let Some((_, source)) = given.iter().find(|(n, _)| same_table(n, &name)) {
                remember(source);
                register_parts(&context, &parts, telling(source.clone()))?;
                continue;
            }
            wanted.entry(name.store.clone()).or_default().push((parts, name));
        }
        let mut cuts = vec![];
        for (store, tables) in wanted {
            let spec = store.map_or(StoreSpec::Embedded, StoreSpec::Named);
            let store = self.options.stores.open(&spec).await?;
            let listed = store.list_tables(None).await?;
            let mut found: Vec<(Vec<Ident>, TableName)> = vec![];
            for (parts, name) in tables {
                // What is not a table may be a name of the query itself (WITH); the planner tells.
                if let Some(real) = listed.iter().find(|t| {
                    t.database.eq_ignore_ascii_case(&name.database)
                        && t.table.eq_ignore_ascii_case(&name.table)
                }) {
                    found.push((parts, real.clone()));
                }
            }
            if found.is_empty() {
                continue;
            }
            let mut unique: Vec<TableName> = found.iter().map(|f| f.1.clone()).collect();
            unique.sort();
            unique.dedup();
            let cut = store.open_cut(&unique, &CutOptions { allow_fuzzy: true }).await?;
            for (parts, name) in found {
                let source: Arc<dyn TableSource> = Arc::new(
                    LiveSource::open(
                        cut.clone(),
                        &name,
                        self.options.threads,
                        store.capabilities().key_order,
                    )
                    .await?,
                );
                remember(&source);
                register_parts(&context, &parts, telling(source))?;
            }
            cuts.push(cut);
        }
        if !names.is_empty() {
            let _ = query.visit(&mut ColumnCase { names });
        }
        let _ = query.visit(&mut Floats);
        Ok(Prepared { context, query, cuts })
    }
}

/// Whether two names mean one table; case never matters.
pub fn same_table(a: &TableName, b: &TableName) -> bool {
    a.store == b.store
        && a.database.eq_ignore_ascii_case(&b.database)
        && a.table.eq_ignore_ascii_case(&b.table)
}

fn register_parts(context: &SessionContext, parts: &[Ident], source: Arc<dyn TableSource>) -> Result<()> {
    let parts: Vec<String> = parts.iter().map(looked_up).collect();
    match parts.as_slice() {
        [table] => register(context, CATALOG, DEFAULT_DATABASE, table, source),
        [schema, table] => register(context, CATALOG, schema, table, source),
        [catalog, schema, table] => register(context, catalog, schema, table, source),
        _ => Ok(()),
    }
}
