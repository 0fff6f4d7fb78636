//! A place of objects: a store, a prefix in it, and the few calls that everything above is built of.

use crate::error::ObjectsError;
use crate::folder::{Barrier, Deferred};
use crate::immutability::Immutability;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use keepfast_model::Hash256;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object stands, with our bytes, and was not there before.
    Created,
    /// An object of that name was there before.
    Existed,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name, relative to the target.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written, by the store's clock, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// A place of objects. Names are relative to its prefix, with `/` between their parts.
#[derive(Clone)]
pub struct Target {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The prefix in it; empty for a folder.
    pub prefix: Path,
    /// The address as it may be shown, without secrets and without a trailing slash.
    pub url: String,
    barrier: Option<Arc<dyn Barrier>>,
    pub(crate) immutability: Option<Arc<dyn Immutability>>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.url)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Target {
    /// A place in a store whose puts are durable when they return, as those of all remote stores are.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, url: impl Into<String>) -> Self {
        Self { store, prefix, url: url.into(), barrier: None, immutability: None }
    }

    /// A place in a store that may defer durability until its barrier.
    pub fn with_barrier(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        url: impl Into<String>,
        barrier: Arc<dyn Barrier>,
    ) -> Self {
        Self { store, prefix, url: url.into(), barrier: Some(barrier), immutability: None }
    }

    pub(crate) fn barrier(&self) -> Option<&Arc<dyn Barrier>> {
        self.barrier.as_ref()
    }

    /// The same place behind another store: for wrappers that throttle, count or fail.
    #[must_use]
    pub fn wrapped(&self, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        Self { store: wrap(self.store.clone()), ..self.clone() }
    }

    /// The same place with locks and versions.
    #[must_use]
    pub fn with_immutability(self, immutability: Arc<dyn Immutability>) -> Self {
        Self { immutability: Some(immutability), ..self }
    }

    /// A place under this one.
    ///
    /// # Errors
    /// [`ObjectsError::Name`] when `name` cannot be a name.
    pub fn child(&self, name: &str) -> Result<Self, ObjectsError> {
        Ok(Self { prefix: self.path(name)?, url: self.full(name), ..self.clone() })
    }

    /// The address as it may be shown.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// An object's full name as it may be shown.
    pub fn full(&self, name: &str) -> String {
        if name.is_empty() { self.url.clone() } else { format!("{}/{name}", self.url.trim_end_matches('/')) }
    }

    /// An object's path in [`Self::store`].
    ///
    /// # Errors
    /// [`ObjectsError::Name`] for an empty part, `.`, `..` or a control character.
    pub fn path(&self, name: &str) -> Result<Path, ObjectsError> {
        let refuse = |reason: String| ObjectsError::Name { path: name.to_owned(), reason };
        if name.is_empty() {
            return Err(refuse("it is empty".into()));
        }
        let relative = Path::parse(name).map_err(|e| refuse(e.to_string()))?;
        // `Path::parse` forgives a slash at either end; here one object has one name.
        if relative.as_ref() != name {
            return Err(refuse("a part of it is empty".into()));
        }
        Ok(self.prefix.parts().chain(relative.parts()).collect())
    }

    /// Creates an object unless one of that name exists; of several writers exactly one gets [`Put::Created`].
    ///
    /// When it returns, the object and everything put before through this target survive a power failure. An object
    /// that stands with exactly these bytes counts as created: the answer to an earlier try may have been lost. So
    /// let bytes that decide something (a log record, a mark) hold something of the writer's own.
    ///
    /// # Errors
    /// Any [`ObjectsError`] but `NotFound` and `Exists`. After `Unavailable` the object may or may not exist.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<Put, ObjectsError> {
        match self.create(name, bytes.clone(), false).await {
            Err(ObjectsError::Exists { .. }) if self.holds(name, &bytes).await? => {
                self.sync().await?;
                Ok(Put::Created)
            }
            Err(ObjectsError::Exists { .. }) => Ok(Put::Existed),
            Err(e) => Err(e),
            Ok(()) => Ok(Put::Created),
        }
    }

    /// Creates an object unless one of that name exists, without looking at what exists; durable only after
    /// [`Self::sync`] or the next [`Self::put_new`].
    ///
    /// # Errors
    /// Any [`ObjectsError`] but `NotFound` and `Exists`.
    pub async fn put_deferred(&self, name: &str, bytes: Bytes) -> Result<Put, ObjectsError> {
        match self.create(name, bytes, true).await {
            Ok(()) => Ok(Put::Created),
            Err(ObjectsError::Exists { .. }) => Ok(Put::Existed),
            Err(e) => Err(e),
        }
    }

    /// Creates an object whose name follows from its bytes; durable only after [`Self::sync`] or the next
    /// [`Self::put_new`].
    ///
    /// An object that exists is read and compared, since a crash may have torn it before it was durable; where it
    /// differs it is replaced by these bytes, which are the only ones its name allows.
    ///
    /// # Errors
    /// Any [`ObjectsError`] but `NotFound` and `Exists`.
    pub async fn put_content(&self, name: &str, bytes: Bytes) -> Result<Put, ObjectsError> {
        if self.put_deferred(name, bytes.clone()).await? == Put::Created {
            return Ok(Put::Created);
        }
        if self.holds(name, &bytes).await? {
            return Ok(Put::Existed);
        }
        tracing::warn!(object = %self.full(name), "replacing an object whose bytes are not those its name promises");
        self.replace_content(name, bytes).await?;
        Ok(Put::Created)
    }

    /// Puts bytes over whatever stands under a name that allows only these. Durable when it returns.
    ///
    /// Rivals that do the same do no harm, however late: the object is never away, and nobody deletes what another put.
    ///
    /// # Errors
    /// Any [`ObjectsError`] but `NotFound` and `Exists`.
    pub async fn replace_content(&self, name: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        let path = self.path(name)?;
        let put = self.store.put_opts(&path, PutPayload::from_bytes(bytes), PutMode::Overwrite.into());
        put.await.map(drop).map_err(|e| self.error("write", name, e))
    }

    /// Waits until everything put through this target survives a power failure.
    ///
    /// # Errors
    /// When a deferred write failed; what was put since the last barrier must then be put again.
    pub async fn sync(&self) -> Result<(), ObjectsError> {
        match &self.barrier {
            Some(barrier) => barrier.sync().await.map_err(|e| ObjectsError::of("sync", &self.url, e)),
            None => Ok(()),
        }
    }

    /// Removes leftovers of writers that died, where they are older than `age`. Returns how many there were.
    ///
    /// # Errors
    /// When the place cannot be read or written.
    pub async fn sweep(&self, age: Duration) -> Result<u64, ObjectsError> {
        match &self.barrier {
            Some(barrier) => barrier.sweep(age).await.map_err(|e| ObjectsError::of("sweep", &self.url, e)),
            None => Ok(0),
        }
    }

    /// An object's bytes.
    ///
    /// # Errors
    /// [`ObjectsError::NotFound`] when it does not exist; any other when it cannot be read.
    pub async fn get(&self, name: &str) -> Result<Bytes, ObjectsError> {
        self.get_with(name, GetOptions::default()).await
    }

    /// A part of an object's bytes; shorter where the object ends earlier.
    ///
    /// # Errors
    /// As [`Self::get`]; also when the range starts at or after the object's end.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, ObjectsError> {
        self.get_with(name, GetOptions { range: Some(GetRange::Bounded(range)), ..Default::default() }).await
    }

    async fn get_with(&self, name: &str, options: GetOptions) -> Result<Bytes, ObjectsError> {
        let path = self.path(name)?;
        let read = async { self.store.get_opts(&path, options).await?.bytes().await };
        read.await.map_err(|e| self.error("read", name, e))
    }

    /// An object's bytes as a stream of pieces of at most about a mebibyte, with its size.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_stream(
        &self,
        name: &str,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes, ObjectsError>>), ObjectsError> {
        let path = self.path(name)?;
        let result = self.store.get_opts(&path, GetOptions::default()).await;
        let result = result.map_err(|e| self.error("read", name, e))?;
        let size = result.meta.size;
        let full = self.full(name);
        let pieces = match result.payload {
            GetResultPayload::File(file, _) => crate::read::file_pieces(file, full),
            GetResultPayload::Stream(pieces) => {
                pieces.map_err(move |e| ObjectsError::of("read", full.as_str(), e)).boxed()
            }
        };
        Ok((size, pieces))
    }

    /// BLAKE3 and size of an object's bytes, read once and not held in memory.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn hash(&self, name: &str) -> Result<(Hash256, u64), ObjectsError> {
        let path = self.path(name)?;
        let result = self.store.get_opts(&path, GetOptions::default()).await;
        let result = result.map_err(|e| self.error("read", name, e))?;
        let full = self.full(name);
        match result.payload {
            GetResultPayload::File(file, _) => crate::read::hash_file(file, full).await,
            GetResultPayload::Stream(pieces) => crate::read::hash_pieces(pieces, full).await,
        }
    }

    /// An object's size in bytes; none where it does not exist.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub async fn size(&self, name: &str) -> Result<Option<u64>, ObjectsError> {
        let path = self.path(name)?;
        match self.store.head(&path).await.map_err(|e| self.error("read", name, e)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(ObjectsError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All objects under a folder of the target (`""` for all of it), in no order. Nothing there is an empty list.
    pub fn list_stream(&self, folder: &str) -> BoxStream<'static, Result<ObjectInfo, ObjectsError>> {
        self.list_from(folder, None)
    }

    /// All objects under a folder whose names come after `after`, in no order.
    pub fn list_after(
        &self,
        folder: &str,
        after: &str,
    ) -> BoxStream<'static, Result<ObjectInfo, ObjectsError>> {
        self.list_from(folder, Some(after))
    }

    fn list_from(
        &self,
        folder: &str,
        after: Option<&str>,
    ) -> BoxStream<'static, Result<ObjectInfo, ObjectsError>> {
        let fail = |e| futures::stream::once(async move { Err(e) }).boxed();
        let prefix = match folder {
            "" => self.prefix.clone(),
            name => match self.path(name) {
                Ok(path) => path,
                Err(e) => return fail(e),
            },
        };
        let prefix_or_none = (!prefix.as_ref().is_empty()).then_some(&prefix);
        let listing = match after {
            None => self.store.list(prefix_or_none),
            Some(after) => match self.path(after) {
                Ok(after) => self.store.list_with_offset(prefix_or_none, &after),
                Err(e) => return fail(e),
            },
        };
        let full = self.full(folder);
        // Servers may ignore where a listing is to start, as Azurite does.
        let after = after.map(str::to_owned);
        let skip = match self.prefix.as_ref() {
            "" => 0,
            prefix => prefix.len() + 1,
        };
        listing
            .map(move |found| match found {
                Ok(meta) => Ok(Some(ObjectInfo {
                    path: meta.location.as_ref().get(skip..).unwrap_or_default().to_owned(),
                    bytes: meta.size,
                    modified_ms: meta.last_modified.timestamp_millis(),
                })),
                Err(e) => match ObjectsError::of("list", full.as_str(), e) {
                    ObjectsError::NotFound { .. } => Ok(None),
                    e => Err(e),
                },
            })
            .try_filter_map(move |info| {
                let wanted = info.filter(|i: &ObjectInfo| after.as_ref().is_none_or(|after| i.path > *after));
                async move { Ok(wanted) }
            })
            .boxed()
    }

    /// All objects under a folder of the target (`""` for all of it), sorted by name.
    ///
    /// # Errors
    /// When the place cannot be read. A place that does not exist yet is empty.
    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, ObjectsError> {
        let mut found: Vec<_> = self.list_stream(folder).try_collect().await?;
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Names of the folders directly in a folder of the target, sorted. Nothing there is an empty list.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, ObjectsError> {
        let path = self.path(folder)?;
        let found = match self.store.list_with_delimiter(Some(&path)).await {
            Ok(found) => found.common_prefixes,
            Err(e) => match self.error("list", folder, e) {
                ObjectsError::NotFound { .. } => vec![],
                e => return Err(e),
            },
        };
        let mut names: Vec<String> =
            found.iter().filter_map(|path| Some(path.filename()?.to_owned())).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes an object; one that does not exist is fine.
    ///
    /// # Errors
    /// When the place refuses or cannot be reached.
    pub async fn delete(&self, name: &str) -> Result<(), ObjectsError> {
        let path = self.path(name)?;
        match self.store.delete(&path).await.map_err(|e| self.error("delete", name, e)) {
            Ok(()) | Err(ObjectsError::NotFound { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Refuses a place that lets a second writer of one name through. Leaves nothing behind where we may delete.
    ///
    /// `run` names a folder in `staging/` that nobody else uses.
    ///
    /// # Errors
    /// [`ObjectsError::Overwrites`], or why the place cannot be written at all.
    pub async fn probe(&self, run: &str) -> Result<(), ObjectsError> {
        let name = format!("staging/{run}/probe");
        let first = match self.put_new(&name, Bytes::from(format!("{run} first"))).await {
            // A folder is made at the first write; a bucket is not.
            Err(ObjectsError::NotFound { .. }) if self.url.contains("://") => {
                let reason = "there is no such bucket or container; make it first".to_owned();
                return Err(ObjectsError::Location { location: self.url.clone(), reason });
            }
            other => other?,
        };
        let second = self.put_new(&name, Bytes::from(format!("{run} second"))).await;
        let kept = self.get(&name).await;
        match self.delete(&name).await {
            Ok(()) => {}
            // Credentials that may only add are enough; somebody who may delete sweeps it later.
            Err(e @ ObjectsError::Denied { .. }) => {
                tracing::warn!(error = %e, "the probe of the place stays there")
            }
            Err(e) => return Err(e),
        }
        let kept = kept.is_ok_and(|bytes| bytes == format!("{run} first").as_bytes());
        if first != Put::Created || second? != Put::Existed || !kept {
            return Err(ObjectsError::Overwrites { url: self.url.clone() });
        }
        Ok(())
    }

    async fn create(&self, name: &str, bytes: Bytes, deferred: bool) -> Result<(), ObjectsError> {
        let path = self.path(name)?;
        let mut options = PutOptions::from(PutMode::Create);
        if deferred {
            options.extensions.insert(Deferred);
        }
        match self.store.put_opts(&path, PutPayload::from_bytes(bytes), options).await {
            Ok(_) => Ok(()),
            Err(e) => Err(self.error("write", name, e)),
        }
    }

    async fn holds(&self, name: &str, bytes: &Bytes) -> Result<bool, ObjectsError> {
        // A rival's delete may come between; then our bytes are not there.
        match self.size(name).await? {
            Some(n) if n == bytes.len() as u64 => match self.get(name).await {
                Ok(found) => Ok(found == *bytes),
                Err(ObjectsError::NotFound { .. }) => Ok(false),
                Err(e) => Err(e),
            },
            _ => Ok(false),
        }
    }

    pub(crate) fn error(&self, what: &'static str, name: &str, error: object_store::Error) -> ObjectsError {
        ObjectsError::of(what, self.full(name), error)
    }
}
