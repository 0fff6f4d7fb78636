//! The sessions of one server that see one moment.

use crate::connection::Connection;
use crate::wire::WireError;
use keepfast_store::StoreError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Marks the snapshot before anything was read in it, and goes back there: the snapshot stays, locks of tables do not.
pub(crate) const MARK: &str = "SAVEPOINT keepfast";
const BACK: &str = "ROLLBACK TO SAVEPOINT keepfast";

/// Sessions that wait for work.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    server: String,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    /// Sessions that live, at work or idle.
    alive: usize,
    closed: bool,
}

/// A session at work. One that was not [`Session::done`] is in the middle of an exchange, and is closed.
#[derive(Debug)]
pub(crate) struct Session {
    pool: Arc<Pool>,
    connection: Option<Connection>,
    done: bool,
}

impl Pool {
    pub fn new(server: String, idle: Vec<Connection>) -> Self {
        let alive = idle.len();
        Self { server, state: Mutex::new(State { idle, alive, closed: false }), freed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session, as soon as there is one.
    pub async fn take(self: &Arc<Self>) -> Result<Session, StoreError> {
        loop {
            let freed = self.freed.notified();
            {
                let mut state = self.state();
                let lost = |reason: &str| {
                    Err(StoreError::CutLost { store: self.server.clone(), reason: reason.to_owned() })
                };
                if state.closed {
                    return lost("it was released");
                }
                if let Some(connection) = state.idle.pop() {
                    return Ok(Session { pool: self.clone(), connection: Some(connection), done: false });
                }
                if state.alive == 0 {
                    return lost("all of its connections broke");
                }
            }
            freed.await;
        }
    }

    /// Sessions that are taken.
    pub fn at_work(&self) -> usize {
        let state = self.state();
        state.alive - state.idle.len()
    }

    /// Ends all sessions; those at work end when they are done.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.alive -= state.idle.len();
        state.idle.clear();
        drop(state);
        self.freed.notify_waiters();
    }
}

impl Session {
    pub fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a session has its connection until it is dropped")
    }

    /// Its statement is over: it gives back the locks that keep a table from being renamed, and can be used again.
    pub async fn done(mut self) -> Result<(), WireError> {
        self.connection().run(BACK).await?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        match self.connection.take().filter(|_| self.done && !state.closed) {
            Some(connection) => state.idle.push(connection),
            None => state.alive = state.alive.saturating_sub(1),
        }
        drop(state);
        self.pool.freed.notify_one();
    }
}
