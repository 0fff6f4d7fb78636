//! Unnamed files in the system's temporary folder, which go with the process that made them, whatever ends it.
//!
//! `TMPDIR` chooses the folder. Of a store with keys they are sealed, each under a key that is nowhere but in memory.

use crate::Result;
use keepfast_keys::{Random, SealedReader, SealedWriter, SecretKey};
use keepfast_store::StoreError;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::sync::Arc;

const BUFFER: usize = 1 << 20;

/// How temporary files are made: sealed, with these random bytes, or plain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch(Option<Arc<dyn Random>>);

impl Scratch {
    /// Files that are sealed.
    pub fn sealed(random: Arc<dyn Random>) -> Self {
        Self(Some(random))
    }

    /// A new file.
    pub fn create(&self) -> Result<ScratchWriter> {
        let file = Arc::new(tempfile::tempfile().map_err(|e| failed("write", e))?);
        let to = file.clone();
        let out = match &self.0 {
            None => Out::Plain(BufWriter::with_capacity(BUFFER, to)),
            Some(random) => {
                let key = SecretKey::random(random.as_ref()).map_err(|e| failed("write", e))?;
                Out::Sealed(SealedWriter::new(to, key, random.clone()))
            }
        };
        Ok(ScratchWriter { file, out })
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct ScratchWriter {
    file: Arc<File>,
    out: Out,
}

#[derive(Debug)]
enum Out {
    Plain(BufWriter<Arc<File>>),
    Sealed(SealedWriter<Arc<File>>),
}

impl ScratchWriter {
    /// What was written up to the last flush, to be read as often as needed.
    pub fn so_far(&self) -> ScratchFile {
        let sealed = match &self.out {
            Out::Plain(_) => None,
            Out::Sealed(out) => Some((out.key().clone(), out.pieces())),
        };
        ScratchFile { file: self.file.clone(), sealed }
    }
}

impl Write for ScratchWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.out {
            Out::Plain(out) => out.write(bytes),
            Out::Sealed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.out {
            Out::Plain(out) => out.flush(),
            Out::Sealed(out) => out.flush(),
        }
    }
}

/// A file that was written.
#[derive(Clone, Debug)]
pub(crate) struct ScratchFile {
    file: Arc<File>,
    /// Its key and the number of its pieces.
    sealed: Option<(SecretKey, u64)>,
}

impl ScratchFile {
    /// Reads it from its beginning.
    pub fn read(&self) -> ScratchReader {
        let from = BufReader::with_capacity(BUFFER, Shelf { file: self.file.clone(), at: 0 });
        match &self.sealed {
            None => ScratchReader::Plain(from),
            Some((key, pieces)) => {
                ScratchReader::Sealed(BufReader::new(SealedReader::new(from, key.clone(), *pieces)))
            }
        }
    }
}

/// Reads a file in order.
#[derive(Debug)]
pub(crate) enum ScratchReader {
    Plain(BufReader<Shelf>),
    Sealed(BufReader<SealedReader<BufReader<Shelf>>>),
}

impl Read for ScratchReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(from) => from.read(into),
            Self::Sealed(from) => from.read(into),
        }
    }
}

/// A file that several readers read, each from its own place.
#[derive(Debug)]
pub(crate) struct Shelf {
    file: Arc<File>,
    at: u64,
}

impl Read for Shelf {
    #[cfg(unix)]
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let n = self.file.read_at(into, self.at)?;
        self.at += n as u64;
        Ok(n)
    }

    #[cfg(windows)]
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        use std::os::windows::fs::FileExt;
        let n = self.file.seek_read(into, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

pub(crate) fn failed(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable {
        what: what.into(),
        object: format!("a temporary file in {}", std::env::temp_dir().display()),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepfast_keys::SystemRandom;

    #[test]
    fn a_sealed_file_holds_no_word_that_was_written_and_gives_all_of_it_back() {
        for (scratch, plain) in [(Scratch::default(), true), (Scratch::sealed(Arc::new(SystemRandom)), false)]
        {
            let mut writer = scratch.create().unwrap();
            let mut written = vec![];
            for round in 0..3u32 {
                for i in 0..20_000u32 {
                    let line = format!("planted {round} {i}\n");
                    writer.write_all(line.as_bytes()).unwrap();
                    written.extend(line.into_bytes());
                }
                writer.flush().unwrap();
                let mut read = vec![];
                writer.so_far().read().read_to_end(&mut read).unwrap();
                assert_eq!(read, written);
            }
            let mut stored = vec![];
            Shelf { file: writer.file.clone(), at: 0 }.read_to_end(&mut stored).unwrap();
            assert_eq!(stored.windows(7).any(|w| w == b"planted"), plain);
        }
    }
}
