//! Locks: what a restore point needs cannot be removed for a while, by anybody.
//!
//! Before a point becomes visible everything it needs is locked: its new objects, what it shares with earlier points
//! (so a base stays locked as long as the changes on top of it), and the log before it; its own record right after. A
//! point states until when that holds, so that the next one extends only what would run out: locks are taken for a
//! quarter longer than asked for, and a base is touched again when that quarter is used up. What an earlier point says is
//! believed of a manifest and of what it lists where the place says so of the manifest. `keys/` and `staging/` are
//! never locked: dropping a key must stay possible, and what a run stages is temporary.

use crate::error::VaultError;
use crate::log::{Log, Point};
use crate::prune::reach::listed;
use crate::vault::Vault;
use crate::{Result, layout};
use futures::stream::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use keepfast_format::Manifest;
use keepfast_model::{BackupPoint, Hash256, LockMode, LogSeq, ManifestRef, PointLock, Record};
use keepfast_objects::ObjectsError;
use std::collections::{BTreeSet, HashMap};

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

impl Locking {
    /// As a point says of itself.
    fn of(lock: PointLock) -> Self {
        Self { needed: lock.until, until: lock.until, mode: lock.mode, seconds: lock.seconds }
    }
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
    pub(crate) async fn locking_of(&self, log: &Log, records: &[Record]) -> Result<Option<Locking>> {
        let point = records.iter().find_map(|r| match r {
            Record::Point(point) => Some(point),
            _ => None,
        });
        let Some(point) = point else { return Ok(None) };
        let (time, mode) = match self.retain() {
            Some(Retain::Nothing) => return Ok(None),
            Some(Retain::For { time, mode }) => (time, mode),
            None => {
                let Some(lock) = log.latest(&point.backup).and_then(|p| p.lock) else { return Ok(None) };
                if !self.place_locks().await? {
                    tracing::warn!(vault = %self.url(), backup = %point.backup, "its newest point was locked elsewhere; this place locks nothing");
                    return Ok(None);
                }
                let seconds = i64::try_from(lock.seconds).unwrap_or(i64::MAX);
                (SignedDuration::from_secs(seconds), lock.mode)
            }
        };
        let now = self.environment().clock.now();
        let after = |time| now.saturating_add(time).unwrap_or(Timestamp::MAX);
        let longer = time.checked_add(time / 4).unwrap_or(time);
        let seconds = u64::try_from(time.as_secs()).unwrap_or(0);
        Ok(Some(Locking { needed: after(time), until: after(longer), mode, seconds }))
    }

