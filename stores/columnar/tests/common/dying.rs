//! A place of objects whose process dies after some calls: the last call may or may not have had its effect.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Lets `calls` calls through, then fails for ever.
#[derive(Debug)]
pub struct Dying {
    inner: Arc<dyn ObjectStore>,
    left: Arc<AtomicI64>,
    /// Whether the last call has its effect before the process dies.
    after: bool,
}

impl fmt::Display for Dying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dying {}", self.inner)
    }
}

fn dead() -> Error {
    Error::Generic { store: "dying", source: "the process died".into() }
}

impl Dying {
    pub fn after(inner: Arc<dyn ObjectStore>, calls: i64, after: bool) -> (Arc<Self>, Arc<AtomicI64>) {
        let left = Arc::new(AtomicI64::new(calls));
        (Arc::new(Self { inner, left: left.clone(), after }), left)
    }

    /// Whether the call may be made, and whether its answer arrives.
    fn call(&self) -> (bool, bool) {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            n if n > 0 => (true, true),
            0 if self.after => (true, false),
            _ => (false, false),
        }
    }
}

#[async_trait]
impl ObjectStore for Dying {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (made, answered) = self.call();
        if !made {
            return Err(dead());
        }
        let done = self.inner.put_opts(location, payload, opts).await;
        if answered { done } else { Err(dead()) }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.call() {
            (true, true) => self.inner.get_opts(location, options).await,
            _ => Err(dead()),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, left, after) = (self.inner.clone(), self.left.clone(), self.after);
        locations
            .then(move |path| {
                let this = Self { inner: inner.clone(), left: left.clone(), after };
                async move {
                    let path = path?;
                    let (made, answered) = this.call();
                    if !made {
                        return Err(dead());
                    }
                    let one = futures::stream::once(async move { Ok(path) }).boxed();
                    let done = this.inner.delete_stream(one).next().await;
                    if answered { done.unwrap_or_else(|| Err(dead())) } else { Err(dead()) }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call() {
            (true, true) => self.inner.list(prefix),
            _ => futures::stream::once(async { Err(dead()) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.call() {
            (true, true) => self.inner.list_with_delimiter(prefix).await,
            _ => Err(dead()),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
