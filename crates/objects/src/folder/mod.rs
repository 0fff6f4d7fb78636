//! A folder as an object store whose writes survive a power failure.
//!
//! `object_store`'s own local files are neither synced nor safe to build a commit on. Here an object is written to
//! `<name>.tmp-<random>`, synced, and linked to its name, which fails when the name exists; then the folder is synced.
//! A put that carries [`Deferred`] is linked first and synced in the background: the next put without it, or
//! [`Barrier::sync`], waits for all of them. So a log record is never durable before what it names.
//! Once a sync has failed, the store stays failed: the kernel may have dropped what it could not write.

mod list;
mod sync;
mod upload;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sync::Syncer;

/// Stands in a put's extensions: it need not be durable before the next barrier.
#[derive(Clone, Copy, Debug)]
pub struct Deferred;

/// A store that may hold back durability until it is asked for.
#[async_trait]
pub trait Barrier: Send + Sync {
    /// Waits until every put that returned before is durable.
    async fn sync(&self) -> Result<()>;
    /// Removes temporary files older than `age`; returns how many.
    async fn sweep(&self, age: Duration) -> Result<u64>;
}

/// A folder of objects. The folder itself is made by the first put.
#[derive(Clone)]
pub struct FolderStore {
    root: Arc<PathBuf>,
    reader: Arc<OnceLock<LocalFileSystem>>,
    syncer: Arc<Syncer>,
}

impl fmt::Debug for FolderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FolderStore({})", self.root.display())
    }
}

impl fmt::Display for FolderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What stands between an object's name and the random part of its temporary file's.
const TEMPORARY: &str = ".tmp-";

/// Whether a file is a temporary of ours: `<name>.tmp-<16 hex digits>`.
fn is_temporary(file_name: &str) -> bool {
    file_name
        .rsplit_once(TEMPORARY)
        .is_some_and(|(_, random)| random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn generic(source: io::Error) -> Error {
    Error::Generic { store: "folder", source: source.into() }
}

fn cause(path: &Path, source: io::Error) -> Error {
    let path = path.to_string();
    match source.kind() {
        ErrorKind::NotFound => Error::NotFound { path, source: source.into() },
        ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: source.into() },
        _ => generic(source),
    }
}

/// Runs blocking file work where it does not hold up other tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

impl FolderStore {
    /// The folder at this absolute path.
    pub fn new(root: PathBuf) -> Self {
        Self { root: Arc::new(root), reader: Arc::default(), syncer: Arc::default() }
    }

    /// The folder's path.
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    /// The file of an object.
    fn file(&self, location: &Path) -> Result<PathBuf> {
        let name = location.filename().unwrap_or_default();
        if name.is_empty() || is_temporary(name) {
            return Err(Error::NotSupported {
                source: format!("'{location}' cannot be the name of an object").into(),
            });
        }
        Ok(location.parts().fold(self.root.as_ref().clone(), |path, part| path.join(part.as_ref())))
    }

    /// `object_store`'s reader of the folder, which wants the folder to exist.
    fn reader(&self, location: &Path) -> Result<&LocalFileSystem> {
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        match fs::metadata(self.root.as_ref()) {
            Ok(found) if !found.is_dir() => return Err(generic(ErrorKind::NotADirectory.into())),
            Ok(_) => {}
            Err(e) => return Err(cause(location, e)),
        }
        let reader = LocalFileSystem::new_with_prefix(self.root.as_ref())?;
        Ok(self.reader.get_or_init(|| reader))
    }

    /// Writes a temporary file beside `file`, making the folders that lead there.
    fn write_temporary(&self, file: &std::path::Path, payload: &PutPayload) -> io::Result<(File, PathBuf)> {
        let (mut out, temporary) = self.create_temporary(file)?;
        match payload.iter().try_for_each(|piece| out.write_all(piece)) {
            Ok(()) => Ok((out, temporary)),
            Err(e) => {
                let _ = fs::remove_file(&temporary);
                Err(e)
            }
        }
    }

    fn create_temporary(&self, file: &std::path::Path) -> io::Result<(File, PathBuf)> {
        let folder = file.parent().ok_or(ErrorKind::InvalidInput)?;
        self.syncer.prepare_folder(&self.root, folder)?;
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut name = file.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
        name.push(format!("{TEMPORARY}{:016x}", u64::from_le_bytes(random)));
        let temporary = file.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let out = match options.open(&temporary) {
            // Somebody removed the folder since we prepared it.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                options.open(&temporary)?
            }
            other => other?,
        };
        Ok((out, temporary))
    }

    /// Links a written file to its name, or moves it over whatever stands there.
    fn publish(temporary: &std::path::Path, file: &std::path::Path, mode: &PutMode) -> io::Result<()> {
        match mode {
            PutMode::Overwrite => fs::rename(temporary, file),
            _ => {
                let linked = fs::hard_link(temporary, file);
                let _ = fs::remove_file(temporary);
                linked
            }
        }
    }
}

