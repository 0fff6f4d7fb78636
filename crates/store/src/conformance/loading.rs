//! Duties of loads: nothing before the publication, everything after it, and a way back.

use super::check::{Check, Differed, During, Outcome, same};
use super::read::read_now;
use super::reading::make;
use crate::conformance::{Fixture, RowSet, Write};
use crate::{Load, LoadMode, LoadOptions, LoadedPart, StoreError, load::LoadTable, sample};
use arrow::array::RecordBatch;
use futures::{StreamExt, future};
use keepfast_model::{RowHasher, RunId, TableName, TableSchema};
use std::sync::Arc;

pub(super) const NOT_WRITTEN: Outcome = Outcome::NotOffered("it cannot be written");

pub(super) fn options(run: &str, tables: &[(&TableName, &TableSchema, LoadMode)]) -> LoadOptions {
    LoadOptions {
        run: RunId(run.to_owned()),
        tables: tables
            .iter()
            .map(|(target, schema, mode)| LoadTable {
                target: (*target).clone(),
                schema: (*schema).clone(),
                dependents: vec![],
                mode: *mode,
                segment_rows: None,
                replaced_tag: "7".into(),
                shard_rule: None,
            })
            .collect(),
    }
}

pub(super) async fn begin(
    fixture: &dyn Fixture,
    run: &str,
    tables: &[(&TableName, &TableSchema, LoadMode)],
) -> Result<Arc<dyn Load>, Differed> {
    fixture.store().begin_load(options(run, tables)).await.during("begin_load")
}

/// Rows in key order, cut into this many parts (of which the last may be empty), several batches each.
pub(super) fn parts(
    schema: &TableSchema,
    rows: &RecordBatch,
    parts: usize,
) -> Result<Vec<Vec<RecordBatch>>, Differed> {
    let sorted = sample::sorted(schema, rows).during("the sample")?;
    let mut pieces = sample::pieces(&sorted, sorted.num_rows().div_ceil(parts.max(1)));
    pieces.resize(parts, sorted.slice(0, 0));
    Ok(pieces.iter().map(|piece| sample::pieces(piece, 40)).collect())
}

/// Writes one part and checks the digest of it.
pub(super) async fn write(
    load: &dyn Load,
    table: &TableName,
    schema: &TableSchema,
    part: u32,
    batches: &[RecordBatch],
) -> Result<LoadedPart, Differed> {
    let what = format!("write_part {part} of '{table}'");
    let loaded = load.write_part(table, part, sample::stream(batches.to_vec())).await.during(&what)?;
    let hasher = RowHasher::new(schema);
    let mut digest = keepfast_model::Digest::default();
    for batch in batches {
        digest = digest.merge(hasher.digest(batch).map_err(StoreError::from).during("the sample")?);
    }
    ensure!(loaded.digest == digest, "{what}: digest {}, the rows given have {digest}", loaded.digest);
    ensure!(loaded.part == part, "{what} says that it is part {}", loaded.part);
    let text = serde_json::to_string(&loaded).map_err(|e| Differed(format!("{what} cannot travel: {e}")))?;
    serde_json::from_str(&text).map_err(|e| Differed(format!("{what} cannot travel: {e}")))
}

/// Writes all parts at once and takes them together.
pub(super) async fn fill(
    load: &dyn Load,
    tables: &[(&TableName, &TableSchema, Vec<Vec<RecordBatch>>)],
) -> Result<(), Differed> {
    let mut all = vec![];
    for (table, schema, parts) in tables {
        let writes = (0..parts.len()).rev().map(|part| write(load, table, schema, part as u32, &parts[part]));
        let mut loaded = future::try_join_all(writes).await?;
        loaded.reverse();
        all.push(((*table).clone(), loaded));
    }
    load.finish(all).await.during("finish")
}

/// Fails when anything of a table can be seen.
pub(super) async fn invisible(fixture: &dyn Fixture, what: &str, table: &TableName) -> Result<(), Differed> {
    let store = fixture.store();
    refused!(store.describe(table).await, StoreError::NoTable { .. }, "{what}: describe");
    let listed = store.list_tables(None).await.during("list_tables")?;
    ensure!(!listed.contains(table), "{what}: list_tables names '{table}'");
    refused!(
        store.open_cut(std::slice::from_ref(table), &fixture.abilities().cut).await,
        StoreError::NoTable { .. },
        "{what}: open_cut"
    );
    Ok(())
}

