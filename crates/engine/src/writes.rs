//! INSERT, UPDATE and DELETE: a query over the table as the edit sees it, whose rows become one new version.
//!
//! Where another writer came first, the statement runs anew on the newer version, as if it had come later.

use crate::Result;
use crate::engine::{Engine, Outcome};
use crate::error::EngineError;
use crate::session::{Given, quote_columns};
use crate::source::{LiveSource, TableSource};
use crate::statements::editable;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use keepfast_model::{Column, TableName, TableSchema, convert};
use keepfast_sql::sqlparser::ast;
use keepfast_sql::{Assignment, Delete, Insert, OnConflict, Statement, Update};
use keepfast_store::{OnDuplicate, Store, StoreError, TableEdit};
use std::sync::Arc;
use std::time::Duration;

/// How often a statement runs anew after a conflict.
const ATTEMPTS: u32 = 12;

/// Under this name the rows of an INSERT's source stand in its query.
const SOURCE: &str = "excluded";

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Engine {
    pub(crate) async fn insert(&self, insert: &Insert) -> Result<Outcome> {
        let rows = self.again_after_conflicts(async |engine| engine.insert_once(insert).await).await?;
        Ok(Outcome::Changed { verb: "inserted", rows })
    }

    pub(crate) async fn update(&self, update: &Update) -> Result<Outcome> {
        let rows = self.again_after_conflicts(async |engine| engine.update_once(update).await).await?;
        Ok(Outcome::Changed { verb: "updated", rows })
    }

    pub(crate) async fn delete(&self, delete: &Delete) -> Result<Outcome> {
        let rows = self.again_after_conflicts(async |engine| engine.delete_once(delete).await).await?;
        Ok(Outcome::Changed { verb: "deleted", rows })
    }

    async fn again_after_conflicts(&self, statement: impl AsyncFn(&Engine) -> Result<u64>) -> Result<u64> {
        for attempt in 1.. {
            match statement(self).await {
                Err(EngineError::Store(StoreError::Conflict { .. })) if attempt < ATTEMPTS => {
                    tokio::time::sleep(Duration::from_millis(5 << attempt.min(6))).await;
                }
                other => return other,
            }
        }
        unreachable!("the loop has no other end")
    }

    async fn edit(&self, table: &TableName) -> Result<(Arc<dyn Store>, Box<dyn TableEdit>, TableName)> {
        let store = self.store_of(table).await?;
        let name = TableName { store: None, ..table.clone() };
        let edit = editable(&store)?.begin_edit(&name).await?;
        Ok((store, edit, name))
    }

    /// The table as the edit sees it, for a query.
    async fn given(
        &self,
        store: &Arc<dyn Store>,
        edit: &dyn TableEdit,
        name: &TableName,
        written: &TableName,
    ) -> Result<Given> {
        let source =
            LiveSource::open(edit.base(), name, self.options.threads, store.capabilities().key_order).await?;
        let source: Arc<dyn TableSource> = Arc::new(source);
        Ok(vec![(written.clone(), source)])
    }

    async fn insert_once(&self, insert: &Insert) -> Result<u64> {
        let (store, mut edit, name) = self.edit(&insert.table).await?;
        let schema = edit.schema().clone();
        let targets = target_columns(&schema, insert)?;
        let mut insert = insert.clone();
        let defaults: Vec<Option<ast::Expr>> = targets
            .iter()
            .map(|c| c.default.as_deref().map(|d| Ok(keepfast_sql::parse_expression(d)?.ast)).transpose())
            .collect::<Result<_>>()?;
        insert.fill_defaults(|i| defaults.get(i).cloned().flatten());
        check_width(&insert, targets.len())?;
        type_numbers(&mut insert, &targets);
        let given = self.given(&store, edit.as_ref(), &name, &insert.table).await?;
        let query = parse_query(&insert_query(&schema, &insert, &targets)?)?;
        let (prepared, mut rows) = self.rows_of(&query, given).await?;
        let on_duplicate = match &insert.on_conflict {
            OnConflict::Fail => OnDuplicate::Refuse,
            OnConflict::Nothing { key } => {
                check_key(&schema, key)?;
                OnDuplicate::Ignore
            }
            OnConflict::Replace => OnDuplicate::Replace,
            OnConflict::Update { key, .. } => {
                check_key(&schema, key)?;
                OnDuplicate::Replace
            }
        };
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            if self.options.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            count += edit.insert(convert::to_physical(&schema, &batch)?, on_duplicate).await?;
        }
        drop(rows);
        prepared.release().await?;
        edit.commit().await?;
        Ok(count)
    }

    async fn update_once(&self, update: &Update) -> Result<u64> {
        let (store, mut edit, name) = self.edit(&update.table).await?;
        let schema = edit.schema().clone();
        let given = self.given(&store, edit.as_ref(), &name, &update.table).await?;
        let from = table_reference(&update.table, update.alias.as_deref());
        let table = quoted(update.alias.as_deref().unwrap_or(&update.table.table));
        let mut outputs: Vec<String> = schema
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| format!("{table}.{} AS o{i}", quoted(&c.name)))
            .collect();
        let set = assigned(&schema, &update.set)?;
        for (i, c) in schema.columns.iter().enumerate() {
            outputs.push(match &set[i] {
                Some(expression) => format!("({expression}) AS n{i}"),
                None => format!("{table}.{} AS n{i}", quoted(&c.name)),
            });
        }
        let condition = match &update.selection {
            Some(e) => format!(" WHERE {}", in_case(&schema, e.ast.clone())),
            None => String::new(),
        };
        let query = parse_query(&format!("SELECT {} FROM {from}{condition}", outputs.join(", ")))?;
        let (prepared, mut rows) = self.rows_of(&query, given).await?;
        let width = schema.columns.len();
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            if self.options.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let old = batch.project(&(0..width).collect::<Vec<_>>())?;
            let new = batch.project(&(width..2 * width).collect::<Vec<_>>())?;
            count += edit
                .update(convert::to_physical(&schema, &old)?, convert::to_physical(&schema, &new)?)
                .await?;
        }
        drop(rows);
        prepared.release().await?;
        edit.commit().await?;
        Ok(count)
    }

    async fn delete_once(&self, delete: &Delete) -> Result<u64> {
        let (store, mut edit, name) = self.edit(&delete.table).await?;
        let schema = edit.schema().clone();
        let given = self.given(&store, edit.as_ref(), &name, &delete.table).await?;
        let from = table_reference(&delete.table, delete.alias.as_deref());
        let columns: Vec<String> = schema.columns.iter().map(|c| quoted(&c.name)).collect();
        let condition = match &delete.selection {
            Some(e) => format!(" WHERE {}", in_case(&schema, e.ast.clone())),
            None => String::new(),
        };
        let query = parse_query(&format!("SELECT {} FROM {from}{condition}", columns.join(", ")))?;
        let (prepared, mut rows) = self.rows_of(&query, given).await?;
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            if self.options.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            count += edit.delete(convert::to_physical(&schema, &batch)?).await?;
        }
        drop(rows);
        prepared.release().await?;
        edit.commit().await?;
        Ok(count)
    }
}

