//! Duties of loads: nothing before the publication, everything after it, and a way back.

use super::check::{Check, Differed, During, Outcome, chain, same};
use super::read::read_now;
use super::reading::make;
use crate::conformance::{Fixture, RowSet, Write};
use crate::{Load, LoadMode, LoadOptions, LoadedPart, PublishKind, StoreError, load::LoadTable, sample};
use arrow::array::RecordBatch;
use futures::{StreamExt, future};
use keepfast_model::{RowHasher, RunId, TableName, TableSchema};
use std::sync::Arc;

const NOT_WRITTEN: Outcome = Outcome::NotOffered("it cannot be written");

fn options(run: &str, tables: &[(&TableName, &TableSchema, LoadMode)]) -> LoadOptions {
    LoadOptions {
        run: RunId(run.to_owned()),
        tables: tables
            .iter()
            .map(|(target, schema, mode)| LoadTable {
                target: (*target).clone(),
                schema: (*schema).clone(),
                dependents: vec![],
                mode: *mode,
                replaced_tag: "7".into(),
            })
            .collect(),
    }
}

async fn begin(
    fixture: &dyn Fixture,
    run: &str,
    tables: &[(&TableName, &TableSchema, LoadMode)],
) -> Result<Arc<dyn Load>, Differed> {
    fixture.store().begin_load(options(run, tables)).await.during("begin_load")
}

/// Rows in key order, cut into this many parts (of which the last may be empty), several batches each.
fn parts(schema: &TableSchema, rows: &RecordBatch, parts: usize) -> Result<Vec<Vec<RecordBatch>>, Differed> {
    let sorted = sample::sorted(schema, rows).during("the sample")?;
    let mut pieces = sample::pieces(&sorted, sorted.num_rows().div_ceil(parts.max(1)));
    pieces.resize(parts, sorted.slice(0, 0));
    Ok(pieces.iter().map(|piece| sample::pieces(piece, 40)).collect())
}

