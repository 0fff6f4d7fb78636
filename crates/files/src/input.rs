//! Opening files for reading: plain, gzip or zstd, with a count of the stored bytes read so far.

use crate::error::{FilesError, Place};
use crate::options::Compression;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Stored bytes read, over all files of an import.
pub(crate) type Progress = Arc<AtomicU64>;

/// Opens a file; its directory or a pipe is refused, since files are read twice.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64), FilesError> {
    let file = File::open(path).map_err(|e| FilesError::io("read", path, e))?;
    let meta = file.metadata().map_err(|e| FilesError::io("read", path, e))?;
    if !meta.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a file");
        return Err(FilesError::io("read", path, source));
    }
    Ok((file, meta.len()))
}

/// The text of a file, decompressed.
pub(crate) struct Text {
    source: Box<dyn Read + Send>,
    compressed: bool,
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Text").field("compressed", &self.compressed).finish_non_exhaustive()
    }
}

struct Counted {
    file: File,
    progress: Progress,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.progress.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Text {
    /// Opens a file, decompressed as its name says.
    pub(crate) fn open(path: &Path, progress: &Progress) -> Result<Self, FilesError> {
        let (file, _) = open_file(path)?;
        let counted = Counted { file, progress: progress.clone() };
        let compression = Compression::of(path);
        let source: Box<dyn Read + Send> = match compression {
            Compression::None => Box::new(counted),
            Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, counted))),
            Compression::Zstd => {
                let reader = BufReader::with_capacity(1 << 16, counted);
                Box::new(
                    zstd::Decoder::with_buffer(reader).map_err(|e| FilesError::io("decompress", path, e))?,
                )
            }
        };
        Ok(Self { source, compressed: compression != Compression::None })
    }

    #[cfg(test)]
    pub(crate) fn of(text: &[u8]) -> Self {
        Self { source: Box::new(io::Cursor::new(text.to_vec())), compressed: false }
    }

    /// Reads some bytes; 0 at the end. `line` is where the reader stands.
    pub(crate) fn read(&mut self, buffer: &mut [u8], path: &Path, line: u64) -> Result<usize, FilesError> {
        loop {
            match self.source.read(buffer) {
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The operating system's own errors have a number; the rest is what the decompressor says.
                Err(e) if self.compressed && e.raw_os_error().is_none() => {
                    return Err(FilesError::Malformed {
                        place: Place::line(path, line),
                        reason: format!("the compressed file is damaged or cut off ({e})"),
                    });
                }
                Err(e) => return Err(FilesError::io("read", path, e)),
            }
        }
    }
}

/// A window onto a text that grows until it holds a whole record.
#[derive(Debug)]
pub(crate) struct Window {
    text: Text,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    at_end: bool,
}

/// Bytes of the longest record or line that is read.
pub(crate) const MOST_RECORD: usize = 256 << 20;
const FIRST_WINDOW: usize = 256 << 10;

impl Window {
    pub(crate) fn new(text: Text) -> Self {
        Self { text, buffer: vec![0; FIRST_WINDOW], start: 0, end: 0, at_end: false }
    }

    /// What is read and not yet taken.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether nothing follows after [`Self::rest`].
    pub(crate) fn at_end(&self) -> bool {
        self.at_end
    }

    /// Takes `n` bytes, which are returned.
    pub(crate) fn take(&mut self, n: usize) -> &[u8] {
        let from = self.start;
        self.start += n.min(self.end - self.start);
        &self.buffer[from..self.start]
    }

    /// Reads more behind [`Self::rest`].
    pub(crate) fn more(&mut self, path: &Path, line: u64) -> Result<(), FilesError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            if self.buffer.len() >= MOST_RECORD {
                return Err(FilesError::Malformed {
                    place: Place::line(path, line),
                    reason: format!(
                        "a record of more than {} MiB; is a quote not closed?",
                        MOST_RECORD >> 20
                    ),
                });
            }
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let n = self.text.read(&mut self.buffer[self.end..], path, line)?;
        self.end += n;
        self.at_end = n == 0;
        Ok(())
    }
}
