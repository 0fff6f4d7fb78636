//! Dropping and holding backups, and deleting what nothing needs any more.
//!
//! What is to be deleted is logged first and deleted after a grace; a commit that comes after the record may not name
//! it. Table ids hold the backup's name, so no object belongs to two backups. A planner that thins out the points of
//! a backup writes the same records.

use crate::commit::Revalidate;
use crate::error::VaultError;
use crate::log::{Log, Point};
use crate::vault::Vault;
use crate::{Result, layout};
use async_trait::async_trait;
use futures::stream::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use keepfast_format::ManifestKind;
use keepfast_model::{BackupName, LogSeq, Record, TableId};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Drops a backup and condemns what only it needs.
struct Dropping<'a> {
    vault: &'a Vault,
    backup: &'a BackupName,
    delete_after: Timestamp,
}

#[async_trait]
impl Revalidate for Dropping<'_> {
    async fn revalidate(&self, log: &Log, _records: Vec<Record>) -> Result<Vec<Record>> {
        let points: Vec<&Point> = log.points(self.backup).collect();
        if points.is_empty() {
            log.resolve(self.backup, crate::log::AsOf::Latest)?;
        }
        let now = self.vault.environment().clock.now();
        refuse_held(log, self.backup, &points, now)?;
        crate::lock::refuse_locked(points.iter().copied(), now)?;
        let mut condemned = BTreeSet::new();
        for point in &points {
            condemned.extend(self.vault.objects_of(point).await?);
        }
        condemned.retain(|path| !log.is_condemned(path));
        Ok(vec![
            Record::Drop { backup: self.backup.clone() },
            Record::Prune {
                points: points.iter().map(|p| p.seq()).collect(),
                condemned: condemned.into_iter().collect(),
                delete_after: self.delete_after,
            },
        ])
    }
}

fn refuse_held(log: &Log, backup: &BackupName, points: &[&Point], now: Timestamp) -> Result<()> {
    let holds: Vec<String> = log
        .holds()
        .filter(|h| h.in_force(now) && points.iter().any(|p| h.keeps(backup, p.seq())))
        .map(|h| match h.until {
            Some(until) => format!("{} until {until} ({})", h.id, h.reason),
            None => format!("{} ({})", h.id, h.reason),
        })
        .collect();
    match holds.is_empty() {
        true => Ok(()),
        false => Err(VaultError::Held { backup: backup.to_string(), holds: holds.join(", ") }),
    }
}

/// Takes a hold on something that is visible.
struct Holding;

#[async_trait]
impl Revalidate for Holding {
    async fn revalidate(&self, log: &Log, records: Vec<Record>) -> Result<Vec<Record>> {
        for record in &records {
            if let Record::Hold { backup, point, .. } = record {
                let wanted = point.map_or(crate::log::AsOf::Latest, crate::log::AsOf::Point);
                log.resolve(backup, wanted)?;
            }
        }
        Ok(records)
    }
}

/// Releases a hold that is in force.
struct Releasing;

#[async_trait]
impl Revalidate for Releasing {
    async fn revalidate(&self, log: &Log, records: Vec<Record>) -> Result<Vec<Record>> {
        for record in &records {
            if let Record::Release { id } = record
                && log.hold(id).is_none()
            {
                return Err(VaultError::NoHold { id: id.clone(), url: log.url().to_owned() });
            }
        }
        Ok(records)
    }
}

impl Vault {
    /// Makes a backup and all its points invisible. Their objects are condemned: [`Self::delete_condemned`] deletes
    /// them once `grace` has passed. Works on a damaged backup too.
    ///
    /// # Errors
    /// [`VaultError::NoBackup`], [`VaultError::Held`], [`VaultError::Locked`]; otherwise as [`Self::commit`].
    pub async fn drop_backup(&self, backup: &BackupName, grace: SignedDuration) -> Result<LogSeq> {
        self.refuse_without_delete().await?;
        let log = self.log().await?;
        let tables: BTreeSet<TableId> =
            log.points(backup).flat_map(|p| p.tables.iter().map(|t| t.id.clone())).collect();
        let now = self.environment().clock.now();
        let delete_after = now.saturating_add(grace).unwrap_or(Timestamp::MAX);
        let seq = self.commit(vec![], &[], &Dropping { vault: self, backup, delete_after }).await?;
        // The projection names files that vanish; no reader of the vault needs it.
        for table in tables {
            if let Err(e) = self.remove_projection(&table).await {
                tracing::warn!(%table, error = %e, "the Delta log of a dropped table was not removed");
            }
        }
        Ok(seq)
    }

