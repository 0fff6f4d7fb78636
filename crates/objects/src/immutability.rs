//! Objects that nobody may remove for a while, where a place can promise that.
//!
//! A capability: it is asked for and never guessed from an address. Where it exists the place keeps versions, so that a
//! delete only hides an object and a second put only covers it: the first version of a name stays and can be read.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use keepfast_model::LockMode;
use object_store::path::Path;
use std::fmt;

/// What a place with locks says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locking {
    /// How it locks every new object by itself, such as `compliance for 30 days`; none where it does not.
    pub default: Option<String>,
}

/// One version of an object, or the mark of its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The object.
    pub path: Path,
    /// The place's id of this version.
    pub id: String,
    /// Whether it is what a reader without a version gets.
    pub latest: bool,
    /// Whether it only says that the object was deleted.
    pub deletion: bool,
    /// Its size; 0 for a deletion.
    pub bytes: u64,
    /// When it was written, by the place's clock.
    pub modified: Timestamp,
}

/// Locks on objects, and their versions.
///
/// All calls may be repeated. They name objects by their path in the store, not in a target.
#[async_trait]
pub trait Immutability: fmt::Debug + Send + Sync {
    /// What the place says of itself; none where locks are not switched on.
    ///
    /// # Errors
    /// When the place refuses to say or cannot be reached.
    async fn locking(&self) -> object_store::Result<Option<Locking>>;

    /// Locks the newest version of an object until a time. One that has a lock already may be refused, unless that is of
    /// the same mode and ends earlier.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, or when the place cannot be reached.
    async fn lock(&self, path: &Path, mode: LockMode, until: Timestamp) -> object_store::Result<()>;

    /// Turns a lock of governance into one of compliance until a time, which must not be before that lock's end. The place
    /// may ask for the right to end locks of governance.
    ///
    /// # Errors
    /// As [`Self::lock`].
    async fn harden(&self, path: &Path, until: Timestamp) -> object_store::Result<()>;

    /// How the newest version of an object is locked; none where it is not.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, or when the place cannot be reached.
    async fn locked(&self, path: &Path) -> object_store::Result<Option<(LockMode, Timestamp)>>;

    /// All versions of all objects whose path starts with this text, newest first for each object.
    ///
    /// # Errors
    /// `PermissionDenied`, or when the place cannot be reached.
    async fn versions(&self, prefix: &str) -> object_store::Result<Vec<ObjectVersion>>;

    /// The bytes of one version.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, or when the place cannot be reached.
    async fn read_version(&self, path: &Path, version: &str) -> object_store::Result<Bytes>;
}
