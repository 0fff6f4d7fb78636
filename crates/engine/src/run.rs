//! Runs: what an interrupted command left behind, so that the same command goes on where it stopped.
//!
//! A run writes its plan into the vault's staging area before its first task. A later process takes it over only when
//! the plan is of the same command, its process is gone, and its cut can still be read.

use crate::Result;
use crate::engine::Engine;
use crate::plan::Source;
use crate::surroundings::ProcessId;
use keepfast_model::{BackupName, LogSeq, RunId};
use keepfast_objects::ObjectsError;
use keepfast_store::OpenCut;
use keepfast_vault::{Vault, VaultError};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// One run of a command over one vault.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    id: RunId,
}

/// A run to go on with.
pub(crate) struct Resumable {
    pub run: Run,
    pub cut: Arc<dyn OpenCut>,
}

/// A run whose process is gone and that made no point.
struct Interrupted {
    run: Run,
    plan: Plan,
}

#[derive(Serialize, Deserialize)]
struct Plan {
    fingerprint: String,
    cut: Option<serde_json::Value>,
    #[serde(flatten)]
    process: ProcessId,
    started: jiff::Timestamp,
    /// The newest record of the log before its cut was opened.
    #[serde(default)]
    head: Option<LogSeq>,
}

impl Run {
    /// The run's id.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Starts a run; where the cut can be read again, an interrupted backup can be gone on with. `head` is of before the
    /// cut: a drop since then makes the cut the past.
    pub async fn start(
        engine: &Engine,
        vault: &Vault,
        fingerprint: &str,
        cut: Option<serde_json::Value>,
        head: Option<LogSeq>,
    ) -> Result<Self> {
        let run = Self { id: vault.new_run()? };
        let plan = Plan {
            fingerprint: fingerprint.to_owned(),
            cut,
            process: engine.options.surroundings.processes.this(),
            started: engine.options.surroundings.vault.clock.now(),
            head,
        };
        vault.put_plan(&run.id, &plan).await?;
        Ok(run)
    }

    /// Runs of the same command that were interrupted, the last one first.
    async fn interrupted(engine: &Engine, vault: &Vault, fingerprint: &str) -> Result<Vec<Interrupted>> {
        let staged = vault.staged_runs().await?;
        if staged.is_empty() {
            return Ok(vec![]);
        }
        // A run that made its point is over, also where the point was dropped since: its cut is the past.
        let log = vault.log().await?;
        let over: HashSet<&RunId> = log.lines().filter_map(|line| line.run.as_ref()).collect();
        let mut found = vec![];
        for (id, _) in staged.into_iter().filter(|(run, _)| !over.contains(run)) {
            // A plan that cannot be read is not ours to go on with.
            let Ok(Some(plan)) = vault.plan::<Plan>(&id).await else { continue };
            if plan.fingerprint == fingerprint
                && !engine.options.surroundings.processes.may_run(&plan.process)
            {
                found.push(Interrupted { run: Self { id }, plan });
            }
        }
        found.sort_by_key(|run| std::cmp::Reverse(run.plan.started));
        Ok(found)
    }

    /// The run of the same command, which needs no cut, that was interrupted last, or a new one.
    pub async fn resume_or_start(
        engine: &Engine,
        vault: &Vault,
        what: &str,
        fingerprint: &str,
    ) -> Result<Self> {
        match Self::interrupted(engine, vault, fingerprint).await?.into_iter().next() {
            Some(Interrupted { run, .. }) => {
                engine.options.progress.note(&format!("going on with an interrupted {what}"));
                Ok(run)
            }
            None => Self::start(engine, vault, fingerprint, None, None).await,
        }
    }

    /// The backup of the same command that was interrupted last, if it can go on.
    pub async fn resume(
        engine: &Engine,
        vault: &Vault,
        backup: &BackupName,
        fingerprint: &str,
        source: &Source,
    ) -> Result<Option<Resumable>> {
        let interrupted = Self::interrupted(engine, vault, fingerprint).await?;
        if interrupted.is_empty() {
            return Ok(None);
        }
        let log = vault.log().await?;
        // What was backed up before a drop is not what a person wants who backs up after it.
        let stands = |plan: &Plan| plan.cut.is_some() && log.dropped_at(backup) <= plan.head;
        let newest = interrupted.into_iter().find(|interrupted| stands(&interrupted.plan));
        let Some(Interrupted { run, plan: Plan { cut: Some(token), .. } }) = newest else { return Ok(None) };
        match source.store.attach_cut(&token).await {
            Ok(cut) => {
                // Another backup came later: its cut is the past.
                let at = cut.cut().at;
                if log.points(backup).any(|point| point.cut.at >= at) {
                    cut.release().await?;
                    run.sweep(engine, vault).await?;
                    return Ok(None);
                }
                Ok(Some(Resumable { run, cut }))
            }
            Err(error) => {
                engine.options.progress.note(&format!("the interrupted backup starts anew: {error}"));
                Ok(None)
            }
        }
    }

    /// Removes what the run left in the staging area. Who may not delete leaves it to somebody who may.
    pub async fn sweep(&self, engine: &Engine, vault: &Vault) -> Result<()> {
        match vault.sweep_run(&self.id).await {
            Ok(_) => Ok(()),
            Err(VaultError::Objects(e @ ObjectsError::Denied { .. })) => {
                engine.options.progress.note(&format!("temporary objects stay in the vault: {e}"));
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }
}
