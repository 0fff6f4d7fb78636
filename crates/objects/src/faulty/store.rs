//! One place as a process sees it.

use super::trace::Kind;
use super::{Begun, Fault, Late, Process, Recent, Request, Script, ended, lost};
use crate::folder::{Barrier, Deferred};
use crate::immutability::Immutability;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A place as one [`Process`] sees it.
#[derive(Clone)]
pub struct Faulty {
    pub(super) process: Process,
    /// Its number among the places of the process.
    pub(super) place: usize,
    pub(super) url: String,
    pub(super) inner: Arc<dyn ObjectStore>,
    pub(super) barrier: Option<Arc<dyn Barrier>>,
    pub(super) immutability: Option<Arc<dyn Immutability>>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Faulty {
    /// A store alone, in a process of its own, with one fault at one operation; `u64::MAX` for none.
    pub fn new(inner: Arc<dyn ObjectStore>, at: u64, fault: Fault) -> Arc<Self> {
        let process = Process::new(Script::at(at, fault));
        process.state().places.push(inner.clone());
        Arc::new(Self { process, place: 0, url: "faulty".into(), inner, barrier: None, immutability: None })
    }

    /// The process that sees it so.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.process.operations()
    }

    pub(super) async fn begin(&self, kind: Kind, path: &str, bytes: u64) -> Result<Begun> {
        self.process.begin(kind, &self.url, path, bytes).await
    }

    /// The bytes that an object has now; none where it does not exist.
    async fn bytes_of(&self, path: &Path) -> Option<Bytes> {
        self.inner.get(path).await.ok()?.bytes().await.ok()
    }

    /// Does it, and remembers what a power failure or a stale listing may make of it.
    async fn put(&self, at: &Path, payload: PutPayload, opts: PutOptions, number: u64) -> Result<PutResult> {
        let deferred = opts.extensions.get::<Deferred>().is_some();
        if !deferred {
            self.process.durable(self.place);
        }
        let volatile = deferred && self.process.may_lose_power();
        let before = match volatile && opts.mode == PutMode::Overwrite {
            true => self.bytes_of(at).await,
            false => None,
        };
        let after = volatile.then(|| Bytes::from(payload.clone()));
        let done = self.inner.put_opts(at, payload, opts).await?;
        if volatile {
            self.process.changed(self.place, at, before, after);
        }
        if self.process.may_be_stale() {
            self.note(number, at.clone(), None);
        }
        Ok(done)
    }

    async fn delete_one(&self, at: &Path, number: u64) -> Result<()> {
        let before = match self.process.may_lose_power() {
            true => self.bytes_of(at).await,
            false => None,
        };
        let meta = match self.process.may_be_stale() {
            true => self.inner.head(at).await.ok(),
            false => None,
        };
        self.inner.delete(at).await?;
        if before.is_some() {
            self.process.changed(self.place, at, before, None);
        }
        if meta.is_some() {
            self.note(number, at.clone(), meta);
        }
        Ok(())
    }

    fn note(&self, operation: u64, path: Path, deleted: Option<ObjectMeta>) {
        let recent = Recent { operation, place: self.place, path, deleted };
        self.process.state().recent.push(recent);
    }

    pub(super) fn later(&self, number: u64, by: u64, request: Request) {
        let late = Late { due: number + by, store: self.inner.clone(), request };
        self.process.state().late.push(late);
    }

    async fn faulty_delete(&self, at: Path) -> Result<Path> {
        let Begun { number, fault } = self.begin(Kind::Delete, at.as_ref(), 0).await?;
        match fault {
            Some(Fault::DiesAfter) => {
                let _ = self.delete_one(&at, number).await;
                self.process.end();
                return Err(ended());
            }
            Some(Fault::LosesAnswer) => {
                let _ = self.delete_one(&at, number).await;
                return Err(lost());
            }
            Some(Fault::LosesAnswerAndRetries) => {
                let _ = self.delete_one(&at, number).await;
                self.delete_one(&at, number).await?;
            }
            Some(Fault::Late { by }) => {
                self.later(number, by, Request::Delete(at));
                return Err(lost());
            }
            Some(Fault::Swallowed) => {}
            _ => self.delete_one(&at, number).await?,
        }
        Ok(at)
    }

