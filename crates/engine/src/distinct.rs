//! Whether keys of all shards are distinct, by their hashes: with little memory, and without reading what was written.

use crate::error::EngineError;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Hashes are told apart by their first bits, so that each bucket is looked through alone.
const BITS: u32 = 8;
/// Hashes of a bucket that stay in memory: 64 MiB of all buckets.
const HELD: usize = 32_768;

/// Hashes of the keys of one table, from all of its shards.
#[derive(Debug)]
pub(crate) struct Distinct {
    all: Mutex<All>,
}

#[derive(Debug)]
struct All {
    buckets: Vec<Bucket>,
    count: u64,
}

#[derive(Debug, Default)]
struct Bucket {
    held: Vec<u64>,
    /// A file without a name.
    file: Option<File>,
}

/// The error of a file for them.
pub(crate) fn failed(source: io::Error) -> EngineError {
    EngineError::State {
        what: "write or read hashes of keys in the folder for temporary files",
        path: std::env::temp_dir().display().to_string(),
        source,
    }
}

impl Distinct {
    pub fn new() -> Self {
        let buckets = (0..1 << BITS).map(|_| Bucket::default()).collect();
        Self { all: Mutex::new(All { buckets, count: 0 }) }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds hashes of keys.
    pub fn add(&self, hashes: &[u64]) -> io::Result<()> {
        let mut all = self.all();
        all.count += hashes.len() as u64;
        for hash in hashes {
            let bucket = &mut all.buckets[(hash >> (u64::BITS - BITS)) as usize];
            bucket.held.push(*hash);
            if bucket.held.len() == HELD {
                bucket.put_down()?;
            }
        }
        Ok(())
    }

    /// Whether these were the keys of so many rows, all of them different. Equal hashes may be of different keys: rarely, false
    /// says only that nobody knows.
    pub fn proves(&self, rows: u64) -> io::Result<bool> {
        let mut all = self.all();
        if all.count != rows {
            return Ok(false);
        }
        for bucket in &mut all.buckets {
            let mut hashes = bucket.take()?;
            hashes.sort_unstable();
            if hashes.windows(2).any(|pair| pair[0] == pair[1]) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Bucket {
    fn put_down(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        let bytes: Vec<u8> = self.held.drain(..).flat_map(u64::to_le_bytes).collect();
        file.write_all(&bytes)
    }

    fn take(&mut self) -> io::Result<Vec<u64>> {
        let mut hashes = std::mem::take(&mut self.held);
        if let Some(mut file) = self.file.take() {
            let mut bytes = vec![];
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
            hashes.extend(bytes.as_chunks().0.iter().map(|hash| u64::from_le_bytes(*hash)));
        }
        Ok(hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_noticed_among_many() {
        let hashes: Vec<u64> = (0..10_000_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let of = |more: &[u64]| {
            let all = Distinct::new();
            hashes.chunks(8192).for_each(|some| all.add(some).unwrap());
            all.add(more).unwrap();
            all
        };
        assert!(of(&[]).proves(10_000_000).unwrap());
        assert!(!of(&[]).proves(10_000_001).unwrap());
        assert!(!of(&[hashes[7]]).proves(10_000_001).unwrap());
        assert!(!of(&[hashes[9_999_999]]).proves(10_000_001).unwrap());
    }
}
