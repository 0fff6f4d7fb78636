//! Locks: what a restore point needs cannot be removed for a while, by anybody.
//!
//! Before a point becomes visible everything it needs is locked: its new objects, what it shares with earlier points
//! (so a base stays locked as long as the changes on top of it), and the log before it; its own record right after. A
//! point states until when that holds, so that the next one extends only what would run out: locks are taken for a
//! quarter longer than asked for, and a base is touched again when that quarter is used up. `keys/` and `staging/` are
//! never locked: dropping a key must stay possible, and what a run stages is temporary.

use crate::error::VaultError;
use crate::log::Log;
use crate::prune::reach::listed;
use crate::vault::Vault;
use crate::{Result, layout};
use futures::stream::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use keepfast_format::Manifest;
use keepfast_model::{BackupPoint, Hash256, LockMode, LogSeq, ManifestRef, PointLock, Record};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How long what a new point needs stays locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// This long, counted from the commit.
    For {
        /// How long.
        time: SignedDuration,
        /// How firmly.
        mode: LockMode,
    },
    /// Not at all, whatever the newest point of the backup has.
    Nothing,
}

/// A decision for one commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Locking {
    /// What must be reached.
    needed: Timestamp,
    /// What is asked of the place where it is not.
    until: Timestamp,
    mode: LockMode,
    seconds: u64,
}

impl Vault {
    /// The same vault, whose commits lock what new points need. Without it a backup goes on as its newest point did.
    ///
    /// # Errors
    /// [`VaultError::NoLocks`] where the place locks nothing, [`VaultError::LocksAll`] where it locks every object by
    /// itself, [`VaultError::Objects`] where it cannot be asked.
    pub async fn retaining(&self, retain: Retain) -> Result<Self> {
        if matches!(retain, Retain::For { .. }) {
            let url = || self.url().to_owned();
            match self.target().locking().await? {
                None => return Err(VaultError::NoLocks { url: url() }),
                Some(keepfast_objects::Locking { default: Some(rule) }) => {
                    return Err(VaultError::LocksAll { url: url(), rule });
                }
                Some(_) => {}
            }
        }
        Ok(self.with_retain(retain))
    }

    /// How the point among these records is to be locked; none where it is not.
    pub(crate) fn locking_of(&self, log: &Log, records: &[Record]) -> Option<Locking> {
        let point = records.iter().find_map(|r| match r {
            Record::Point(point) => Some(point),
            _ => None,
        })?;
        let (time, mode) = match self.retain() {
            Some(Retain::Nothing) => return None,
            Some(Retain::For { time, mode }) => (time, mode),
            None => {
                let lock = log.latest(&point.backup)?.lock?;
                (SignedDuration::from_secs(i64::try_from(lock.seconds).ok()?), lock.mode)
            }
        };
        let now = self.environment().clock.now();
        let after = |time| now.saturating_add(time).unwrap_or(Timestamp::MAX);
        let longer = time.checked_add(time / 4).unwrap_or(time);
        let seconds = u64::try_from(time.as_secs()).unwrap_or(0);
        Some(Locking { needed: after(time), until: after(longer), mode, seconds })
    }

    /// Locks what the point needs and the log before it, and lets the point say so.
    pub(crate) async fn lock_needs(&self, locking: Locking, log: &Log, records: &mut [Record]) -> Result<()> {
        let Some(point) = records.iter_mut().find_map(|r| match r {
            Record::Point(point) => Some(point),
            _ => None,
        }) else {
            return Ok(());
        };
        let (mut names, mut until) = self.unlocked_log(locking, log);
        let covered = covered(log, point, locking);
        let mut fresh = vec![];
        for reference in references(point) {
            match covered.get(&reference.id) {
                Some(covered) => until = until.min(*covered),
                None => fresh.push(reference.clone()),
            }
        }
        let mut known = HashSet::new();
        if !fresh.is_empty() {
            // Segments of manifests that are locked long enough are so too.
            let old = references(point).into_iter().filter(|m| covered.contains_key(&m.id)).cloned();
            let earlier = log.points(&point.backup).flat_map(|p| references(p)).cloned();
            let mut old: Vec<ManifestRef> =
                old.chain(earlier.filter(|m| covered.contains_key(&m.id))).collect();
            old.sort_unstable_by_key(|m| m.id);
            old.dedup_by_key(|m| m.id);
            for (id, manifest) in self.manifests_of(old).await? {
                known.extend(listed(id, &manifest));
            }
        }
        names.extend(fresh.iter().map(|m| layout::manifest(m.id)));
        for (id, manifest) in self.manifests_of(fresh).await? {
            names.extend(listed(id, &manifest).filter(|path| !known.contains(path)));
        }
        self.lock_all(names, locking).await?;
        point.lock = Some(PointLock { until, mode: locking.mode, seconds: locking.seconds });
        Ok(())
    }