pub(super) async fn a_load_comes_back_exactly(fixture: &dyn Fixture) -> Check {
    let abilities = fixture.abilities();
    if fixture.store().capabilities().publish.is_none() {
        let (table, schema) = (fixture.table("refused"), sample::plain());
        refused!(
            fixture.store().begin_load(options("run", &[(&table, &schema, LoadMode::Create)])).await,
            StoreError::Unsupported { .. },
            "begin_load of a store that cannot be written"
        );
        return Ok(NOT_WRITTEN);
    }
    let mut tables = vec![
        ("loaded", sample::schema_of(&abilities.types), 400, 4),
        ("loaded_empty", sample::plain(), 0, 1),
        ("loaded_nothing", sample::plain(), 0, 0),
        ("loaded_one", sample::plain(), 1, 3),
    ];
    if abilities.bags {
        tables.push(("loaded_bag", sample::bag(), 300, 3));
    }
    for (i, key) in abilities.key_types.iter().enumerate() {
        use keepfast_model::ColumnType::{Boolean, Int8, UInt8};
        let count = if matches!(key, Boolean) {
            2
        } else if matches!(key, Int8 | UInt8) {
            100
        } else {
            150
        };
        let schema = sample::keyed_by(std::slice::from_ref(key)).map_err(|e| Differed(e.to_string()))?;
        tables.push((["loaded_key_a", "loaded_key_b"][i % 2], schema, count, 3));
    }
    for (i, (name, schema, count, count_parts)) in tables.into_iter().enumerate() {
        let table = fixture.table(&format!("{name}_{i}"));
        let rows = sample::batch(&schema, count, 1);
        let expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
        let load = begin(fixture, "run", &[(&table, &schema, LoadMode::Create)]).await?;
        fill(load.as_ref(), &[(&table, &schema, parts(&schema, &rows, count_parts)?)]).await?;
        invisible(fixture, "a finished load", &table).await?;
        let cut = load.open_cut().await.during("open_cut of the load")?;
        let found = super::read_table(cut.as_ref(), &table).await.during("reading the load")?;
        same("a finished load", &found, &expected)?;
        cut.release().await.during("release")?;
        let published = load.publish().await.during("publish")?;
        ensure!(published.replaced == vec![None], "publishing a new table replaced {:?}", published.replaced);
        let found = read_now(fixture, &table).await?;
        same(&format!("table '{table}' after the publication"), &found, &expected)?;
        ensure!(
            found.schema().key == schema.key
                && found
                    .schema()
                    .columns
                    .iter()
                    .zip(&schema.columns)
                    .all(|(f, s)| f.id == s.id && f.name == s.name),
            "a published table has other column ids or another key than it was loaded with"
        );
    }
    Ok(Outcome::Passed)
}

pub(super) async fn a_published_table_can_be_written(fixture: &dyn Fixture) -> Check {
    if fixture.store().capabilities().publish.is_none() {
        return Ok(NOT_WRITTEN);
    }
    let (table, schema) = (fixture.table("alive"), sample::plain());
    let rows = sample::batch(&schema, 100, 1);
    let mut expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
    let load = begin(fixture, "run", &[(&table, &schema, LoadMode::Create)]).await?;
    fill(load.as_ref(), &[(&table, &schema, parts(&schema, &rows, 2)?)]).await?;
    load.publish().await.during("publish")?;
    drop(load);
    let update = sample::rows(&schema, 50..150, 2);
    expected.upsert(&update).during("the sample")?;
    fixture.write(&table, Write::Upsert(update)).await.during("a write to a published table")?;
    same("a published table after a write", &read_now(fixture, &table).await?, &expected)?;
    Ok(Outcome::Passed)
}

pub(super) async fn a_part_written_twice_counts_once(fixture: &dyn Fixture) -> Check {
    if fixture.store().capabilities().publish.is_none() {
        return Ok(NOT_WRITTEN);
    }
    let (table, schema) = (fixture.table("parts_twice"), sample::plain());
    let rows = sample::batch(&schema, 300, 1);
    let expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
    let parts = parts(&schema, &rows, 3)?;
    let load = begin(fixture, "run", &[(&table, &schema, LoadMode::Create)]).await?;
    // A part whose source fails half-way is refused, and can be written again.
    let broken = StoreError::Unavailable {
        what: "reading the source".into(),
        object: "the suite".into(),
        source: "a failure on purpose".into(),
    };
    let half = futures::stream::iter([Ok(parts[1][0].clone()), Err(broken)]).boxed();
    ensure!(load.write_part(&table, 1, half).await.is_err(), "a part whose source failed was accepted");
    let first = write(load.as_ref(), &table, &schema, 0, &parts[0]).await?;
    write(load.as_ref(), &table, &schema, 1, &parts[1]).await?;
    let again = write(load.as_ref(), &table, &schema, 1, &parts[1]).await?;
    let (both, third) = future::try_join(
        write(load.as_ref(), &table, &schema, 2, &parts[2]),
        write(load.as_ref(), &table, &schema, 2, &parts[2]),
    )
    .await?;
    ensure!(both.digest == third.digest, "one part written twice at once gave two digests");
    load.finish(vec![(table.clone(), vec![first, again, third])]).await.during("finish")?;
    load.publish().await.during("publish")?;
    same("a table with parts written twice", &read_now(fixture, &table).await?, &expected)?;
    Ok(Outcome::Passed)
}

