//! A clock and random bytes that repeat, for tests of whatever works with a vault.

use crate::environment::{Clock, Environment, Random};
use jiff::{SignedDuration, Timestamp};
use keepfast_keys::Cost;
use keepfast_model::Hash256;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A clock that is one second later at every look, and jumps when it is told to, also back.
#[derive(Debug)]
pub struct Ticking(pub AtomicI64);

impl Ticking {
    /// A clock that begins at this second since 1970.
    pub fn at(second: i64) -> Self {
        Self(AtomicI64::new(second))
    }

    /// So much time passes; less than none sets the clock back.
    pub fn pass(&self, time: SignedDuration) {
        self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let second = self.0.fetch_add(1, Ordering::SeqCst);
        Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
    }
}

/// A clock that is somewhere else within a span of time at every look, as the seed says.
#[derive(Debug)]
pub struct Jumping {
    /// The middle of the span, in seconds since 1970.
    pub around: i64,
    /// Seconds to either side of it.
    pub span: i64,
    looks: AtomicU64,
}

impl Jumping {
    /// A clock that jumps.
    pub fn new(seed: u64, around: i64, span: i64) -> Self {
        Self { around, span, looks: AtomicU64::new(seed << 32) }
    }
}

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        let mut number = [0; 8];
        number.copy_from_slice(&Hash256::of(&look.to_le_bytes()).0[..8]);
        let offset = i64::from_le_bytes(number).rem_euclid(2 * self.span + 1) - self.span;
        Timestamp::from_second(self.around + offset).unwrap_or(Timestamp::MAX)
    }
}

/// The same bytes for the same seed.
#[derive(Debug)]
pub struct Seeded(AtomicU64);

impl Seeded {
    /// Bytes for this seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed << 32))
    }
}

impl Random for Seeded {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        for piece in buffer.chunks_mut(32) {
            let n = self.0.fetch_add(1, Ordering::SeqCst);
            piece.copy_from_slice(&Hash256::of(&n.to_le_bytes()).0[..piece.len()]);
        }
        Ok(())
    }
}

/// This clock, and random bytes of this seed, four objects at once.
pub fn environment(clock: Arc<dyn Clock>, seed: u64) -> Environment {
    Environment {
        clock,
        random: Arc::new(Seeded::new(seed)),
        parallel: 4,
        passphrase_cost: Cost::TRIVIAL,
        ..Environment::default()
    }
}
