//! Sealed streams, for files that are written once and read in order: what does not fit into memory.
//!
//! ```text
//! pieces, each: length (u32, little-endian) ‖ sealed bytes, whose context is the piece's number
//! ```
//!
//! Invariant: a reader that is told how many pieces there are gives exactly what was written, or an error.

use crate::random::Random;
use crate::sealed::{OVERHEAD, open, seal};
use crate::secret::SecretKey;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a piece at most.
const PIECE: usize = 256 << 10;

fn context(number: u64) -> Vec<u8> {
    [b"keepfast stream 1\0".as_slice(), &number.to_le_bytes()].concat()
}

/// Seals what is written to it. Give each stream a key of its own.
pub struct SealedWriter<W> {
    out: W,
    key: SecretKey,
    random: Arc<dyn Random>,
    piece: Vec<u8>,
    pieces: u64,
}

impl<W: Write> SealedWriter<W> {
    /// A stream from its first byte.
    pub fn new(out: W, key: SecretKey, random: Arc<dyn Random>) -> Self {
        Self { out, key, random, piece: Vec::with_capacity(PIECE), pieces: 0 }
    }

    /// The pieces written so far; after a flush, all that was written stands in them.
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// Its key.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    fn end_piece(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let sealed = seal(&self.key, &context(self.pieces), &self.piece, self.random.as_ref())
            .map_err(io::Error::other)?;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&sealed)?;
        self.piece.zeroize();
        self.pieces += 1;
        Ok(())
    }
}

impl<W: Write> Write for SealedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.end_piece()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.end_piece()?;
        self.out.flush()
    }
}

impl<W> fmt::Debug for SealedWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedWriter({} pieces, …)", self.pieces)
    }
}

/// Reads what a [`SealedWriter`] wrote.
pub struct SealedReader<R> {
    from: R,
    key: SecretKey,
    pieces: u64,
    next: u64,
    piece: Zeroizing<Vec<u8>>,
    at: usize,
}

impl<R: Read> SealedReader<R> {
    /// A stream of so many pieces.
    pub fn new(from: R, key: SecretKey, pieces: u64) -> Self {
        Self { from, key, pieces, next: 0, piece: Zeroizing::default(), at: 0 }
    }

    fn next_piece(&mut self) -> io::Result<()> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let mut length = [0; 4];
        self.from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if !(OVERHEAD..=PIECE + OVERHEAD).contains(&length) {
            return Err(invalid("a piece of a sealed stream has no possible length".into()));
        }
        let mut sealed = vec![0; length];
        self.from.read_exact(&mut sealed)?;
        self.piece = open(&self.key, &context(self.next), &sealed).map_err(|e| invalid(e.to_string()))?;
        self.at = 0;
        self.next += 1;
        Ok(())
    }
}

impl<R: Read> Read for SealedReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            if self.next == self.pieces {
                return Ok(0);
            }
            self.next_piece()?;
        }
        let taken = into.len().min(self.piece.len() - self.at);
        into[..taken].copy_from_slice(&self.piece[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

impl<R> fmt::Debug for SealedReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedReader({} of {} pieces, …)", self.next, self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn written(key: &SecretKey, parts: &[&[u8]]) -> (Vec<u8>, u64) {
        let mut writer = SealedWriter::new(vec![], key.clone(), Arc::new(SystemRandom));
        for part in parts {
            writer.write_all(part).unwrap();
            writer.flush().unwrap();
        }
        let pieces = writer.pieces();
        (writer.out, pieces)
    }

    fn read(key: &SecretKey, bytes: &[u8], pieces: u64) -> io::Result<Vec<u8>> {
        let mut all = vec![];
        SealedReader::new(bytes, key.clone(), pieces).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn what_was_written_is_read_and_every_change_is_found() {
        let key = SecretKey::random(&SystemRandom).unwrap();
        let large: Vec<u8> = (0..PIECE * 2 + 5).map(|i| (i % 251) as u8).collect();
        let (bytes, pieces) = written(&key, &[&large, b"", b"end"]);
        assert_eq!(pieces, 4);
        assert_eq!(read(&key, &bytes, pieces).unwrap(), [large.as_slice(), b"end"].concat());

        let (bytes, pieces) = written(&key, &[b"planted", b"words"]);
        assert!(!bytes.windows(7).any(|w| w == b"planted"));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read(&key, &changed, pieces).is_err(), "byte {at}");
            assert!(read(&key, &bytes[..at], pieces).is_err(), "cut at {at}");
        }
        let half = bytes.len() - b"words".len() - OVERHEAD - 4;
        let swapped = [&bytes[half..], &bytes[..half]].concat();
        assert!(read(&key, &swapped, pieces).is_err());
        assert!(read(&key.derive("other"), &bytes, pieces).is_err());
    }
}