    fn faulty_list(
        &self,
        prefix: Option<&Path>,
        list: impl FnOnce(Arc<dyn ObjectStore>) -> BoxStream<'static, Result<ObjectMeta>> + Send + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let found = async move {
            let Begun { number, fault } = this.begin(Kind::List, prefix.as_ref(), 0).await?;
            let found = list(this.inner.clone());
            let wrong = match fault {
                Some(Fault::Stale { by }) => {
                    let (missing, shown) = this.process.stale(this.place, number, by);
                    let mut known: Vec<_> = found.try_collect().await?;
                    known.retain(|meta: &ObjectMeta| !missing.contains(&meta.location));
                    known.extend(shown.into_iter().filter(|meta| meta.location.prefix_matches(&prefix)));
                    known
                }
                Some(Fault::Overtaken { .. }) => {
                    let mut known: Vec<_> = found.try_collect().await?;
                    known.reverse();
                    known
                }
                _ => return Ok(found),
            };
            Ok::<_, object_store::Error>(stream::iter(wrong.into_iter().map(Ok)).boxed())
        };
        stream::once(found).try_flatten().boxed()
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        let Begun { number, fault } = self.begin(Kind::Put, at.as_ref(), bytes).await?;
        match fault {
            Some(Fault::DiesAfter) => {
                let _ = self.put(at, payload, opts, number).await;
                self.process.end();
                Err(ended())
            }
            Some(Fault::LosesAnswer) => {
                let _ = self.put(at, payload, opts, number).await;
                Err(lost())
            }
            Some(Fault::LosesAnswerAndRetries) => {
                let _ = self.put(at, payload.clone(), opts.clone(), number).await;
                self.put(at, payload, opts, number).await
            }
            Some(Fault::Late { by }) => {
                self.later(number, by, Request::Put(at.clone(), payload, opts));
                Err(lost())
            }
            Some(Fault::Swallowed) => Ok(PutResult { e_tag: None, version: None }),
            _ => self.put(at, payload, opts, number).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.begin(Kind::Put, at.as_ref(), 0).await?;
        self.inner.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let kind = if options.head { Kind::Head } else { Kind::Get };
        let begun = self.begin(kind, at.as_ref(), 0).await?;
        let found = self.inner.get_opts(at, options).await?;
        if kind == Kind::Get {
            self.process.read(begun.number, found.range.end - found.range.start);
        }
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move { this.faulty_delete(location?).await }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let under = prefix.cloned();
        self.faulty_list(prefix, move |store| store.list(under.as_ref()))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (under, offset) = (prefix.cloned(), offset.clone());
        let after = offset.clone();
        self.faulty_list(prefix, move |store| store.list_with_offset(under.as_ref(), &offset))
            .try_filter(move |meta| futures::future::ready(meta.location > after))
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.map(ToString::to_string).unwrap_or_default();
        self.begin(Kind::List, &path, 0).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        let bytes = self.get_opts(from, GetOptions::default()).await?.bytes().await?;
        self.put_opts(to, bytes.into(), mode.into()).await.map(drop)
    }
}

#[async_trait]
impl Barrier for Faulty {
    async fn sync(&self) -> Result<()> {
        self.begin(Kind::Sync, "", 0).await?;
        if let Some(barrier) = &self.barrier {
            barrier.sync().await?;
        }
        self.process.durable(self.place);
        Ok(())
    }

    async fn sweep(&self, age: Duration) -> Result<u64> {
        self.begin(Kind::List, "", 0).await?;
        match &self.barrier {
            Some(barrier) => barrier.sweep(age).await,
            None => Ok(0),
        }
    }
}