#[async_trait]
impl ObjectStore for FolderStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) || !opts.attributes.is_empty() {
            return Err(Error::NotImplemented {
                operation: "conditional update or attributes".into(),
                implementer: self.to_string(),
            });
        }
        let deferred = opts.extensions.get::<Deferred>().is_some();
        if !deferred {
            // What was put before must not be less durable than this.
            self.syncer.barrier().await?;
        }
        let file = self.file(location)?;
        let store = self.clone();
        let mode = opts.mode;
        let written = blocking(move || -> io::Result<_> {
            if mode == PutMode::Create && fs::symlink_metadata(&file).is_ok() {
                return Ok((None, file));
            }
            let (out, temporary) = store.write_temporary(&file, &payload)?;
            if !deferred && let Err(e) = out.sync_all() {
                let _ = fs::remove_file(&temporary);
                return Err(e);
            }
            match Self::publish(&temporary, &file, &mode) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok((None, file)),
                Err(e) => {
                    let _ = fs::remove_file(&temporary);
                    return Err(e);
                }
            }
            store.syncer.mark_folder(&file);
            Ok((Some(out), file))
        })
        .await?
        .map_err(|e| cause(location, e))?;
        match written {
            (Some(out), file) if deferred => self.syncer.defer(out, file).await?,
            (Some(_), _) => self.syncer.barrier().await?,
            (None, file) => {
                // Another process may have linked it without a sync yet; whoever builds on it needs one.
                if deferred
                    && let Ok(existing) = blocking({
                        let file = file.clone();
                        move || File::open(file)
                    })
                    .await?
                {
                    self.syncer.mark_folder(&file);
                    self.syncer.defer_existing(existing).await?;
                }
                return Err(Error::AlreadyExists {
                    path: location.to_string(),
                    source: io::Error::from(ErrorKind::AlreadyExists).into(),
                });
            }
        }
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let file = self.file(location)?;
        let store = self.clone();
        let (out, temporary, file) = blocking(move || {
            let (out, temporary) = store.create_temporary(&file)?;
            Ok((out, temporary, file))
        })
        .await?
        .map_err(|e: io::Error| cause(location, e))?;
        Ok(Box::new(upload::Upload::new(self.syncer.clone(), out, temporary, file)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.file(location)?;
        self.reader(location)?.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.file(location)?;
        self.reader(location)?.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    let file = store.file(&location)?;
                    let removed = blocking(move || {
                        fs::remove_file(&file)?;
                        store.syncer.mark_folder(&file);
                        Ok(())
                    });
                    removed.await?.map_err(|e| cause(&location, e))?;
                    Ok(location)
                }
            })
            .buffered(8)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        list::all(self.root.clone(), prefix.cloned().unwrap_or_default(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        list::all(self.root.clone(), prefix.cloned().unwrap_or_default(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        list::one_level(self.root.clone(), prefix.cloned().unwrap_or_default()).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        let bytes = self.get_opts(from, GetOptions::default()).await?.bytes().await?;
        self.put_opts(to, bytes.into(), mode.into()).await.map(|_| ())
    }
}

#[async_trait]
impl Barrier for FolderStore {
    async fn sync(&self) -> Result<()> {
        self.syncer.barrier().await
    }

    async fn sweep(&self, age: Duration) -> Result<u64> {
        let root = self.root.clone();
        blocking(move || list::sweep(&root, age)).await?.map_err(generic)
    }
}
