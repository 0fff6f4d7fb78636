//! Executing a plan: one record removes the points and condemns the objects. A plan that a rival made stale is made
//! smaller, never larger: only what was shown goes.

use super::NAMES_A_RECORD;
use super::plan::{PrunePlan, judge};
use super::reach::references;
use crate::Result;
use crate::check::Leftovers;
use crate::commit::Revalidate;
use crate::error::VaultError;
use crate::log::{Log, Point};
use crate::vault::Vault;
use async_trait::async_trait;
use jiff::Timestamp;
use keepfast_model::{LogSeq, Record};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// The record that removed the points; none where nothing was left to do.
    pub record: Option<LogSeq>,
    /// Points that are invisible now.
    pub removed: Vec<LogSeq>,
    /// Objects condemned.
    pub condemned: u64,
    /// Those among them that only removed points need.
    pub unneeded: Leftovers,
    /// Those among them that no point ever named.
    pub orphans: Leftovers,
    /// When they may be deleted.
    pub delete_after: Option<Timestamp>,
}

/// Condemns a part of a plan's objects, and removes its points with the first part.
struct Pruning<'a> {
    vault: &'a Vault,
    plan: &'a PrunePlan,
    /// Names that this record condemns.
    names: &'a [&'a str],
    /// Whether this record removes the plan's points.
    first: bool,
}

#[async_trait]
impl Revalidate for Pruning<'_> {
    async fn revalidate(&self, log: &Log, _records: Vec<Record>) -> Result<Vec<Record>> {
        let now = self.vault.environment().clock.now();
        let delete_after = now.saturating_add(self.plan.grace).unwrap_or(Timestamp::MAX);
        let removed = self.removed_now(log, now).await?;
        let mut condemned = self.names.to_vec();
        condemned.retain(|path| !log.is_condemned(path));
        // Points that the plan did not know to stay: new ones, and those that stay against the plan.
        let unforeseen: Vec<&Point> = log
            .all_points()
            .filter(|p| !removed.contains(&p.seq()) && !self.plan.remaining.contains(&p.seq()))
            .collect();
        let needed = self.vault.reach(references(unforeseen)).await?;
        condemned.retain(|path| !needed.covers(path));
        let points: Vec<LogSeq> = removed.into_iter().collect();
        if points.is_empty() && condemned.is_empty() {
            return Err(VaultError::Stale { plan: "prune".into() });
        }
        let condemned = condemned.into_iter().map(str::to_owned).collect();
        Ok(vec![Record::Prune { points, condemned, delete_after }])
    }
}

impl Pruning<'_> {
    /// Points of the plan that are visible and that the policy still removes.
    async fn removed_now(&self, log: &Log, now: Timestamp) -> Result<BTreeSet<LogSeq>> {
        let Some(retention) = &self.plan.retention else { return Ok(BTreeSet::new()) };
        if self.plan.removed.is_empty() || !self.first {
            return Ok(BTreeSet::new());
        }
        let locks_hold = self.vault.locks_hold(log, retention, now).await?;
        let (_, removed) = judge(log, retention, now, locks_hold)?;
        let removable: HashSet<LogSeq> = removed.into_iter().map(|r| r.point.seq).collect();
        Ok(self.plan.removed.iter().map(|r| r.point.seq).filter(|seq| removable.contains(seq)).collect())
    }
}

/// Remembers the records that a commit made.
struct Remembering<'a> {
    inner: Pruning<'a>,
    last: Mutex<Vec<Record>>,
}

#[async_trait]
impl Revalidate for Remembering<'_> {
    async fn revalidate(&self, log: &Log, records: Vec<Record>) -> Result<Vec<Record>> {
        let records = self.inner.revalidate(log, records).await?;
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&records);
        Ok(records)
    }
}

impl Vault {
    /// Executes a plan: its points become invisible and its objects condemned, all that is still right of it.
    ///
    /// Of a plan that a rival made stale, points stay that a hold keeps or that the policy now keeps, and objects stay
    /// that a point needs that came meanwhile. Nothing goes that the plan did not show. Objects are deleted by
    /// [`Self::delete_condemned`] when the grace has passed. After a crash in between, what was not condemned yet is
    /// found by the next plan.
    ///
    /// # Errors
    /// [`VaultError::Stale`] for a plan of another vault; otherwise as [`Self::commit`].
    pub async fn prune(&self, plan: &PrunePlan) -> Result<PruneReport> {
        if plan.vault != *self.id() {
            return Err(VaultError::Stale { plan: "prune of another vault".into() });
        }
        let mut report = PruneReport::default();
        if plan.is_empty() {
            return Ok(report);
        }
        self.refuse_without_delete().await?;
        let unneeded: HashMap<&str, u64> =
            plan.unneeded.iter().map(|o| (o.path.as_str(), o.bytes.0)).collect();
        let orphans: HashMap<&str, u64> = plan.orphans.iter().map(|o| (o.path.as_str(), o.bytes.0)).collect();
        let names: Vec<&str> = plan.unneeded.iter().chain(&plan.orphans).map(|o| o.path.as_str()).collect();
        let mut parts: Vec<&[&str]> = names.chunks(NAMES_A_RECORD).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for (i, names) in parts.into_iter().enumerate() {
            let inner = Pruning { vault: self, plan, names, first: i == 0 };
            let check = Remembering { inner, last: Mutex::new(vec![]) };
            let seq = match self.commit(vec![], &[], &check).await {
                Ok(seq) => seq,
                // Rivals left nothing of this part to do.
                Err(VaultError::Stale { .. }) => continue,
                Err(e) => return Err(e),
            };
            report.record.get_or_insert(seq);
            for record in check.last.into_inner().unwrap_or_else(PoisonError::into_inner) {
                if let Record::Prune { points, condemned, delete_after } = record {
                    report.removed.extend(points);
                    report.condemned += condemned.len() as u64;
                    for (known, sum) in [(&unneeded, &mut report.unneeded), (&orphans, &mut report.orphans)] {
                        let sizes = condemned.iter().filter_map(|path| known.get(path.as_str()));
                        sizes.for_each(|bytes| sum.add(*bytes));
                    }
                    report.delete_after = Some(delete_after);
                }
            }
        }
        Ok(report)
    }
}
