//! What an engine takes from outside besides its stores, so that crashes and time can be tested.

use keepfast_objects::{ObjectsError, Target, open_target};
use keepfast_vault::Environment;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::sync::Arc;

/// Where vaults are, what time it is, and which processes run.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Opens places for vaults.
    pub targets: Arc<dyn Targets>,
    /// Time, random bytes and parallelism of vaults.
    pub vault: Environment,
    /// Tells a dead process from one at work.
    pub processes: Arc<dyn Processes>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { targets: Arc::new(AnyTarget), vault: Environment::default(), processes: Arc::new(ThisMachine) }
    }
}

/// Opens places of objects.
pub trait Targets: Debug + Send + Sync {
    /// The place at a location: a folder or a URL. Nothing is read or written yet.
    ///
    /// # Errors
    /// [`ObjectsError::Location`] for one that cannot be used.
    fn open(&self, location: &str) -> Result<Target, ObjectsError>;
}

/// Folders and buckets as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyTarget;

impl Targets for AnyTarget {
    fn open(&self, location: &str) -> Result<Target, ObjectsError> {
        open_target(location)
    }
}

/// A process, as what it leaves behind names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// One start of one machine.
    pub host: String,
    /// Its number there.
    pub process: u32,
}

/// Knows which processes run.
pub trait Processes: Debug + Send + Sync {
    /// The process that runs now.
    fn this(&self) -> ProcessId;

    /// Whether a process may still run. One of another machine may, for all we know.
    fn may_run(&self, process: &ProcessId) -> bool;
}

/// The processes of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisMachine;

impl Processes for ThisMachine {
    fn this(&self) -> ProcessId {
        let host = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| "unknown".into(), |s| s.trim().to_owned());
        ProcessId { host, process: std::process::id() }
    }

    fn may_run(&self, process: &ProcessId) -> bool {
        let this = self.this();
        process.host != this.host
            || process.process == this.process
            || std::path::Path::new(&format!("/proc/{}", process.process)).exists()
    }
}
