//! The plan of a prune: what stays and why, what goes, and what that gives back. A value; nothing is done yet.

use super::options::{PruneOptions, Retention};
use super::reach::{Reach, references};
use crate::check::Leftovers;
use crate::error::VaultError;
use crate::log::{AsOf, Log, Point};
use crate::vault::Vault;
use crate::{Result, layout};
use futures::stream::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use keepfast_model::retention::{Candidate, Reason};
use keepfast_model::{ByteCount, Hash256, LogSeq, PointId, TableId, VaultId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A point that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPoint {
    /// The point.
    pub point: PointId,
    /// Its cut.
    pub cut: Timestamp,
    /// All reasons why it stays, sorted.
    pub reasons: Vec<Reason>,
    /// Ids of the holds that keep it.
    pub holds: Vec<String>,
}

/// A point that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedPoint {
    /// The point.
    pub point: PointId,
    /// Its cut.
    pub cut: Timestamp,
}

/// An object that is to be condemned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DoomedObject {
    /// Its path, relative to the vault.
    pub path: String,
    /// Its stored size.
    pub bytes: ByteCount,
}

/// What a prune would do. It stays right for as long as nobody commits; [`Vault::prune`] looks at it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrunePlan {
    /// Which points stay, as asked for.
    pub retention: Option<Retention>,
    /// Points of the backup that stay, oldest first.
    pub kept: Vec<KeptPoint>,
    /// Points of the backup that go, oldest first.
    pub removed: Vec<RemovedPoint>,
    /// Objects that only removed points need, by path.
    pub unneeded: Vec<DoomedObject>,
    /// Objects that no point ever named: left by runs that died. By path.
    pub orphans: Vec<DoomedObject>,
    /// Objects condemned earlier that still wait for their grace to pass.
    pub waiting: Leftovers,
    /// Objects condemned earlier that can be deleted now.
    pub due: Leftovers,
    /// How long what is condemned now stays.
    pub grace: SignedDuration,
    /// The log's head that the plan was made from.
    pub head: Option<(LogSeq, Hash256)>,
    pub(super) vault: VaultId,
    /// All visible points that stay, of all backups: what is doomed was compared with what they need.
    pub(super) remaining: BTreeSet<LogSeq>,
}

impl PrunePlan {
    /// Whether it removes and condemns nothing.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.unneeded.is_empty() && self.orphans.is_empty()
    }

    /// Stored bytes that come back when the grace has passed.
    pub fn bytes_given_back(&self) -> ByteCount {
        self.unneeded.iter().chain(&self.orphans).map(|o| o.bytes).sum()
    }
}

/// What a policy says about the points of a backup, at a place where locks hold or do not.
pub(super) fn judge(
    log: &Log,
    retention: &Retention,
    now: Timestamp,
    locks_hold: bool,
) -> Result<(Vec<KeptPoint>, Vec<RemovedPoint>)> {
    let points: BTreeMap<LogSeq, &Point> = log.points(&retention.backup).map(|p| (p.seq(), p)).collect();
    let holding = |seq: LogSeq| {
        log.holds().filter(move |h| h.in_force(now) && h.keeps(&retention.backup, seq)).map(|h| h.id.clone())
    };
    let candidates: Vec<Candidate> = points
        .values()
        .map(|p| Candidate {
            seq: p.seq(),
            cut: p.cut.at,
            held: holding(p.seq()).next().is_some(),
            locked: locks_hold && p.lock.is_some_and(|lock| lock.until > now),
        })
        .collect();
    let verdicts = retention.policy.judge(&candidates, now)?;
    let (mut kept, mut removed) = (vec![], vec![]);
    for verdict in verdicts {
        let Some(point) = points.get(&verdict.seq) else { continue };
        let (id, cut) = (point.id().clone(), point.cut.at);
        if verdict.stays() {
            kept.push(KeptPoint {
                point: id,
                cut,
                reasons: verdict.reasons,
                holds: holding(verdict.seq).collect(),
            });
        } else {
            removed.push(RemovedPoint { point: id, cut });
        }
    }
    Ok((kept, removed))
}