/// Writes one part and checks the digest of it.
async fn write(
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
async fn fill(
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
async fn invisible(fixture: &dyn Fixture, what: &str, table: &TableName) -> Result<(), Differed> {
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

pub(super) async fn replace_keeps_the_old_table_and_undo_brings_it_back_once(fixture: &dyn Fixture) -> Check {
    let Some(kind) = fixture.store().capabilities().publish else { return Ok(NOT_WRITTEN) };
    let store = fixture.store();
    let schema = sample::plain();
    let old_rows = sample::batch(&schema, 200, 1);
    let old = RowSet::of(&schema, std::slice::from_ref(&old_rows)).during("the sample")?;
    let table = make(fixture, "replaced", &schema, &old_rows).await?;
    let newer = sample::schema_of(&fixture.abilities().types);
    let new_rows = sample::rows(&newer, 100..250, 2);
    let new = RowSet::of(&newer, std::slice::from_ref(&new_rows)).during("the sample")?;
    if kind == PublishKind::NewNameOnly {
        refused!(
            store.begin_load(options("run", &[(&table, &newer, LoadMode::Replace)])).await,
            StoreError::Unsupported { .. },
            "begin_load of a replacement by a store that publishes new names only"
        );
        return Ok(Outcome::NotOffered("it publishes under new names only"));
    }
    let load = begin(fixture, "run", &[(&table, &newer, LoadMode::Replace)]).await?;
    fill(load.as_ref(), &[(&table, &newer, parts(&newer, &new_rows, 3)?)]).await?;
    same("the old table beside a finished load", &read_now(fixture, &table).await?, &old)?;
    let published = load.publish().await.during("publish")?;
    same("the replaced table", &read_now(fixture, &table).await?, &new)?;
    let [Some(kept)] = published.replaced.as_slice() else {
        return Err(Differed(format!(
            "a replacement names {:?} as the table that it kept",
            published.replaced
        )));
    };
    ensure!(
        kept.table.starts_with(&format!("{}__replaced_7_", table.table)),
        "the old table is kept as '{kept}', expected '{}__replaced_7_<n>'",
        table.table
    );
    same("the old table under its kept name", &read_now(fixture, kept).await?, &old)?;

    let text =
        serde_json::to_string(&published.undo).map_err(|e| Differed(format!("undo cannot travel: {e}")))?;
    let token = serde_json::from_str(&text).map_err(|e| Differed(format!("undo cannot travel: {e}")))?;
    fixture.elsewhere().undo(&token).await.during("undo")?;
    same("the table after undo", &read_now(fixture, &table).await?, &old)?;
    ensure!(store.undo(&token).await.is_err(), "a second undo of the same token was done");
    same("the table after a second undo", &read_now(fixture, &table).await?, &old)?;

    // Where there is nothing to replace, the table is made.
    let fresh = fixture.table("replaced_nothing");
    let load = begin(fixture, "run_2", &[(&fresh, &schema, LoadMode::Replace)]).await?;
    fill(load.as_ref(), &[(&fresh, &schema, parts(&schema, &old_rows, 1)?)]).await?;
    let published = load.publish().await.during("publish")?;
    ensure!(published.replaced == vec![None], "replacing nothing kept {:?}", published.replaced);
    same("a table that replaced nothing", &read_now(fixture, &fresh).await?, &old)?;
    Ok(Outcome::Passed)
}

pub(super) async fn publishing_again_changes_nothing(fixture: &dyn Fixture) -> Check {
    let Some(kind) = fixture.store().capabilities().publish else { return Ok(NOT_WRITTEN) };
    let schema = sample::plain();
    let (old_rows, new_rows) = (sample::batch(&schema, 80, 1), sample::batch(&schema, 70, 2));
    let old = RowSet::of(&schema, std::slice::from_ref(&old_rows)).during("the sample")?;
    let new = RowSet::of(&schema, std::slice::from_ref(&new_rows)).during("the sample")?;
    let (created, replaced) = (fixture.table("created_again"), fixture.table("replaced_again"));
    let mut tables = vec![(&created, &schema, LoadMode::Create)];
    let mut filled = vec![(&created, &schema, parts(&schema, &new_rows, 2)?)];
    if kind != PublishKind::NewNameOnly {
        make(fixture, "replaced_again", &schema, &old_rows).await?;
        tables.push((&replaced, &schema, LoadMode::Replace));
        filled.push((&replaced, &schema, parts(&schema, &new_rows, 2)?));
    }
    let load = begin(fixture, "run", &tables).await?;
    fill(load.as_ref(), &filled).await?;
    let first = load.publish().await.during("publish")?;
    let listed = fixture.store().list_tables(None).await.during("list_tables")?;
    // A caller whose answer was lost asks again.
    if let Ok(again) = load.publish().await {
        ensure!(again == first, "publishing again answers {again:?}, the first time {first:?}");
    }
    let now = fixture.store().list_tables(None).await.during("list_tables")?;
    ensure!(now == listed, "publishing again left the tables {now:?}, before {listed:?}");
    same("a table published again", &read_now(fixture, &created).await?, &new)?;
    if let Some(Some(kept)) = first.replaced.get(1) {
        same("a table published again", &read_now(fixture, &replaced).await?, &new)?;
        same("the table that it replaced", &read_now(fixture, kept).await?, &old)?;
        fixture.store().undo(&first.undo).await.during("undo")?;
        same("the table after undo", &read_now(fixture, &replaced).await?, &old)?;
    }
    Ok(Outcome::Passed)
}

pub(super) async fn create_on_an_existing_table_is_refused(fixture: &dyn Fixture) -> Check {
    if fixture.store().capabilities().publish.is_none() {
        return Ok(NOT_WRITTEN);
    }
    let store = fixture.store();
    let schema = sample::plain();
    let rows = sample::batch(&schema, 100, 1);
    let expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
    let table = make(fixture, "existing", &schema, &rows).await?;
    let attempt = |table: TableName, made_meanwhile: bool| {
        let (store, rows, schema) = (&store, &rows, &schema);
        async move {
            let load = match store.begin_load(options("run", &[(&table, schema, LoadMode::Create)])).await {
                Ok(load) => load,
                Err(e) => return Ok(Err(e)),
            };
            if made_meanwhile {
                make(fixture, &table.table, schema, rows).await?;
            }
            let mut loaded = vec![];
            for batches in parts(schema, &sample::batch(schema, 50, 2), 1)? {
                loaded.push(match load.write_part(&table, 0, sample::stream(batches)).await {
                    Ok(part) => part,
                    Err(e) => return Ok(Err(e)),
                });
            }
            if let Err(e) = load.finish(vec![(table.clone(), loaded)]).await {
                return Ok(Err(e));
            }
            Ok::<_, Differed>(load.publish().await)
        }
    };
    match attempt(table.clone(), false).await? {
        Err(StoreError::TableExists { .. }) => {}
        Err(e) => {
            return Err(Differed(format!(
                "Create on an existing table: expected TableExists, found {}",
                chain(&e)
            )));
        }
        Ok(_) => return Err(Differed("Create on an existing table was published".into())),
    }
    same("a table after a refused Create", &read_now(fixture, &table).await?, &expected)?;
    let raced = fixture.table("made_meanwhile");
    match attempt(raced.clone(), true).await? {
        Err(StoreError::TableExists { .. } | StoreError::Conflict { .. }) => {}
        Err(e) => {
            return Err(Differed(format!(
                "Create of a table made meanwhile: expected TableExists or Conflict, found {}",
                chain(&e)
            )));
        }
        Ok(_) => return Err(Differed("Create of a table that was made meanwhile was published".into())),
    }
    same("a table made beside a Create", &read_now(fixture, &raced).await?, &expected)?;
    Ok(Outcome::Passed)
}

pub(super) async fn merge_puts_rows_over_those_of_equal_key(fixture: &dyn Fixture) -> Check {
    let capabilities = fixture.store().capabilities();
    if capabilities.publish.is_none() {
        return Ok(NOT_WRITTEN);
    }
    let schema = sample::plain();
    let rows = sample::batch(&schema, 200, 1);
    let mut expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
    let table = make(fixture, "merged", &schema, &rows).await?;
    if !capabilities.merge {
        refused!(
            fixture.store().begin_load(options("run", &[(&table, &schema, LoadMode::Merge)])).await,
            StoreError::Unsupported { .. },
            "begin_load of a merge by a store that cannot merge"
        );
        return Ok(Outcome::NotOffered("it cannot merge"));
    }
    let schema = fixture.store().describe(&table).await.during("describe")?.schema;
    let old = expected.clone();
    let update = sample::rows(&schema, 150..300, 2);
    expected.upsert(&update).during("the sample")?;
    let load = begin(fixture, "run", &[(&table, &schema, LoadMode::Merge)]).await?;
    fill(load.as_ref(), &[(&table, &schema, parts(&schema, &update, 3)?)]).await?;
    same("the table beside a finished merge", &read_now(fixture, &table).await?, &old)?;
    let cut = load.open_cut().await.during("open_cut of the load")?;
    let found = super::read_table(cut.as_ref(), &table).await.during("reading the merge")?;
    same("a finished merge", &found, &expected)?;
    cut.release().await.during("release")?;
    load.publish().await.during("publish")?;
    same("the merged table", &read_now(fixture, &table).await?, &expected)?;

    let fresh = fixture.table("merged_into_nothing");
    let load = begin(fixture, "run_2", &[(&fresh, &schema, LoadMode::Merge)]).await?;
    fill(load.as_ref(), &[(&fresh, &schema, parts(&schema, &rows, 1)?)]).await?;
    load.publish().await.during("publish")?;
    same("a merge into nothing", &read_now(fixture, &fresh).await?, &old)?;
    Ok(Outcome::Passed)
}

pub(super) async fn tables_of_a_load_are_published_together(fixture: &dyn Fixture) -> Check {
    if fixture.store().capabilities().publish.is_none() {
        return Ok(NOT_WRITTEN);
    }
    let schema = sample::plain();
    let rows = sample::batch(&schema, 100, 1);
    let expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
    let (one, two, three) = (fixture.table("one"), fixture.table("two"), fixture.table("three"));
    let tables = [&one, &two, &three];
    let load = begin(fixture, "run", &tables.map(|t| (t, &schema, LoadMode::Create))).await?;
    let mut filled = vec![];
    for table in tables {
        filled.push((table, &schema, parts(&schema, &rows, 2)?));
    }
    fill(load.as_ref(), &filled).await?;
    for table in tables {
        invisible(fixture, "a finished load of three tables", table).await?;
    }
    let published = load.publish().await.during("publish")?;
    ensure!(published.replaced.len() == 3, "publishing three tables names {:?}", published.replaced);
    for table in tables {
        same("a load of three tables", &read_now(fixture, table).await?, &expected)?;
    }
    // One of them cannot be published: none is.
    let other = fixture.table("other");
    let begun = fixture
        .store()
        .begin_load(options(
            "run_2",
            &[(&other, &schema, LoadMode::Create), (&one, &schema, LoadMode::Create)],
        ))
        .await;
    if let Ok(load) = begun {
        let filled =
            [(&other, &schema, parts(&schema, &rows, 1)?), (&one, &schema, parts(&schema, &rows, 1)?)];
        let done = fill(load.as_ref(), &filled).await.is_ok() && load.publish().await.is_ok();
        ensure!(!done, "Create on an existing table was published together with another table");
    }
    invisible(fixture, "a load of which one table was refused", &other).await?;
    Ok(Outcome::Passed)
}
