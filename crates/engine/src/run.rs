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

    /// Starts a run; where the cut can be read again, an interruption can be gone on with. `head` is of before the cut:
    /// a drop since then makes the cut the past.
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

    /// The run of the same command that was interrupted last, if it can go on.
    pub async fn resume(
        engine: &Engine,
        vault: &Vault,
        backup: &BackupName,
        fingerprint: &str,
        source: &Source,
    ) -> Result<Option<Resumable>> {
        let mut newest: Option<(jiff::Timestamp, RunId, serde_json::Value)> = None;
        let staged = vault.staged_runs().await?;
        if staged.is_empty() {
            return Ok(None);
        }
        // A run that made its point is over, also where the point was dropped since: its cut is the past.
        let log = vault.log().await?;
        let over: HashSet<&RunId> = log.lines().filter_map(|line| line.run.as_ref()).collect();
        for (run, _) in staged.into_iter().filter(|(run, _)| !over.contains(run)) {
            // A plan that cannot be read is not ours to go on with.
            let Ok(Some(plan)) = vault.plan::<Plan>(&run).await else { continue };
            let may_run = engine.options.surroundings.processes.may_run(&plan.process);
            let (Some(cut), false) = (plan.cut, may_run) else { continue };
            // What was backed up before a drop is not what a person wants who backs up after it.
            if log.dropped_at(backup) > plan.head {
                continue;
            }
            if plan.fingerprint == fingerprint && newest.as_ref().is_none_or(|n| n.0 < plan.started) {
                newest = Some((plan.started, run, cut));
            }
        }
        let Some((_, id, token)) = newest else { return Ok(None) };
        let run = Self { id };
        match source.store.attach_cut(&token).await {
            Ok(cut) => {
                // It died after its commit, or another backup came later: its cut is the past.
                let at = cut.cut().at;
                if vault.log().await?.points(backup).any(|point| point.cut.at >= at) {
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
