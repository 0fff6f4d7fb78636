//! What a vault takes from outside besides its target: the time, random bytes, and how much it does at once.

use crate::error::VaultError;
use jiff::Timestamp;
use keepfast_keys::{Cost, Credentials};
use std::fmt::Debug;
use std::sync::Arc;

pub use keepfast_keys::{Random, SystemRandom};

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What a vault takes from outside.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
    /// Objects read or written at once.
    pub parallel: usize,
    /// What opens the vault, where it is encrypted.
    pub credentials: Credentials,
    /// What hashing a new passphrase costs.
    pub passphrase_cost: Cost,
}

impl Default for Environment {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(4, usize::from);
        Self {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            parallel: cores.max(8),
            credentials: Credentials::none(),
            passphrase_cost: Cost::default(),
        }
    }
}

impl Environment {
    /// Random bytes.
    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], VaultError> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(|source| VaultError::Random { source })?;
        Ok(bytes)
    }

    /// A random id of 32 hex digits.
    pub(crate) fn random_id(&self) -> Result<String, VaultError> {
        Ok(self.random::<16>()?.iter().map(|b| format!("{b:02x}")).collect())
    }
}
