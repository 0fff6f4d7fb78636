//! Executes parsed statements: queries, changes to tables, and the verbs of backup and restore as SQL says them.

use crate::Result;
use crate::api::*;
use crate::engine::{Engine, Outcome};
use crate::error::EngineError;
use crate::resolve::StoreSpec;
use arrow::array::{RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::SendableRecordBatchStream;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use keepfast_model::{Selection, TableName};
use keepfast_sql::{self as sql, Scope, Statement, sqlparser::ast};
use keepfast_store::Store;
use std::sync::Arc;

impl Engine {
    /// Executes one parsed statement.
    pub fn execute<'a>(&'a self, statement: &'a sql::Located) -> LocalBoxFuture<'a, Result<Outcome>> {
        async move {
            match &statement.statement {
                Statement::Query(query) => self.query(query).await,
                Statement::Insert(insert) => self.insert(insert).await,
                Statement::Update(update) => self.update(update).await,
                Statement::Delete(delete) => self.delete(delete).await,
                Statement::CreateTable(create) => self.create_table(create).await,
                Statement::DropTable(drop) => self.drop_tables(drop).await,
                Statement::ShowTables => self.show_tables().await,
                Statement::DescribeTable { table } => self.describe_table(table).await,
                Statement::Backup(backup) => {
                    Ok(Outcome::Backup(self.backup(&backup_request(backup)?).await?))
                }
                Statement::Restore(restore) => {
                    Ok(Outcome::Restore(self.restore(&restore_request(restore)?).await?))
                }
                Statement::Explain(inner) => match inner.as_ref() {
                    Statement::Backup(backup) => {
                        Ok(Outcome::BackupPlan(self.plan_backup(&backup_request(backup)?).await?))
                    }
                    Statement::Restore(restore) => {
                        Ok(Outcome::RestorePlan(self.plan_restore(&restore_request(restore)?).await?))
                    }
                    _ => Err(unsupported(
                        "EXPLAIN of this statement",
                        "BACKUP, RESTORE and queries can be explained",
                    )),
                },
                Statement::UndoRestore { id } => {
                    let tables = self.undo(id).await?;
                    Ok(Outcome::Done(format!("put back {}", joined(&tables))))
                }
                Statement::Verify(verify) => Ok(Outcome::Verify(self.verify(&verify_request(verify)).await?)),
                Statement::ShowBackups => Ok(Outcome::Backups(self.list(None).await?)),
                Statement::ShowRestorePoints { from } => {
                    Ok(Outcome::Points(self.points(from.as_str()).await?))
                }
                Statement::DescribeBackup { name } => {
                    Ok(Outcome::Point(Box::new(self.show(name.as_str(), &AsOf::Latest).await?)))
                }
                Statement::DropBackup { name } => {
                    let (name, points) = self.drop_backup(name.as_str()).await?;
                    Ok(Outcome::Done(format!("dropped backup '{name}' with {points} restore points")))
                }
                _ => Err(unsupported("this statement", "this version does not know it")),
            }
        }
        .boxed_local()
    }

    async fn query(&self, query: &sql::Query) -> Result<Outcome> {
        let prepared = self.prepare(&query.query, vec![]).await?;
        let body = ast::Statement::Query(prepared.query.clone());
        let statement = match &query.plan {
            None => body,
            Some(plan) => ast::Statement::Explain {
                describe_alias: ast::DescribeAlias::Explain,
                analyze: plan.analyze,
                verbose: plan.verbose,
                query_plan: false,
                estimate: false,
                statement: Box::new(body),
                format: None,
                options: None,
            },
        };
        let stream = prepared.run(statement).await?;
        let schema = stream.schema();
        // The cuts are given back after the last row, or when the rows are dropped.
        let rows =
            futures::stream::try_unfold((stream, Some(prepared)), |(mut stream, prepared)| async move {
                match stream.try_next().await? {
                    Some(batch) => Ok(Some((batch, (stream, prepared)))),
                    None => {
                        if let Some(prepared) = &prepared {
                            prepared.release().await?;
                        }
                        Ok(None)
                    }
                }
            });
        Ok(Outcome::Rows { schema, batches: rows.boxed() })
    }

    /// The store that a table lives in.
    pub(crate) async fn store_of(&self, table: &TableName) -> Result<Arc<dyn Store>> {
        let spec = table.store.clone().map_or(StoreSpec::Embedded, StoreSpec::Named);
        self.options.stores.open(&spec).await
    }

    async fn show_tables(&self) -> Result<Outcome> {
        let store = self.options.stores.open(&StoreSpec::Embedded).await?;
        let (mut names, mut rows, mut bytes, mut keys) = (vec![], vec![], vec![], vec![]);
        for table in store.list_tables(None).await? {
            let info = store.describe(&table).await?;
            names.push(table.to_string());
            rows.push(info.rows);
            bytes.push(info.bytes.0);
            keys.push(info.schema.key_names().join(", "));
        }
        let schema = Arc::new(Schema::new(vec![
            Field::new("table", DataType::Utf8, false),
            Field::new("rows", DataType::UInt64, false),
            Field::new("bytes", DataType::UInt64, false),
            Field::new("key", DataType::Utf8, false),
        ]));
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(StringArray::from(names)),
                Arc::new(UInt64Array::from(rows)),
                Arc::new(UInt64Array::from(bytes)),
                Arc::new(StringArray::from(keys)),
            ],
        )?;
        Ok(Outcome::Rows { schema, batches: futures::stream::iter([Ok(batch)]).boxed() })
    }

    async fn describe_table(&self, table: &TableName) -> Result<Outcome> {
        let store = self.store_of(table).await?;
        let info = store.describe(&TableName { store: None, ..table.clone() }).await?;
        let columns = &info.schema.columns;
        let schema = Arc::new(Schema::new(vec![
            Field::new("column", DataType::Utf8, false),
            Field::new("type", DataType::Utf8, false),
            Field::new("null", DataType::Utf8, false),
            Field::new("key", DataType::Utf8, false),
            Field::new("default", DataType::Utf8, true),
        ]));
        let key = &info.schema.key;
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(StringArray::from_iter_values(columns.iter().map(|c| c.name.as_str()))),
                Arc::new(StringArray::from_iter_values(columns.iter().map(|c| c.column_type.sql()))),
                Arc::new(StringArray::from_iter_values(
                    columns.iter().map(|c| if c.nullable { "yes" } else { "no" }),
                )),
                Arc::new(StringArray::from_iter_values(columns.iter().map(|c| {
                    key.iter().position(|k| *k == c.id).map_or_else(String::new, |i| (i + 1).to_string())
                }))),
                Arc::new(StringArray::from_iter(columns.iter().map(|c| c.default.clone()))),
            ],
        )?;
        Ok(Outcome::Rows { schema, batches: futures::stream::iter([Ok(batch)]).boxed() })
    }

    async fn create_table(&self, create: &sql::CreateTable) -> Result<Outcome> {
        let store = self.store_of(&create.name).await?;
        let name = TableName { store: None, ..create.name.clone() };
        let made = editable(&store)?.create_table(&name, &create.schema, create.if_not_exists).await?;
        Ok(Outcome::Done(if made {
            format!("created table '{name}'")
        } else {
            format!("table '{name}' exists already")
        }))
    }

    async fn drop_tables(&self, drop: &sql::DropTable) -> Result<Outcome> {
        // What does not exist is found before anything is dropped.
        if !drop.if_exists {
            for name in &drop.names {
                let store = self.store_of(name).await?;
                store.describe(&TableName { store: None, ..name.clone() }).await?;
            }
        }
        let mut dropped = vec![];
        for name in &drop.names {
            let store = self.store_of(name).await?;
            if editable(&store)?
                .drop_table(&TableName { store: None, ..name.clone() }, drop.if_exists)
                .await?
            {
                dropped.push(name.clone());
            }
        }
        Ok(Outcome::Done(if dropped.is_empty() {
            "nothing to drop".into()
        } else {
            format!("dropped table {}", joined(&dropped))
        }))
    }

    /// Runs a query over given and stored tables.
    pub(crate) async fn rows_of(
        &self,
        query: &ast::Query,
        given: crate::session::Given,
    ) -> Result<(crate::session::Prepared, SendableRecordBatchStream)> {
        let prepared = self.prepare(query, given).await?;
        let stream = prepared.run(ast::Statement::Query(prepared.query.clone())).await?;
        Ok((prepared, stream))
    }
}

