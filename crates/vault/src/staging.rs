//! Results of tasks that other processes ran, and the sweeping of what runs leave behind.
//!
//! The first finisher of a task wins; a second one learns that and its result is dropped. Everything that a task put
//! is durable before its result is.

use crate::error::VaultError;
use crate::vault::Vault;
use crate::{Result, layout};
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_keys::{open, seal};
use keepfast_model::RunId;
use keepfast_objects::{ObjectsError, Put};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::Duration;

impl Vault {
    /// A new random id for a run.
    ///
    /// # Errors
    /// [`VaultError::Random`].
    pub fn new_run(&self) -> Result<RunId> {
        Ok(RunId(self.environment().random_id()?))
    }

    /// Marks a task as done with its result. [`Put::Existed`] means that another finisher was first.
    ///
    /// # Errors
    /// [`VaultError::Objects`]; [`VaultError::Record`] when the result has no JSON form.
    pub async fn put_task_result<T: Serialize + Sync>(
        &self,
        run: &RunId,
        task: u32,
        result: &T,
    ) -> Result<Put> {
        self.put_json(&layout::task(run, task), result).await
    }

    /// The result of one task; none where nobody has finished it.
    ///
    /// # Errors
    /// As [`Self::task_results`].
    pub async fn task_result<T: DeserializeOwned + Send>(&self, run: &RunId, task: u32) -> Result<Option<T>> {
        self.if_there(&layout::task(run, task)).await
    }

    /// Results of all finished tasks of a run, by number.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] for a result that cannot be read; [`VaultError::Objects`].
    pub async fn task_results<T: DeserializeOwned + Send>(&self, run: &RunId) -> Result<BTreeMap<u32, T>> {
        let listed = self.target().list(&layout::staging(run)).await?;
        let tasks: Vec<_> =
            listed.into_iter().filter_map(|o| Some((layout::task_number(&o.path)?, o.path))).collect();
        futures::stream::iter(tasks)
            .map(|(task, path)| async move { Ok((task, self.get_json(&path).await?)) })
            .buffered(self.environment().parallel)
            .try_collect()
            .await
    }

    /// Notes what a run is about, once. [`Put::Existed`] means that the run has a plan.
    ///
    /// # Errors
    /// As [`Self::put_task_result`].
    pub async fn put_plan<T: Serialize + Sync>(&self, run: &RunId, plan: &T) -> Result<Put> {
        self.put_json(&layout::plan(run), plan).await
    }

    /// What a run is about; none where nobody noted it.
    ///
    /// # Errors
    /// As [`Self::task_results`].
    pub async fn plan<T: DeserializeOwned + Send>(&self, run: &RunId) -> Result<Option<T>> {
        self.if_there(&layout::plan(run)).await
    }

    /// Runs that left something in the staging area, sorted, each with the age of its newest object.
    ///
    /// # Errors
    /// [`VaultError::Objects`].
    pub async fn staged_runs(&self) -> Result<BTreeMap<RunId, Duration>> {
        let now = self.environment().clock.now().as_millisecond();
        let mut runs: BTreeMap<RunId, Duration> = BTreeMap::new();
        let mut listing = self.target().list_stream(layout::STAGING);
        while let Some(object) = listing.try_next().await? {
            let Some(run) = object.path.split('/').nth(1) else { continue };
            let age = Duration::from_millis(u64::try_from(now - object.modified_ms).unwrap_or(0));
            let newest = runs.entry(RunId(run.to_owned())).or_insert(age);
            *newest = (*newest).min(age);
        }
        Ok(runs)
    }

    /// Removes everything that a run staged. Returns how many objects there were.
    ///
    /// # Errors
    /// [`VaultError::Objects`].
    pub async fn sweep_run(&self, run: &RunId) -> Result<u64> {
        let listed = self.target().list(&layout::staging(run)).await?;
        self.delete_all(listed.into_iter().map(|o| o.path).collect()).await
    }

    /// Removes what dead runs left: staged objects of runs that wrote nothing for `age`, and temporary files of a
    /// folder. Returns how many objects there were.
    ///
    /// # Errors
    /// [`VaultError::Objects`].
    pub async fn sweep_staging(&self, age: Duration) -> Result<u64> {
        let mut swept = self.target().sweep(age).await?;
        for (run, _) in self.staged_runs().await?.into_iter().filter(|(_, idle)| *idle >= age) {
            swept += self.sweep_run(&run).await?;
        }
        Ok(swept)
    }

    /// Deletes objects, several at once; those that are gone already are fine.
    pub(crate) async fn delete_all(&self, names: Vec<String>) -> Result<u64> {
        let deleted = futures::stream::iter(names)
            .map(|name| async move { self.target().delete(&name).await })
            .buffer_unordered(self.environment().parallel)
            .try_fold(0, |n, ()| async move { Ok(n + 1) });
        Ok(deleted.await?)
    }

    async fn put_json<T: Serialize + Sync>(&self, name: &str, value: &T) -> Result<Put> {
        let json = serde_json::to_vec(value).map_err(|e| VaultError::Record { reason: e.to_string() })?;
        // What tasks found out of rows is as secret as the rows.
        let bytes = match self.keyring().await? {
            Some(keyring) => {
                let random = self.environment().random.clone();
                seal(keyring.staging(), name.as_bytes(), &json, random.as_ref())?
            }
            None => json,
        };
        Ok(self.target().put_new(name, bytes.into()).await?)
    }

    async fn if_there<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match self.get_json(name).await {
            Ok(value) => Ok(Some(value)),
            Err(VaultError::Objects(ObjectsError::NotFound { .. })) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn get_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let bytes = self.target().get(name).await?;
        let damaged = |reason: String| VaultError::damaged(self.target().full(name), reason);
        let json = match self.keyring().await? {
            // Nobody without a key can make a result that counts.
            Some(keyring) => open(keyring.staging(), name.as_bytes(), &bytes)
                .map_err(|_| damaged("it was not written with the vault's keys".into()))?
                .to_vec(),
            None => bytes.to_vec(),
        };
        serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))
    }
}
