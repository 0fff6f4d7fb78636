//! What a prune is asked for.

use jiff::SignedDuration;
use keepfast_model::{BackupName, RetentionPolicy};
use std::time::Duration;

/// How long condemned objects stay where nothing else is said: readers that take no hold have so long to end.
pub const DEFAULT_GRACE: SignedDuration = SignedDuration::from_hours(24);

/// Which points of which backup stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The backup.
    pub backup: BackupName,
    /// What it keeps.
    pub policy: RetentionPolicy,
}

/// What a prune is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneOptions {
    /// Points that go; none removes no point.
    pub retention: Option<Retention>,
    /// Condemned objects stay so long. It covers readers without a hold, and clocks that differ.
    pub grace: SignedDuration,
    /// An object that no point names is an orphan when it was written longer ago than this, and before every run began
    /// that is still at work.
    pub orphan_age: Duration,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { retention: None, grace: DEFAULT_GRACE, orphan_age: Duration::from_secs(24 * 3600) }
    }
}

impl PruneOptions {
    /// Thins out one backup.
    pub fn of(backup: BackupName, policy: RetentionPolicy) -> Self {
        Self { retention: Some(Retention { backup, policy }), ..Self::default() }
    }
}
