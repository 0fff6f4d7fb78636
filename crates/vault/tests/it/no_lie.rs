//! A place that lies about what it stores or lists makes a backup fail, never succeed.

use crate::common::*;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use keepfast_model::{Coded, LogSeq, Record};
use keepfast_vault::{AsOf, CheckOptions, Vault, VaultError, layout};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a place does wrong while it reports success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// A put stores nothing.
    Nothing,
    /// A put stores the first half.
    Half,
    /// A put stores as many bytes, one of them another.
    OtherByte,
    /// A put stores the bytes of whatever was put before it.
    OtherObject,
    /// A listing leaves the objects out.
    Unlisted,
    /// A put stores nothing, and a listing and a question for its size say that it is there.
    NothingButListed,
}

/// Lies about objects whose path begins so.
#[derive(Debug)]
struct Lying {
    inner: Arc<InMemory>,
    about: String,
    lie: Lie,
    told: AtomicU32,
    sizes: std::sync::Mutex<std::collections::BTreeMap<Path, u64>>,
    last: std::sync::Mutex<PutPayload>,
}

impl Lying {
    fn new(inner: &Arc<InMemory>, about: &str, lie: Lie) -> Arc<Self> {
        Arc::new(Self {
            inner: inner.clone(),
            about: about.to_owned(),
            lie,
            told: AtomicU32::new(0),
            sizes: Default::default(),
            last: std::sync::Mutex::new(PutPayload::from_static(b"what was put before")),
        })
    }

    fn lies_about(&self, path: &Path) -> bool {
        path.as_ref().starts_with(&self.about)
    }

    fn told(&self) -> u32 {
        self.told.load(Ordering::SeqCst)
    }
}

impl fmt::Display for Lying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lying({:?} about {})", self.lie, self.about)
    }
}

fn said(path: &Path, size: u64) -> ObjectMeta {
    ObjectMeta { location: path.clone(), last_modified: Default::default(), size, e_tag: None, version: None }
}

