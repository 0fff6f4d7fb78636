//! Retention: thinning out a backup, holds, and giving back what was condemned.

use crate::Result;
use crate::api::{AsOf, as_text};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::places::Place;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use jiff::{SignedDuration, Timestamp};
use keepfast_model::retention::Reason;
use keepfast_model::{BackupName, ByteCount, LogSeq, PointId, RetentionPolicy};
use keepfast_vault::check::Leftovers;
use keepfast_vault::{Hold, HoldTerms, PruneOptions, PrunePlan, Retention, Vault, VaultError};
use serde::Serialize;
use std::time::Duration;

/// What a run staged waits so long for the same command to go on.
const STAGING_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Asks to thin out a backup, or only to give back what nothing needs.
#[derive(Clone, Debug, Default)]
pub struct PruneRequest {
    /// The backup, or the URL of a vault; none means the default vault.
    pub target: Option<String>,
    /// What the backup keeps; none removes no point.
    pub policy: Option<RetentionPolicy>,
    /// How long condemned objects stay; none means the default.
    pub grace: Option<SignedDuration>,
    /// Only the plan.
    pub dry_run: bool,
}

/// A prune: what it would do, and what it did.
#[derive(Clone, Debug, Serialize)]
pub struct PruneReport {
    /// The vault, without secrets.
    pub vault: String,
    /// The backup that was thinned out.
    pub backup: Option<BackupName>,
    /// Whether this is only the plan.
    pub dry_run: bool,
    /// Points that stay, oldest first.
    pub kept: Vec<KeptPoint>,
    /// Points that go, oldest first.
    pub removed: Vec<RemovedPoint>,
    /// Objects condemned because only removed points need them.
    pub unneeded: Amount,
    /// Objects condemned because runs that died left them.
    pub orphans: Amount,
    /// When those may be deleted.
    pub delete_after: Option<Timestamp>,
    /// Objects that were condemned earlier and are deleted now; in a plan, would be.
    pub deleted: Amount,
    /// Objects that were condemned earlier and still wait.
    pub waiting: Amount,
    /// The record; none where nothing was to be recorded.
    pub record: Option<LogSeq>,
}

/// Objects and their stored bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: ByteCount,
}

impl From<Leftovers> for Amount {
    fn from(l: Leftovers) -> Self {
        Self { objects: l.objects, bytes: ByteCount(l.bytes) }
    }
}

/// A point that stays.
#[derive(Clone, Debug, Serialize)]
pub struct KeptPoint {
    /// The point.
    #[serde(serialize_with = "as_text")]
    pub point: PointId,
    /// Its cut.
    pub cut: Timestamp,
    /// Why it stays.
    pub reasons: Vec<Reason>,
    /// Ids of holds that keep it.
    pub holds: Vec<String>,
}

/// A point that goes.
#[derive(Clone, Debug, Serialize)]
pub struct RemovedPoint {
    /// The point.
    #[serde(serialize_with = "as_text")]
    pub point: PointId,
    /// Its cut.
    pub cut: Timestamp,
}

/// A hold that was taken, or that keeps a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HoldReport {
    /// Its id, by which it is released.
    pub id: String,
    /// The backup.
    pub backup: BackupName,
    /// The point's number; none means the whole backup.
    pub point: Option<LogSeq>,
    /// Until when; none means until it is released.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

impl From<&Hold> for HoldReport {
    fn from(hold: &Hold) -> Self {
        Self {
            id: hold.id.clone(),
            backup: hold.backup.clone(),
            point: hold.point,
            until: hold.until,
            reason: hold.reason.clone(),
        }
    }
}

/// The plan as a report.
fn planned(vault: &Vault, plan: &PrunePlan) -> PruneReport {
    let amount = |objects: &[keepfast_vault::prune::DoomedObject]| Amount {
        objects: objects.len() as u64,
        bytes: objects.iter().map(|o| o.bytes).sum(),
    };
    PruneReport {
        vault: vault.url().to_owned(),
        backup: plan.retention.as_ref().map(|r| r.backup.clone()),
        dry_run: true,
        kept: plan
            .kept
            .iter()
            .map(|k| KeptPoint {
                point: k.point.clone(),
                cut: k.cut,
                reasons: k.reasons.clone(),
                holds: k.holds.clone(),
            })
            .collect(),
        removed: plan.removed.iter().map(|r| RemovedPoint { point: r.point.clone(), cut: r.cut }).collect(),
        unneeded: amount(&plan.unneeded),
        orphans: amount(&plan.orphans),
        delete_after: None,
        deleted: plan.due.into(),
        waiting: plan.waiting.into(),
        record: None,
    }
}

