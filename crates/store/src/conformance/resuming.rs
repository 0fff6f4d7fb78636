//! Duties of loads whose process dies: another one goes on where it stopped, and hears what was published.

use super::check::{Check, Differed, During, Outcome, same};
use super::loading::{NOT_WRITTEN, begin, invisible, parts, write};
use super::read::read_now;
use super::reading::make;
use crate::conformance::{Fixture, RowSet, Write};
use crate::{Load, LoadMode, LoadState, LoadedPart, PublishKind, Store, UnfinishedLoad, sample};
use keepfast_model::TableName;
use serde_json::json;
use std::sync::Arc;

const NOT_REMEMBERED: Outcome = Outcome::NotOffered("it does not remember unfinished loads");

/// The one load of this purpose that a store remembers.
async fn find(store: &Arc<dyn Store>, purpose: &str) -> Result<Option<UnfinishedLoad>, Differed> {
    let mut found = store.unfinished_loads().await.during("unfinished_loads")?;
    found.retain(|load| load.purpose == json!(purpose));
    ensure!(found.len() < 2, "unfinished_loads names one load {} times", found.len());
    Ok(found.pop())
}

/// As [`find`], in the eyes of another process, opened there.
async fn take_over(fixture: &dyn Fixture, purpose: &str) -> Result<Arc<dyn Load>, Differed> {
    let elsewhere = fixture.elsewhere();
    let found = find(&elsewhere, purpose).await?;
    let Some(found) = found else {
        return Err(Differed("a remembered load is not among the unfinished ones".into()));
    };
    let text = serde_json::to_string(&found).map_err(|e| Differed(format!("a load cannot travel: {e}")))?;
    let found: UnfinishedLoad =
        serde_json::from_str(&text).map_err(|e| Differed(format!("a load cannot travel: {e}")))?;
    elsewhere.attach_load(&found.token).await.during("attach_load")
}

async fn open(load: &dyn Load, what: &str) -> Result<(), Differed> {
    let state = load.state().await.during("state")?;
    ensure!(state == LoadState::Open, "{what} is in state {state:?}, expected Open");
    Ok(())
}

fn over(state: &LoadState, what: &str) -> Result<(), Differed> {
    ensure!(matches!(state, LoadState::Over(_)), "{what} is in state {state:?}, expected Over");
    Ok(())
}

pub(super) async fn an_unfinished_load_goes_on_in_another_process(fixture: &dyn Fixture) -> Check {
    if fixture.store().capabilities().publish.is_none() {
        return Ok(NOT_WRITTEN);
    }
    let (table, schema) = (fixture.table("goes_on"), sample::plain());
    let rows = sample::batch(&schema, 200, 1);
    let expected = RowSet::of(&schema, std::slice::from_ref(&rows)).during("the sample")?;
    let parts = parts(&schema, &rows, 2)?;
    let load = begin(fixture, "run", &[(&table, &schema, LoadMode::Create)]).await?;
    ensure!(find(&fixture.store(), "restore").await?.is_none(), "a load is remembered unasked");
    if !load.remember(&json!("restore")).await.during("remember")? {
        ensure!(find(&fixture.store(), "restore").await?.is_none(), "a load is and is not remembered");
        return Ok(NOT_REMEMBERED);
    }
    open(load.as_ref(), "a new load").await?;
    let first = write(load.as_ref(), &table, &schema, 0, &parts[0]).await?;
    let noted = serde_json::to_value(&first).map_err(|e| Differed(e.to_string()))?;
    ensure!(load.note("part-0", &noted).await.during("note")?, "the first note of a name does not count");
    ensure!(!load.note("part-0", &json!(1)).await.during("note")?, "a second note of a name counts");
    // The process dies in the middle of another part.
    drop(write(load.as_ref(), &table, &schema, 1, &parts[1]).await?);
    drop(load);
    invisible(fixture, "an unfinished load", &table).await?;

    let load = take_over(fixture, "restore").await?;
    open(load.as_ref(), "an unfinished load").await?;
    let notes = load.notes().await.during("notes")?;
    ensure!(notes.len() == 1 && notes.get("part-0") == Some(&noted), "its notes are {notes:?}");
    let first: LoadedPart =
        serde_json::from_value(noted).map_err(|e| Differed(format!("a part cannot travel: {e}")))?;
    let second = write(load.as_ref(), &table, &schema, 1, &parts[1]).await?;
    load.finish(vec![(table.clone(), vec![first, second])]).await.during("finish")?;
    load.publish().await.during("publish")?;
    load.forget().await.during("forget")?;
    load.forget().await.during("forgetting twice")?;
    ensure!(find(&fixture.store(), "restore").await?.is_none(), "a forgotten load is remembered");
    same("a load that two processes made", &read_now(fixture, &table).await?, &expected)?;
    Ok(Outcome::Passed)
}