/// The columns that an INSERT's source fills, in its order.
fn target_columns<'a>(schema: &'a TableSchema, insert: &Insert) -> Result<Vec<&'a Column>> {
    if insert.columns.is_empty() {
        return Ok(schema.columns.iter().collect());
    }
    insert.columns.iter().map(|name| column(schema, name)).collect()
}

fn column<'a>(schema: &'a TableSchema, name: &str) -> Result<&'a Column> {
    schema
        .position(name)
        .map(|at| &schema.columns[at])
        .ok_or_else(|| EngineError::Unknown { what: "column", name: name.to_owned() })
}

fn check_key(schema: &TableSchema, key: &[String]) -> Result<()> {
    if schema.is_bag() {
        return Err(EngineError::Unsupported {
            what: "ON CONFLICT".into(),
            reason: "the table has no key".into(),
        });
    }
    let mut given: Vec<String> = key.iter().map(|k| k.to_lowercase()).collect();
    let mut own: Vec<String> = schema.key_names().iter().map(|k| k.to_lowercase()).collect();
    given.sort();
    own.sort();
    if given.is_empty() || given == own {
        return Ok(());
    }
    Err(EngineError::Unsupported {
        what: format!("ON CONFLICT ({})", key.join(", ")),
        reason: format!("the table's key is ({})", schema.key_names().join(", ")),
    })
}

/// VALUES are counted before planning, so that the message speaks of the statement.
fn check_width(insert: &Insert, expected: usize) -> Result<()> {
    if let ast::SetExpr::Values(values) = insert.source.body.as_ref()
        && let Some((row, found)) =
            values.rows.iter().enumerate().map(|(i, r)| (i + 1, r.len())).find(|(_, n)| *n != expected)
    {
        return Err(EngineError::Usage {
            what: format!("INSERT into '{}'", insert.table),
            reason: format!("row {row} of VALUES has {found} values where {expected} columns are filled"),
        });
    }
    Ok(())
}

/// Gives each number in VALUES the type of its column, from its text, before planning.
///
/// The planner finds one type for all rows of a VALUES column: `(1.5), (1e-20)` would become decimals, and the second 0.
fn type_numbers(insert: &mut Insert, targets: &[&Column]) {
    let ast::SetExpr::Values(values) = insert.source.body.as_mut() else { return };
    for row in &mut values.rows {
        for (value, column) in row.iter_mut().zip(targets) {
            let data_type = match column.column_type.native() {
                DataType::Float64 => ast::DataType::Double(ast::ExactNumberInfo::None),
                DataType::Float32 => ast::DataType::Real,
                DataType::Utf8 => ast::DataType::Varchar(None),
                _ => continue,
            };
            if let Some(text) = number_text(value) {
                *value = ast::Expr::Cast {
                    kind: ast::CastKind::Cast,
                    expr: Box::new(ast::Expr::value(ast::Value::SingleQuotedString(text))),
                    data_type,
                    array: false,
                    format: None,
                };
            }
        }
    }
}

