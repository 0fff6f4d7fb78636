//! Duties of change logs.

use super::check::{Check, Differed, During, Outcome, same};
use super::read::{collect, open, plan, scan_all};
use super::reading::make;
use crate::conformance::{Fixture, RowSet, Write};
use crate::{OpenCut, PlanOptions, ScanOptions, StoreError, sample};
use arrow::array::RecordBatch;
use keepfast_model::{Cut, Position, ShardId, ShardPosition, TableName, TableSchema};
use std::sync::Arc;

/// A cut with the rows of one table at it, closed.
async fn read(fixture: &dyn Fixture, table: &TableName) -> Result<(Arc<dyn OpenCut>, Cut, RowSet), Differed> {
    let cut = open(fixture, &[table]).await?;
    let plan = plan(fixture, cut.as_ref(), table, &PlanOptions { partitions: 2, bounds: vec![] }).await?;
    let mut rows = scan_all(fixture, cut.as_ref(), table, &plan, &ScanOptions::default()).await?;
    super::close(cut.as_ref(), table, &mut rows).await.during("closing")?;
    // Positions go on in another process, months later.
    let text =
        serde_json::to_string(&cut.cut()).map_err(|e| Differed(format!("the cut cannot be stored: {e}")))?;
    let at = serde_json::from_str(&text).map_err(|e| Differed(format!("the cut cannot be stored: {e}")))?;
    Ok((cut, at, rows))
}

/// Changes between a point and now, on top of the point's rows, against a scan now.
async fn check_changes(
    fixture: &dyn Fixture,
    table: &TableName,
    what: &str,
    (from, base): (&Cut, &RowSet),
) -> Result<(Cut, RowSet), Differed> {
    let (cut, at, now) = read(fixture, table).await?;
    ensure!(!at.positions.is_empty(), "{what}: the cut has no positions to go on from");
    let changes = cut.changes(table, &from.positions).await.during(&format!("{what}: changes"))?;
    let changes = collect(changes).await.during(&format!("{what}: changes"))?;
    let mut merged = base.under(now.schema());
    merged.apply(&changes).during(&format!("{what}: changes"))?;
    same(&format!("{what}: old rows with their changes"), &merged, &now)?;
    cut.release().await.during("release")?;
    Ok((at, merged))
}

/// Several rounds of writes, each compared with the round before and with the first.
async fn rounds(
    fixture: &dyn Fixture,
    table: &TableName,
    schema: &TableSchema,
    writes: Vec<Vec<Write>>,
) -> Result<(), Differed> {
    let mut expected = RowSet::of(schema, &[sample::batch(schema, 300, 1)]).during("the sample")?;
    let (cut, first, first_rows) = read(fixture, table).await?;
    cut.release().await.during("release")?;
    same("rows before any change", &first_rows, &expected)?;
    let (mut last, mut last_rows) = (first.clone(), first_rows.clone());
    for (i, writes) in writes.into_iter().enumerate() {
        for write in writes {
            match &write {
                Write::Insert(rows) => expected.upsert(rows).during("the sample")?,
                Write::Upsert(rows) => expected.upsert(rows).during("the sample")?,
                Write::Delete(rows) => expected.delete(rows).during("the sample")?,
            }
            fixture.write(table, write).await.during("write")?;
        }
        let what = format!("round {}", i + 1);
        (last, last_rows) = check_changes(fixture, table, &what, (&last, &last_rows)).await?;
        same(&what, &last_rows, &expected)?;
        check_changes(fixture, table, &format!("{what} since the first cut"), (&first, &first_rows)).await?;
    }
    Ok(())
}

pub(super) async fn changes_on_top_of_the_old_rows_give_the_new_rows(fixture: &dyn Fixture) -> Check {
    let mut schema = sample::schema_of(&fixture.abilities().types);
    // Of a deleted row nothing is said but its key, also where columns are never NULL.
    schema.columns.iter_mut().step_by(2).for_each(|column| column.nullable = false);
    let table = make(fixture, "changing", &schema, &sample::batch(&schema, 300, 1)).await?;
    if !fixture.store().capabilities().changes {
        let cut = open(fixture, &[&table]).await?;
        let from = cut.cut().positions;
        refused!(cut.changes(&table, &from).await, StoreError::Unsupported { .. }, "changes without a log");
        return Ok(Outcome::NotOffered("it has no change log"));
    }
    let rows = |numbers: std::ops::Range<u64>, seed| sample::rows(&schema, numbers, seed);
    let writes = vec![
        vec![],
        vec![Write::Insert(rows(300..350, 1))],
        vec![Write::Upsert(rows(0..60, 2)), Write::Upsert(rows(30..90, 3)), Write::Upsert(rows(0..10, 2))],
        vec![Write::Delete(rows(100..150, 1))],
        // Deleted and back, there and gone again, twice in one round.
        vec![
            Write::Delete(rows(0..20, 1)),
            Write::Insert(rows(0..20, 4)),
            Write::Insert(rows(400..420, 1)),
            Write::Delete(rows(400..420, 1)),
            Write::Upsert(rows(110..120, 5)),
            Write::Delete(rows(115..130, 5)),
        ],
        vec![Write::Delete(rows(0..500, 1))],
        vec![Write::Upsert(rows(0..40, 6))],
    ];
    rounds(fixture, &table, &schema, writes).await?;
    Ok(Outcome::Passed)
}