pub(super) async fn another_process_can_write_parts(fixture: &dyn Fixture) -> Check {
    if fixture.store().capabilities().publish.is_none() {
        return Ok(NOT_WRITTEN);
    }
    let (table, schema) = (fixture.table("from_elsewhere"), sample::plain());
    let rows = sample::batch(&schema, 200, 1);
    let expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
    let parts = parts(&schema, &rows, 2)?;
    let load = begin(fixture, "run", &[(&table, &schema, LoadMode::Create)]).await?;
    let Some(token) = load.token() else {
        refused!(
            fixture.store().attach_load(&serde_json::Value::Null).await,
            StoreError::Unsupported { .. },
            "attach_load of a store whose loads have no token"
        );
        return Ok(Outcome::NotOffered("loads are written by one process"));
    };
    let worker = fixture.elsewhere().attach_load(&token).await.during("attach_load")?;
    let second = write(worker.as_ref(), &table, &schema, 1, &parts[1]).await?;
    // The worker ends; the load goes on.
    drop(worker);
    let first = write(load.as_ref(), &table, &schema, 0, &parts[0]).await?;
    load.finish(vec![(table.clone(), vec![first, second])]).await.during("finish")?;
    load.publish().await.during("publish")?;
    same("a table with a part from another process", &read_now(fixture, &table).await?, &expected)?;
    Ok(Outcome::Passed)
}

pub(super) async fn an_abandoned_load_leaves_nothing_visible(fixture: &dyn Fixture) -> Check {
    if fixture.store().capabilities().publish.is_none() {
        return Ok(NOT_WRITTEN);
    }
    let (table, schema) = (fixture.table("abandoned"), sample::plain());
    let rows = sample::batch(&schema, 100, 1);
    for finished in [false, true] {
        let load = begin(fixture, "run", &[(&table, &schema, LoadMode::Create)]).await?;
        let parts = parts(&schema, &rows, 2)?;
        if finished {
            fill(load.as_ref(), &[(&table, &schema, parts)]).await?;
        } else {
            write(load.as_ref(), &table, &schema, 0, &parts[0]).await?;
        }
        load.abandon().await.during("abandon")?;
        invisible(fixture, "an abandoned load", &table).await?;
        ensure!(load.publish().await.is_err(), "an abandoned load was published");
        invisible(fixture, "an abandoned load after a try to publish it", &table).await?;
    }
    Ok(Outcome::Passed)
}

pub(super) async fn a_dropped_load_leaves_nothing_visible(fixture: &dyn Fixture) -> Check {
    if fixture.store().capabilities().publish.is_none() {
        return Ok(NOT_WRITTEN);
    }
    let (table, schema) = (fixture.table("dropped"), sample::plain());
    let rows = sample::batch(&schema, 100, 1);
    let expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
    let load = begin(fixture, "run_1", &[(&table, &schema, LoadMode::Create)]).await?;
    fill(load.as_ref(), &[(&table, &schema, parts(&schema, &rows, 2)?)]).await?;
    drop(load);
    invisible(fixture, "a dropped load", &table).await?;
    // Another run goes on without it.
    let load = begin(fixture, "run_2", &[(&table, &schema, LoadMode::Create)]).await?;
    fill(load.as_ref(), &[(&table, &schema, parts(&schema, &rows, 3)?)]).await?;
    load.publish().await.during("publish")?;
    same("the load after the dropped one", &read_now(fixture, &table).await?, &expected)?;
    Ok(Outcome::Passed)
}

pub(super) async fn a_sweep_removes_only_what_was_left_behind(fixture: &dyn Fixture) -> Check {
    let store = fixture.store();
    let schema = sample::plain();
    let rows = sample::batch(&schema, 100, 1);
    let expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
    let table = make(fixture, "swept", &schema, &rows).await?;
    let cut = super::read::open(fixture, &[&table]).await?;
    if store.capabilities().publish.is_none() {
        store.sweep().await.during("sweep")?;
    } else {
        let (left, held) = (fixture.table("left_behind"), fixture.table("held"));
        let dropped = begin(fixture, "run_1", &[(&left, &schema, LoadMode::Create)]).await?;
        fill(dropped.as_ref(), &[(&left, &schema, parts(&schema, &rows, 2)?)]).await?;
        drop(dropped);
        let load = begin(fixture, "run_2", &[(&held, &schema, LoadMode::Create)]).await?;
        let parts = parts(&schema, &rows, 2)?;
        let first = write(load.as_ref(), &held, &schema, 0, &parts[0]).await?;
        store.sweep().await.during("sweep")?;
        let second = write(load.as_ref(), &held, &schema, 1, &parts[1]).await?;
        load.finish(vec![(held.clone(), vec![first, second])]).await.during("finish after a sweep")?;
        store.sweep().await.during("sweep")?;
        load.publish().await.during("publish after a sweep")?;
        store.sweep().await.during("sweep")?;
        same("a load held over a sweep", &read_now(fixture, &held).await?, &expected)?;
        invisible(fixture, "a swept load", &left).await?;
    }
    let found = super::read_table(cut.as_ref(), &table).await.during("a cut held over a sweep")?;
    same("a cut held over a sweep", &found, &expected)?;
    same("a table after a sweep", &read_now(fixture, &table).await?, &expected)?;
    Ok(Outcome::Passed)
}
