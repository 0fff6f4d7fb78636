//! Holds: what must stay although a policy or a person would remove it.
//!
//! A hold is a record, so that a prune and a hold see each other: both compete for the next number. It has an end or is
//! released; a reader that dies leaves one that runs out by itself, and nobody ever has to unlock anything. A hold that
//! cannot be taken never stops a reader: the grace of a prune covers it then.

use crate::Result;
use crate::commit::Revalidate;
use crate::error::VaultError;
use crate::log::{AsOf, Log};
use crate::vault::Vault;
use async_trait::async_trait;
use futures::future::{Either, select};
use jiff::{SignedDuration, Timestamp};
use keepfast_model::{BackupName, LogSeq, Record};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// When a long reader takes a hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldTerms {
    /// Readers that end sooner take none: the grace of a prune covers them.
    pub after: Duration,
    /// A hold runs out after this; it is renewed when a third of it has passed.
    pub term: Duration,
}

impl Default for HoldTerms {
    fn default() -> Self {
        Self { after: Duration::from_secs(30), term: Duration::from_secs(3600) }
    }
}

/// What is held: points, or whole backups.
pub type Held = Vec<(BackupName, Option<LogSeq>)>;

/// Takes a hold on something that is visible, or renews it.
struct Holding;

#[async_trait]
impl Revalidate for Holding {
    async fn revalidate(&self, log: &Log, records: Vec<Record>) -> Result<Vec<Record>> {
        for record in &records {
            if let Record::Hold { backup, point, .. } = record {
                log.resolve(backup, point.map_or(AsOf::Latest, AsOf::Point))?;
            }
        }
        Ok(records)
    }
}

/// Releases a hold that was not released yet.
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
        let held = [(self.environment().random_id()?, backup.clone(), point)];
        self.put_holds(&held, until, reason).await?;
        let [(id, ..)] = held;
        Ok(id)
    }

    /// Takes holds, or gives those that these ids have another end.
    async fn put_holds(
        &self,
        held: &[(String, BackupName, Option<LogSeq>)],
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<()> {
        let record = |(id, backup, point): &(String, BackupName, Option<LogSeq>)| Record::Hold {
            id: id.clone(),
            backup: backup.clone(),
            point: *point,
            until,
            reason: reason.to_owned(),
        };
        self.commit(held.iter().map(record).collect(), &[], &Holding).await?;
        Ok(())
    }

    /// Ends a hold.
    ///
    /// # Errors
    /// [`VaultError::NoHold`]; otherwise as [`Self::commit`].
    pub async fn release(&self, id: &str) -> Result<LogSeq> {
        self.commit(vec![Record::Release { id: id.to_owned() }], &[], &Releasing).await
    }

    /// Does some reading, under a hold when it takes long. The hold is renewed while the work goes on and released
    /// after it; when this future is dropped, or the process dies, the hold runs out by itself.
    ///
    /// Without leave to write the work is done without a hold.
    pub async fn under_hold<F: Future>(
        &self,
        held: Held,
        reason: &str,
        terms: HoldTerms,
        work: F,
    ) -> F::Output {
        let mut work = pin!(work);
        let mut holding = Vec::new();
        let mut pause = terms.after;
        let done = loop {
            match select(work.as_mut(), pin!(tokio::time::sleep(pause))).await {
                Either::Left((done, _)) => break done,
                Either::Right(((), _)) => {}
            }
            // The work goes on while the record is written.
            match select(work.as_mut(), pin!(self.keep_held(&held, &mut holding, reason, terms.term))).await {
                Either::Left((done, writing)) => {
                    writing.await;
                    break done;
                }
                Either::Right(((), _)) => pause = terms.term / 3,
            }
        };
        if !holding.is_empty() {
            let releases = holding.into_iter().map(|(id, ..)| Record::Release { id }).collect();
            if let Err(e) = self.commit(releases, &[], &()).await {
                tracing::warn!(error = %e, "a reader's hold was not released; it runs out by itself");
            }
        }
        done
    }

    /// Takes the holds, or renews them.
    async fn keep_held(
        &self,
        held: &Held,
        holding: &mut Vec<(String, BackupName, Option<LogSeq>)>,
        reason: &str,
        term: Duration,
    ) {
        let taken = async {
            let mut wanted = holding.clone();
            if wanted.is_empty() {
                for (backup, point) in held {
                    wanted.push((self.environment().random_id()?, backup.clone(), *point));
                }
            }
            let term = SignedDuration::try_from(term).unwrap_or(SignedDuration::MAX);
            let until = self.environment().clock.now().saturating_add(term).unwrap_or(Timestamp::MAX);
            self.put_holds(&wanted, Some(until), reason).await?;
            Ok::<_, VaultError>(wanted)
        };
        match taken.await {
            Ok(wanted) => *holding = wanted,
            Err(e) => tracing::warn!(error = %e, "reading goes on without a hold"),
        }
    }
}
