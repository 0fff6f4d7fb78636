//! The short time in which no server commits, and what is opened in it.
//!
//! Sessions are connected before it, so that under it only snapshots begin and positions are read. The lock has a time limit: a
//! long statement of somebody else makes the barrier fail and never makes everybody wait behind it.

use crate::connection::Connection;
use crate::error::failed;
use crate::pool;
use crate::store::Shared;
use crate::wire::WireError;
use futures::future::try_join_all;
use keepfast_store::{Result, StoreError};
use std::time::{Duration, Instant};

/// Seconds that the lock may wait for statements under way. Others wait behind it as long.
const WAIT: u64 = 2;
/// Attempts, and the pause between them.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// The server's number for a lock that was not had in time.
const LOCK_WAIT: u16 = 1205;

/// What was opened under the barrier.
#[derive(Debug)]
pub(crate) struct Held {
    pub servers: Vec<Server>,
    /// How long no server could commit.
    pub barrier: Duration,
}

/// Sessions of a server that see its moment.
#[derive(Debug)]
pub(crate) struct Server {
    pub server: usize,
    pub sessions: Vec<Connection>,
    /// File and offset of its binary log; none where it has none.
    pub position: Option<(String, u64)>,
}

/// Opens snapshots on these servers while none of them commits.
pub(crate) async fn hold(shared: &Shared, servers: &[usize]) -> Result<Held> {
    let mut ready = vec![];
    for at in servers {
        let server = &shared.servers[*at];
        let mut sessions = vec![];
        for _ in 0..shared.sessions {
            let mut session = server.connect().await?;
            let level = session.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await;
            level.map_err(|e| failed("begin a snapshot", &server.address, e))?;
            // Only sessions that log nothing give the locks of tables back in MariaDB. Accounts that may not say so keep them.
            let _ = session.run("SET SESSION sql_log_bin = 0").await;
            sessions.push(session);
        }
        ready.push((*at, server.connect().await?, sessions));
    }
    for attempt in 1.. {
        let started = Instant::now();
        let locked = try_join_all(
            ready.iter_mut().map(|(at, control, _)| async { lock(control).await.map_err(|e| (*at, e)) }),
        );
        match locked.await {
            Ok(_) => {
                // Dropping the control connections gives the locks back also where something fails here.
                let opened = try_join_all(ready.into_iter().map(|(at, control, sessions)| async move {
                    under(control, sessions).await.map_err(|e| (at, e)).map(|(sessions, position)| Server {
                        server: at,
                        sessions,
                        position,
                    })
                }));
                let servers = opened
                    .await
                    .map_err(|(at, e)| failed("begin a snapshot", &shared.servers[at].address, e))?;
                return Ok(Held { servers, barrier: started.elapsed() });
            }
            Err((at, e)) => {
                for (_, control, _) in &mut ready {
                    // One that did not get its lock has none to give back.
                    let _ = control.run("UNLOCK TABLES").await;
                }
                let server = &shared.servers[at];
                if e.code() != Some(LOCK_WAIT) || attempt >= ATTEMPTS {
                    return Err(match e.code() {
                        Some(LOCK_WAIT) => StoreError::Unavailable {
                            what: format!("lock all tables within {WAIT} s, {attempt} times"),
                            object: server.address.to_string(),
                            source:
                                "a statement that runs for long holds them; nobody was kept waiting longer"
                                    .into(),
                        },
                        _ => failed("lock all tables", &server.address, e),
                    });
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    unreachable!("the last attempt returns")
}

async fn lock(control: &mut Connection) -> Result<(), WireError> {
    control.run(&format!("SET SESSION lock_wait_timeout = {WAIT}")).await?;
    control.run("FLUSH TABLES WITH READ LOCK").await.map(drop)
}

type Opened = (Vec<Connection>, Option<(String, u64)>);

/// Begins the snapshots of one server, reads its position, and gives its lock back.
async fn under(mut control: Connection, mut sessions: Vec<Connection>) -> Result<Opened, WireError> {
    let begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
    try_join_all(sessions.iter_mut().map(|session| session.run(begin))).await?;
    let position = position(&mut control).await?;
    control.run("UNLOCK TABLES").await?;
    try_join_all(sessions.iter_mut().map(|session| session.run(pool::MARK))).await?;
    Ok((sessions, position))
}

/// Where the binary log stands. The statement has another name since MySQL 8.4.
async fn position(control: &mut Connection) -> Result<Option<(String, u64)>, WireError> {
    let rows = match control.rows("SHOW MASTER STATUS").await {
        Err(e) if e.code() == Some(1064) => control.rows("SHOW BINARY LOG STATUS").await?,
        other => other?,
    };
    let text = |at: usize| {
        rows.first().and_then(|row| row.get(at)?.as_deref()).and_then(|t| std::str::from_utf8(t).ok())
    };
    Ok(text(0).map(str::to_owned).zip(text(1).and_then(|offset| offset.parse().ok())))
}
