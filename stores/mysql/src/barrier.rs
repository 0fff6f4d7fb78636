//! The short time in which no server commits, and what is opened in it.
//!
//! Sessions are connected before it, so that under it only snapshots begin and positions are read. The lock has a time limit: a
//! long statement of somebody else makes the barrier fail and never makes everybody wait behind it.

use crate::binlog::dump::Place;
use crate::binlog::event::Xid;
use crate::binlog::server;
use crate::connection::Connection;
use crate::error::failed;
use crate::pool;
use crate::store::{Server as Endpoint, Shared};
use crate::wire::WireError;
use futures::future::{join_all, try_join_all};
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
    /// Where its binary log stood; none where it has none.
    pub position: Option<Place>,
    /// Whether it logs some databases only.
    pub filtered: bool,
    /// Where its log stood shortly before.
    pub before: Option<Place>,
    /// XA branches that were prepared and not decided. Asked of several servers only; none where the account may not know.
    pub in_doubt: Option<Vec<Xid>>,
}

/// What was seen of a server behind the barrier.
struct Seen {
    sessions: Vec<Connection>,
    position: Option<(Place, bool)>,
    in_doubt: Option<Vec<Xid>>,
}

/// Opens snapshots on these servers while none of them commits.
pub(crate) async fn hold(shared: &Shared, servers: &[usize]) -> Result<Held> {
    let mut ready = vec![];
    for at in servers {
        let server = &shared.servers[*at];
        let sessions = sessions(shared, server).await?;
        let mut control = server.connect().await?;
        let before = server::position(&mut control).await;
        let before = before.map_err(|e| failed("read where its binary log stands", &server.address, e))?;
        ready.push((*at, control, sessions, before.map(|(place, _)| place)));
    }
    let several = servers.len() > 1;
    for attempt in 1.. {
        let started = Instant::now();
        // All answers are waited for: a session that is left in the middle of an exchange would take the next answer for another one.
        let locked = join_all(
            ready.iter_mut().map(|(at, control, ..)| async { lock(control).await.map_err(|e| (*at, e)) }),
        );
        match locked.await.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(_) => {
                // Dropping the control connections gives the locks back also where something fails here.
                let opened =
                    try_join_all(ready.into_iter().map(|(at, control, sessions, before)| async move {
                        let seen = under(control, sessions, several).await.map_err(|e| (at, e))?;
                        let (position, filtered) = seen.position.unzip();
                        Ok(Server {
                            server: at,
                            sessions: seen.sessions,
                            position,
                            filtered: filtered.unwrap_or_default(),
                            before,
                            in_doubt: seen.in_doubt,
                        })
                    }));
                let servers = opened.await.map_err(|(at, e): (usize, WireError)| {
                    failed("begin a snapshot", &shared.servers[at].address, e)
                })?;
                return Ok(Held { servers, barrier: started.elapsed() });
            }
            Err((at, e)) => {
                for (_, control, ..) in &mut ready {
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

/// Opens snapshots of a server whose tables nobody else writes to, without a lock.
pub(crate) async fn private(shared: &Shared, server: &Endpoint) -> Result<Vec<Connection>> {
    let mut sessions = sessions(shared, server).await?;
    let begun = async {
        begin(&mut sessions).await?;
        marked(&mut sessions).await
    };
    begun.await.map_err(|e| failed("begin a snapshot", &server.address, e))?;
    Ok(sessions)
}

/// Connects sessions whose snapshots are still to begin.
pub(crate) async fn sessions(shared: &Shared, server: &Endpoint) -> Result<Vec<Connection>> {
    let mut sessions = vec![];
    for _ in 0..shared.sessions {
        let mut session = server.connect().await?;
        let level = session.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await;
        level.map_err(|e| failed("begin a snapshot", &server.address, e))?;
        // Only sessions that log nothing give the locks of tables back in MariaDB. Accounts that may not say so keep them.
        let _ = session.run("SET SESSION sql_log_bin = 0").await;
        sessions.push(session);
    }
    Ok(sessions)
}

pub(crate) async fn begin(sessions: &mut [Connection]) -> Result<(), WireError> {
    let begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
    try_join_all(sessions.iter_mut().map(|session| session.run(begin))).await?;
    Ok(())
}

pub(crate) async fn marked(sessions: &mut [Connection]) -> Result<(), WireError> {
    try_join_all(sessions.iter_mut().map(|session| session.run(pool::MARK))).await?;
    Ok(())
}

async fn lock(control: &mut Connection) -> Result<(), WireError> {
    control.run(&format!("SET SESSION lock_wait_timeout = {WAIT}")).await?;
    control.run("FLUSH TABLES WITH READ LOCK").await.map(drop)
}

/// Begins the snapshots of one server, reads its position, and gives its lock back.
async fn under(
    mut control: Connection,
    mut sessions: Vec<Connection>,
    several: bool,
) -> Result<Seen, WireError> {
    begin(&mut sessions).await?;
    let position = server::position(&mut control).await?;
    let in_doubt = match several {
        false => None,
        true => match server::in_doubt(&mut control).await {
            Ok(branches) => Some(branches),
            // MySQL tells them to accounts with XA_RECOVER_ADMIN only.
            Err(e) if matches!(e.code(), Some(1227 | 1401)) => None,
            Err(e) => return Err(e),
        },
    };
    control.run("UNLOCK TABLES").await?;
    marked(&mut sessions).await?;
    Ok(Seen { sessions, position, in_doubt })
}
