//! Runs: what an interrupted command left behind, so that the same command goes on where it stopped.
//!
//! A run writes its plan into the vault's staging area before its first task. A later process takes it over only when
//! the plan is of the same command, its process is gone, and its cut can still be read.

use crate::Result;
use crate::engine::Engine;
use crate::plan::Source;
use keepfast_model::RunId;
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
    host: String,
    process: u32,
    started: jiff::Timestamp,
}

impl Run {
    /// The run's id.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Starts a run; where the cut can be read again, an interruption can be gone on with.
    pub async fn start(vault: &Vault, fingerprint: &str, cut: Option<serde_json::Value>) -> Result<Self> {
        let run = Self { id: vault.new_run()? };
        let plan = Plan {
            fingerprint: fingerprint.to_owned(),
            cut,
            host: host(),
            process: std::process::id(),
            started: jiff::Timestamp::now(),
        };
        vault.put_plan(&run.id, &plan).await?;
        Ok(run)
    }

    /// The run of the same command that was interrupted last, if it can go on.
    pub async fn resume(
        engine: &Engine,
        vault: &Vault,
        fingerprint: &str,
        source: &Source,
    ) -> Result<Option<Resumable>> {
        let mut newest: Option<(jiff::Timestamp, RunId, serde_json::Value)> = None;
        let staged = vault.staged_runs().await?;
        if staged.is_empty() {
            return Ok(None);
        }
        // Who may only add leaves what a run staged. A run that made its point is over: its cut is of the past.
        let log = vault.log().await?;
        let over: HashSet<&RunId> = log.all_points().map(|p| &p.run).collect();
        for (run, _) in staged.into_iter().filter(|(run, _)| !over.contains(run)) {
            // A plan that cannot be read is not ours to go on with.
            let Ok(Some(plan)) = vault.plan::<Plan>(&run).await else { continue };
            let (Some(cut), false) = (plan.cut, alive(&plan.host, plan.process)) else { continue };
            if plan.fingerprint == fingerprint && newest.as_ref().is_none_or(|n| n.0 < plan.started) {
                newest = Some((plan.started, run, cut));
            }
        }
        let Some((_, id, token)) = newest else { return Ok(None) };
        match source.store.attach_cut(&token).await {
            Ok(cut) => Ok(Some(Resumable { run: Self { id }, cut })),
            Err(error) => {
                engine.options.progress.note(&format!("the interrupted backup starts anew: {error}"));
                Ok(None)
            }
        }
    }

    /// Removes what a run left that made its point. Who may not delete leaves it to somebody who may.
    pub async fn sweep_committed(&self, engine: &Engine, vault: &Vault) -> Result<()> {
        match vault.sweep_run(&self.id).await {
            Ok(_) => Ok(()),
            Err(VaultError::Objects(e @ ObjectsError::Denied { .. })) => {
                engine.options.progress.note(&format!("temporary objects stay in the vault: {e}"));
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Removes what the run left in the staging area.
    pub async fn sweep(&self, vault: &Vault) -> Result<()> {
        vault.sweep_run(&self.id).await?;
        Ok(())
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".into(), |s| s.trim().to_owned())
}

/// Whether the process that wrote a plan may still run. One of another machine may, for all we know.
fn alive(on: &str, process: u32) -> bool {
    if on != host() {
        return true;
    }
    process == std::process::id() || std::path::Path::new(&format!("/proc/{process}")).exists()
}
