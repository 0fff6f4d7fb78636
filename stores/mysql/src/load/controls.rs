//! Connections that hold a load's lock, so that of several processes one changes its tables.

use crate::connection::Connection;
use crate::error::failed;
use crate::names::text;
use crate::store::Shared;
use crate::wire::WireError;
use keepfast_store::{Result, StoreError};
use std::sync::Arc;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

/// Seconds that a process waits for one that is gone: a server notices it late when it is waiting itself.
pub(super) const PATIENCE: u32 = 30;

/// One connection to each server, made when it is needed and again when it broke.
#[derive(Debug)]
pub(super) struct Controls {
    pub shared: Arc<Shared>,
    lock: String,
    slots: Vec<Mutex<Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    locked: bool,
}

impl Controls {
    pub fn new(shared: Arc<Shared>, run: &str) -> Self {
        let slots = shared.servers.iter().map(|_| Mutex::default()).collect();
        Self { shared, lock: format!("keepfast {run}"), slots }
    }

    /// Connections of another lock that belongs to this one.
    pub fn another(&self, what: &str) -> Self {
        let slots = self.slots.iter().map(|_| Mutex::default()).collect();
        Self { shared: self.shared.clone(), lock: format!("{} {what}", self.lock), slots }
    }

    /// For what changes nothing that another process could change too.
    pub async fn plain(&self, server: usize) -> Result<MappedMutexGuard<'_, Connection>> {
        self.get(server, None).await
    }

    /// For changes: waits so many seconds for the load's lock, and holds it from then on.
    pub async fn locked(&self, server: usize, seconds: u32) -> Result<MappedMutexGuard<'_, Connection>> {
        self.get(server, Some(seconds)).await
    }

    async fn get(&self, server: usize, lock: Option<u32>) -> Result<MappedMutexGuard<'_, Connection>> {
        let mut slot = self.slots[server].lock().await;
        let Slot { connection, locked } = &mut *slot;
        // An idle connection may have been closed by the server, which has given its lock to somebody else then.
        let alive = match connection.as_mut().filter(|c| c.is_idle()) {
            Some(connection) => connection.run("DO 0").await.is_ok(),
            None => false,
        };
        if !alive {
            *connection = None;
            *locked = false;
            *connection = Some(self.shared.servers[server].connect_to_write().await?);
        }
        if let (Some(seconds), false, Some(connection)) = (lock, *locked, connection.as_mut()) {
            let sql = format!("SELECT GET_LOCK({}, {seconds})", text(&self.lock));
            let had =
                connection.rows(&sql).await.map_err(|e| self.failed("take the load's lock", server, e))?;
            if had.first().and_then(|row| row.first()?.as_deref()) != Some(b"1") {
                return Err(StoreError::Conflict {
                    table: self.lock.clone(),
                    reason: "another process is at work on this load".into(),
                });
            }
            *locked = true;
        }
        Ok(MutexGuard::map(slot, |slot| slot.connection.as_mut().expect("it was connected above")))
    }

    /// Gives all locks back.
    pub async fn let_go(&self) {
        for slot in &self.slots {
            let mut slot = slot.lock().await;
            let Slot { connection, locked } = &mut *slot;
            if let (true, Some(connection)) = (*locked, connection.as_mut()) {
                // A connection that broke has none any more.
                let _ = connection.rows(&format!("SELECT RELEASE_LOCK({})", text(&self.lock))).await;
            }
            *locked = false;
        }
    }

    pub fn failed(&self, what: &str, server: usize, error: WireError) -> StoreError {
        failed(what, &self.shared.servers[server].address, error)
    }
}
