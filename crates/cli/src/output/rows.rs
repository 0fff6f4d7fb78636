//! Rows of a query: a table for people, an object with `columns` and `rows` as JSON.
//!
//! Rows are written as they come, a piece at a time, so that memory does not follow the size of a result.

use super::human;
use super::table::{Grid, Side};
use super::write_json;
use crate::error::CliError;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::writer::{JsonArray, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;
use futures::stream::BoxStream;
use keepfast_engine::{Cancel, EngineError};
use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

/// Rows whose values decide how wide the columns are.
const PIECE: usize = 1000;

/// Batches as the engine gives them.
pub type Batches = BoxStream<'static, Result<RecordBatch, EngineError>>;

/// Writes rows as a table; returns how many there were.
///
/// # Errors
/// The engine's, `Interrupted` when `cancel` was asked, and those of the writer.
pub async fn write_table(
    out: &mut (dyn Write + Send),
    schema: &SchemaRef,
    mut batches: Batches,
    cancel: &Cancel,
) -> Result<u64, CliError> {
    let columns: Vec<(String, Side)> = schema
        .fields()
        .iter()
        .map(|f| (f.name().clone(), if is_number(f.data_type()) { Side::Right } else { Side::Left }))
        .collect();
    let mut total = 0_u64;
    let mut widths: Option<Vec<u16>> = None;
    let mut grid = Grid::new(columns.clone());
    let mut held = 0;
    let mut flush = |grid: &mut Grid| -> Result<(), CliError> {
        if let Some(widths) = &widths {
            grid.at_least(widths);
            grid.write_body(out)?;
        } else {
            grid.write(out, "")?;
        }
        out.flush()?;
        widths = Some(grid.widths());
        *grid = Grid::new(columns.clone());
        Ok(())
    };
    while let Some(batch) = next(&mut batches, cancel).await? {
        for row in text_rows(&batch)? {
            grid.row(row);
            held += 1;
            total += 1;
            if held == PIECE {
                flush(&mut grid)?;
                held = 0;
            }
        }
    }
    if held > 0 || total == 0 {
        flush(&mut grid)?;
    }
    Ok(total)
}

/// Writes `{"columns":[…],"rows":[…]}` without a line end; returns how many rows there were. A column whose name
/// stands before gets a number behind it, as an object holds each name once.
///
/// # Errors
/// As [`write_table`]. What was written then is still one whole document.
pub async fn write_object(
    out: &mut (dyn Write + Send),
    schema: &SchemaRef,
    mut batches: Batches,
    cancel: &Cancel,
) -> Result<u64, CliError> {
    let schema = with_unique_names(schema);
    let columns: Vec<_> =
        schema.fields().iter().map(|f| serde_json::json!({"name": f.name(), "type": type_name(f)})).collect();
    out.write_all(b"{\"columns\":")?;
    write_json(out, &columns)?;
    out.write_all(b",\"rows\":[")?;
    let mut total = 0_u64;
    let result = loop {
        let batch = match next(&mut batches, cancel).await {
            Ok(Some(batch)) => batch,
            Ok(None) => break Ok(total),
            Err(e) => break Err(e),
        };
        if batch.num_rows() == 0 {
            continue;
        }
        let text = match json_rows(&batch, &schema) {
            Ok(text) => text,
            Err(e) => break Err(e),
        };
        if total > 0 {
            out.write_all(b",")?;
        }
        // The writer gives `[…]`; its brackets are ours already.
        out.write_all(&text[1..text.len() - 1])?;
        total += batch.num_rows() as u64;
    };
    out.write_all(b"]}")?;
    result
}

async fn next(batches: &mut Batches, cancel: &Cancel) -> Result<Option<RecordBatch>, CliError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(EngineError::Interrupted.into()),
        batch = batches.next() => Ok(batch.transpose()?),
    }
}

fn json_rows(batch: &RecordBatch, schema: &SchemaRef) -> Result<Vec<u8>, CliError> {
    let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(EngineError::from)?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
    writer.write(&batch).map_err(EngineError::from)?;
    writer.finish().map_err(EngineError::from)?;
    Ok(writer.into_inner())
}

