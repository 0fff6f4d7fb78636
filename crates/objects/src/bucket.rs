//! A bucket in memory that keeps versions and locks, as S3 with object lock does: for tests that need a clock of their own.
//!
//! Invariant: what readers and listings see is the newest version of each name. It has no clock: whoever removes a version says
//! what time it is.

use crate::immutability::{Immutability, Locking, ObjectVersion};
use crate::target::Target;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use keepfast_model::LockMode;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A bucket. Clones are the same bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    newest: Arc<InMemory>,
    history: Arc<Mutex<History>>,
    locks: bool,
}

/// All versions of all names, oldest first.
#[derive(Clone, Debug, Default)]
struct History {
    made: i64,
    versions: BTreeMap<Path, Vec<Version>>,
}

#[derive(Clone, Debug)]
struct Version {
    number: i64,
    /// None for the mark of a deletion.
    bytes: Option<Bytes>,
    lock: Option<(LockMode, Timestamp)>,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bucket")
    }
}

fn refused(path: &Path) -> Error {
    Error::PermissionDenied { path: path.to_string(), source: "it is locked".into() }
}

fn missing(path: &Path) -> Error {
    Error::NotFound { path: path.to_string(), source: "there is no such version".into() }
}

impl Bucket {
    /// An empty bucket, with object lock or with versions alone.
    pub fn new(locks: bool) -> Self {
        Self { newest: Arc::default(), history: Arc::default(), locks }
    }

    /// The bucket as a place.
    pub fn target(&self, url: &str) -> Target {
        let locks = Arc::new(self.clone());
        Target::new(Arc::new(self.clone()), Path::default(), url).with_immutability(locks)
    }

    /// A bucket of its own that holds the same.
    pub fn fork(&self) -> Self {
        let history = Arc::new(Mutex::new(self.history().clone()));
        Self { newest: Arc::new(self.newest.fork()), history, locks: self.locks }
    }

    /// Removes a version for good, or the mark of a deletion; false where a lock stands against it at this time.
    pub async fn purge(&self, path: &Path, version: &str, now: Timestamp) -> bool {
        let newest = {
            let mut history = self.history();
            let Some(versions) = history.versions.get_mut(path) else { return true };
            let locked = |v: &Version| v.lock.is_some_and(|(_, until)| until > now);
            if versions.iter().any(|v| v.number.to_string() == version && locked(v)) {
                return false;
            }
            versions.retain(|v| v.number.to_string() != version);
            versions.last().and_then(|v| v.bytes.clone())
        };
        let shown = match newest {
            Some(bytes) => self.newest.put(path, bytes.into()).await.map(drop),
            None => self.newest.delete(path).await,
        };
        // Deleting what is not there is an error of some stores.
        drop(shown);
        true
    }

    /// No code that holds the lock can panic half way through a change.
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, path: &Path, bytes: Option<Bytes>) {
        let mut history = self.history();
        history.made += 1;
        let version = Version { number: history.made, bytes, lock: None };
        history.versions.entry(path.clone()).or_default().push(version);
    }

    /// Changes the lock of the newest version.
    fn relock(
        &self,
        path: &Path,
        lock: (LockMode, Timestamp),
        allowed: impl Fn((LockMode, Timestamp)) -> bool,
    ) -> Result<()> {
        if !self.locks {
            return Err(Error::NotSupported { source: "the bucket has no object lock".into() });
        }
        let mut history = self.history();
        let newest = history.versions.get_mut(path).and_then(|versions| versions.last_mut());
        let newest = newest.filter(|v| v.bytes.is_some()).ok_or_else(|| missing(path))?;
        if !newest.lock.is_none_or(allowed) {
            return Err(refused(path));
        }
        newest.lock = Some(lock);
        Ok(())
    }
}

#[async_trait]
impl Immutability for Bucket {
    async fn locking(&self) -> Result<Option<Locking>> {
        Ok(self.locks.then_some(Locking { default: None }))
    }

    async fn lock(&self, path: &Path, mode: LockMode, until: Timestamp) -> Result<()> {
        self.relock(path, (mode, until), |(has, end)| has == mode && end <= until)
    }

    async fn harden(&self, path: &Path, until: Timestamp) -> Result<()> {
        self.relock(path, (LockMode::Compliance, until), |(has, end)| {
            has == LockMode::Governance || end <= until
        })
    }

    async fn locked(&self, path: &Path) -> Result<Option<(LockMode, Timestamp)>> {
        let history = self.history();
        let newest = history.versions.get(path).and_then(|versions| versions.last());
        newest.filter(|v| v.bytes.is_some()).map(|v| v.lock).ok_or_else(|| missing(path))
    }

    async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>> {
        let history = self.history();
        let named = history.versions.iter().filter(|(path, _)| path.as_ref().starts_with(prefix));
        Ok(named
            .flat_map(|(path, versions)| {
                versions.iter().rev().enumerate().map(|(age, v)| ObjectVersion {
                    path: path.clone(),
                    id: v.number.to_string(),
                    latest: age == 0,
                    deletion: v.bytes.is_none(),
                    bytes: v.bytes.as_ref().map_or(0, |b| b.len() as u64),
                    modified: Timestamp::from_second(v.number).unwrap_or(Timestamp::MAX),
                })
            })
            .collect())
    }

    async fn read_version(&self, path: &Path, version: &str) -> Result<Bytes> {
        let history = self.history();
        let versions = history.versions.get(path).into_iter().flatten();
        let mut found = versions.filter(|v| v.number.to_string() == version);
        found.next().and_then(|v| v.bytes.clone()).ok_or_else(|| missing(path))
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let bytes = Bytes::from(payload.clone());
        let done = self.newest.put_opts(at, payload, opts).await?;
        self.keep(at, Some(bytes));
        Ok(done)
    }

    async fn put_multipart_opts(
        &self,
        _at: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotSupported { source: "uploads in parts".into() })
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.newest.get_opts(at, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let at = location?;
                    this.newest.delete(&at).await?;
                    this.keep(&at, None);
                    Ok(at)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.newest.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.newest.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        let bytes = self.newest.get(from).await?.bytes().await?;
        self.put_opts(to, bytes.into(), mode.into()).await.map(drop)
    }
}
