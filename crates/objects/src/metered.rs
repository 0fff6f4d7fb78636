//! Counts requests to an object store by kind: what a bill is made of.
//!
//! One call of the library is one request, but for listings, which a store pages: a page is counted for every
//! thousand entries. Retries are not seen.

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Entries of one page of a listing.
const PAGE: u64 = 1000;

/// Requests so far, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Objects put, or tried to be put.
    pub puts: u64,
    /// Objects, or parts of them, read.
    pub gets: u64,
    /// Objects asked for without their bytes.
    pub heads: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Objects deleted; usually free.
    pub deletes: u64,
    /// Bytes put.
    pub bytes_put: u64,
    /// Bytes that the objects read hold, or the parts that were asked for.
    pub bytes_read: u64,
}

impl Requests {
    /// Requests of the dear kind (class A): puts and listings.
    pub fn dear(&self) -> u64 {
        self.puts + self.lists
    }

    /// Requests of the cheap kind (class B): reads.
    pub fn cheap(&self) -> u64 {
        self.gets + self.heads
    }

    /// What came since an earlier count.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            puts: self.puts - before.puts,
            gets: self.gets - before.gets,
            heads: self.heads - before.heads,
            lists: self.lists - before.lists,
            deletes: self.deletes - before.deletes,
            bytes_put: self.bytes_put - before.bytes_put,
            bytes_read: self.bytes_read - before.bytes_read,
        }
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { puts, gets, heads, lists, deletes, .. } = self;
        write!(f, "{puts} put, {lists} list, {gets} get, {heads} head, {deletes} delete")
    }
}

/// A store that counts what is asked of it.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn ObjectStore>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    puts: AtomicU64,
    gets: AtomicU64,
    heads: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_put: AtomicU64,
    bytes_read: AtomicU64,
}

impl Metered {
    /// Counts from zero.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self { inner, counts: Arc::default() })
    }

    /// The counts so far.
    pub fn requests(&self) -> Requests {
        let c = &self.counts;
        Requests {
            puts: c.puts.load(Relaxed),
            gets: c.gets.load(Relaxed),
            heads: c.heads.load(Relaxed),
            lists: c.lists.load(Relaxed),
            deletes: c.deletes.load(Relaxed),
            bytes_put: c.bytes_put.load(Relaxed),
            bytes_read: c.bytes_read.load(Relaxed),
        }
    }

    fn counted(
        &self,
        listing: BoxStream<'static, object_store::Result<ObjectMeta>>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let counts = self.counts.clone();
        counts.lists.fetch_add(1, Relaxed);
        let mut entries = 0;
        listing
            .inspect(move |_| {
                entries += 1;
                if entries % PAGE == 0 {
                    counts.lists.fetch_add(1, Relaxed);
                }
            })
            .boxed()
    }
}

impl fmt::Display for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metered({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Metered {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.counts.puts.fetch_add(1, Relaxed);
        self.counts.bytes_put.fetch_add(payload.content_length() as u64, Relaxed);
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        // Its parts are requests of their own; nothing here uploads in parts.
        self.counts.puts.fetch_add(1, Relaxed);
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let kind = if options.head { &self.counts.heads } else { &self.counts.gets };
        kind.fetch_add(1, Relaxed);
        let head = options.head;
        let result = self.inner.get_opts(at, options).await?;
        if !head {
            self.counts.bytes_read.fetch_add(result.range.end - result.range.start, Relaxed);
        }
        Ok(result)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let counts = self.counts.clone();
        let counted = locations.inspect(move |_| {
            counts.deletes.fetch_add(1, Relaxed);
        });
        self.inner.delete_stream(counted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.counted(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.counted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.counts.lists.fetch_add(1, Relaxed);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.counts.puts.fetch_add(1, Relaxed);
        self.inner.copy_opts(from, to, options).await
    }
}