    /// Locks the record that made the point visible, and its copy.
    pub(crate) async fn lock_record(&self, locking: Locking, seq: LogSeq) -> Result<()> {
        let names = [layout::log_record(seq), layout::log_copy(seq)];
        self.lock_all(names.into(), locking).await
    }

    /// What of the log would run out, and until when the rest of it holds.
    fn unlocked_log(&self, locking: Locking, log: &Log) -> (BTreeSet<String>, Timestamp) {
        let newest = log.all_points().filter_map(|p| Some((p.seq(), p.lock?))).max_by_key(|(seq, _)| *seq);
        let (from, until) = match newest {
            // The record of that point itself was locked after it: a crash may have come between.
            Some((seq, lock)) if lock.until >= locking.needed && firm(lock.mode, locking.mode) => {
                (seq, lock.until.min(locking.until))
            }
            _ => (LogSeq(0), locking.until),
        };
        let lines = log.lines().filter(|line| line.seq >= from);
        let mut names: BTreeSet<String> =
            lines.flat_map(|l| [layout::log_record(l.seq), layout::log_copy(l.seq)]).collect();
        if from == LogSeq(0) {
            names.extend([layout::MARKER, layout::MARKER_COPY].map(str::to_owned));
        }
        (names, until)
    }

    async fn manifests_of(&self, references: Vec<ManifestRef>) -> Result<Vec<(Hash256, Manifest)>> {
        futures::stream::iter(references)
            .map(|reference| async move { Ok((reference.id, self.read_manifest(&reference).await?)) })
            .buffered(self.environment().parallel)
            .try_collect()
            .await
    }

    async fn lock_all(&self, names: BTreeSet<String>, locking: Locking) -> Result<()> {
        futures::stream::iter(names)
            .map(|name| async move {
                match self.target().lock(&name, locking.mode, locking.until).await {
                    // A copy of a record that a crash kept from being written; no copy of the marker without parity.
                    Err(e)
                        if e.is_not_found()
                            && (name.starts_with(layout::LOG) || name == layout::MARKER_COPY) =>
                    {
                        Ok(())
                    }
                    other => other.map_err(VaultError::from),
                }
            })
            .buffer_unordered(self.environment().parallel)
            .try_collect()
            .await
    }
}

impl Log {
    /// Until when nothing that a backup's points need can be removed, as its points say: the latest of them.
    pub fn locked_until(&self, backup: &keepfast_model::BackupName) -> Option<Timestamp> {
        self.points(backup).filter_map(|p| p.lock).map(|lock| lock.until).max()
    }
}

/// Refuses to make points invisible whose objects cannot be removed yet.
pub(crate) fn refuse_locked<'a>(
    points: impl IntoIterator<Item = &'a crate::log::Point>,
    now: Timestamp,
) -> Result<()> {
    let locked = points.into_iter().filter_map(|p| Some((p, p.lock?))).max_by_key(|(_, lock)| lock.until);
    match locked {
        Some((point, lock)) if lock.until > now => {
            Err(VaultError::Locked { point: point.id().to_string(), until: lock.until })
        }
        _ => Ok(()),
    }
}

/// Manifests of the backup's visible points that are locked for long enough, each with its time.
fn covered(log: &Log, point: &BackupPoint, locking: Locking) -> HashMap<Hash256, Timestamp> {
    let mut covered = HashMap::new();
    for earlier in log.points(&point.backup) {
        let Some(lock) = earlier.lock else { continue };
        if lock.until < locking.needed || !firm(lock.mode, locking.mode) {
            continue;
        }
        for reference in references(earlier) {
            let until = covered.entry(reference.id).or_insert(lock.until);
            *until = (*until).max(lock.until);
        }
    }
    covered
}

/// Whether a lock of one kind is as good as one of the other.
fn firm(has: LockMode, needs: LockMode) -> bool {
    has == LockMode::Compliance || needs == LockMode::Governance
}

fn references(point: &BackupPoint) -> Vec<&ManifestRef> {
    point.tables.iter().flat_map(|t| t.base.iter().chain(t.changes.iter().map(|c| &c.manifest))).collect()
}
