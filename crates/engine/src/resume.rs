//! Restores that were cut off: the same command goes on with what is loaded already.
//!
//! The store remembers the load with the restore's purpose, and a note with the result of each finished task. A later
//! process takes it over only when the restore is the same and the process before it is gone. Where the publication
//! happened and only its answer was lost, it is reported and can be undone like any other. Loads of dead processes that
//! nobody goes on with are removed on the way, so that no half-made table stays for a person to sweep.

use crate::Result;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::session::same_table;
use crate::surroundings::ProcessId;
use crate::task::{Finished, LoadResult, TaskResult};
use keepfast_model::{Class, Coded, Digest, Hash256, RunId, ShardPosition};
use keepfast_store::load::LoadTable;
use keepfast_store::{Load, LoadMode, LoadOptions, LoadState, Published, Store, UnfinishedLoad};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A dead load of another restore is kept so long for whoever wants to go on with it.
const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// What a load is remembered by.
#[derive(Debug, Serialize, Deserialize)]
struct Purpose {
    /// What makes two restores the same.
    restore: String,
    run: RunId,
    /// What was to happen with each table.
    modes: Vec<LoadMode>,
    #[serde(flatten)]
    process: ProcessId,
}

/// What a table was given, and what it was not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Given {
    pub digest: Digest,
    /// Rows left out since what held them is damaged.
    pub missing: Vec<String>,
    /// Columns that are NULL since their keys were dropped.
    pub shredded: Vec<String>,
}

/// What was read back before the publication, and what the report has to say of it whenever it is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verified {
    /// Each table's.
    pub given: Vec<Given>,
    /// What each table holds.
    pub digests: Vec<Digest>,
    pub positions: Vec<ShardPosition>,
}

/// A load on its way, begun now or by a process that is gone.
#[derive(Debug)]
pub(crate) struct Loading {
    pub run: RunId,
    pub load: Arc<dyn Load>,
    /// Whether the store remembers it.
    pub remembered: bool,
    /// How many processes had it before.
    owner: usize,
    /// Results of finished tasks, by what they did.
    finished: HashMap<Hash256, LoadResult>,
    /// The publication, where it happened already.
    pub published: Option<(Published, Verified)>,
}

impl Loading {
    /// What an earlier process gave for this work.
    pub fn finished(&self, task: &Hash256) -> Option<LoadResult> {
        self.finished.get(task).cloned()
    }

    /// Whether the error leaves something that the same command can go on with.
    pub fn waits_after(&self, error: &EngineError) -> bool {
        let passes = match error {
            EngineError::Interrupted | EngineError::Task { .. } => true,
            // It is published, and what `undo` needs could not be kept yet.
            EngineError::State { .. } => true,
            EngineError::Vault(e) => e.class() == Class::Retry,
            EngineError::Store(e) => e.class() == Class::Retry,
            _ => false,
        };
        self.remembered && passes
    }

    /// Makes the load visible; a lost answer is asked for again.
    pub async fn publish(&self) -> Result<Published> {
        match self.load.publish().await {
            Ok(published) => Ok(published),
            Err(error) if self.remembered => match self.load.state().await {
                Ok(LoadState::Published(published)) => Ok(published),
                _ => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Notes what was read back, before it is published.
    pub async fn note_verified(&self, verified: &Verified) -> Result<()> {
        if self.remembered {
            self.load.note(&format!("{VERIFIED}{}", self.owner), &json(verified)?).await?;
        }
        Ok(())
    }
}

/// Each owner notes what it read back: the newest note is of what was published.
const VERIFIED: &str = "verified-";
const OWNER: &str = "owner-";
const TASK: &str = "task-";

fn json<T: Serialize>(value: &T) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|e| EngineError::Task { task: 0, reason: e.to_string() })
}

/// Keeps a finished task's result with the load.
pub(crate) async fn note_task(load: &dyn Load, task: Hash256, result: &LoadResult) -> Result<()> {
    let finished = Finished { task, result: TaskResult::Load(result.clone()) };
    load.note(&format!("{TASK}{task}"), &json(&finished)?).await?;
    Ok(())
}

impl Engine {
    /// Goes on with the load of the same restore that a dead process left, or begins one.
    pub(crate) async fn begin_or_go_on(
        &self,
        store: &Arc<dyn Store>,
        restore: &str,
        run: RunId,
        tables: Vec<LoadTable>,
    ) -> Result<Loading> {
        let modes: Vec<LoadMode> = tables.iter().map(|t| t.mode).collect();
        let mut going_on = None;
        for left in store.unfinished_loads().await? {
            let Ok(purpose) = Purpose::deserialize(&left.purpose) else { continue };
            let done =
                self.look_at(store, &left, &purpose, restore, &modes, &tables, going_on.is_none()).await;
            match done {
                Ok(Some(loading)) => going_on = Some(loading),
                Ok(None) => {}
                // The place may be out of reach; what was left is not needed for this restore.
                Err(error) => self
                    .options
                    .progress
                    .note(&format!("what an interrupted restore left was not looked at: {error}")),
            }
        }
        if let Some(loading) = going_on {
            self.options.progress.note("going on with an interrupted restore");
            return Ok(loading);
        }
        let load = store.begin_load(LoadOptions { run: run.clone(), tables }).await?;
        let process = self.options.surroundings.processes.this();
        let purpose = Purpose { restore: restore.to_owned(), run: run.clone(), modes, process };
        let remembered = load.remember(&json(&purpose)?).await?;
        Ok(Loading { run, load, remembered, owner: 0, finished: HashMap::new(), published: None })
    }

