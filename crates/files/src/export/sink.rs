//! Where the bytes of a text file go, and how a finished file gets its name.

use crate::error::FilesError;
use crate::options::Compression;
use flate2::write::GzEncoder;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file that has its name only when it is complete.
#[derive(Debug)]
pub(super) struct Destination {
    path: PathBuf,
    temporary: PathBuf,
    overwrite: bool,
    published: bool,
}

impl Destination {
    /// Begins a temporary file beside the one that it will be.
    pub(super) fn create(path: &Path, overwrite: bool) -> Result<(Self, File), FilesError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // A link is followed, so that it stays one when its file is replaced.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let meta = fs::metadata(path).ok();
        if meta.as_ref().is_some_and(|m| !m.is_file()) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a file");
            return Err(FilesError::io("write", path, source));
        }
        if meta.is_some() && !overwrite {
            return Err(FilesError::Exists { path: path.to_owned() });
        }
        let Some(name) = path.file_name() else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it names no file");
            return Err(FilesError::io("write", path, source));
        };
        loop {
            let mut temporary = OsString::from(name);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            temporary.push(format!(".tmp-{}-{count}", std::process::id()));
            let temporary = path.with_file_name(temporary);
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    return Ok((
                        Self { path: path.to_owned(), temporary, overwrite, published: false },
                        file,
                    ));
                }
                // Left behind by a process of the same number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(FilesError::io("write", path, e)),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name; returns its size.
    pub(super) fn publish(mut self, file: File) -> Result<u64, FilesError> {
        let io = |e| FilesError::io("write", &self.path, e);
        file.sync_all().map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        drop(file);
        if self.overwrite {
            fs::rename(&self.temporary, &self.path).map_err(io)?;
            self.published = true;
        } else {
            // A link never replaces a file, as a rename would.
            match fs::hard_link(&self.temporary, &self.path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(FilesError::Exists { path: self.path.clone() });
                }
                // Not every file system has links.
                Err(_) if !self.path.exists() => {
                    fs::rename(&self.temporary, &self.path).map_err(io)?;
                    self.published = true;
                }
                Err(e) => return Err(io(e)),
            }
        }
        if let Some(folder) = self.path.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            // A folder cannot be synced everywhere; the file itself is.
            let _ = File::open(folder).and_then(|f| f.sync_all());
        }
        Ok(bytes)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A text file's bytes, compressed as its name says.
pub(super) enum Sink {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

impl Sink {
    pub(super) fn new(file: File, compression: Compression) -> io::Result<Self> {
        let file = BufWriter::with_capacity(256 << 10, file);
        Ok(match compression {
            Compression::None => Self::Plain(file),
            Compression::Gzip => Self::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(file, 0)?),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(w) => w.write_all(bytes),
            Self::Gzip(w) => w.write_all(bytes),
            Self::Zstd(w) => w.write_all(bytes),
        }
    }

    /// The file, with everything written to it.
    pub(super) fn finish(self) -> io::Result<File> {
        let file = match self {
            Self::Plain(w) => w,
            Self::Gzip(w) => w.finish()?,
            Self::Zstd(w) => w.finish()?,
        };
        file.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
