//! A store whose every operation waits to be let through, and a scheduler that lets actors through in an order that
//! follows from a seed. One thread, no clock: the same seed gives the same interleaving.
//!
//! An actor that is stopped for ever in the middle of an operation is a crash. A deletion that was sent by then may
//! still take effect later.

use async_trait::async_trait;
use futures::future::LocalBoxFuture;
use futures::stream::{BoxStream, StreamExt};
use futures::task::noop_waker;
use keepfast_model::random::Random;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

/// Not ready the first time it is asked.
struct Gate(bool);

impl Future for Gate {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn gate() -> Gate {
    Gate(false)
}

/// Lets every operation on a store in memory wait once.
#[derive(Debug)]
pub struct Scheduled {
    pub inner: Arc<InMemory>,
    operations: Mutex<u64>,
    /// Deletions on their way.
    sent: Arc<Mutex<BTreeSet<Path>>>,
}

impl Scheduled {
    pub fn new(inner: Arc<InMemory>) -> Arc<Self> {
        Arc::new(Self { inner, operations: Mutex::new(0), sent: Arc::default() })
    }

    pub fn operations(&self) -> u64 {
        *self.operations.lock().unwrap()
    }

    fn count(&self) {
        *self.operations.lock().unwrap() += 1;
    }

    /// Lets one deletion of a stopped actor take effect; says whether there was one.
    pub async fn late_deletion(&self, dice: &mut Random) -> bool {
        let path = {
            let sent = self.sent.lock().unwrap();
            let at = dice.below(sent.len() as u64) as usize;
            sent.iter().nth(at).cloned()
        };
        let Some(path) = path else { return false };
        let _ = self.inner.delete(&path).await;
        self.sent.lock().unwrap().remove(&path);
        true
    }
}

impl fmt::Display for Scheduled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheduled({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Scheduled {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.count();
        gate().await;
        self.inner.put_opts(at, payload, opts).await
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, opts).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.count();
        gate().await;
        self.inner.get_opts(at, options).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.count();
        let (inner, sent) = (self.inner.clone(), self.sent.clone());
        locations
            .then(move |path| {
                let (inner, sent) = (inner.clone(), sent.clone());
                async move {
                    let path = path?;
                    sent.lock().unwrap().insert(path.clone());
                    gate().await;
                    let deleted = inner.delete(&path).await;
                    sent.lock().unwrap().remove(&path);
                    deleted.map(|()| path)
                }
            })
            .boxed()
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.count();
        let (inner, prefix) = (self.inner.clone(), prefix.cloned());
        futures::stream::once(async move {
            gate().await;
            inner.list(prefix.as_ref()).collect::<Vec<_>>().await
        })
        .flat_map(futures::stream::iter)
        .boxed()
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.count();
        gate().await;
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// What became of an actor.
pub enum Ended<T> {
    /// It came to its end.
    With(T),
    /// It was stopped for ever.
    Crashed,
}

/// Polls a future that waits for nothing but its turn.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = noop_waker();
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
    }
}

/// Lets actors take turns until all have ended. `between` runs between two turns.
pub fn interleave<T>(
    dice: &mut Random,
    actors: Vec<LocalBoxFuture<'_, T>>,
    crashes: bool,
    mut between: impl FnMut(&mut Random),
) -> Vec<Ended<T>> {
    let waker = noop_waker();
    let mut ended: Vec<Option<Ended<T>>> = actors.iter().map(|_| None).collect();
    let mut running: Vec<(usize, LocalBoxFuture<'_, T>)> = actors.into_iter().enumerate().collect();
    // Actors are not equally fast: each turn one of them goes on for a while.
    while !running.is_empty() {
        let turn = dice.below(running.len() as u64) as usize;
        let steps = 1 << dice.below(5);
        for _ in 0..steps {
            between(dice);
            if crashes && dice.one_in(150) {
                let (who, _) = running.swap_remove(turn);
                ended[who] = Some(Ended::Crashed);
                break;
            }
            let (who, actor) = &mut running[turn];
            if let Poll::Ready(done) = actor.as_mut().poll(&mut Context::from_waker(&waker)) {
                ended[*who] = Some(Ended::With(done));
                drop(running.swap_remove(turn));
                break;
            }
        }
    }
    ended.into_iter().map(|e| e.expect("every actor has ended")).collect()
}