/// A store's side for row by row changes.
pub(crate) fn editable(store: &Arc<dyn Store>) -> Result<&dyn keepfast_store::Edit> {
    store.edit().ok_or_else(|| {
        unsupported(&format!("changing tables of {store} by SQL"), "use the store's own client")
    })
}

fn joined(tables: &[TableName]) -> String {
    tables.iter().map(|t| format!("'{t}'")).collect::<Vec<_>>().join(", ")
}

fn unsupported(what: &str, reason: &str) -> EngineError {
    EngineError::Unsupported { what: what.to_owned(), reason: reason.to_owned() }
}

fn selection(columns: Option<&Vec<String>>, filter: Option<&sql::Expression>) -> Selection {
    Selection { columns: columns.cloned(), filter: filter.map(|f| f.sql.clone()) }
}

/// The request that a BACKUP statement makes.
pub fn backup_request(backup: &sql::Backup) -> Result<BackupRequest> {
    let options = &backup.options;
    if options.until.is_some() && options.before_transaction.is_some() {
        return Err(EngineError::Usage {
            what: "until and before_transaction".into(),
            reason: "a backup is of one moment; give one of the two".into(),
        });
    }
    Ok(BackupRequest {
        tables: match &backup.scope {
            Scope::Tables(tables) => TableSet::Tables(tables.clone()),
            Scope::Database(d) => TableSet::Database(database(d)),
        },
        to: backup.targets.iter().map(|t| t.as_str().to_owned()).collect(),
        selection: selection(backup.columns.as_ref(), backup.filter.as_ref()),
        mode: match options.mode {
            Some(sql::BackupMode::Full) => Mode::Full,
            Some(sql::BackupMode::Incremental) => Mode::Incremental,
            Some(sql::BackupMode::Auto) | None => Mode::Auto,
        },
        until: (options.until.map(Until::Time))
            .or_else(|| options.before_transaction.clone().map(Until::Before)),
        certify: match options.certify {
            Some(sql::CertifyLevel::Full) => Certify::Full,
            Some(sql::CertifyLevel::Sample) | None => Certify::Sample,
        },
        encrypt: options.encrypt.as_ref().map(ToString::to_string),
        segment_rows: options.segment_rows,
        parity: options.parity,
        require: options.require.map(|n| n.map_or(Require::All, |n| Require::AtLeast(n.get()))),
        retain: RetainTerms { time: options.retain_for, mode: options.retain_mode },
    })
}

