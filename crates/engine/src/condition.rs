//! Conditions on rows, evaluated by the engine so that they mean the same over every store.

use crate::Result;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::source::native_schema;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use keepfast_model::{TableSchema, convert};
use std::sync::Arc;

/// A compiled condition over the physical rows of one schema.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    schema: Arc<TableSchema>,
    expr: Arc<dyn PhysicalExpr>,
}

impl Condition {
    /// Compiles SQL text against a table's columns.
    ///
    /// # Errors
    /// [`EngineError::Condition`] for unknown columns, wrong types, or an expression that is not a truth value.
    pub fn compile(engine: &Engine, schema: &TableSchema, text: &str) -> Result<Self> {
        let refuse = |reason: String| EngineError::Condition { text: text.to_owned(), reason };
        let parsed = keepfast_sql::parse_expression(text)?;
        let mixed: Vec<&str> = schema
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .filter(|n| n.chars().any(char::is_uppercase))
            .collect();
        let sql = crate::session::quote_columns(parsed.ast, &mixed).to_string();
        let native = native_schema(schema, None);
        let context = crate::session::context(engine)?;
        let df_schema = DFSchema::try_from(native.clone()).map_err(|e| refuse(e.strip_backtrace()))?;
        let expr = context.parse_sql_expr(&sql, &df_schema).map_err(|e| refuse(e.strip_backtrace()))?;
        let expr = context.create_physical_expr(expr, &df_schema).map_err(|e| refuse(e.strip_backtrace()))?;
        let found = expr.data_type(&native).map_err(|e| refuse(e.strip_backtrace()))?;
        if found != DataType::Boolean {
            return Err(refuse(format!("it gives {found}, not a truth value")));
        }
        Ok(Self { text: text.to_owned(), schema: Arc::new(schema.clone()), expr })
    }

    /// Which rows of a physical batch meet it; NULL does not.
    pub fn mask(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let refuse = |reason: String| EngineError::Condition { text: self.text.clone(), reason };
        let native = convert::to_native(&self.schema, batch)?;
        let value = self.expr.evaluate(&native).map_err(|e| refuse(e.strip_backtrace()))?;
        let array = value.into_array(batch.num_rows()).map_err(|e| refuse(e.strip_backtrace()))?;
        let mask = array.as_boolean();
        Ok(if mask.nulls().is_some() { prep_null_mask_filter(mask) } else { mask.clone() })
    }

    /// The rows that meet it.
    pub fn keep(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        Ok(filter_record_batch(batch, &self.mask(batch)?)?)
    }
}
