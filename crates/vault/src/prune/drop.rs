//! Dropping a backup: all its points go at once, whatever the plan of anybody was.

use super::NAMES_A_RECORD;
use super::reach::{listed, references};
use crate::commit::Revalidate;
use crate::error::VaultError;
use crate::lock::refuse_locked;
use crate::log::{AsOf, Log, Point};
use crate::vault::Vault;
use crate::{Result, layout};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use keepfast_model::{BackupName, LogSeq, Record, TableId};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Drops a backup and condemns what it needs. Table ids hold the backup's name, so no object belongs to two backups.
struct Dropping<'a> {
    vault: &'a Vault,
    backup: &'a BackupName,
    delete_after: Timestamp,
    /// Names that did not fit into the record.
    rest: Mutex<Vec<String>>,
}

#[async_trait]
impl Revalidate for Dropping<'_> {
    async fn revalidate(&self, log: &Log, _records: Vec<Record>) -> Result<Vec<Record>> {
        let points: Vec<&Point> = log.points(self.backup).collect();
        if points.is_empty() {
            log.resolve(self.backup, AsOf::Latest)?;
        }
        let now = self.vault.environment().clock.now();
        refuse_held(log, self.backup, &points, now)?;
        if let Err(e) = refuse_locked(points.iter().copied(), now)
            && self.vault.place_locks().await?
        {
            return Err(e);
        }
        let mut condemned = BTreeSet::new();
        // Segments of a damaged manifest cannot be told any more; they stay until they are found to be orphans.
        self.vault
            .each_manifest(references(points.iter().copied()), |id, _, manifest| {
                condemned.insert(layout::manifest(id));
                condemned.extend(manifest.iter().flat_map(|m| listed(id, m)));
            })
            .await?;
        condemned.retain(|path| !log.is_condemned(path));
        let mut condemned: Vec<String> = condemned.into_iter().collect();
        let rest = condemned.split_off(condemned.len().min(NAMES_A_RECORD));
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = rest;
        Ok(vec![
            Record::Drop { backup: self.backup.clone() },
            Record::Prune {
                points: points.iter().map(|p| p.seq()).collect(),
                condemned,
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

/// Condemns what is left of a dropped backup, unless a new point of its name needs it.
struct Leaving<'a> {
    vault: &'a Vault,
    backup: &'a BackupName,
    names: &'a [String],
    delete_after: Timestamp,
}

#[async_trait]
impl Revalidate for Leaving<'_> {
    async fn revalidate(&self, log: &Log, _records: Vec<Record>) -> Result<Vec<Record>> {
        let needed = self.vault.reach(references(log.points(self.backup))).await?;
        let mut condemned = self.names.to_vec();
        condemned.retain(|path| !log.is_condemned(path) && !needed.covers(path));
        Ok(vec![Record::Prune { points: vec![], condemned, delete_after: self.delete_after }])
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
        let dropping = Dropping { vault: self, backup, delete_after, rest: Mutex::new(vec![]) };
        let seq = self.commit(vec![], &[], &dropping).await?;
        let rest = dropping.rest.into_inner().unwrap_or_else(PoisonError::into_inner);
        for names in rest.chunks(NAMES_A_RECORD) {
            self.commit(vec![], &[], &Leaving { vault: self, backup, names, delete_after }).await?;
        }
        // The projection names files that vanish; no reader of the vault needs it.
        for table in tables {
            if let Err(e) = self.remove_projection(&table).await {
                tracing::warn!(%table, error = %e, "the Delta log of a dropped table was not removed");
            }
        }
        Ok(seq)
    }
}
