//! What every target must do, as one call: the same suite for folders, memory and every kind of object store.
//!
//! Each check names what broke. They work in a place of their own under the target and leave nothing behind there.

use crate::error::ObjectsError;
use crate::target::{Put, Target};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use jiff::Timestamp;
use keepfast_model::Hash256;

/// A promise that a target broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConformanceError {
    /// It does something else than it promises.
    #[error("{check}: {what}")]
    Broken {
        /// The promise.
        check: &'static str,
        /// What happened instead.
        what: String,
    },
    /// It failed.
    #[error("{check}: {source}")]
    Failed {
        /// The promise.
        check: &'static str,
        /// Why.
        #[source]
        source: ObjectsError,
    },
}

/// Runs every check in `target/folder`; says how many there were. `folder` must be empty.
///
/// # Errors
/// The first promise that is broken.
pub async fn check_target(target: &Target, folder: &str) -> Result<usize, ConformanceError> {
    let place = target
        .child(folder)
        .map_err(|source| ConformanceError::Failed { check: "a place under the target", source })?;
    let mut done = 0;
    macro_rules! check {
        ($name:ident) => {{
            let check = Check { name: concat!(stringify!($name)), place: &place };
            $name(check).await?;
            done += 1;
        }};
    }
    check!(an_empty_place_is_empty);
    check!(objects_are_read_back);
    check!(a_second_writer_of_a_name_does_not_win);
    check!(of_many_writers_exactly_one_wins);
    check!(equal_bytes_count_as_created);
    check!(ranges_and_streams_agree_with_the_whole);
    check!(an_object_of_many_megabytes_is_whole);
    check!(listings_are_complete_and_can_start_after_a_name);
    check!(deleting_is_repeatable_and_frees_the_name);
    check!(the_probe_passes_and_leaves_nothing);
    check!(what_is_not_there_is_not_found);
    Ok(done)
}

#[derive(Clone, Copy)]
struct Check<'a> {
    name: &'static str,
    place: &'a Target,
}