fn database(name: &sql::DatabaseName) -> String {
    match &name.store {
        Some(store) => format!("{store}.{}", name.database),
        None => name.database.clone(),
    }
}

/// The request that a RESTORE statement makes.
pub fn restore_request(restore: &sql::Restore) -> Result<RestoreRequest> {
    let (tables, rename) = match &restore.scope {
        sql::RestoreScope::Tables(tables) => (
            TableSet::Tables(tables.iter().map(|t| t.table.clone()).collect()),
            tables.iter().map(|t| t.rename.clone()).collect(),
        ),
        sql::RestoreScope::Database(d) => (TableSet::Database(database(d)), vec![]),
        sql::RestoreScope::All => (TableSet::All, vec![]),
    };
    Ok(RestoreRequest {
        tables,
        rename,
        from: restore.from.as_str().to_owned(),
        as_of: match restore.as_of {
            None => AsOf::Latest,
            Some(sql::AsOf::Point(seq)) => AsOf::Point(seq),
            Some(sql::AsOf::Timestamp(time)) => AsOf::Time(time),
        },
        into: restore.into.as_ref().map(|a| a.as_str().to_owned()),
        selection: selection(restore.columns.as_ref(), restore.filter.as_ref()),
        if_exists: match restore.options.if_exists {
            Some(sql::IfExists::Fail) => IfExists::Fail,
            Some(sql::IfExists::Merge) => IfExists::Merge,
            Some(sql::IfExists::Replace) | None => IfExists::Replace,
        },
        shard_rule: restore.options.shard_rule.clone(),
        segment_rows: None,
        skip_damaged: false,
        skip_shredded: false,
    })
}

/// The request that a VERIFY statement makes.
pub fn verify_request(verify: &sql::Verify) -> VerifyRequest {
    VerifyRequest {
        backup: verify.backup.as_str().to_owned(),
        as_of: verify.point.map_or(AsOf::Latest, AsOf::Point),
        level: match verify.level {
            Some(sql::VerifyLevel::Checksum) => Level::Checksum,
            Some(sql::VerifyLevel::Compare) => Level::Compare,
            Some(sql::VerifyLevel::Content) => Level::Content,
            None if verify.against.is_some() => Level::Compare,
            None => Level::Checksum,
        },
        against: verify.against.clone(),
        expect: None,
        repair: false,
        repair_from: None,
        accept_head: false,
        limit: 20,
    }
}