impl Vault {
    /// Plans a prune: which points stay and why, which go, and which objects are to be condemned. Changes nothing.
    ///
    /// Every manifest of the backup is read once, of all backups where none is named, and every object listed once; of an
    /// object only a short hash is held. Orphans are looked for in tables of the same backups.
    ///
    /// # Errors
    /// [`VaultError::Policy`] for a policy that keeps nothing, [`VaultError::NoBackup`]; otherwise as [`Self::log`] and
    /// [`Self::read_manifest`]. A damaged manifest is none: the segments of its table stay.
    pub async fn plan_prune(&self, options: &PruneOptions) -> Result<PrunePlan> {
        let log = self.log().await?;
        let now = self.environment().clock.now();
        let (kept, removed) = match &options.retention {
            Some(retention) => {
                if log.points(&retention.backup).next().is_none() {
                    log.resolve(&retention.backup, AsOf::Latest)?;
                }
                judge(&log, retention, now, self.locks_hold(&log, retention, now).await?)?
            }
            None => (vec![], vec![]),
        };
        let gone: BTreeSet<LogSeq> = removed.iter().map(|r| r.point.seq).collect();
        let (going, staying): (Vec<&Point>, Vec<&Point>) =
            log.all_points().partition(|p| gone.contains(&p.seq()));
        let mut needed = references(staying.iter().copied());
        let mut freed = references(going);
        freed.retain(|id, _| !needed.contains_key(id));
        // A table is of one backup: manifests of the others tell nothing of what this one gives back.
        let tables: Option<BTreeSet<TableId>> = options.retention.as_ref().map(|retention| {
            log.points(&retention.backup).flat_map(|p| &p.tables).map(|t| t.id.clone()).collect()
        });
        let judged = |table: &TableId| tables.as_ref().is_none_or(|tables| tables.contains(table));
        let named: BTreeSet<Hash256> = needed.keys().copied().collect();
        needed.retain(|_, (_, table)| judged(table));
        let mut needed = self.reach(needed).await?;
        needed.add_manifests(named);
        let freed = self.reach(freed).await?;
        let mut plan = PrunePlan {
            retention: options.retention.clone(),
            kept,
            removed,
            unneeded: vec![],
            orphans: vec![],
            waiting: Leftovers::default(),
            due: Leftovers::default(),
            grace: options.grace,
            head: log.head(),
            vault: self.id().clone(),
            remaining: staying.iter().map(|p| p.seq()).collect(),
        };
        let oldest = self.orphans_before(now, options.orphan_age).await?;
        self.sort_objects(&log, now, oldest, (&needed, &freed), judged, &mut plan).await?;
        Ok(plan)
    }

    /// Whether points of the backup state locks that are in force and that can hold here.
    pub(super) async fn locks_hold(&self, log: &Log, retention: &Retention, now: Timestamp) -> Result<bool> {
        match log.locked_until(&retention.backup).is_some_and(|until| until > now) {
            true => self.place_locks().await,
            false => Ok(false),
        }
    }

    /// Objects that nobody names and that were written before this moment (milliseconds since 1970) are orphans.
    async fn orphans_before(&self, now: Timestamp, age: Duration) -> Result<i64> {
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let mut before = now.as_millisecond().saturating_sub(age_ms);
        // By run: when it began and when it was last heard of. A run that is silent for `age` is dead.
        let mut runs: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut listing = self.target().list_stream(layout::STAGING);
        while let Some(object) = listing.try_next().await? {
            let Some(run) = object.path.split('/').nth(1) else { continue };
            let at = object.modified_ms;
            let (first, last) = runs.entry(run.to_owned()).or_insert((at, at));
            (*first, *last) = ((*first).min(at), (*last).max(at));
        }
        let silent = before;
        for (first, _) in runs.into_values().filter(|(_, last)| *last >= silent) {
            before = before.min(first);
        }
        Ok(before)
    }

    /// Tells for every object that stands what becomes of it.
    async fn sort_objects(
        &self,
        log: &Log,
        now: Timestamp,
        orphans_before: i64,
        (needed, freed): (&Reach, &Reach),
        judged: impl Fn(&TableId) -> bool,
        plan: &mut PrunePlan,
    ) -> Result<()> {
        for folder in [layout::MANIFESTS, layout::MANIFESTS_COPY, layout::TABLES] {
            let mut listing = self.target().list_stream(folder);
            while let Some(object) = listing.try_next().await? {
                if !layout::is_content(&object.path) {
                    continue;
                }
                let bytes = ByteCount(object.bytes);
                if let Some(after) = log.condemned_until(&object.path) {
                    let leftovers = if after <= now { &mut plan.due } else { &mut plan.waiting };
                    leftovers.add(object.bytes);
                } else if needed.covers(&object.path)
                    || layout::table_of(&object.path).is_some_and(|table| !judged(&TableId(table.to_owned())))
                {
                } else if freed.names(&object.path) {
                    plan.unneeded.push(DoomedObject { path: object.path, bytes });
                } else if object.modified_ms < orphans_before && !freed.covers(&object.path) {
                    plan.orphans.push(DoomedObject { path: object.path, bytes });
                }
            }
        }
        plan.unneeded.sort_unstable();
        plan.orphans.sort_unstable();
        Ok(())
    }
}

impl From<keepfast_model::retention::KeepsNothing> for VaultError {
    fn from(_: keepfast_model::retention::KeepsNothing) -> Self {
        Self::Policy { reason: "it keeps nothing".into() }
    }
}
