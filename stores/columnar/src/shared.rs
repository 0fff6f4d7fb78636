//! What all handles of one open store share: its objects, the catalog's head, and caches of immutable objects.

use crate::catalog::{Catalog, Condemned};
use crate::names::{self, WriterId};
use crate::place::Place;
use crate::stage::Staging;
use crate::version::{PageRef, VersionFile};
use crate::{Options, Result, fault};
use keepfast_format::{Manifest, SegmentEntry};
use keepfast_model::{TableId, TableSchema};
use keepfast_store::StoreError;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

#[derive(Debug)]
pub(crate) struct Shared {
    pub place: Place,
    pub options: Options,
    /// One permit a core: decoding and encoding at once.
    pub cpu: Arc<Semaphore>,
    /// Commits of this process stand in line here, instead of all trying for the same number.
    pub turn: Semaphore,
    /// One permit: keys are opened once.
    pub opening: Semaphore,
    pub(crate) head: Mutex<Option<Arc<Catalog>>>,
    /// Dropped tables that this process tried to remove.
    pub(crate) tried: Mutex<HashSet<TableId>>,
    versions: Cache<VersionFile>,
    pages: Cache<Vec<SegmentEntry>>,
}

impl Shared {
    pub fn new(place: Place, options: Options) -> Self {
        let cores = options.threads.max(1);
        Self {
            place,
            cpu: Arc::new(Semaphore::new(cores)),
            turn: Semaphore::new(1),
            opening: Semaphore::new(1),
            head: Mutex::new(None),
            tried: Mutex::default(),
            versions: Cache::new(64),
            pages: Cache::new(256),
            options,
        }
    }

    pub fn url(&self) -> String {
        self.place.target.url.clone()
    }

    /// Whether any of these ids was condemned after entry `since`, as far as entry `head` knows.
    pub async fn condemned_since(&self, since: u64, head: &Catalog, ids: &[&str]) -> Result<bool> {
        let mut next = head.condemned.clone();
        while let Some(list) = next.filter(|l| l.seq > since) {
            let Some(bytes) = self.place.find(&list.object).await? else {
                // Lists are kept for days; whoever needs an older one has to start anew.
                return Ok(true);
            };
            let condemned: Condemned = self.place.decode(&list.object, &bytes)?;
            if condemned.ids.iter().any(|id| ids.contains(&id.as_str())) {
                return Ok(true);
            }
            next = condemned.before;
        }
        Ok(false)
    }

    /// A version's file.
    pub async fn version(&self, table: &TableId, file: &str) -> Result<Arc<VersionFile>> {
        let name = names::version(table, file);
        if let Some(version) = self.versions.get(&name) {
            return Ok(version);
        }
        let bytes = self.place.get(&name).await?;
        self.read_version(name, &bytes)
    }

    /// A version's file; none where it does not exist any more.
    pub async fn find_version(&self, table: &TableId, file: &str) -> Result<Option<Arc<VersionFile>>> {
        let name = names::version(table, file);
        match self.place.find(&name).await? {
            Some(bytes) => self.read_version(name, &bytes).map(Some),
            None => Ok(None),
        }
    }

    fn read_version(&self, name: String, bytes: &[u8]) -> Result<Arc<VersionFile>> {
        let version: VersionFile = self.place.decode(&name, bytes)?;
        version.schema.check("").map_err(|e| fault::damaged(self.place.full(&name), e.to_string()))?;
        Ok(self.versions.keep(name, version))
    }

    /// Puts a version's file; durable with the commit.
    pub async fn put_version(&self, version: &VersionFile) -> Result<String> {
        let file = names::version_file(version.version, &version.writer);
        let name = names::version(&version.table, &file);
        self.place.put(&name, self.place.encode(&name, version)?).await?;
        Ok(file)
    }

    /// The segments of a page.
    pub async fn page(&self, table: &TableId, page: &PageRef) -> Result<Arc<Vec<SegmentEntry>>> {
        let name = names::page(table, &page.name);
        if let Some(segments) = self.pages.get(&name) {
            return Ok(segments);
        }
        let bytes = self.place.get(&name).await?;
        self.place.check_stored(&name, &bytes, &page.stored)?;
        let manifest = match self.place.keys() {
            None => Manifest::decode(&bytes),
            Some(keys) => keys.open_page(&bytes),
        };
        let manifest = manifest.map_err(|e| fault::format(self.place.full(&name), e))?;
        if manifest.table != *table {
            return Err(fault::damaged(self.place.full(&name), "it is of another table"));
        }
        if manifest.segments.len() != page.segments as usize {
            return Err(fault::damaged(self.place.full(&name), "it lists another number of segments"));
        }
        Ok(self.pages.keep(name, manifest.segments))
    }

    /// Puts a page; durable with the commit.
    pub async fn put_page(&self, writer: &WriterId, manifest: Manifest) -> Result<PageRef> {
        let encoded = match self.place.keys() {
            None => manifest.encode(),
            Some(keys) => keys.seal_page(&manifest),
        };
        let (reference, bytes) = encoded.map_err(|e| fault::format(self.place.full("a new page"), e))?;
        let page = PageRef::of(format!("{writer}-{}", reference.id), reference.stored, &manifest.segments);
        let name = names::page(&manifest.table, &page.name);
        self.place.put(&name, bytes).await?;
        self.pages.keep(name, manifest.segments);
        Ok(page)
    }

    /// Rows that wait to be sorted.
    pub fn staging(&self, schema: &Arc<TableSchema>) -> Staging {
        Staging::new(schema.clone(), self.options.sort_memory, self.place.scratch())
    }

    pub fn no_table(&self, name: &keepfast_model::TableName) -> StoreError {
        StoreError::NoTable { table: name.to_string(), store: self.url() }
    }

    /// Runs work that computes on a thread of its own, at most one a core at a time.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        // A task of its own waits for the permit: a stream that nobody polls now must not hold one. Dropped, it ends.
        let cpu = self.cpu.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            // The semaphore is never closed.
            let permit = cpu.acquire_owned().await.ok();
            let work = move || {
                let out = work();
                drop(permit);
                out
            };
            tokio::task::spawn_blocking(work).await
        });
        match task.join_next().await {
            Some(done) => done.map_err(fault::worker)?.map_err(fault::worker)?,
            None => unreachable!("the set holds the task spawned above"),
        }
    }
}

/// Immutable objects by name. Emptied when it is full: the next reads fill it with what is in use.
#[derive(Debug)]
struct Cache<T> {
    kept: Mutex<HashMap<String, Arc<T>>>,
    most: usize,
}

impl<T> Cache<T> {
    fn new(most: usize) -> Self {
        Self { kept: Mutex::default(), most }
    }

    fn get(&self, name: &str) -> Option<Arc<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn keep(&self, name: String, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= self.most {
            kept.clear();
        }
        kept.insert(name, value.clone());
        value
    }
}