/// The values of each row as text.
///
/// # Errors
/// When a column has a type that has no text form.
pub fn text_rows(batch: &RecordBatch) -> Result<Vec<Vec<String>>, CliError> {
    let options = FormatOptions::new()
        .with_display_error(true)
        .with_null("NULL")
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
    let formatters = batch
        .columns()
        .iter()
        .map(|c| ArrayFormatter::try_new(c.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(EngineError::from)?;
    Ok((0..batch.num_rows()).map(|i| formatters.iter().map(|f| f.value(i).to_string()).collect()).collect())
}

/// The exact type of a column of a table, else Arrow's name of the type.
fn type_name(field: &Field) -> String {
    field.metadata().get(keepfast_model::schema::META_TYPE).cloned().unwrap_or_else(|| {
        keepfast_model::ColumnType::from_arrow(field.data_type())
            .map_or_else(|| field.data_type().to_string(), |t| t.to_string())
    })
}

fn with_unique_names(schema: &SchemaRef) -> SchemaRef {
    let mut taken: HashSet<String> = HashSet::new();
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|f| {
            let mut name = f.name().clone();
            let mut n = 1;
            while !taken.insert(name.clone()) {
                n += 1;
                name = format!("{}_{n}", f.name());
            }
            f.as_ref().clone().with_name(name).with_nullable(true)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// `3 rows in 4 ms`
pub fn footer(rows: u64, seconds: f64) -> String {
    format!("({} in {})", human::rows(rows), human::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Int64Array, StringArray};

    fn batch() -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("id", DataType::Utf8, true),
            Field::new("amount", DataType::Decimal128(10, 2), true),
        ]));
        RecordBatch::try_new(
            schema,
            vec![
                Arc::new(Int64Array::from(vec![Some(1), None])),
                Arc::new(StringArray::from(vec![Some("a\n\"b\""), Some("")])),
                Arc::new(
                    Decimal128Array::from(vec![Some(110), None]).with_precision_and_scale(10, 2).unwrap(),
                ),
            ],
        )
        .unwrap()
    }

    fn stream(batches: Vec<RecordBatch>) -> Batches {
        futures::stream::iter(batches.into_iter().map(Ok)).boxed()
    }

    #[tokio::test]
    async fn json_of_several_batches_is_one_document_with_unique_names() {
        let mut out = vec![];
        let n = write_object(&mut out, &batch().schema(), stream(vec![batch(), batch()]), &Cancel::default())
            .await
            .unwrap();
        assert_eq!(n, 4);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["rows"].as_array().unwrap().len(), 4);
        assert_eq!(json["rows"][0]["id"], 1);
        assert_eq!(json["rows"][0]["id_2"], "a\n\"b\"");
        assert!(json["rows"][1]["id"].is_null());
        assert_eq!(json["columns"][2]["type"], "decimal(10,2)");
        assert!(String::from_utf8(out).unwrap().contains("\"amount\":1.10"));
    }

    #[tokio::test]
    async fn long_results_come_in_aligned_pieces() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let values: Vec<i64> = (0..2500).collect();
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(values))]).unwrap();
        let mut out = vec![];
        let n = write_table(&mut out, &schema, stream(vec![rows]), &Cancel::default()).await.unwrap();
        assert_eq!(n, 2500);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 2502);
        assert_eq!(text.lines().last().unwrap(), " 2499");
        assert_eq!(text.lines().nth(1002).unwrap(), " 1000");
    }

    #[tokio::test]
    async fn an_interrupted_result_is_still_one_document() {
        let cancel = Cancel::default();
        cancel.cancel();
        let mut out = vec![];
        let error =
            write_object(&mut out, &batch().schema(), stream(vec![batch()]), &cancel).await.unwrap_err();
        assert!(matches!(error, CliError::Engine(EngineError::Interrupted)));
        serde_json::from_slice::<serde_json::Value>(&out).unwrap();
    }
}