pub(super) async fn changes_of_bags_keep_their_counts(fixture: &dyn Fixture) -> Check {
    if !fixture.abilities().bags || !fixture.store().capabilities().changes {
        return Ok(Outcome::NotOffered("it has no bags with a change log"));
    }
    let schema = sample::bag();
    let table = make(fixture, "counting", &schema, &sample::batch(&schema, 300, 1)).await?;
    let cut = open(fixture, &[&table]).await?;
    let from = cut.cut().positions;
    cut.release().await.during("release")?;
    let cut = open(fixture, &[&table]).await?;
    match cut.changes(&table, &from).await {
        Ok(_) => {}
        Err(
            StoreError::Unsupported { .. }
            | StoreError::ChangesGone { .. }
            | StoreError::SchemaChanged { .. },
        ) => return Ok(Outcome::NotOffered("changes of bags are refused")),
        Err(e) => return Err(Differed(format!("changes of a bag: {}", super::check::chain(&e)))),
    }
    cut.release().await.during("release")?;
    let rows = |numbers: std::ops::Range<u64>, seed| sample::rows(&schema, numbers, seed);
    let writes = vec![
        vec![Write::Insert(rows(0..30, 1)), Write::Insert(rows(0..30, 1))],
        vec![Write::Delete(rows(10..20, 1))],
        vec![Write::Delete(rows(0..5, 1)), Write::Insert(rows(0..2, 1)), Write::Insert(rows(0..50, 9))],
        vec![Write::Delete(rows(0..50, 1))],
    ];
    rounds(fixture, &table, &schema, writes).await?;
    Ok(Outcome::Passed)
}

pub(super) async fn changes_of_several_tables_go_on_from_one_cut(fixture: &dyn Fixture) -> Check {
    if !fixture.store().capabilities().changes {
        return Ok(Outcome::NotOffered("it has no change log"));
    }
    let schema = sample::plain();
    let mut tables = vec![];
    for name in ["go_on_1", "go_on_2", "go_on_3"] {
        tables.push(make(fixture, name, &schema, &sample::batch(&schema, 50, 1)).await?);
    }
    // Written once more, so that the tables' logs do not stand at one number.
    fixture.write(&tables[1], Write::Upsert(sample::rows(&schema, 0..9, 2))).await.during("upsert")?;
    let names: Vec<&TableName> = tables.iter().collect();
    let cut = open(fixture, &names).await?;
    let mut old = vec![];
    for table in &tables {
        let plan = plan(fixture, cut.as_ref(), table, &PlanOptions::default()).await?;
        old.push(scan_all(fixture, cut.as_ref(), table, &plan, &ScanOptions::default()).await?);
    }
    for (table, rows) in tables.iter().zip(&mut old) {
        super::close(cut.as_ref(), table, rows).await.during("closing")?;
    }
    let from = cut.cut();
    cut.release().await.during("release")?;
    for (table, seed) in tables.iter().zip(3..) {
        fixture.write(table, Write::Upsert(sample::rows(&schema, 40..60, seed))).await.during("upsert")?;
        fixture.write(table, Write::Delete(sample::rows(&schema, 0..seed, 1))).await.during("delete")?;
    }
    for (table, old) in tables.iter().zip(&old) {
        check_changes(fixture, table, &format!("table '{table}'"), (&from, old)).await?;
    }
    Ok(Outcome::Passed)
}

pub(super) async fn changes_from_a_foreign_position_are_refused(fixture: &dyn Fixture) -> Check {
    if !fixture.store().capabilities().changes {
        return Ok(Outcome::NotOffered("it has no change log"));
    }
    let schema = sample::plain();
    let rows: RecordBatch = sample::batch(&schema, 20, 1);
    let table = make(fixture, "foreign", &schema, &rows).await?;
    let cut = open(fixture, &[&table]).await?;
    let shards: Vec<ShardId> = cut.cut().positions.into_iter().map(|p| p.shard).collect();
    let from: Vec<ShardPosition> = shards
        .into_iter()
        .map(|shard| ShardPosition { shard, position: Position::Token("of another store".into()) })
        .collect();
    match cut.changes(&table, &from).await {
        Err(StoreError::ChangesGone { .. } | StoreError::SchemaChanged { .. }) => Ok(Outcome::Passed),
        Err(e) => Err(Differed(format!(
            "changes from a foreign position: expected ChangesGone, but it was refused with {}",
            super::check::chain(&e)
        ))),
        Ok(_) => Err(Differed("changes from a foreign position were given".into())),
    }
}
