//! Locks and versions of a place as a process sees them: every request is an operation.

use super::store::Faulty;
use super::trace::Kind;
use super::{Begun, Fault, Request, ended, lost};
use crate::immutability::{Immutability, Locking, ObjectVersion};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use keepfast_model::LockMode;
use object_store::path::Path;
use object_store::{Error, Result};
use std::sync::Arc;

impl Faulty {
    fn locks(&self) -> Result<&Arc<dyn Immutability>> {
        let none = || Error::NotSupported { source: "this place locks nothing".into() };
        self.immutability.as_ref().ok_or_else(none)
    }
}

#[async_trait]
impl Immutability for Faulty {
    async fn locking(&self) -> Result<Option<Locking>> {
        self.begin(Kind::Head, "", 0).await?;
        self.locks()?.locking().await
    }

    async fn lock(&self, path: &Path, mode: LockMode, until: Timestamp) -> Result<()> {
        let locks = self.locks()?;
        let Begun { number, fault } = self.begin(Kind::Lock, path.as_ref(), 0).await?;
        match fault {
            Some(Fault::DiesAfter) => {
                let _ = locks.lock(path, mode, until).await;
                self.process.end();
                Err(ended())
            }
            Some(Fault::LosesAnswer) => {
                let _ = locks.lock(path, mode, until).await;
                Err(lost())
            }
            Some(Fault::LosesAnswerAndRetries) => {
                let _ = locks.lock(path, mode, until).await;
                locks.lock(path, mode, until).await
            }
            Some(Fault::Late { by }) => {
                self.later(number, by, Request::Lock(locks.clone(), path.clone(), mode, until));
                Err(lost())
            }
            _ => locks.lock(path, mode, until).await,
        }
    }

    async fn harden(&self, path: &Path, until: Timestamp) -> Result<()> {
        self.begin(Kind::Lock, path.as_ref(), 0).await?;
        self.locks()?.harden(path, until).await
    }

    async fn locked(&self, path: &Path) -> Result<Option<(LockMode, Timestamp)>> {
        self.begin(Kind::Head, path.as_ref(), 0).await?;
        self.locks()?.locked(path).await
    }

    async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>> {
        self.begin(Kind::List, prefix, 0).await?;
        self.locks()?.versions(prefix).await
    }

    async fn read_version(&self, path: &Path, version: &str) -> Result<Bytes> {
        self.begin(Kind::Get, path.as_ref(), 0).await?;
        self.locks()?.read_version(path, version).await
    }
}
