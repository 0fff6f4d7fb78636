//! Checking a vault: every stored byte, record and key of the chosen points, read once.
//!
//! What must be there follows from the log and the manifests, never from a listing; a listing adds sizes and what
//! nobody needs. Objects are hashed while they are read and never held whole.

mod keys;
mod needs;
mod place;
mod projection;
mod report;

pub use projection::Behind;
pub(crate) use projection::Newest;
pub use report::{CheckReport, Damage, DamageKind, Leftovers, Progress};

use crate::error::VaultError;
use crate::keyring::KeyState;
use crate::log::{Fault, Log, Point, Reading, authenticate, read_all};
use crate::marker::Marker;
use crate::vault::Vault;
use crate::{Result, layout};
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_keys::KeyError;
use keepfast_model::{BackupName, Hash256, LogSeq, PointId};
use keepfast_objects::ObjectsError;
use needs::{Needs, Touched};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is checked.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Only this backup; none means all. Records and keys are always checked whole.
    pub backup: Option<BackupName>,
    /// Only this point.
    pub point: Option<LogSeq>,
}

impl Vault {
    /// Reads every byte that the chosen points need, and every record and key file, and compares each with its hash.
    ///
    /// Damage is what the report holds, not an error. Progress is told in objects and bytes.
    ///
    /// # Errors
    /// [`VaultError::NoBackup`] and [`VaultError::NoPoint`] for a choice that does not exist, [`VaultError::Objects`]
    /// when the place as a whole cannot be read, [`VaultError::NewerFormat`].
    pub async fn check(&self, options: &CheckOptions, progress: &dyn Progress) -> Result<CheckReport> {
        let mut reading = read_all(self).await?;
        let keys = self.authenticate_all(&mut reading).await;
        let log = Log::empty(self.url()).followed_by(reading.lines);
        let points = chosen(&log, options)?;
        let mut report = CheckReport {
            points: points.len() as u64,
            head: log.head(),
            objects: 2 * log.lines().count() as u64,
            bytes: 2 * log.lines().map(|l| l.bytes).sum::<u64>(),
            ..CheckReport::default()
        };
        for fault in reading.faults {
            report.damage.push(self.damaged_record(&log, fault));
        }
        for (name, detail) in self.wrong_checkpoints(&log).await? {
            // Nothing needs it.
            let what = DamageKind::Changed { detail };
            report.damage.push(Touched::default().damage(self.target().full(&name), what));
        }
        self.check_marker(&log, &mut report).await?;
        self.check_keys(&log, &mut report).await?;
        match keys {
            Ok(()) => {}
            // Without its keys nothing more of the vault can be read; what that touches has been said.
            Err(VaultError::Damaged { .. }) if !report.is_whole() => return Ok(report),
            Err(e) => return Err(e),
        }
        let needs = self.needs(&points, &mut report, progress).await?;
        self.check_objects(&log, needs, options, &mut report, progress).await?;
        self.check_projections(&log, &points, &mut report).await?;
        self.forgive_pruned(&mut report).await;
        report.damage.sort_by(|a, b| a.path.cmp(&b.path));
        report.damage.dedup_by(|a, b| a.path == b.path && a.what == b.what);
        self.count_versions(&mut report.damage).await;
        Ok(report)
    }

    /// Checks who wrote each record, and opens what is sealed in it.
    async fn authenticate_all(&self, reading: &mut Reading) -> Result<()> {
        let newest = reading.lines.iter().rev().find_map(|line| line.keys().last());
        let state = match self.follow_keys(newest).await {
            // A change of keys beside this deleted the key file; the log as it is by now names another.
            Err(VaultError::Damaged { .. }) if self.log().await.is_ok() => self.key_state(),
            other => other?,
        };
        let keyring = match state {
            KeyState::None => return Ok(()),
            // Nobody may be told that records are whole which nobody could authenticate.
            KeyState::Locked(_) => return Err(KeyError::Locked { what: self.url().to_owned() }.into()),
            KeyState::Open(keyring) => keyring,
        };
        let mut known = None;
        let mut damaged = vec![];
        for line in &reading.lines {
            let path = self.target().full(&layout::log_record(line.seq));
            match authenticate::check(&keyring, &path, known, line) {
                Ok(()) => {}
                Err(VaultError::Damaged { reason, .. }) => damaged.push((line.seq, reason)),
                Err(e) => damaged.push((line.seq, e.to_string())),
            }
            known = line.keys().last().map(|(generation, _)| generation).or(known);
        }
        damaged.extend(authenticate::reveal(&keyring, &mut reading.lines));
        reading.faults.extend(damaged.into_iter().map(|(seq, reason)| {
            let path = self.target().full(&layout::log_record(seq));
            Fault { seq, path, missing: false, reason, fatal: true }
        }));
        Ok(())
    }