    /// Refuses credentials that may not delete, before anything is condemned that they could not remove.
    ///
    /// # Errors
    /// [`keepfast_objects::ObjectsError::Denied`] as [`VaultError::Objects`].
    pub async fn refuse_without_delete(&self) -> Result<()> {
        let nothing = format!("{}/{}", layout::STAGING, self.environment().random_id()?);
        Ok(self.target().delete(&nothing).await?)
    }

    /// Keeps a point, or a whole backup, from being dropped or pruned. Returns the hold's id.
    ///
    /// # Errors
    /// [`VaultError::NoBackup`], [`VaultError::NoPoint`]; otherwise as [`Self::commit`].
    pub async fn hold(
        &self,
        backup: &BackupName,
        point: Option<LogSeq>,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<String> {
        let id = self.environment().random_id()?;
        let record =
            Record::Hold { id: id.clone(), backup: backup.clone(), point, until, reason: reason.to_owned() };
        self.commit(vec![record], &[], &Holding).await?;
        Ok(id)
    }

    /// Ends a hold.
    ///
    /// # Errors
    /// [`VaultError::NoHold`]; otherwise as [`Self::commit`].
    pub async fn release(&self, id: &str) -> Result<LogSeq> {
        self.commit(vec![Record::Release { id: id.to_owned() }], &[], &Releasing).await
    }

    /// Deletes condemned objects whose grace has passed. May run anywhere, at any time, several times at once: their
    /// names are never used again. Returns how many there were.
    ///
    /// # Errors
    /// [`VaultError::Objects`]; otherwise as [`Self::log`].
    pub async fn delete_condemned(&self) -> Result<u64> {
        let log = self.log().await?;
        let now = self.environment().clock.now();
        let due: HashSet<&str> =
            log.condemned().filter(|(_, after)| *after <= now).map(|(path, _)| path).collect();
        if due.is_empty() {
            return Ok(0);
        }
        // No commit names them; should a writer break that rule, its point must not pay for it.
        let mut needed = HashSet::new();
        for point in log.all_points() {
            needed.extend(self.objects_of(point).await?);
        }
        let mut standing = vec![];
        for folder in [layout::MANIFESTS, layout::TABLES] {
            let mut listing = self.target().list_stream(folder);
            while let Some(object) = listing.try_next().await? {
                if due.contains(object.path.as_str()) && !needed.contains(&object.path) {
                    standing.push(object.path);
                }
            }
        }
        self.delete_all(standing).await
    }

    /// All objects that a point needs, as far as its manifests can be read.
    async fn objects_of(&self, point: &Point) -> Result<Vec<String>> {
        let references: BTreeMap<_, _> = point
            .tables
            .iter()
            .flat_map(|t| t.base.iter().chain(t.changes.iter().map(|c| &c.manifest)))
            .map(|m| (m.id, m.clone()))
            .collect();
        let references: Vec<_> = references.into_values().collect();
        let lists: Vec<Vec<String>> = futures::stream::iter(references)
            .map(|reference| async move {
                let mut objects = vec![layout::manifest(reference.id)];
                match self.read_manifest(&reference).await {
                    Ok(manifest) => objects.extend(manifest.segments.iter().map(|e| match manifest.kind {
                        ManifestKind::Segments => layout::segment(&manifest.table, e),
                        ManifestKind::Changes => layout::change_segment(&manifest.table, e),
                    })),
                    // Its segments cannot be told any more; they stay until they are found to be orphans.
                    Err(VaultError::Damaged { path, .. }) => {
                        tracing::warn!(object = %path, "a damaged manifest hides which segments it lists");
                    }
                    Err(e) => return Err(e),
                }
                Ok::<_, VaultError>(objects)
            })
            .buffered(self.environment().parallel)
            .try_collect()
            .await?;
        Ok(lists.concat())
    }
}
