//! Reading that makes room: it pauses while a server is busy with others, or while its replication lags.

use crate::connection::Connection;
use crate::error::failed;
use crate::pool::Pool;
use crate::store::Server;
use crate::wire::WireError;
use keepfast_store::Result;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often a server is asked.
const EVERY: Duration = Duration::from_millis(500);
/// The longest pause before a batch: a server that is always busy is read slowly, not never.
const PAUSE: Duration = Duration::from_secs(20);

/// When reading pauses. None means never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// While more threads than these run on the server, those of this store not counted.
    pub threads_running: Option<u64>,
    /// While its replication lags by more than this. A replica that lags more at the beginning is not read.
    pub replica_lag: Option<Duration>,
}

/// Watches one server for all who read it.
#[derive(Debug)]
pub(crate) struct Watch {
    busy: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to ask a server; none where there are no limits.
    pub async fn start(server: &Server, limits: Limits, pool: Arc<Pool>) -> Result<Option<Arc<Self>>> {
        if limits == Limits::default() {
            return Ok(None);
        }
        let mut connection = server.connect().await?;
        let address = server.address.to_string();
        // Who may not ask is told now.
        let first = is_busy(&mut connection, limits, &pool).await;
        let first = first.map_err(|e| failed("ask how busy it is", &server.address, e))?;
        let (tell, busy) = watch::channel(first);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                match is_busy(&mut connection, limits, &pool).await {
                    Ok(busy) => {
                        tell.send_if_modified(|known| std::mem::replace(known, busy) != busy);
                    }
                    Err(e) => {
                        tracing::warn!(
                            server = address,
                            "it no longer says how busy it is, and is read without pauses: {e}"
                        );
                        // Nobody waits for an answer that does not come.
                        let _ = tell.send(false);
                        return;
                    }
                }
            }
        });
        Ok(Some(Arc::new(Self { busy, task })))
    }

    /// Returns when the server is not busy, or has been for so long that reading goes on all the same.
    pub async fn free(&self) {
        let mut busy = self.busy.clone();
        let _ = tokio::time::timeout(PAUSE, busy.wait_for(|busy| !busy)).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn is_busy(connection: &mut Connection, limits: Limits, pool: &Pool) -> Result<bool, WireError> {
    if let Some(most) = limits.threads_running {
        let rows = connection.rows("SHOW GLOBAL STATUS LIKE 'Threads_running'").await?;
        let text = rows.first().and_then(|row| row.get(1)?.as_deref()).unwrap_or_default();
        let running: u64 = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
        // Those that wait for us to read on run too, and so does the one that asks.
        if running.saturating_sub(pool.at_work() as u64 + 1) > most {
            return Ok(true);
        }
    }
    match limits.replica_lag {
        // A server without replication does not lag.
        Some(most) => Ok(replication(connection).await?.is_some_and(|r| r.lag.is_none_or(|lag| lag > most))),
        None => Ok(false),
    }
}

/// How a server replicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replication {
    /// The number of the server that it follows.
    pub source: Option<u64>,
    /// How far it is behind, in whole seconds; none where it has stopped.
    pub lag: Option<Duration>,
}

/// How a server replicates; none where it follows nobody.
pub(crate) async fn replication(connection: &mut Connection) -> Result<Option<Replication>, WireError> {
    let (heads, rows) = connection.table("SHOW REPLICA STATUS").await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let number = |names: [&str; 2]| -> Option<u64> {
        let at = heads.iter().position(|head| names.contains(&head.as_str()))?;
        std::str::from_utf8(row.get(at)?.as_deref()?).ok()?.parse().ok()
    };
    Ok(Some(Replication {
        source: number(["Source_Server_Id", "Master_Server_Id"]),
        lag: number(["Seconds_Behind_Source", "Seconds_Behind_Master"]).map(Duration::from_secs),
    }))
}
