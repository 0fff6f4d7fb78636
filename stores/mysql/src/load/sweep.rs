//! What becomes of loads whose process died.

use super::controls::{Controls, PATIENCE};
use super::journal::{self, Journal};
use super::publish::{Brought, publication, recover};
use super::swap::{self, Plan};
use super::{PREFIX, Record, Token};
use crate::catalog;
use crate::names::full;
use crate::store::Shared;
use jiff::{SignedDuration, Timestamp};
use keepfast_store::{Result, StoreError, UnfinishedLoad};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A remembered load is kept so long for whoever goes on with it.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// What is left of a load, or of an undo.
#[derive(Debug, Default)]
struct Left {
    /// Server, database and name of each table.
    tables: BTreeSet<(usize, String, String)>,
}

impl Left {
    fn journals(&self, run: &str) -> Vec<(usize, Journal)> {
        let journal = format!("{PREFIX}{run}");
        let found = self.tables.iter().filter(|(_, _, name)| *name == journal);
        found.map(|(server, database, _)| (*server, Journal::of(database, run))).collect()
    }
}

/// What is left on all servers, by run.
async fn left(shared: &Shared) -> Result<BTreeMap<String, Left>> {
    let mut all: BTreeMap<String, Left> = BTreeMap::new();
    for (at, server) in shared.servers.iter().enumerate() {
        let mut connection = server.connect().await?;
        let tables = catalog::tables(&mut connection, None).await;
        for (database, name) in tables.map_err(|e| crate::error::failed("sweep", &server.address, e))? {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let run = rest.split('_').next().unwrap_or(rest).to_owned();
            all.entry(run).or_default().tables.insert((at, database, name));
        }
    }
    Ok(all)
}

/// Takes the locks of a load on all its servers; false where a process holds one.
async fn take(controls: &Controls, left: &Left) -> Result<bool> {
    for server in left.tables.iter().map(|(server, ..)| *server).collect::<BTreeSet<_>>() {
        match controls.locked(server, 0).await {
            Ok(_) => {}
            Err(StoreError::Conflict { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Brings names that changed on some servers only to their end.
async fn finish(controls: &Controls, run: &str, left: &Left) -> Result<()> {
    for (server, journal) in left.journals(run) {
        let record = |kind: &'static str| {
            let journal = &journal;
            async move {
                let mut at = controls.plain(server).await?;
                journal.get(&mut at, kind).await.map_err(|e| controls.failed("sweep", server, e))
            }
        };
        let Some(plan) = record(journal::PLAN).await? else { continue };
        if record(journal::PUBLISHED).await?.is_some() || record(journal::OVER).await?.is_some() {
            continue;
        }
        if record(journal::LOAD).await?.is_some() {
            let publication = publication(plan, &journal)?;
            match recover(controls, (server, &journal), &publication).await? {
                Brought::Nowhere | Brought::Published(_) | Brought::Over(_) => {}
            }
        } else if let Ok(plan) = serde_json::from_value::<Plan>(plan) {
            let begun = swap::begun(controls, &plan).await?;
            match begun {
                false => swap::give_up(controls, &plan).await?,
                true => swap::run(controls, &plan).await.map_err(|failed| match failed {
                    swap::Failed::Back(e) | swap::Failed::Undone(e) | swap::Failed::Half(e) => e,
                })?,
            }
            let mut at = controls.locked(server, PATIENCE).await?;
            let ended = match begun {
                // Who asked for it hears that it was done.
                true => journal.put(&mut at, journal::PUBLISHED, "", &json!(null)).await.map(drop),
                false => journal.drop(&mut at).await,
            };
            ended.map_err(|e| controls.failed("sweep", server, e))?;
        }
    }
    Ok(())
}

/// Brings publications and undos of dead processes to their end, where names had begun to change.
pub(super) async fn finish_publications(shared: &Arc<Shared>) -> Result<()> {
    for (run, left) in left(shared).await? {
        if left.journals(&run).is_empty() {
            continue;
        }
        let controls = Controls::new(shared.clone(), &run);
        if take(&controls, &left).await? {
            finish(&controls, &run, &left).await?;
        }
    }
    Ok(())
}

/// Removes unpublished tables of loads that nobody holds.
pub(crate) async fn sweep(shared: &Arc<Shared>) -> Result<Vec<String>> {
    let mut removed = vec![];
    for (run, found) in left(shared).await? {
        let controls = Controls::new(shared.clone(), &run);
        if !take(&controls, &found).await? {
            continue;
        }
        finish(&controls, &run, &found).await?;
        let mut kept = false;
        for (server, journal) in found.journals(&run) {
            let mut at = controls.plain(server).await?;
            let remembered = journal.get(&mut at, journal::REMEMBER).await;
            let remembered = remembered.map_err(|e| controls.failed("sweep", server, e))?;
            kept |= remembered
                .and_then(|r| begun(&r))
                .is_some_and(|at| Timestamp::now().duration_since(at) < KEPT);
        }
        if kept {
            continue;
        }
        // What was published meanwhile has another name; journals go last.
        let mut tables: Vec<_> = found.tables.into_iter().collect();
        let journal = format!("{PREFIX}{run}");
        tables.sort_by_key(|(_, _, name)| *name == journal);
        for (server, database, name) in tables {
            let mut at = controls.locked(server, PATIENCE).await?;
            let there = super::place::names(&mut at, &database).await;
            if !there.map_err(|e| controls.failed("sweep", server, e))?.contains(&name) {
                continue;
            }
            let sql = format!("DROP TABLE IF EXISTS {}", full(&database, &name));
            at.run(&sql).await.map_err(|e| controls.failed("sweep", server, e))?;
            removed.push(format!("{database}.{name}"));
        }
    }
    Ok(removed)
}

fn begun(remembered: &serde_json::Value) -> Option<Timestamp> {
    remembered["begun"].as_str()?.parse().ok()
}

/// Loads that asked to be remembered, the oldest first.
pub(crate) async fn unfinished(shared: &Arc<Shared>) -> Result<Vec<UnfinishedLoad>> {
    let mut all = vec![];
    for (run, left) in left(shared).await? {
        let controls = Controls::new(shared.clone(), &run);
        for (server, journal) in left.journals(&run) {
            let mut at = controls.plain(server).await?;
            let fail = |e| controls.failed("look for unfinished loads", server, e);
            let Some(remembered) = journal.get(&mut at, journal::REMEMBER).await.map_err(fail)? else {
                continue;
            };
            let record = journal.get(&mut at, journal::LOAD).await.map_err(fail)?;
            let record: Option<Record> = record.and_then(|record| serde_json::from_value(record).ok());
            let (Some(record), Some(begun)) = (record, begun(&remembered)) else { continue };
            let token = Token {
                run: run.clone(),
                server: shared.servers[server].name().to_owned(),
                database: journal.database.clone(),
            };
            all.push(UnfinishedLoad {
                purpose: remembered["purpose"].clone(),
                token: json!(token),
                targets: record.tables.into_iter().map(|table| table.logical).collect(),
                begun,
            });
        }
    }
    all.sort_by_key(|load| load.begun);
    Ok(all)
}