impl Check<'_> {
    fn ok<T>(&self, result: Result<T, ObjectsError>) -> Result<T, ConformanceError> {
        result.map_err(|source| ConformanceError::Failed { check: self.name, source })
    }

    fn equal<T: PartialEq + std::fmt::Debug>(
        &self,
        what: &str,
        found: T,
        expected: T,
    ) -> Result<(), ConformanceError> {
        if found == expected {
            return Ok(());
        }
        // Listings and large objects are long.
        let short = |value: String| value.chars().take(200).collect::<String>();
        let (found, expected) = (short(format!("{found:?}")), short(format!("{expected:?}")));
        self.broken(format!("{what} is {found} instead of {expected}"))
    }

    fn broken<T>(&self, what: impl Into<String>) -> Result<T, ConformanceError> {
        Err(ConformanceError::Broken { check: self.name, what: what.into() })
    }

    /// Empties the place.
    async fn clear(&self) -> Result<(), ConformanceError> {
        for object in self.ok(self.place.list("").await)? {
            self.ok(self.place.delete(&object.path).await)?;
        }
        self.equal("the place after clearing it", self.ok(self.place.list("").await)?.len(), 0)
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Bytes that repeat nowhere.
fn noise(length: usize) -> Bytes {
    let mut reader = blake3::Hasher::new().finalize_xof();
    let mut bytes = vec![0; length];
    reader.fill(&mut bytes);
    bytes.into()
}

async fn an_empty_place_is_empty(check: Check<'_>) -> Result<(), ConformanceError> {
    check.equal("its listing", check.ok(check.place.list("").await)?.len(), 0)?;
    check.equal("a size", check.ok(check.place.size("a").await)?, None)
}

async fn objects_are_read_back(check: Check<'_>) -> Result<(), ConformanceError> {
    for (name, bytes) in [("a/b/c", text("hello")), ("empty", Bytes::new()), ("a/~x_-.9", text("x"))] {
        check.equal("a put", check.ok(check.place.put_content(name, bytes.clone()).await)?, Put::Created)?;
        check.ok(check.place.sync().await)?;
        check.equal("what is read", check.ok(check.place.get(name).await)?, bytes.clone())?;
        check.equal("its size", check.ok(check.place.size(name).await)?, Some(bytes.len() as u64))?;
        let hashed = check.ok(check.place.hash(name).await)?;
        check.equal("its hash", hashed, (Hash256::of(&bytes), bytes.len() as u64))?;
    }
    check.clear().await
}

async fn a_second_writer_of_a_name_does_not_win(check: Check<'_>) -> Result<(), ConformanceError> {
    check.equal("the first put", check.ok(check.place.put_new("x", text("one")).await)?, Put::Created)?;
    check.equal("the second", check.ok(check.place.put_new("x", text("two")).await)?, Put::Existed)?;
    check.equal("a deferred one", check.ok(check.place.put_deferred("x", text("3")).await)?, Put::Existed)?;
    check.equal("what stands", check.ok(check.place.get("x").await)?, text("one"))?;
    check.clear().await
}

async fn of_many_writers_exactly_one_wins(check: Check<'_>) -> Result<(), ConformanceError> {
    const WRITERS: usize = 16;
    for round in 0..8 {
        let name = &format!("log/{round}");
        let puts = (0..WRITERS).map(|i| async move {
            check.place.put_new(name, text(&format!("writer {i}"))).await.map(|put| (i, put))
        });
        let puts: Vec<_> = check.ok(puts.collect::<FuturesUnordered<_>>().try_collect().await)?;
        let winners: Vec<usize> =
            puts.iter().filter(|(_, put)| *put == Put::Created).map(|(i, _)| *i).collect();
        let [winner] = winners.as_slice() else {
            return check.broken(format!("{} of {WRITERS} writers won", winners.len()));
        };
        check.equal(
            "what stands",
            check.ok(check.place.get(name).await)?,
            text(&format!("writer {winner}")),
        )?;
    }
    check.clear().await
}

async fn equal_bytes_count_as_created(check: Check<'_>) -> Result<(), ConformanceError> {
    for _ in 0..2 {
        check.equal("a put", check.ok(check.place.put_new("x", text("mine")).await)?, Put::Created)?;
    }
    check.clear().await
}

async fn ranges_and_streams_agree_with_the_whole(check: Check<'_>) -> Result<(), ConformanceError> {
    let bytes = noise(100_000);
    check.ok(check.place.put_new("x", bytes.clone()).await)?;
    for range in [0..1, 99_990..100_000, 500..70_000] {
        let found = check.ok(check.place.get_range("x", range.clone()).await)?;
        check.equal("a part", found, bytes.slice(range.start as usize..range.end as usize))?;
    }
    let past = check.ok(check.place.get_range("x", 99_999..200_000).await)?;
    check.equal("a part past the end", past, bytes.slice(99_999..))?;
    let (size, pieces) = check.ok(check.place.get_stream("x").await)?;
    let pieces: Vec<Bytes> = check.ok(pieces.try_collect().await)?;
    check.equal("the stream's size", size, bytes.len() as u64)?;
    check.equal("the stream", Bytes::from(pieces.concat()), bytes)?;
    check.clear().await
}

async fn an_object_of_many_megabytes_is_whole(check: Check<'_>) -> Result<(), ConformanceError> {
    let bytes = noise(24 << 20);
    check.ok(check.place.put_new("large", bytes.clone()).await)?;
    let hashed = check.ok(check.place.hash("large").await)?;
    check.equal("its hash", hashed, (Hash256::of(&bytes), bytes.len() as u64))?;
    check.clear().await
}

async fn listings_are_complete_and_can_start_after_a_name(check: Check<'_>) -> Result<(), ConformanceError> {
    const OBJECTS: usize = 1_100;
    let names: Vec<String> = (0..OBJECTS).map(|i| format!("log/{i:05}.json")).collect();
    let puts = futures::stream::iter(&names)
        .map(|name| check.place.put_deferred(name, text(name)))
        .buffer_unordered(16);
    check.ok(puts.try_collect::<Vec<_>>().await)?;
    check.ok(check.place.put_new("logs/other", text("not in the folder")).await)?;
    let listed: Vec<String> = check.ok(check.place.list("log").await)?.into_iter().map(|o| o.path).collect();
    check.equal("the listing", listed, names.clone())?;
    let mut after: Vec<String> = check
        .ok(check.place.list_after("log", &names[OBJECTS - 3]).try_collect::<Vec<_>>().await)?
        .into_iter()
        .map(|o| o.path)
        .collect();
    after.sort();
    check.equal("the listing after a name", after, names[OBJECTS - 2..].to_vec())?;
    let now = Timestamp::now().as_millisecond();
    let one = check.ok(check.place.list("logs").await)?;
    let fresh = one.first().is_some_and(|o| (now - o.modified_ms).abs() < 600_000 && o.bytes == 17);
    check.equal("size and time in a listing", fresh, true)?;
    for name in ["data/b/1", "data/a/deep/2", "data/3"] {
        check.ok(check.place.put_new(name, text(name)).await)?;
    }
    check.equal(
        "the folders in a folder",
        check.ok(check.place.folders("data").await)?,
        vec!["a".to_owned(), "b".to_owned()],
    )?;
    check.equal("those of one that is not there", check.ok(check.place.folders("none").await)?.len(), 0)?;
    let deletes = futures::stream::iter(names.iter()).map(|n| check.place.delete(n)).buffer_unordered(16);
    check.ok(deletes.try_collect::<Vec<_>>().await)?;
    check.clear().await
}

async fn deleting_is_repeatable_and_frees_the_name(check: Check<'_>) -> Result<(), ConformanceError> {
    for round in ["first", "second"] {
        check.equal("a put", check.ok(check.place.put_new("x", text(round)).await)?, Put::Created)?;
        check.equal("what stands", check.ok(check.place.get("x").await)?, text(round))?;
        check.ok(check.place.delete("x").await)?;
        check.ok(check.place.delete("x").await)?;
        check.equal("its size", check.ok(check.place.size("x").await)?, None)?;
    }
    check.clear().await
}

async fn the_probe_passes_and_leaves_nothing(check: Check<'_>) -> Result<(), ConformanceError> {
    check.ok(check.place.probe("run").await)?;
    check.equal("what it leaves", check.ok(check.place.list("").await)?.len(), 0)
}

async fn what_is_not_there_is_not_found(check: Check<'_>) -> Result<(), ConformanceError> {
    for result in [check.place.get("no/such").await.map(drop), check.place.hash("no/such").await.map(drop)] {
        match result {
            Err(ObjectsError::NotFound { .. }) => {}
            other => return check.broken(format!("reading it gives {other:?}")),
        }
    }
    Ok(())
}
