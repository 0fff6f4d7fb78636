//! Listing a folder's objects: temporary files and foreign names are invisible.

use super::{blocking, cause, generic, is_temporary};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ListResult, ObjectMeta, Result};
use std::fs::{self, ReadDir};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Objects handed over at once.
const CHUNK: usize = 1_000;

/// A walk in progress: open folders, innermost last, each with its path in the store.
struct Walk {
    root: Arc<PathBuf>,
    /// Where to begin; taken by the first step.
    start: Option<Path>,
    open: Vec<(Path, ReadDir)>,
    offset: Option<Path>,
}

/// All objects under a prefix, depth first.
pub(super) fn all(
    root: Arc<PathBuf>,
    prefix: Path,
    offset: Option<Path>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let walk = Walk { root, start: Some(prefix), open: vec![], offset };
    futures::stream::try_unfold(walk, |mut walk| async move {
        let (walk, found) = blocking(move || {
            let found = walk.chunk();
            (walk, found)
        })
        .await?;
        let found = found?;
        Ok::<_, Error>((!found.is_empty()).then(|| (futures::stream::iter(found.into_iter().map(Ok)), walk)))
    })
    .try_flatten()
    .boxed()
}

impl Walk {
    fn chunk(&mut self) -> Result<Vec<ObjectMeta>> {
        if let Some(start) = self.start.take() {
            match fs::read_dir(folder(&self.root, &start)) {
                Ok(entries) => self.open.push((start, entries)),
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
                // A prefix that is an object has nothing under it; a root that is a file is an error.
                Err(e) if e.kind() == ErrorKind::NotADirectory && !start.as_ref().is_empty() => {
                    return Ok(vec![]);
                }
                Err(e) => return Err(generic(e)),
            }
        }
        let mut found = vec![];
        while let Some((at, entries)) = self.open.last_mut() {
            let Some(entry) = entries.next() else {
                self.open.pop();
                continue;
            };
            let entry = entry.map_err(generic)?;
            let Some(path) = entry.file_name().to_str().and_then(|name| child(at, name)) else { continue };
            let kind = entry.file_type().map_err(generic)?;
            if kind.is_dir() {
                match fs::read_dir(entry.path()) {
                    Ok(entries) => self.open.push((path, entries)),
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) => return Err(generic(e)),
                }
                continue;
            }
            if self.offset.as_ref().is_some_and(|offset| path <= *offset) {
                continue;
            }
            if let Some(meta) = object(&entry, path)? {
                found.push(meta);
                if found.len() >= CHUNK {
                    break;
                }
            }
        }
        Ok(found)
    }
}

fn folder(root: &std::path::Path, prefix: &Path) -> PathBuf {
    prefix.parts().fold(root.to_owned(), |path, part| path.join(part.as_ref()))
}

/// The path of an entry; none for a temporary file or a name that no object can have.
fn child(at: &Path, name: &str) -> Option<Path> {
    if is_temporary(name) {
        return None;
    }
    let name = Path::parse(name).ok()?;
    Some(at.parts().chain(name.parts()).collect())
}

/// What a listing says of a file; none where it vanished meanwhile or is no file.
fn object(entry: &fs::DirEntry, location: Path) -> Result<Option<ObjectMeta>> {
    let found = match fs::metadata(entry.path()) {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cause(&location, e)),
    };
    if !found.is_file() {
        return Ok(None);
    }
    let last_modified = found.modified().map_err(generic)?.into();
    Ok(Some(ObjectMeta { location, last_modified, size: found.len(), e_tag: None, version: None }))
}

/// Objects and folders directly under a prefix.
pub(super) async fn one_level(root: Arc<PathBuf>, prefix: Path) -> Result<ListResult> {
    blocking(move || {
        let mut result = ListResult { common_prefixes: vec![], objects: vec![] };
        let entries = match fs::read_dir(folder(&root, &prefix)) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound) => return Ok(result),
            Err(e) => return Err(generic(e)),
        };
        for entry in entries {
            let entry = entry.map_err(generic)?;
            let Some(path) = entry.file_name().to_str().and_then(|name| child(&prefix, name)) else {
                continue;
            };
            if entry.file_type().map_err(generic)?.is_dir() {
                result.common_prefixes.push(path);
            } else if let Some(meta) = object(&entry, path)? {
                result.objects.push(meta);
            }
        }
        result.common_prefixes.sort_unstable();
        result.objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(result)
    })
    .await?
}

/// Removes temporary files that were last written longer than `age` ago, for good.
pub(super) fn sweep(root: &std::path::Path, age: Duration) -> io::Result<u64> {
    let now = SystemTime::now();
    let mut folders = vec![root.to_owned()];
    let mut removed = 0;
    while let Some(folder) = folders.pop() {
        let before = removed;
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            if !entry.file_name().to_str().is_some_and(is_temporary) {
                continue;
            }
            let old = entry
                .metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|at| now.duration_since(at).is_ok_and(|d| d >= age));
            if old && fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        if removed > before {
            super::sync::sync_folder(&folder)?;
        }
    }
    Ok(removed)
}