/// Loads rows under a purpose and publishes them; the process dies before it hears the answer.
async fn publish_and_die(
    fixture: &dyn Fixture,
    table: &TableName,
    mode: LoadMode,
    purpose: &str,
) -> Result<Option<crate::Published>, Differed> {
    let schema = sample::plain();
    let rows = sample::batch(&schema, 120, 2);
    let load = begin(fixture, "run", &[(table, &schema, mode)]).await?;
    if !load.remember(&json!(purpose)).await.during("remember")? {
        return Ok(None);
    }
    super::loading::fill(load.as_ref(), &[(table, &schema, parts(&schema, &rows, 2)?)]).await?;
    Ok(Some(load.publish().await.during("publish")?))
}

pub(super) async fn a_publication_is_heard_of_in_another_process(fixture: &dyn Fixture) -> Check {
    let capabilities = fixture.store().capabilities();
    let Some(kind) = capabilities.publish else { return Ok(NOT_WRITTEN) };
    let schema = sample::plain();
    let (old, new) = (sample::batch(&schema, 90, 1), sample::batch(&schema, 120, 2));
    let rows = |of| RowSet::of(&schema, std::slice::from_ref(of)).during("the sample");
    let mut modes = vec![("created", LoadMode::Create)];
    if kind != PublishKind::NewNameOnly {
        modes.push(("replaced", LoadMode::Replace));
    }
    if capabilities.merge {
        modes.push(("merged", LoadMode::Merge));
    }
    for (name, mode) in modes {
        let table = match mode {
            LoadMode::Create => fixture.table(name),
            _ => make(fixture, name, &schema, &old).await?,
        };
        let Some(answer) = publish_and_die(fixture, &table, mode, name).await? else {
            return Ok(NOT_REMEMBERED);
        };
        let load = take_over(fixture, name).await?;
        let state = load.state().await.during("state")?;
        ensure!(state == LoadState::Published(answer.clone()), "{name}: after a publication it is {state:?}");
        same("a table whose loader died", &read_now(fixture, &table).await?, &rows(&new)?)?;
        // The answer is good for what it is needed for.
        if mode == LoadMode::Replace {
            fixture.store().undo(&answer.undo).await.during("undo")?;
            same("that table after undo", &read_now(fixture, &table).await?, &rows(&old)?)?;
            over(&load.state().await.during("state")?, "a load that was undone")?;
        }
        load.forget().await.during("forget")?;
        ensure!(find(&fixture.store(), name).await?.is_none(), "a forgotten load is remembered");
    }
    // What was written since is not what the load published.
    let table = fixture.table("written_since");
    if publish_and_die(fixture, &table, LoadMode::Create, "written").await?.is_some() {
        fixture.write(&table, Write::Upsert(sample::rows(&schema, 0..5, 3))).await.during("a write")?;
        let load = take_over(fixture, "written").await?;
        over(&load.state().await.during("state")?, "a load whose table was written to")?;
        load.abandon().await.during("abandon")?;
        ensure!(find(&fixture.store(), "written").await?.is_none(), "an abandoned load is remembered");
        let rows = read_now(fixture, &table).await?;
        ensure!(rows.len() == 120, "abandoning a published load left {} rows of 120", rows.len());
    }
    Ok(Outcome::Passed)
}

pub(super) async fn an_abandoned_load_is_not_gone_on_with(fixture: &dyn Fixture) -> Check {
    if fixture.store().capabilities().publish.is_none() {
        return Ok(NOT_WRITTEN);
    }
    let (table, schema) = (fixture.table("given_up"), sample::plain());
    let rows = sample::batch(&schema, 100, 1);
    let parts = parts(&schema, &rows, 1)?;
    let load = begin(fixture, "run", &[(&table, &schema, LoadMode::Create)]).await?;
    if !load.remember(&json!("given up")).await.during("remember")? {
        return Ok(NOT_REMEMBERED);
    }
    let part = write(load.as_ref(), &table, &schema, 0, &parts[0]).await?;
    let rival = take_over(fixture, "given up").await?;
    load.abandon().await.during("abandon")?;
    ensure!(find(&fixture.store(), "given up").await?.is_none(), "an abandoned load is remembered");
    over(&rival.state().await.during("state")?, "a load that its process abandoned")?;
    let gone_on = async {
        rival.finish(vec![(table.clone(), vec![part])]).await?;
        rival.publish().await
    };
    ensure!(gone_on.await.is_err(), "a load that another process abandoned was published");
    invisible(fixture, "an abandoned load", &table).await?;
    Ok(Outcome::Passed)
}
