//! Reading whole tables through the traits, with the duties of plans and scans checked on the way.

use super::check::{Differed, During};
use crate::conformance::{Fixture, RowSet};
use crate::{BatchStream, OpenCut, PlanOptions, Result, ScanOptions, StoreError};
use arrow::array::RecordBatch;
use futures::TryStreamExt;
use keepfast_model::{KeyBytes, Partition, TableName, TableSchema, encode_keys};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All batches of a stream.
///
/// # Errors
/// The stream's first error.
pub async fn collect(stream: BatchStream) -> Result<Vec<RecordBatch>> {
    stream.try_collect().await
}

/// The rows of one table at a cut: plan, scans, and closing changes where the cut needs them.
///
/// # Errors
/// As the calls it makes.
pub async fn read_table(cut: &dyn OpenCut, table: &TableName) -> Result<RowSet> {
    let schema = cut.table(table).await?.schema;
    let mut rows = RowSet::new(&schema);
    for partition in cut.plan(table, &PlanOptions::default()).await? {
        for batch in collect(cut.scan(&partition, &ScanOptions::default()).await?).await? {
            rows.add(&partition.shard, &batch)?;
        }
    }
    close(cut, table, &mut rows).await?;
    Ok(rows)
}

/// Applies a table's closing changes to what was scanned of it.
///
/// # Errors
/// As the calls it makes.
pub async fn close(cut: &dyn OpenCut, table: &TableName, rows: &mut RowSet) -> Result<()> {
    if let Some(changes) = cut.closing_changes(table).await? {
        rows.apply(&collect(changes).await?)?;
    }
    Ok(())
}

/// A cut over tables, as the fixture asks for it.
pub(super) async fn open(fixture: &dyn Fixture, tables: &[&TableName]) -> Result<Arc<dyn OpenCut>, Differed> {
    let tables: Vec<TableName> = tables.iter().map(|t| (*t).clone()).collect();
    fixture.store().open_cut(&tables, &fixture.abilities().cut).await.during("open_cut")
}

/// A cut over one table, its rows, and the cut's release.
pub(super) async fn read_now(fixture: &dyn Fixture, table: &TableName) -> Result<RowSet, Differed> {
    let cut = open(fixture, &[table]).await?;
    let rows = read_table(cut.as_ref(), table).await.during(&format!("reading table '{table}'"))?;
    cut.release().await.during("release")?;
    Ok(rows)
}

/// A plan whose partitions were checked, as they look after a journey to another process.
pub(super) async fn plan(
    fixture: &dyn Fixture,
    cut: &dyn OpenCut,
    table: &TableName,
    options: &PlanOptions,
) -> Result<Vec<Partition>, Differed> {
    let schema = cut.table(table).await.during("table")?.schema;
    let plan = cut.plan(table, options).await.during("plan")?;
    let ordered = fixture.store().capabilities().key_order && !schema.is_bag();
    let mut ends: BTreeMap<&str, Option<&KeyBytes>> = BTreeMap::new();
    let mut travelled = vec![];
    for (i, p) in plan.iter().enumerate() {
        ensure!(p.table == *table, "partition {i} of '{table}' is of table '{}'", p.table);
        ensure!(p.index as usize == i, "partition {i} has the number {}", p.index);
        let shard = p.shard.0.as_str();
        if ordered {
            let expected = ends.get(shard).copied();
            ensure!(
                !matches!(expected, Some(None)),
                "partition {i} follows the unbounded end of shard {shard}: an overlap"
            );
            ensure!(
                p.range.start.as_ref() == expected.flatten(),
                "partition {i} of shard {shard} starts at {:?}, the one before it ends at {:?}",
                p.range.start,
                expected.flatten()
            );
            ensure!(
                !matches!((&p.range.start, &p.range.end), (Some(s), Some(e)) if s >= e),
                "partition {i} has the empty or turned range {:?}",
                p.range
            );
        } else {
            ensure!(p.range.is_all(), "partition {i} has a range, but scans are not in key order");
        }
        ends.insert(shard, p.range.end.as_ref());
        let text =
            serde_json::to_string(p).map_err(|e| Differed(format!("partition {i} cannot travel: {e}")))?;
        travelled.push(
            serde_json::from_str(&text).map_err(|e| Differed(format!("partition {i} cannot travel: {e}")))?,
        );
    }
    if let Some((shard, _)) = ends.iter().find(|(_, end)| end.is_some()) {
        return Err(Differed(format!("the last partition of shard {shard} does not reach the end: a gap")));
    }
    Ok(travelled)
}

/// The batches of one partition, checked: columns, number of rows a batch, range, and order.
pub(super) async fn scan(
    fixture: &dyn Fixture,
    cut: &dyn OpenCut,
    schema: &TableSchema,
    partition: &Partition,
    options: &ScanOptions,
) -> Result<Vec<RecordBatch>, Differed> {
    let name = format!("scan of partition {} of '{}'", partition.index, partition.table);
    let batches = collect(cut.scan(partition, options).await.during(&name)?).await.during(&name)?;
    let ordered = fixture.store().capabilities().key_order && !schema.is_bag();
    let mut last: Option<Vec<u8>> = None;
    for batch in &batches {
        ensure!(
            batch.num_rows() <= options.batch_rows,
            "{name}: a batch has {} rows, at most {} were asked for",
            batch.num_rows(),
            options.batch_rows
        );
        RowSet::of(schema, std::slice::from_ref(batch)).during(&name)?;
        if !ordered {
            continue;
        }
        let keys = encode_keys(schema, batch).map_err(StoreError::from).during(&name)?;
        for key in keys.iter().flatten() {
            let shown = KeyBytes(key.to_vec());
            ensure!(
                partition.range.contains(key),
                "{name}: key {shown} lies outside of {:?}",
                partition.range
            );
            if let Some(last) = &last {
                let before = KeyBytes(last.clone());
                ensure!(last.as_slice() < key, "{name}: key {shown} comes after {before}");
            }
            last = Some(key.to_vec());
        }
    }
    Ok(batches)
}

/// The rows of all partitions, without closing changes.
pub(super) async fn scan_all(
    fixture: &dyn Fixture,
    cut: &dyn OpenCut,
    table: &TableName,
    plan: &[Partition],
    options: &ScanOptions,
) -> Result<RowSet, Differed> {
    let schema = cut.table(table).await.during("table")?.schema;
    let mut rows = RowSet::new(&schema);
    for partition in plan {
        for batch in scan(fixture, cut, &schema, partition, options).await? {
            rows.add(&partition.shard, &batch).during("scan")?;
        }
    }
    Ok(rows)
}
