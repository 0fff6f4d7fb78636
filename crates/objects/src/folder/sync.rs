//! What has been written and is not durable yet, and the barrier that waits for it.

use super::{blocking, generic};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use object_store::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Files synced at once in the background. Journals of file systems take several into one write.
const IN_FLIGHT: usize = 16;

/// Finished syncs are forgotten when more than this many stand in the list.
const FORGET_AT: usize = 64;

type Outcome = std::result::Result<(), Arc<io::Error>>;

#[derive(Default)]
struct State {
    /// Syncs of files that began and may not have ended; failed ones stay for ever.
    files: Vec<Shared<BoxFuture<'static, Outcome>>>,
    /// Folders with entries that may not be durable, each with the number of the newest mark.
    folders: HashMap<PathBuf, u64>,
    marks: u64,
    /// Folders that this store has made or found, with everything above them marked once.
    prepared: HashSet<PathBuf>,
}

pub(super) struct Syncer {
    state: Mutex<State>,
    permits: Arc<Semaphore>,
}

impl Default for Syncer {
    fn default() -> Self {
        Self { state: Mutex::default(), permits: Arc::new(Semaphore::new(IN_FLIGHT)) }
    }
}

impl State {
    fn mark(&mut self, folder: &Path) {
        self.marks += 1;
        let mark = self.marks;
        match self.folders.get_mut(folder) {
            Some(entry) => *entry = mark,
            None => {
                self.folders.insert(folder.to_owned(), mark);
            }
        }
    }
}

impl Syncer {
    /// No code that holds the lock can panic half way through a change, so a poisoned state is a whole one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a folder of the store, and sees to it that its own name becomes durable, whoever made it.
    pub(super) fn prepare_folder(&self, root: &Path, folder: &Path) -> io::Result<()> {
        if self.state().prepared.contains(folder) {
            return Ok(());
        }
        let existed = root.is_dir();
        fs::create_dir_all(folder)?;
        let mut state = self.state();
        for above in folder.ancestors().skip(1) {
            if above.starts_with(root) || !existed {
                state.mark(above);
            }
        }
        state.prepared.insert(folder.to_owned());
        Ok(())
    }

    /// A file appeared in or vanished from its folder.
    pub(super) fn mark_folder(&self, file: &Path) {
        if let Some(folder) = file.parent() {
            self.state().mark(folder);
        }
    }

    /// Syncs a file of ours in the background. One that cannot be synced is removed again.
    pub(super) async fn defer(&self, out: File, file: PathBuf) -> Result<()> {
        self.spawn(move || {
            out.sync_all().inspect_err(|_| {
                let _ = fs::remove_file(&file);
            })
        })
        .await
    }

    /// Syncs a file that somebody else wrote.
    pub(super) async fn defer_existing(&self, file: File) -> Result<()> {
        self.spawn(move || file.sync_all()).await
    }

    async fn spawn(&self, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<()> {
        let permit = self.permits.clone().acquire_owned().await;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        let outcome = async move {
            match task.await {
                Ok(done) => done.map_err(Arc::new),
                Err(e) => Err(Arc::new(io::Error::other(e))),
            }
        };
        let mut state = self.state();
        state.files.push(outcome.boxed().shared());
        if state.files.len() > FORGET_AT {
            state.files.retain(|f| !matches!(f.clone().now_or_never(), Some(Ok(()))));
        }
        Ok(())
    }

    /// Waits until everything marked or deferred before this call is durable.
    pub(super) async fn barrier(&self) -> Result<()> {
        let files = self.state().files.clone();
        for outcome in futures::future::join_all(files).await {
            outcome.map_err(again)?;
        }
        let folders = {
            let mut state = self.state();
            state.files.retain(|f| !matches!(f.clone().now_or_never(), Some(Ok(()))));
            state.folders.clone()
        };
        if folders.is_empty() {
            return Ok(());
        }
        let synced = blocking(move || {
            for folder in folders.keys() {
                sync_folder(folder)?;
            }
            Ok(folders)
        })
        .await?
        .map_err(generic)?;
        // An entry marked again meanwhile stays for the next barrier.
        self.state().folders.retain(|folder, mark| synced.get(folder) != Some(mark));
        Ok(())
    }
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|f| f.sync_all()) {
        // It was removed, with everything in it, or stands above the root where we may not look.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(()),
        // Some file systems cannot sync a folder and need not.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

/// One failure is told to every barrier, and an `io::Error` cannot be cloned.
fn again(e: Arc<io::Error>) -> Error {
    generic(match e.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(e.kind(), e.to_string()),
    })
}