/// A number as written, its sign included.
fn number_text(expression: &ast::Expr) -> Option<String> {
    match expression {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(text, _) => Some(text.clone()),
            _ => None,
        },
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => {
            number_text(expr).filter(|text| !text.starts_with('-')).map(|text| format!("-{text}"))
        }
        _ => None,
    }
}

/// The rows to insert, all columns in table order.
fn insert_query(schema: &TableSchema, insert: &Insert, targets: &[&Column]) -> Result<String> {
    let names: Vec<String> = targets.iter().map(|c| quoted(&c.name)).collect();
    let source = format!("({}) AS {SOURCE}({})", insert.source, names.join(", "));
    let table = quoted(insert.alias.as_deref().unwrap_or(&insert.table.table));
    let filled = |c: &Column| -> Result<String> {
        Ok(if targets.iter().any(|t| t.id == c.id) {
            format!("{SOURCE}.{}", quoted(&c.name))
        } else {
            match &c.default {
                Some(default) => format!("({})", keepfast_sql::parse_expression(default)?.sql),
                None => "NULL".to_owned(),
            }
        })
    };
    let OnConflict::Update { set, .. } = &insert.on_conflict else {
        let outputs = schema
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| Ok(format!("{} AS c{i}", filled(c)?)))
            .collect::<Result<Vec<_>>>()?;
        return Ok(format!("SELECT {} FROM {source}", outputs.join(", ")));
    };
    let key = schema.key_names();
    let Some(first) = key.first() else {
        return Err(EngineError::Unsupported {
            what: "ON CONFLICT".into(),
            reason: "the table has no key".into(),
        });
    };
    let set = assigned(schema, set)?;
    let missing = format!("{table}.{} IS NULL", quoted(first));
    let outputs = schema
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let old = set[i].clone().unwrap_or_else(|| format!("{table}.{}", quoted(&c.name)));
            let native = sql_type(&c.column_type.native());
            Ok(match native {
                Some(t) => format!(
                    "CASE WHEN {missing} THEN CAST({} AS {t}) ELSE CAST({old} AS {t}) END AS c{i}",
                    filled(c)?
                ),
                None => format!("CASE WHEN {missing} THEN {} ELSE {old} END AS c{i}", filled(c)?),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let on: Vec<String> = key.iter().map(|k| format!("{table}.{0} = {SOURCE}.{0}", quoted(k))).collect();
    let from = table_reference(&insert.table, insert.alias.as_deref());
    Ok(format!("SELECT {} FROM {source} LEFT JOIN {from} ON {}", outputs.join(", "), on.join(" AND ")))
}

/// A type that both branches of a CASE are brought to, so that neither is rounded to the other's.
fn sql_type(native: &DataType) -> Option<String> {
    Some(match native {
        DataType::Decimal128(p, s) => format!("DECIMAL({p},{s})"),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Float32 => "REAL".into(),
        _ => return None,
    })
}

/// Expressions of a SET list by column position; a column's default for `= DEFAULT`.
fn assigned(schema: &TableSchema, set: &[Assignment]) -> Result<Vec<Option<String>>> {
    let mut expressions = vec![None; schema.columns.len()];
    for assignment in set {
        let at = schema
            .position(&assignment.column)
            .ok_or_else(|| EngineError::Unknown { what: "column", name: assignment.column.clone() })?;
        expressions[at] = Some(match (&assignment.value, &schema.columns[at].default) {
            (Some(value), _) => in_case(schema, value.ast.clone()),
            (None, Some(default)) => keepfast_sql::parse_expression(default)?.sql,
            (None, None) => "NULL".to_owned(),
        });
    }
    Ok(expressions)
}

fn in_case(schema: &TableSchema, expression: ast::Expr) -> String {
    let mixed: Vec<&str> = schema
        .columns
        .iter()
        .map(|c| c.name.as_str())
        .filter(|n| n.chars().any(char::is_uppercase))
        .collect();
    quote_columns(expression, &mixed).to_string()
}

fn table_reference(table: &TableName, alias: Option<&str>) -> String {
    let mut parts = vec![];
    if let Some(store) = &table.store {
        parts.push(quoted(store));
    }
    if table.store.is_some() || table.database != keepfast_model::name::DEFAULT_DATABASE {
        parts.push(quoted(&table.database));
    }
    parts.push(quoted(&table.table));
    format!("{} AS {}", parts.join("."), quoted(alias.unwrap_or(&table.table)))
}

fn parse_query(text: &str) -> Result<ast::Query> {
    match keepfast_sql::parse_one(text)?.statement {
        Statement::Query(query) => Ok(*query.query),
        _ => Err(EngineError::Query { message: format!("not a query: {text}") }),
    }
}
