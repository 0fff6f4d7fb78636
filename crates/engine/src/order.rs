//! Key order for stores that scan in another one (collations): sorted by encoded key, spilling to disk.

use crate::Result;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::source::Rows;
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt};
use keepfast_model::change::hidden;
use keepfast_model::{TableSchema, encode_keys};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const KEY: &str = "__keepfast_key";

/// Rows that are read once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<Rows>>,
    table: Arc<TableSchema>,
    /// Whether any batch came with exact values.
    exact: Arc<AtomicBool>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let rows = rows.unwrap_or_else(|| futures::stream::empty().boxed());
        let (schema, table, exact) = (self.schema.clone(), self.table.clone(), self.exact.clone());
        let keyed = rows
            .map(move |batch| {
                let batch = batch?;
                let keys: ArrayRef = Arc::new(encode_keys(&table, &batch)?);
                let mut columns = batch.columns().to_vec();
                match columns.len() > table.columns.len() {
                    true => exact.store(true, Ordering::Relaxed),
                    false => columns.push(new_null_array(&DataType::Utf8, batch.num_rows())),
                }
                columns.push(keys);
                Ok::<_, EngineError>(RecordBatch::try_new(schema.clone(), columns)?)
            })
            .map_err(|e| DataFusionError::External(Box::new(e)));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), keyed))
    }
}

impl Engine {
    /// The rows in the order of their encoded keys. Memory is that of the engine's options; more goes to disk.
    pub(crate) fn in_key_order(&self, table: &Arc<TableSchema>, rows: Rows) -> Result<Rows> {
        let mut fields: Vec<Field> = table.physical().fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.push(Field::new(hidden::EXACT, DataType::Utf8, true));
        fields.push(Field::new(KEY, DataType::Binary, false));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let exact = Arc::new(AtomicBool::new(false));
        let once: Arc<dyn PartitionStream> = Arc::new(Once {
            schema: schema.clone(),
            rows: Mutex::new(Some(rows)),
            table: table.clone(),
            exact: exact.clone(),
        });
        let input = Arc::new(StreamingTableExec::try_new(schema.clone(), vec![once], None, [], false, None)?);
        let by_key = PhysicalSortExpr::new_default(col(KEY, &schema)?);
        let Some(ordering) = LexOrdering::new([by_key]) else {
            return Err(EngineError::Query { message: "no order".into() });
        };
        let sort: Arc<dyn ExecutionPlan> = Arc::new(SortExec::new(ordering, input));
        let context = crate::session::context(self)?;
        let sorted = sort.execute(0, context.task_ctx())?;
        let columns = table.columns.len();
        // All has been read when the first row comes.
        let kept = move || columns + usize::from(exact.load(Ordering::Relaxed));
        Ok(sorted.map(move |batch| Ok(batch?.project(&(0..kept()).collect::<Vec<_>>())?)).boxed())
    }
}