    /// What a prune condemned while the check ran is missed by no point any more.
    async fn forgive_pruned(&self, report: &mut CheckReport) {
        if report.damage.is_empty() {
            return;
        }
        let Ok(log) = self.log().await else { return };
        let root = self.target().full("");
        report.damage.retain(|d| {
            let path = d.path.strip_prefix(root.as_str()).map_or("", |p| p.trim_start_matches('/'));
            !log.is_condemned(path)
        });
    }

    /// Says of damaged objects whether the place keeps earlier versions of them. A place that does not tell changes
    /// nothing about the damage.
    async fn count_versions(&self, damage: &mut [Damage]) {
        if self.target().immutability().is_none() {
            return;
        }
        for damage in damage {
            let Some(name) = damage.path.strip_prefix(self.url()).map(|n| n.trim_start_matches('/')) else {
                continue;
            };
            match self.target().versions(name).await {
                Ok(versions) => {
                    let earlier =
                        versions.iter().filter(|(n, v)| n == name && !v.deletion && !v.latest).count();
                    damage.kept_versions = earlier as u64;
                }
                Err(e) => {
                    tracing::warn!(error = %e, "the place does not tell whether it keeps earlier versions");
                    return;
                }
            }
        }
    }

    fn damaged_record(&self, log: &Log, fault: Fault) -> Damage {
        // What the record itself says where its other copy can be read; one of keys, of a hold, or of what nobody can tell
        // may concern anything.
        let touched = match log.all_points().find(|p| p.seq() == fault.seq) {
            Some(point) => {
                let mut touched = Touched::default();
                touched.add_point(point);
                touched
            }
            None => Touched::all(log),
        };
        let what =
            if fault.missing { DamageKind::Missing } else { DamageKind::Changed { detail: fault.reason } };
        touched.damage(fault.path, what)
    }

    async fn check_marker(&self, log: &Log, report: &mut CheckReport) -> Result<()> {
        self.check_marker_at(layout::MARKER, log, report).await?;
        match log.has_parity() {
            true => self.check_marker_at(layout::MARKER_COPY, log, report).await,
            false => Ok(()),
        }
    }

    async fn check_marker_at(&self, name: &str, log: &Log, report: &mut CheckReport) -> Result<()> {
        let path = self.target().full(name);
        let what = match self.target().get(name).await {
            Ok(bytes) => {
                report.objects += 1;
                report.bytes += bytes.len() as u64;
                match Marker::decode(&path, &bytes) {
                    Ok(marker) if marker.vault == *self.id() => return Ok(()),
                    Ok(marker) => DamageKind::Changed { detail: format!("it names vault {}", marker.vault) },
                    Err(VaultError::Damaged { reason, .. }) => DamageKind::Changed { detail: reason },
                    Err(e) => return Err(e),
                }
            }
            Err(e) => unreadable(e)?,
        };
        report.damage.push(Touched::all(log).damage(path, what));
        Ok(())
    }

