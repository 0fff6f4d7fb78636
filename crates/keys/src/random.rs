//! Where random bytes come from.

use crate::{KeyError, Result};
use std::fmt::Debug;
use std::io;

/// Gives random bytes that nobody can guess.
pub trait Random: Debug + Send + Sync {
    /// Fills the buffer.
    ///
    /// # Errors
    /// When the system has none.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()>;
}

/// The system's random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        getrandom::fill(buffer).map_err(io::Error::other)
    }
}

pub(crate) fn fill(random: &dyn Random, buffer: &mut [u8]) -> Result<()> {
    random.fill(buffer).map_err(|source| KeyError::Random { source })
}

pub(crate) fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(random, &mut bytes)?;
    Ok(bytes)
}
