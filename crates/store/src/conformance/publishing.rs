//! Duties of publications: all at once, never over the only copy of anything, and back again.

use super::check::{Check, Differed, During, Outcome, chain, same};
use super::loading::{NOT_WRITTEN, begin, fill, invisible, options, parts};
use super::read::read_now;
use super::reading::make;
use crate::conformance::{Fixture, RowSet};
use crate::{LoadMode, PublishKind, StoreError, sample};
use keepfast_model::TableName;

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
    let mut loads = vec![("created_again", LoadMode::Create)];
    if kind != PublishKind::NewNameOnly {
        loads.push(("replaced_again", LoadMode::Replace));
    }
    for (name, mode) in loads {
        let table = match mode {
            LoadMode::Replace => make(fixture, name, &schema, &old_rows).await?,
            _ => fixture.table(name),
        };
        let load = begin(fixture, "run", &[(&table, &schema, mode)]).await?;
        fill(load.as_ref(), &[(&table, &schema, parts(&schema, &new_rows, 2)?)]).await?;
        let first = load.publish().await.during("publish")?;
        let listed = fixture.store().list_tables(None).await.during("list_tables")?;
        // A caller whose answer was lost asks again.
        if let Ok(again) = load.publish().await {
            ensure!(again == first, "publishing again answers {again:?}, the first time {first:?}");
        }
        let now = fixture.store().list_tables(None).await.during("list_tables")?;
        ensure!(now == listed, "publishing again left the tables {now:?}, before {listed:?}");
        same("a table published again", &read_now(fixture, &table).await?, &new)?;
        if let [Some(kept)] = first.replaced.as_slice() {
            same("the table that it replaced", &read_now(fixture, kept).await?, &old)?;
            fixture.store().undo(&first.undo).await.during("undo")?;
            same("the table after undo", &read_now(fixture, &table).await?, &old)?;
        }
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
