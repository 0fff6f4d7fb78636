//! Ctrl-C: the first one asks the running command to end cleanly, the second ends the process at once.

use crate::exit::Exit;
use keepfast_engine::Cancel;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// Turns signals into a request to stop the command that runs now.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    current: Arc<Mutex<Cancel>>,
    json: bool,
}

impl Interrupt {
    /// Listens for signals from now on. Call it inside the runtime, once. With `json`, standard error is left to the
    /// document of an error.
    pub fn listen(json: bool) -> Self {
        let interrupt = Self { json, ..Self::default() };
        let own = interrupt.clone();
        listen(move || own.signal());
        interrupt
    }

    fn signal(&self) {
        let current = self.current();
        if current.is_cancelled() {
            // Committed points survive an exit at any place; what is unfinished is swept by the next run.
            std::process::exit(Exit::Interrupted as i32);
        }
        if !self.json {
            let _ =
                writeln!(std::io::stderr().lock(), "\ninterrupted: ending cleanly; once more ends at once");
        }
        current.cancel();
    }

    /// What the running command listens to.
    pub fn current(&self) -> Cancel {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets an earlier signal, for the next statement of a shell.
    pub fn renew(&self) -> Cancel {
        let new = Cancel::default();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = new.clone();
        new
    }
}

/// Calls `heard` for every SIGINT and SIGTERM. Both listeners are made before it returns, so that none is missed;
/// where the system refuses them, signals end the process as they always do.
#[cfg(unix)]
fn listen(heard: impl Fn() + Send + 'static) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = int.recv() => heard(),
                Some(()) = term.recv() => heard(),
                else => return,
            }
        }
    });
}

/// Calls `heard` for every Ctrl-C.
#[cfg(not(unix))]
fn listen(heard: impl Fn() + Send + 'static) {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            heard();
        }
    });
}