    /// Hashes all objects and tells apart how those that differ are damaged.
    async fn check_objects(
        &self,
        log: &Log,
        needs: Needs,
        options: &CheckOptions,
        report: &mut CheckReport,
        progress: &dyn Progress,
    ) -> Result<()> {
        let names: HashMap<Hash256, &String> =
            needs.objects.iter().map(|(path, need)| (need.stored, path)).collect();
        progress.expect(needs.objects.len() as u64, needs.objects.values().map(|n| n.bytes).sum());
        let all: Vec<_> =
            needs.objects.iter().map(|(path, need)| (path.clone(), need.stored, need.bytes)).collect();
        let mut checked = futures::stream::iter(all)
            .map(|(path, stored, bytes)| async move {
                let outcome = self.check_object(&path, stored, bytes).await;
                (path, outcome)
            })
            .buffer_unordered(self.environment().parallel);
        while let Some((path, outcome)) = checked.next().await {
            let (size, what) = outcome?;
            let need = &needs.objects[&path];
            report.objects += 1;
            report.bytes += size;
            progress.checked(1, need.bytes);
            let Some(what) = what else { continue };
            let what = match what {
                Outcome::Kind(kind) => kind,
                Outcome::Hash(found) => match names.get(&found) {
                    Some(other) => DamageKind::Swapped { with: self.target().full(other) },
                    None => DamageKind::Changed { detail: "its bytes do not match their hash".into() },
                },
            };
            report.damage.push(needs.touched(need).damage(self.target().full(&path), what));
        }
        drop(checked);
        if options.backup.is_none() && options.point.is_none() {
            for (path, bytes) in self.listed_sizes().await? {
                if needs.objects.contains_key(&path) || needs.manifests.contains(&path) {
                    continue;
                }
                if let Some((touched, stored)) = needs.stray(&path)
                    && let (_, Some(what)) = self.check_object(&path, stored, bytes).await?
                {
                    let changed = DamageKind::Changed { detail: "its bytes do not match its name".into() };
                    let what = if let Outcome::Kind(kind) = what { kind } else { changed };
                    report.damage.push(touched.damage(self.target().full(&path), what));
                    continue;
                }
                let leftovers =
                    if log.is_condemned(&path) { &mut report.condemned } else { &mut report.orphans };
                leftovers.objects += 1;
                leftovers.bytes += bytes;
            }
        }
        Ok(())
    }

    /// Sizes of all objects that a point could need.
    async fn listed_sizes(&self) -> Result<BTreeMap<String, u64>> {
        let mut sizes = BTreeMap::new();
        for folder in [layout::MANIFESTS, layout::MANIFESTS_COPY, layout::TABLES] {
            let mut listing = self.target().list_stream(folder);
            while let Some(object) = listing.try_next().await? {
                if !layout::is_delta(&object.path) {
                    sizes.insert(object.path, object.bytes);
                }
            }
        }
        Ok(sizes)
    }

    /// Bytes read, and what is wrong.
    async fn check_object(&self, path: &str, stored: Hash256, bytes: u64) -> Result<(u64, Option<Outcome>)> {
        let (hash, size) = match self.target().hash(path).await {
            Ok(found) => found,
            Err(e) => return Ok((0, Some(Outcome::Kind(unreadable(e)?)))),
        };
        if hash == stored && size == bytes {
            return Ok((size, None));
        }
        Ok((
            size,
            Some(if size < bytes {
                Outcome::Kind(DamageKind::Truncated { expected: bytes, found: size })
            } else {
                Outcome::Hash(hash)
            }),
        ))
    }
}

enum Outcome {
    Kind(DamageKind),
    Hash(Hash256),
}

/// What an object that cannot be read counts as. A place that does not answer at all is an error.
pub(crate) fn unreadable(e: ObjectsError) -> Result<DamageKind> {
    match e {
        ObjectsError::NotFound { .. } => Ok(DamageKind::Missing),
        e @ (ObjectsError::Denied { .. }
        | ObjectsError::Unavailable { .. }
        | ObjectsError::NotAFolder { .. }) => Ok(DamageKind::Unreadable { reason: e.to_string() }),
        e => Err(e.into()),
    }
}

fn chosen(log: &Log, options: &CheckOptions) -> Result<Vec<Point>> {
    let Some(backup) = &options.backup else {
        return Ok(log
            .all_points()
            .filter(|p| options.point.is_none_or(|seq| p.seq() == seq))
            .cloned()
            .collect());
    };
    match options.point {
        Some(seq) => Ok(vec![log.resolve(backup, crate::log::AsOf::Point(seq))?]),
        None => {
            let points: Vec<Point> = log.points(backup).cloned().collect();
            if points.is_empty() {
                log.resolve(backup, crate::log::AsOf::Latest)?;
            }
            Ok(points)
        }
    }
}

type Points = BTreeSet<PointId>;
