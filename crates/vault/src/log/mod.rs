//! The log: what has happened to the vault, record by record, and what follows from it.
//!
//! Records are numbered from 1 without gaps and chained by hashes; each stands twice. A reader takes either copy
//! that fits the chain and completes a missing one at the head. A gap or a broken chain is damage, never an empty
//! vault. A long log is read from its newest checkpoint on.

pub(crate) mod authenticate;
mod checkpoint;
mod line;
mod read;
mod state;

pub use line::{Auth, LogLine};
pub use state::{AsOf, Hold, LineInfo, Log, Point};

pub(crate) use line::{NO_PREVIOUS, NewLine, vault_of};
pub(crate) use read::{Fault, Reading, read_all};
pub(crate) use state::NameHash;

use crate::error::VaultError;
use crate::keyring::KeyState;
use crate::vault::Vault;
use crate::{Result, layout};
use keepfast_model::{BackupName, PointId};

/// The newest generation of keys that these lines name.
fn newest_keys(lines: &[LogLine]) -> Option<u64> {
    lines.iter().rev().find_map(|line| line.keys().last()).map(|(generation, _)| generation)
}

impl Vault {
    /// The log as it stands now. Only records that this vault has not read yet are fetched.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] for a gap, a broken chain or a record of which no copy can be read.
    pub async fn log(&self) -> Result<Log> {
        let known = self.cached_log();
        let (before, head) = match &known {
            Some(log) => (log.clone(), log.head()),
            None => (Log::empty(self.url()), None),
        };
        let mut reading = read::read_after(self, head).await?;
        loop {
            if let Some(fault) = reading.faults.iter().find(|f| f.fatal) {
                return Err(VaultError::damaged(fault.path.clone(), fault.reason.clone()));
            }
            for fault in &reading.faults {
                tracing::warn!(object = %fault.path, reason = %fault.reason, "a log record is read from its other copy");
            }
            if reading.lines.is_empty() {
                return Ok(before);
            }
            let Err(error) = self.open_lines(&before, &mut reading.lines).await else { break };
            // A change of keys deletes the key file before it: whoever read the log just then reads it again.
            let again = read::read_after(self, head).await?;
            if newest_keys(&again.lines) <= newest_keys(&reading.lines) {
                return Err(error);
            }
            reading = again;
        }
        let log = before.followed_by(reading.lines);
        self.complete_head(&log, &reading.head).await;
        self.keep_log(&log);
        Ok(log)
    }

    /// Checks who wrote the lines after `before`, and opens what is sealed in them, as far as keys are given.
    async fn open_lines(&self, before: &Log, lines: &mut [LogLine]) -> Result<()> {
        let named = |line: &LogLine| line.keys().last();
        let recorded = before.keys().last_key_value().map(|(g, stored)| (*g, *stored));
        let newest = lines.iter().rev().find_map(named).or(recorded);
        let KeyState::Open(keyring) = self.follow_keys(newest).await? else { return Ok(()) };
        let mut known = recorded.map(|(generation, _)| generation);
        for line in &*lines {
            let path = self.target().full(&layout::log_record(line.seq));
            authenticate::check(&keyring, &path, known, line)?;
            known = named(line).map(|(generation, _)| generation).or(known);
        }
        match authenticate::reveal(&keyring, lines).into_iter().next() {
            Some((seq, reason)) => {
                Err(VaultError::damaged(self.target().full(&layout::log_record(seq)), reason))
            }
            None => Ok(()),
        }
    }

    /// Writes the missing copy of the newest record. A place that we may only read stays as it is.
    async fn complete_head(&self, log: &Log, head: &read::HeadCopies) {
        let Some((seq, _)) = log.head() else { return };
        let Some(bytes) = &head.bytes else { return };
        let missing = [(head.original, layout::log_record(seq)), (head.copy, layout::log_copy(seq))];
        for (_, name) in missing.into_iter().filter(|(stands, _)| !stands) {
            if let Err(e) = self.target().put_new(&name, bytes.clone()).await {
                tracing::warn!(object = %self.target().full(&name), error = %e, "a missing log record was not completed");
            }
        }
    }

    /// Visible points of a backup, oldest first; empty when there is none of this name.
    ///
    /// # Errors
    /// As [`Self::log`].
    pub async fn points(&self, backup: &BackupName) -> Result<Vec<Point>> {
        Ok(self.log().await?.points(backup).cloned().collect())
    }

    /// The newest point of a backup.
    ///
    /// # Errors
    /// [`VaultError::NoBackup`]; otherwise as [`Self::log`].
    pub async fn latest(&self, backup: &BackupName) -> Result<Point> {
        self.resolve(backup, AsOf::Latest).await
    }

    /// One point.
    ///
    /// # Errors
    /// [`VaultError::NoBackup`], [`VaultError::NoPoint`]; otherwise as [`Self::log`].
    pub async fn point(&self, id: &PointId) -> Result<Point> {
        self.resolve(&id.backup, AsOf::Point(id.seq)).await
    }

    /// The point of a backup that a time or a number means.
    ///
    /// # Errors
    /// [`VaultError::NoBackup`], [`VaultError::NoPoint`]; otherwise as [`Self::log`].
    pub async fn resolve(&self, backup: &BackupName, as_of: AsOf) -> Result<Point> {
        self.log().await?.resolve(backup, as_of)
    }
}