impl Engine {
    /// Removes points that a policy does not keep, condemns what nothing needs, and deletes what was condemned long
    /// enough ago.
    pub fn prune<'a>(&'a self, request: &'a PruneRequest) -> LocalBoxFuture<'a, Result<PruneReport>> {
        async move {
            let (vault, retention) = self.pruned(request).await?;
            let mut options = PruneOptions { retention, ..PruneOptions::default() };
            options.grace = request.grace.unwrap_or(options.grace);
            self.options.progress.stage("plan", None);
            let plan = vault.plan_prune(&options).await?;
            let mut report = planned(&vault, &plan);
            if !request.dry_run {
                self.options.progress.stage("prune", None);
                let done = vault.prune(&plan).await?;
                report.dry_run = false;
                report.record = done.record;
                report.delete_after = done.delete_after;
                (report.unneeded, report.orphans) = (done.unneeded.into(), done.orphans.into());
                if report.removed.len() > done.removed.len() {
                    self.stayed(&vault, &mut report, &done.removed).await?;
                }
                let due = plan.due.objects > 0 || options.grace <= SignedDuration::ZERO;
                report.deleted = if due { vault.give_back().await?.into() } else { Amount::default() };
                vault.sweep_staging(STAGING_AGE).await?;
            }
            self.options.progress.finish();
            Ok(report)
        }
        .boxed_local()
    }

    /// Takes points that stay against the plan, since a rival holds them or made the policy keep them, out of what is
    /// reported as removed.
    async fn stayed(&self, vault: &Vault, report: &mut PruneReport, removed: &[LogSeq]) -> Result<()> {
        let log = vault.log().await?;
        let now = self.options.surroundings.vault.clock.now();
        let (gone, stayed) =
            std::mem::take(&mut report.removed).into_iter().partition(|r| removed.contains(&r.point.seq));
        report.removed = gone;
        let stayed: Vec<RemovedPoint> = stayed;
        for RemovedPoint { point, cut } in stayed {
            // A rival may have removed it, too.
            if log.points(&point.backup).any(|p| p.seq() == point.seq) {
                let holding = log.holds().filter(|h| h.in_force(now) && h.keeps(&point.backup, point.seq));
                let holds = holding.map(|h| h.id.clone()).collect();
                report.kept.push(KeptPoint { point, cut, reasons: vec![], holds });
            }
        }
        report.kept.sort_by_key(|k| k.point.seq);
        Ok(())
    }

    /// The vault, and what is to be thinned out in it.
    async fn pruned(&self, request: &PruneRequest) -> Result<(Vault, Option<Retention>)> {
        let usage = |reason: &str| EngineError::Usage { what: "prune".into(), reason: reason.into() };
        let place = request.target.as_deref().map(Place::parse).transpose()?.unwrap_or_default();
        if place.point.is_some() {
            return Err(usage("a backup is thinned out as a whole; name it without '@'"));
        }
        let Some(policy) = &request.policy else {
            if place.backup.is_some() {
                return Err(usage("say what the backup keeps, such as `--keep-last 7`"));
            }
            return Ok((self.open_vault(place.vault.as_deref()).await?, None));
        };
        if policy.keeps_nothing() {
            return Err(VaultError::Policy { reason: "it keeps nothing".into() }.into());
        }
        let Some(target) = &request.target else {
            return Err(usage("name the backup that keeps these points"));
        };
        let found = self.find_backup(target).await?;
        Ok((found.vault, Some(Retention { backup: found.backup, policy: policy.clone() })))
    }

    /// Keeps a point, or a whole backup, from being dropped or pruned.
    pub fn hold<'a>(
        &'a self,
        backup: &'a str,
        point: Option<&'a AsOf>,
        until: Option<Timestamp>,
        reason: &'a str,
    ) -> LocalBoxFuture<'a, Result<HoldReport>> {
        async move {
            if until.is_some_and(|until| until <= Timestamp::now()) {
                let reason = "it lies in the past".into();
                return Err(EngineError::Usage { what: "--until".into(), reason });
            }
            let found = self.find_backup(backup).await?;
            let point = match (point, found.point) {
                (None, None) => None,
                (as_of, _) => Some(self.find_point(&found, as_of.unwrap_or(&AsOf::Latest)).await?.0.seq),
            };
            let id = found.vault.hold(&found.backup, point, until, reason).await?;
            Ok(HoldReport { id, backup: found.backup, point, until, reason: reason.to_owned() })
        }
        .boxed_local()
    }

    /// Ends a hold in a vault; none means the default vault.
    pub fn release<'a>(&'a self, id: &'a str, vault: Option<&'a str>) -> LocalBoxFuture<'a, Result<()>> {
        async move {
            self.open_vault(vault).await?.release(id).await?;
            Ok(())
        }
        .boxed_local()
    }

    /// Reads a point: under a hold when it takes long. What a prune removed meanwhile is told as that.
    pub(crate) async fn reading<T>(
        &self,
        vault: &Vault,
        point: &PointId,
        why: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let held = vec![(point.backup.clone(), Some(point.seq))];
        let done = vault.under_hold(held, why, HoldTerms::default(), work).await;
        let Err(EngineError::Vault(VaultError::Damaged { path, reason, source })) = done else { return done };
        let gone = vault
            .point(point)
            .await
            .is_err_and(|e| matches!(e, VaultError::NoBackup { .. } | VaultError::NoPoint { .. }));
        Err(match gone {
            true => VaultError::Pruned { path }.into(),
            false => VaultError::Damaged { path, reason, source }.into(),
        })
    }
}