#[async_trait]
impl ObjectStore for Lying {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        let before = std::mem::replace(&mut *self.last.lock().unwrap(), payload.clone());
        if !self.lies_about(at) || self.lie == Lie::Unlisted {
            return self.inner.put_opts(at, payload, opts).await;
        }
        self.told.fetch_add(1, Ordering::SeqCst);
        let bytes: Bytes = payload.into();
        let stored = match self.lie {
            Lie::Half => bytes.slice(..bytes.len() / 2).into(),
            Lie::OtherByte => {
                let mut other = bytes.to_vec();
                let middle = other.len() / 2;
                other[middle] ^= 1;
                other.into()
            }
            Lie::OtherObject => before,
            Lie::Nothing | Lie::NothingButListed | Lie::Unlisted => {
                self.sizes.lock().unwrap().insert(at.clone(), bytes.len() as u64);
                return Ok(PutResult { e_tag: None, version: None });
            }
        };
        self.inner.put_opts(at, stored, opts).await
    }
    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, opts).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let size = self.sizes.lock().unwrap().get(at).copied();
        match size {
            Some(size) if self.lie == Lie::NothingButListed && options.head => Ok(GetResult {
                payload: object_store::GetResultPayload::Stream(futures::stream::empty().boxed()),
                meta: said(at, size),
                range: 0..size,
                attributes: Default::default(),
            }),
            _ => self.inner.get_opts(at, options).await,
        }
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let about = self.about.clone();
        let listed = self.inner.list(prefix);
        match self.lie {
            Lie::Unlisted => {
                self.told.fetch_add(1, Ordering::SeqCst);
                let hidden = move |m: &object_store::Result<ObjectMeta>| {
                    m.as_ref().is_ok_and(|m| m.location.as_ref().starts_with(&about))
                };
                listed.filter(move |m| futures::future::ready(!hidden(m))).boxed()
            }
            Lie::NothingButListed => {
                let prefix = prefix.cloned().unwrap_or_default();
                let sizes = self.sizes.lock().unwrap().clone();
                let missing = sizes.into_iter().filter(move |(path, _)| path.prefix_matches(&prefix));
                let missing: Vec<_> = missing.map(|(path, size)| Ok(said(&path, size))).collect();
                listed.chain(futures::stream::iter(missing)).boxed()
            }
            _ => listed,
        }
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A vault with one point, and one backup to it through a place that lies.
async fn backup_through(
    about: &str,
    lie: Lie,
    segments: usize,
) -> (Arc<InMemory>, Result<LogSeq, VaultError>, u32) {
    let store = Arc::new(InMemory::new());
    let honest = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
    back_up(&honest, &backup("b"), "first", &[sample("t", &["one"], &[])]).await.unwrap();
    let lying = Lying::new(&store, about, lie);
    let vault = Vault::open_with(memory(lying.clone()), world(2).environment).await.unwrap();
    let texts: Vec<String> = (0..segments).map(|i| format!("second {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let outcome = back_up(&vault, &backup("b"), "second", &[sample("t", &texts, &["change"])]).await;
    (store, outcome, lying.told())
}

/// Points that a reader sees whose place is honest, each of them whole.
async fn seen(store: &Arc<InMemory>) -> usize {
    let vault = Vault::open_with(memory(store.clone()), world(3).environment).await.unwrap();
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    let needed: Vec<_> =
        report.damage.iter().filter(|d| !d.points.is_empty()).map(ToString::to_string).collect();
    assert_eq!(needed, Vec::<String>::new());
    vault.points(&backup("b")).await.unwrap().len()
}

#[tokio::test]
async fn a_put_that_reports_success_and_stores_something_else_fails_the_backup() {
    let mut tried = 0;
    for about in ["tables/", "manifests/"] {
        for lie in [Lie::Nothing, Lie::Half, Lie::OtherByte, Lie::OtherObject, Lie::NothingButListed] {
            for segments in [1, 5, 40] {
                let (store, outcome, told) = backup_through(about, lie, segments).await;
                assert!(told > 0, "{lie:?} about {about} was never told");
                let error = match outcome {
                    Ok(seq) => panic!("{lie:?} about {about} with {segments} segments gave point {seq}"),
                    Err(error) => error,
                };
                assert!(matches!(error.code().0, 201..=210 | 224 | 229 | 290), "{error}");
                assert_eq!(seen(&store).await, 1, "{lie:?} about {about}");
                tried += 1;
            }
        }
    }
    eprintln!("COUNT {tried} lies about puts");
}

#[tokio::test]
async fn a_record_that_is_not_what_was_written_is_never_a_success() {
    for about in ["log/", "log-copy/"] {
        for lie in [Lie::Nothing, Lie::Half, Lie::OtherByte, Lie::OtherObject, Lie::NothingButListed] {
            if (about, lie) == ("log-copy/", Lie::OtherObject) {
                // What was put before a record's copy is the record: the same bytes.
                continue;
            }
            let (store, outcome, told) = backup_through(about, lie, 3).await;
            assert!(told > 0, "{lie:?} about {about} was never told");
            let error = outcome.expect_err("a lie about a record");
            assert!(matches!(error, VaultError::Unconfirmed { .. }), "{lie:?} about {about}: {error}");
            // The point may stand through the other copy of its record; the one before it always does.
            let vault = Vault::open_with(memory(store), world(3).environment).await.unwrap();
            if let Ok(log) = vault.log().await {
                assert!(log.resolve(&backup("b"), AsOf::Point(LogSeq(1))).is_ok(), "{lie:?} about {about}");
            }
        }
    }
}

#[tokio::test]
async fn a_listing_that_hides_new_objects_fails_the_backup() {
    // As many in one folder as make the vault list it.
    let (store, outcome, told) = backup_through("tables/", Lie::Unlisted, 40).await;
    assert!(told > 0);
    assert_eq!(outcome.unwrap_err().code().0, 229);
    assert_eq!(seen(&store).await, 1);
}

#[tokio::test]
async fn a_listing_that_hides_the_newest_record_fails_the_next_commit_and_never_hangs() {
    let store = Arc::new(InMemory::new());
    let honest = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
    for run in ["first", "second"] {
        back_up(&honest, &backup("b"), run, &[sample("t", &[run], &[])]).await.unwrap();
    }
    // One copy in a listing is enough to see a record.
    let copies = Lying::new(&store, "log-copy", Lie::Unlisted);
    let vault = Vault::open_with(memory(copies), world(2).environment).await.unwrap();
    assert_eq!(vault.log().await.unwrap().head().unwrap().0, LogSeq(2));
    let both = Lying::new(&store, "log", Lie::Unlisted);
    let vault = Vault::open_with(memory(both), world(4).environment).await.unwrap();
    let error = back_up(&vault, &backup("b"), "third", &[sample("t", &["third"], &[])]).await.unwrap_err();
    assert_eq!(error.code().0, 291, "{error}");
    assert!(!objects(&*store).await.contains_key(&layout::log_record(LogSeq(3))));
    assert_eq!(seen(&store).await, 2);
}

#[tokio::test]
async fn a_task_result_that_is_not_what_was_written_is_an_error_to_its_reader() {
    for lie in [Lie::Nothing, Lie::Half, Lie::OtherByte] {
        let store = Arc::new(InMemory::new());
        Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
        let lying = Lying::new(&store, "staging/", lie);
        let vault = Vault::open_with(memory(lying.clone()), world(2).environment).await.unwrap();
        let run = vault.new_run().unwrap();
        // Without a length, a flipped bit in this text is still one; the JSON around it is not.
        vault.put_task_result(&run, 7, &serde_json::json!({"rows": 12})).await.unwrap();
        assert_eq!(lying.told(), 1);
        let read = vault.task_result::<std::collections::BTreeMap<String, u64>>(&run, 7).await;
        match lie {
            Lie::Nothing => assert_eq!(read.unwrap(), None),
            _ => assert!(read.is_err() || read.unwrap() != Some([("rows".to_owned(), 12)].into()), "{lie:?}"),
        }
    }
}

#[tokio::test]
async fn a_clock_that_jumps_changes_neither_order_nor_what_is_newest() {
    let world = world(1);
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world.options()).await.unwrap();
    for (run, jump) in [("a", 0), ("b", -86_400 * 400), ("c", 86_400 * 4000), ("d", -86_400 * 9000)] {
        world.clock.pass(SignedDuration::from_secs(jump));
        back_up(&vault, &backup("b"), run, &[sample("t", &[run], &[])]).await.unwrap();
    }
    let fresh = Vault::open(memory(store.clone())).await.unwrap();
    let log = fresh.log().await.unwrap();
    let runs: Vec<String> = log.points(&backup("b")).map(|p| p.run.0.clone()).collect();
    assert_eq!(runs, ["a", "b", "c", "d"]);
    assert_eq!(log.latest(&backup("b")).unwrap().run.0, "d");
    let times: Vec<Timestamp> = log.lines().map(|l| l.at).collect();
    assert!(times.windows(2).any(|w| w[1] < w[0]), "the clock did jump back");
    assert_eq!(seen(&store).await, 4);
}

#[tokio::test]
async fn a_check_reads_every_object_that_a_point_needs() {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
    let tables = [sample("t", &["1", "2", "3"], &["4", "5"]), sample("u", &["6"], &[])];
    back_up(&vault, &backup("b"), "run", &tables).await.unwrap();
    let report = vault.check(&CheckOptions::default(), &()).await.unwrap();
    let all = objects(&*store).await;
    let needed: Vec<&String> = all.keys().filter(|name| !name.starts_with("staging/")).collect();
    let bytes: u64 = needed.iter().map(|name| all[*name].len() as u64).sum();
    assert_eq!((report.objects, report.bytes), (needed.len() as u64, bytes));
    assert_eq!(report.points, 1);
    // And each of them is missed when it is gone.
    for name in needed {
        let store = fork(&store);
        tamper(&*store, name, None).await;
        let report =
            Vault::check_place(memory(store), world(2).environment, &CheckOptions::default(), &()).await;
        let found = report.unwrap().damage.iter().any(|d| d.path.ends_with(name.as_str()));
        // The head of the log lacks one copy after a crash, too.
        assert!(found || name.starts_with("log"), "{name}");
    }
}

#[tokio::test]
async fn a_point_without_certificate_or_with_an_overstated_one_is_not_read() {
    let store = Arc::new(InMemory::new());
    let vault = Vault::create(memory(store.clone()), &world(1).options()).await.unwrap();
    let (point, written) =
        write_point(&vault, &backup("b"), "run", &[sample("t", &["1"], &[])]).await.unwrap();
    let mut overstated = point.clone();
    overstated.tables[0].certificate.rows += 1;
    let error = vault.commit(vec![Record::Point(Box::new(overstated))], &written, &()).await.unwrap_err();
    assert!(matches!(error, VaultError::Record { .. }), "{error}");
    vault.commit(vec![Record::Point(Box::new(point))], &written, &()).await.unwrap();
    let name = layout::log_record(LogSeq(1));
    let mut json = unseal(&objects(&*store).await[&name]);
    json["records"][1]["tables"][0].as_object_mut().unwrap().remove("certificate").expect("a certificate");
    tamper(&*store, &name, Some(seal(&json))).await;
    tamper(&*store, &layout::log_copy(LogSeq(1)), Some(seal(&json))).await;
    let error = Vault::open(memory(store)).await.unwrap().log().await.unwrap_err();
    assert_eq!(error.code().0, 224, "{error}");
}
