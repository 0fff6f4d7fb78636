//! What all handles of one open store share: its objects, the catalog's head, and caches of immutable objects.

use crate::catalog::{Catalog, Condemned};
use crate::names::{self, WriterId};
use crate::place::Place;
use crate::seal::StoreKeys;
use crate::stage::Staging;
use crate::version::{PageRef, VersionFile};
use crate::{Options, Result, fault};
use keepfast_format::{Manifest, SegmentEntry};
use keepfast_model::{TableId, TableSchema};
use keepfast_objects::Put;
use keepfast_store::StoreError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Catalog entries before the head that are kept.
const CATALOG_KEPT: u64 = 64;
/// How often old entries are removed.
const CATALOG_SWEEP: u64 = 32;

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
    head: Mutex<Option<Arc<Catalog>>>,
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
            versions: Cache::new(64),
            pages: Cache::new(256),
            options,
        }
    }

    pub fn url(&self) -> String {
        self.place.target.url.clone()
    }

    /// The newest catalog entry, read now.
    ///
    /// A known entry *k* is the head when *k + 1* is absent and, looked at after that, *k* is still there: entries are
    /// removed from the oldest on, so *k + 1* cannot have come and gone.
    pub async fn head(&self) -> Result<Arc<Catalog>> {
        let known = self.known();
        let mut head = match known {
            Some(head) => head,
            None => self.listed_head().await?,
        };
        loop {
            let start = head.seq;
            while let Some(next) = self.entry(head.seq + 1).await? {
                let generation = |entry: &Catalog| entry.keys.as_ref().map(|keys| keys.generation);
                if generation(&next) < generation(&head) {
                    let name = self.place.full(&names::catalog(next.seq));
                    return Err(fault::damaged(name, "it is sealed with keys that were replaced before it"));
                }
                head = Arc::new(next);
            }
            if start > 0 && self.place.exists(&names::catalog(start)).await? {
                break;
            }
            let listed = self.listed_head().await?;
            if listed.seq <= head.seq {
                break;
            }
            head = listed;
        }
        self.remember(&head);
        Ok(head)
    }

    fn known(&self) -> Option<Arc<Catalog>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, head: &Arc<Catalog>) {
        let mut known = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|k| k.seq < head.seq) {
            *known = Some(head.clone());
        }
    }

    pub async fn entry(&self, seq: u64) -> Result<Option<Catalog>> {
        let name = names::catalog(seq);
        let Some(bytes) = self.place.find(&name).await? else { return Ok(None) };
        let entry = self.open_entry(&name, &bytes).await?;
        if entry.seq != seq {
            return Err(fault::damaged(
                self.place.full(&name),
                format!("it says that it is entry {}", entry.seq),
            ));
        }
        Ok(Some(entry))
    }

    async fn listed_head(&self) -> Result<Arc<Catalog>> {
        let head = self.listed().await?;
        if head.keys.is_none() && self.check_plain().await.is_err() {
            // The store may have been given keys since the entries were listed.
            let again = self.listed().await?;
            if again.keys.is_none() {
                self.check_plain().await?;
            }
            return Ok(again);
        }
        Ok(head)
    }

    async fn listed(&self) -> Result<Arc<Catalog>> {
        // An entry that was listed can be removed before it is read, by writers that run ahead.
        for _ in 0..100 {
            let Some(newest) = self.entries().await?.last().copied() else {
                return Ok(Arc::new(Catalog::empty()));
            };
            if let Some(entry) = self.entry(newest).await? {
                return Ok(Arc::new(entry));
            }
        }
        Err(fault::damaged(self.place.full(names::CATALOG), "its newest entry is listed and cannot be read"))
    }

    /// Numbers of the entries that exist, ascending.
    pub async fn entries(&self) -> Result<Vec<u64>> {
        let mut found: Vec<u64> = self
            .place
            .list(names::CATALOG)
            .await?
            .iter()
            .filter_map(|o| o.path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Tries to make `next` the entry after `head`. None when another writer was first.
    ///
    /// Everything that was put before is durable when this returns an entry.
    pub async fn try_commit(&self, head: &Arc<Catalog>, next: Catalog) -> Result<Option<Arc<Catalog>>> {
        let keys = self.place.keys();
        if keys.as_ref().map(|keys| &keys.reference) != next.keys.as_ref() {
            // Another task of this process has seen newer keys, so there is a newer entry.
            return Ok(None);
        }
        self.try_commit_with(head, next, keys.as_deref()).await
    }

    /// As [`Self::try_commit`], with the keys that seal the entry.
    pub async fn try_commit_with(
        &self,
        head: &Arc<Catalog>,
        next: Catalog,
        keys: Option<&StoreKeys>,
    ) -> Result<Option<Arc<Catalog>>> {
        debug_assert_eq!(next.seq, head.seq + 1, "entries follow each other");
        let name = names::catalog(next.seq);
        let plain = self.place.json(&name, &next)?;
        let bytes = match keys {
            None => plain,
            Some(keys) => keys.seal_entry(&name, &plain).map_err(|e| self.place.key_error(&name, e))?,
        };
        match self.place.create(&name, bytes.clone()).await {
            Ok(Put::Existed) => return Ok(None),
            Ok(Put::Created) => {}
            // The request may have arrived all the same.
            Err(e @ StoreError::Unavailable { .. }) => match self.place.find(&name).await {
                Ok(Some(found)) if found == bytes => {}
                _ => return Err(e),
            },
            Err(e) => return Err(e),
        }
        if !self.place.exists(&name).await? {
            // A place that answers and stores nothing.
            return Err(fault::damaged(self.place.full(&name), "it was written and is not there"));
        }
        if head.seq > 0 && !self.place.exists(&names::catalog(head.seq)).await? {
            // The store ran ahead by more entries than are kept; ours is a number long used and removed.
            self.place.delete(&name).await?;
            *self.head.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return Ok(None);
        }
        let next = Arc::new(next);
        self.remember(&next);
        if next.seq.is_multiple_of(CATALOG_SWEEP) {
            // The commit stands whatever becomes of this.
            if let Err(error) = self.sweep_entries(next.seq).await {
                tracing::warn!(%error, "old catalog entries were not removed");
            }
        }
        Ok(Some(next))
    }

    /// Removes old entries, the oldest first.
    async fn sweep_entries(&self, head: u64) -> Result<()> {
        for seq in self.entries().await?.into_iter().take_while(|seq| seq + CATALOG_KEPT < head) {
            self.place.delete(&names::catalog(seq)).await?;
        }
        Ok(())
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