    /// What becomes of one load that a process left: it is gone on with, removed, or stays.
    #[allow(clippy::too_many_arguments)]
    async fn look_at(
        &self,
        store: &Arc<dyn Store>,
        left: &UnfinishedLoad,
        purpose: &Purpose,
        restore: &str,
        modes: &[LoadMode],
        tables: &[LoadTable],
        wanted: bool,
    ) -> Result<Option<Loading>> {
        let load = store.attach_load(&left.token).await?;
        let notes = load.notes().await?;
        let owners = notes.keys().filter(|name| name.starts_with(OWNER)).count();
        let owner = match notes.get(&format!("{OWNER}{owners}")).map(ProcessId::deserialize) {
            Some(Ok(owner)) => owner,
            _ => purpose.process.clone(),
        };
        if self.options.surroundings.processes.may_run(&owner) {
            return Ok(None);
        }
        let same = wanted && purpose.restore == restore;
        let in_the_way = tables.iter().any(|t| left.targets.iter().any(|l| same_table(l, &t.target)));
        let now = self.options.surroundings.vault.clock.now();
        let superseded = in_the_way || purpose.restore == restore || now.duration_since(left.begun) > KEPT;
        let newest = (0..=owners).rev().find_map(|owner| notes.get(&format!("{VERIFIED}{owner}")));
        let verified = newest.and_then(|note| Verified::deserialize(note).ok());
        match (load.state().await?, verified) {
            (LoadState::Published(published), Some(verified)) if same => {
                let run = purpose.run.clone();
                let published = Some((published, verified));
                let (owner, finished) = (owners, HashMap::new());
                Ok(Some(Loading { run, load, remembered: true, owner, finished, published }))
            }
            (LoadState::Open, _) if same && purpose.modes == modes => {
                let this = json(&self.options.surroundings.processes.this())?;
                // Of two processes that come at once, one goes on.
                if !load.note(&format!("{OWNER}{}", owners + 1), &this).await? {
                    return Ok(None);
                }
                let run = purpose.run.clone();
                let (owner, finished) = (owners + 1, finished(&notes));
                Ok(Some(Loading { run, load, remembered: true, owner, finished, published: None }))
            }
            (LoadState::Open, _) if superseded => {
                load.abandon().await?;
                Ok(None)
            }
            (LoadState::Published(_), _) if !superseded => Ok(None),
            (LoadState::Open, _) => Ok(None),
            (LoadState::Published(_) | LoadState::Over(_), _) => {
                load.forget().await?;
                Ok(None)
            }
        }
    }
}

/// Results of finished tasks among the notes.
fn finished(notes: &BTreeMap<String, serde_json::Value>) -> HashMap<Hash256, LoadResult> {
    notes
        .iter()
        .filter(|(name, _)| name.starts_with(TASK))
        .filter_map(|(_, note)| match Finished::deserialize(note).ok()? {
            Finished { task, result: TaskResult::Load(result) } => Some((task, result)),
            Finished { .. } => None,
        })
        .collect()
}
