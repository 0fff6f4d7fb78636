//! The folder: exactly one creator of a name, nothing half written, nothing that is not an object in a listing.

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use keepfast_model::Coded;
use keepfast_objects::{FolderStore, ObjectsError, Put, Target, open_target};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use std::sync::Arc;
use std::time::Duration;

fn folder() -> (tempfile::TempDir, Target) {
    let dir = tempfile::tempdir().unwrap();
    let target = open_target(dir.path().join("place").to_str().unwrap()).unwrap();
    (dir, target)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[tokio::test]
async fn reading_a_place_that_does_not_exist_yet_makes_nothing() {
    let (dir, target) = folder();
    assert!(target.list("").await.unwrap().is_empty());
    assert!(target.list("log").await.unwrap().is_empty());
    assert!(matches!(target.get("a/b").await, Err(ObjectsError::NotFound { .. })));
    assert_eq!(target.size("a/b").await.unwrap(), None);
    target.delete("a/b").await.unwrap();
    assert!(!dir.path().join("place").exists());
}

#[tokio::test]
async fn an_object_is_read_back_as_it_was_put() {
    for target in [folder().1, open_target("memory:").unwrap()] {
        assert_eq!(target.put_new("a/b/c", bytes("hello")).await.unwrap(), Put::Created);
        assert_eq!(target.put_content("a/b/d", bytes("world")).await.unwrap(), Put::Created);
        target.sync().await.unwrap();
        assert_eq!(target.get("a/b/c").await.unwrap(), "hello");
        assert_eq!(target.get_range("a/b/d", 1..3).await.unwrap(), "or");
        assert_eq!(target.size("a/b/d").await.unwrap(), Some(5));
        let names: Vec<_> = target.list("a").await.unwrap().into_iter().map(|o| (o.path, o.bytes)).collect();
        assert_eq!(names, [("a/b/c".to_owned(), 5), ("a/b/d".to_owned(), 5)]);
        let (size, pieces) = target.get_stream("a/b/c").await.unwrap();
        assert_eq!(size, 5);
        assert_eq!(pieces.map(|p| p.unwrap()).collect::<Vec<_>>().await.concat(), b"hello");
        target.delete("a/b/c").await.unwrap();
        assert_eq!(target.list("").await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writers_of_one_name_exactly_one_creates_it_and_its_bytes_stay() {
    let (_dir, target) = folder();
    for round in 0..20 {
        let name = format!("log/{round}");
        let results: Vec<_> = (0..16)
            .map(|i| {
                let (target, name) = (target.clone(), name.clone());
                tokio::spawn(async move { (i, target.put_new(&name, bytes(&format!("writer {i}"))).await) })
            })
            .collect::<FuturesUnordered<_>>()
            .map(|r| r.unwrap())
            .collect()
            .await;
        let winners: Vec<_> =
            results.iter().filter(|(_, r)| *r.as_ref().unwrap() == Put::Created).map(|(i, _)| *i).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(target.get(&name).await.unwrap(), format!("writer {}", winners[0]).as_bytes());
    }
    assert_eq!(target.list("").await.unwrap().len(), 20, "no leftovers");
}

#[tokio::test]
async fn putting_the_same_bytes_again_counts_as_created_since_an_answer_may_be_lost() {
    let (_dir, target) = folder();
    assert_eq!(target.put_new("x", bytes("mine")).await.unwrap(), Put::Created);
    assert_eq!(target.put_new("x", bytes("mine")).await.unwrap(), Put::Created);
    assert_eq!(target.put_new("x", bytes("thin")).await.unwrap(), Put::Existed);
    assert_eq!(target.put_new("x", bytes("longer")).await.unwrap(), Put::Existed);
}

#[tokio::test]
async fn content_that_a_crash_tore_is_healed_by_the_next_put_of_its_name() {
    for target in [folder().1, open_target("memory:").unwrap()] {
        target.put_new("segments/x", bytes("torn")).await.unwrap();
        assert_eq!(target.put_content("segments/x", bytes("whole")).await.unwrap(), Put::Created);
        assert_eq!(target.get("segments/x").await.unwrap(), "whole");
        assert_eq!(target.put_content("segments/x", bytes("whole")).await.unwrap(), Put::Existed);
    }
}

#[tokio::test]
async fn leftovers_of_dead_writers_are_invisible_and_swept_when_they_are_old() {
    let (dir, target) = folder();
    target.put_new("a/b", bytes("1")).await.unwrap();
    let leftover = dir.path().join("place/a/c.tmp-0123456789abcdef");
    std::fs::write(&leftover, "half").unwrap();
    std::fs::write(dir.path().join("place/a/d.tmp-no"), "an object").unwrap();
    assert_eq!(target.list("").await.unwrap().len(), 2);
    let level = target.store.list_with_delimiter(Some(&Path::from("a"))).await.unwrap();
    assert_eq!(level.objects.len(), 2);
    assert_eq!(target.sweep(Duration::from_secs(3600)).await.unwrap(), 0);
    assert!(leftover.exists());
    assert_eq!(target.sweep(Duration::ZERO).await.unwrap(), 1);
    assert!(!leftover.exists());
}

#[tokio::test]
async fn names_that_leave_the_place_are_refused() {
    let (_dir, target) = folder();
    for name in ["", "../x", "a/../../x", "/a", "a/", "a//b", "./a", "a\u{0}b", "a.tmp-0123456789abcdef"] {
        let put = target.put_new(name, bytes("1")).await;
        assert!(put.is_err(), "{name:?}");
        assert!(target.get(name).await.is_err(), "{name:?}");
    }
    assert!(target.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_file_where_a_folder_belongs_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let target = open_target(file.to_str().unwrap()).unwrap();
    for error in [
        target.put_new("a", bytes("1")).await.unwrap_err(),
        target.get("a").await.unwrap_err(),
        target.list("").await.unwrap_err(),
    ] {
        assert!(matches!(error, ObjectsError::NotAFolder { .. }), "{error:?}");
        assert_eq!(error.code().0, 210);
    }
}

#[tokio::test]
async fn a_listing_follows_its_offset_and_its_prefix_by_whole_parts() {
    let (_dir, target) = folder();
    for name in ["log/1", "log/2", "log/3", "log-copy/1", "log/deep/4"] {
        target.put_new(name, bytes("x")).await.unwrap();
    }
    let names = |found: Vec<keepfast_objects::ObjectInfo>| {
        found.into_iter().map(|o| o.path).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(target.list("log").await.unwrap()), "log/1 log/2 log/3 log/deep/4");
    let mut after: Vec<_> = target.list_after("log", "log/1").map(|o| o.unwrap()).collect().await;
    after.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(names(after), "log/2 log/3 log/deep/4");
    let child = target.child("log").unwrap();
    assert_eq!(names(child.list("").await.unwrap()), "1 2 3 deep/4");
    assert!(child.full("1").ends_with("/place/log/1"));
    assert_eq!(child.get("1").await.unwrap(), "x");
}

#[tokio::test]
async fn more_objects_than_one_step_of_the_walk_are_all_listed() {
    let (dir, target) = folder();
    let place = dir.path().join("place/many");
    std::fs::create_dir_all(&place).unwrap();
    for i in 0..2_500 {
        std::fs::write(place.join(format!("{i:05}")), "x").unwrap();
    }
    let found = target.list("many").await.unwrap();
    assert_eq!(found.len(), 2_500);
    assert!(found.windows(2).all(|w| w[0].path < w[1].path));
}

#[tokio::test]
async fn an_upload_in_parts_appears_whole_and_leaves_nothing_when_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = FolderStore::new(dir.path().join("place"));
    let path = Path::from("a/large");
    let mut upload = store.put_multipart(&path).await.unwrap();
    let (first, second) = (upload.put_part("first ".into()), upload.put_part("second".into()));
    second.await.unwrap();
    first.await.unwrap();
    assert!(store.get(&path).await.is_err());
    upload.complete().await.unwrap();
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "first second");
    drop(store.put_multipart(&Path::from("a/other")).await.unwrap());
    assert_eq!(std::fs::read_dir(dir.path().join("place/a")).unwrap().count(), 1);
}

#[tokio::test]
async fn the_probe_passes_where_creation_is_exclusive_and_leaves_nothing() {
    for target in [folder().1, open_target("memory:").unwrap()] {
        target.probe("run").await.unwrap();
        assert!(target.list("").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn deferred_writes_are_all_there_after_the_barrier() {
    let (_dir, target) = folder();
    let names: Vec<_> = (0..200).map(|i| format!("t{}/segments/{i}", i % 7)).collect();
    let puts = names.iter().map(|name| target.put_content(name, bytes(name)));
    for put in futures::future::join_all(puts).await {
        assert_eq!(put.unwrap(), Put::Created);
    }
    target.put_new("log/1", bytes("commit")).await.unwrap();
    target.sync().await.unwrap();
    assert_eq!(target.list("").await.unwrap().len(), 201);
}

#[tokio::test]
async fn an_overwriting_store_is_refused_by_the_probe() {
    let place = Target::new(Arc::new(Overwriting(InMemory::new())), Path::default(), "memory:");
    assert!(matches!(place.probe("run").await, Err(ObjectsError::Overwrites { .. })));
    assert!(place.list("").await.unwrap().is_empty());
}

/// Ignores that it was asked to create only.
#[derive(Debug)]
struct Overwriting(InMemory);

impl std::fmt::Display for Overwriting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Overwriting")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Overwriting {
    async fn put_opts(
        &self,
        location: &Path,
        payload: object_store::PutPayload,
        mut opts: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        opts.mode = PutMode::Overwrite;
        self.0.put_opts(location, payload, opts).await
    }
    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }
    async fn get_opts(
        &self,
        location: &Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(location, options).await
    }
    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(locations)
    }
    fn list(
        &self,
        prefix: Option<&Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(
        &self,
        prefix: Option<&Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