    /// Whether locks can hold here: a copy of a vault has the points of the place that it was copied from. Where we may
    /// not ask they count as such that do.
    pub(crate) async fn place_locks(&self) -> Result<bool> {
        match self.target().locking().await {
            Ok(locking) => Ok(locking.is_some()),
            Err(ObjectsError::Denied { .. }) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    /// Locks what the point needs and the log before it, and lets the point say so.
    pub(crate) async fn lock_needs(&self, locking: Locking, log: &Log, records: &mut [Record]) -> Result<()> {
        let Some(point) = records.iter_mut().find_map(|r| match r {
            Record::Point(point) => Some(point),
            _ => None,
        }) else {
            return Ok(());
        };
        let (mut names, mut until) = self.unlocked_log(locking, log).await?;
        let covered = self.covered(log, point, locking).await?;
        let mut fresh = vec![];
        for reference in references(point) {
            match covered.get(&reference.id) {
                Some((_, covered)) => until = until.min(*covered),
                None => fresh.push(reference.clone()),
            }
        }
        // What manifests list that are locked long enough is locked as long as they are, and no longer.
        let mut known: HashMap<String, Timestamp> = HashMap::new();
        if !fresh.is_empty() {
            let old = covered.values().map(|(reference, _)| reference.clone()).collect();
            for (id, manifest) in self.manifests_of(old).await? {
                for path in listed(id, &manifest) {
                    let until = known.entry(path).or_insert(covered[&id].1);
                    *until = (*until).max(covered[&id].1);
                }
            }
        }
        names.extend(fresh.iter().map(|m| layout::manifest(m.id)));
        for (id, manifest) in self.manifests_of(fresh).await? {
            for path in listed(id, &manifest) {
                match known.get(&path) {
                    Some(known) => until = until.min(*known),
                    None => drop(names.insert(path)),
                }
            }
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

    /// Locks the log with the newest record of a change of keys, as the newest locked point says: the change deletes the
    /// key file that the log would name without that record. Those who may not lock leave it to the next backup.
    /// The log that is read for it may bring newer keys still: whoever calls this has kept its own before.
    pub(crate) async fn lock_change_of_keys(&self) {
        if self.target().immutability().is_none() {
            return;
        }
        let locked = async {
            let log = self.log().await?;
            let now = self.environment().clock.now();
            let newest = newest_lock(&log).map(|(_, lock)| lock).filter(|lock| lock.until > now);
            match newest {
                Some(lock) if self.place_locks().await? => {
                    let locking = Locking::of(lock);
                    let (names, _) = self.unlocked_log(locking, &log).await?;
                    self.lock_all(names, locking).await
                }
                _ => Ok(()),
            }
        };
        if let Err(e) = locked.await {
            tracing::warn!(vault = %self.url(), error = %e, "the record of the change of keys is not locked; the next backup locks it");
        }
    }

    /// Locks objects that were healed as the points say that need them: they are other versions than those that were locked.
    pub(crate) async fn lock_healed<'a>(&self, healed: impl Iterator<Item = &'a str>) -> Result<()> {
        let (log, now) = (self.log().await?, self.environment().clock.now());
        let mut names: Vec<(String, PointLock)> = vec![];
        for name in healed.filter(|name| layout::generation(name).is_none()) {
            let needing = log.all_points().filter(|point| needs(point, name));
            let locks = needing.filter_map(|point| point.lock).filter(|lock| lock.until > now);
            names.extend(locks.max_by_key(|lock| lock.until).map(|lock| (name.to_owned(), lock)));
        }
        if names.is_empty() || !self.place_locks().await? {
            return Ok(());
        }
        for (name, lock) in names {
            self.lock_all([name].into(), Locking::of(lock)).await?;
        }
        Ok(())
    }

    /// What of the log would run out, and until when the rest of it holds.
    async fn unlocked_log(&self, locking: Locking, log: &Log) -> Result<(BTreeSet<String>, Timestamp)> {
        let newest = newest_lock(log)
            .filter(|(_, lock)| lock.until >= locking.needed && lock.mode.is_as_firm_as(locking.mode));
        let believed = match newest {
            Some((seq, lock)) => {
                let before = (seq > LogSeq(1)).then(|| layout::log_record(LogSeq(seq.0 - 1)));
                let marker = layout::MARKER.to_owned();
                let mut held = true;
                for name in [marker].into_iter().chain(before) {
                    held = held && self.holds(&name, locking.mode, lock.until).await?;
                }
                held
            }
            None => false,
        };
        let (from, until) = match newest {
            // The record of that point itself was locked after it: a crash may have come between.
            Some((seq, lock)) if believed => (seq, lock.until.min(locking.until)),
            _ => (LogSeq(0), locking.until),
        };
        let lines = log.lines().filter(|line| line.seq >= from);
        let mut names: BTreeSet<String> =
            lines.flat_map(|l| [layout::log_record(l.seq), layout::log_copy(l.seq)]).collect();
        if from == LogSeq(0) {
            names.extend([layout::MARKER, layout::MARKER_COPY].map(str::to_owned));
        }
        Ok((names, until))
    }

    /// Manifests of the backup's visible points that are locked for long enough, each with its time. Points say so, and the
    /// place must: a copy of a vault has the points and not the locks, and what was healed is another version.
    async fn covered(
        &self,
        log: &Log,
        point: &BackupPoint,
        locking: Locking,
    ) -> Result<HashMap<Hash256, (ManifestRef, Timestamp)>> {
        let mut stated: HashMap<Hash256, (ManifestRef, Timestamp)> = HashMap::new();
        for earlier in log.points(&point.backup) {
            let Some(lock) = earlier.lock else { continue };
            if lock.until < locking.needed || !lock.mode.is_as_firm_as(locking.mode) {
                continue;
            }
            for reference in references(earlier) {
                let entry = stated.entry(reference.id).or_insert_with(|| (reference.clone(), lock.until));
                entry.1 = entry.1.max(lock.until);
            }
        }
        let held: Vec<Option<_>> = futures::stream::iter(stated)
            .map(|(id, (reference, until))| async move {
                let held = self.holds(&layout::manifest(id), locking.mode, until).await?;
                Ok::<_, VaultError>(held.then_some((id, (reference, until))))
            })
            .buffer_unordered(self.environment().parallel)
            .try_collect()
            .await?;
        Ok(held.into_iter().flatten().collect())
    }

    /// Whether the place says that an object is locked so.
    async fn holds(&self, name: &str, mode: LockMode, until: Timestamp) -> Result<bool> {
        match self.target().locked(name).await {
            Ok(lock) => Ok(lock.is_some_and(|(has, end)| has.is_as_firm_as(mode) && end >= until)),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e.into()),
        }
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
                    // Of a record's two copies a crash may have left one, or damage that `verify` names: whoever read
                    // the log had the other. Without parity the marker has no copy.
                    Err(e)
                        if e.is_not_found()
                            && (layout::record_number(&name).is_some() || name == layout::MARKER_COPY) =>
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
pub(crate) fn refuse_locked<'a>(points: impl IntoIterator<Item = &'a Point>, now: Timestamp) -> Result<()> {
    let locked = points.into_iter().filter_map(|p| Some((p, p.lock?))).max_by_key(|(_, lock)| lock.until);
    match locked {
        Some((point, lock)) if lock.until > now => {
            Err(VaultError::Locked { point: point.id().to_string(), until: lock.until })
        }
        _ => Ok(()),
    }
}

/// The newest point that states a lock.
fn newest_lock(log: &Log) -> Option<(LogSeq, PointLock)> {
    log.all_points().rev().find_map(|p| Some((p.seq(), p.lock?)))
}

/// Whether a point needs an object of this name.
fn needs(point: &Point, name: &str) -> bool {
    match layout::table_of(name) {
        Some(table) => point.tables.iter().any(|t| t.id.0 == table),
        None => {
            layout::record_number(name).is_some()
                || [layout::MARKER, layout::MARKER_COPY].contains(&name)
                || references(point)
                    .iter()
                    .any(|m| [layout::manifest(m.id), layout::manifest_copy(m.id)].contains(&name.to_owned()))
        }
    }
}

fn references(point: &BackupPoint) -> Vec<&ManifestRef> {
    point.tables.iter().flat_map(|t| t.base.iter().chain(t.changes.iter().map(|c| &c.manifest))).collect()
}
