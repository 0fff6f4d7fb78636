//! A target's locks and versions, by the names that everything above uses.

use crate::error::ObjectsError;
use crate::immutability::{Immutability, Locking, ObjectVersion};
use crate::target::Target;
use bytes::Bytes;
use jiff::Timestamp;
use keepfast_model::LockMode;
use std::sync::Arc;

impl Target {
    /// What locks objects here; none where this kind of place cannot.
    pub fn immutability(&self) -> Option<&Arc<dyn Immutability>> {
        self.immutability.as_ref()
    }

    /// What the place says of its locks; none where it has none, or where they are not switched on.
    ///
    /// # Errors
    /// [`ObjectsError::Denied`] where we may not ask; any other when it cannot be reached.
    pub async fn locking(&self) -> Result<Option<Locking>, ObjectsError> {
        match &self.immutability {
            None => Ok(None),
            Some(locks) => {
                locks.locking().await.map_err(|e| ObjectsError::of("ask for the locks of", self.url(), e))
            }
        }
    }

    /// Locks an object until a time at least, in this mode or a firmer one. No lock is ever shortened or made weaker: one
    /// that is firmer and ends earlier is extended in its own mode.
    ///
    /// # Errors
    /// [`ObjectsError::Unsupported`] where nothing can be locked; [`ObjectsError::NotFound`] and any other.
    pub async fn lock(&self, name: &str, mode: LockMode, until: Timestamp) -> Result<(), ObjectsError> {
        let locks = self.locks()?;
        let path = self.path(name)?;
        let Err(refused) = locks.lock(&path, mode, until).await else { return Ok(()) };
        // A place refuses to shorten a lock, and to change its mode; a rival may have locked it meanwhile.
        let done = match locks.locked(&path).await {
            Ok(Some((has, end))) if has.is_as_firm_as(mode) && end >= until => Ok(()),
            Ok(Some((LockMode::Governance, end))) if mode == LockMode::Compliance => {
                locks.harden(&path, end.max(until)).await
            }
            Ok(Some((LockMode::Compliance, _))) if mode == LockMode::Governance => {
                locks.lock(&path, LockMode::Compliance, until).await
            }
            _ => Err(refused),
        };
        done.map_err(|e| self.error("lock", name, e))
    }

    /// How an object is locked; none where it is not.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub async fn locked(&self, name: &str) -> Result<Option<(LockMode, Timestamp)>, ObjectsError> {
        self.locks()?.locked(&self.path(name)?).await.map_err(|e| self.error("ask for the lock of", name, e))
    }

    /// Versions of the objects whose names start with `prefix` (`""` for all), by their names, newest first; nothing
    /// where the place keeps none.
    ///
    /// # Errors
    /// When the place refuses or cannot be reached.
    pub async fn versions(&self, prefix: &str) -> Result<Vec<(String, ObjectVersion)>, ObjectsError> {
        let Some(locks) = &self.immutability else { return Ok(vec![]) };
        let skip = match self.prefix.as_ref() {
            "" => 0,
            own => own.len() + 1,
        };
        let mut full = self.prefix.to_string();
        if skip > 0 {
            full.push('/');
        }
        full.push_str(prefix);
        let found = locks.versions(&full).await.map_err(|e| self.error("list versions of", prefix, e))?;
        Ok(found
            .into_iter()
            .map(|v| (v.path.as_ref().get(skip..).unwrap_or_default().to_owned(), v))
            .collect())
    }

    /// The bytes of one version of an object.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_version(&self, name: &str, version: &str) -> Result<Bytes, ObjectsError> {
        let path = self.path(name)?;
        self.locks()?.read_version(&path, version).await.map_err(|e| self.error("read", name, e))
    }

    fn locks(&self) -> Result<&Arc<dyn Immutability>, ObjectsError> {
        self.immutability.as_ref().ok_or_else(|| ObjectsError::Unsupported {
            what: "lock objects in",
            path: self.url().to_owned(),
            reason: "only S3 with object lock is known to do it".into(),
        })
    }
}
