//! How far a long command is, and how it is asked to stop.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// How much a stage has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// So many bytes.
    Bytes(u64),
    /// So many rows, about.
    Rows(u64),
}

/// Hears how far a command is. Called from many tasks; must not block.
pub trait Progress: Debug + Send + Sync {
    /// A stage begins, with so much to do, where that is known.
    fn stage(&self, name: &str, work: Option<Work>);
    /// So much of the stage is done.
    fn advance(&self, bytes: u64, rows: u64);
    /// Something a person should know.
    fn note(&self, line: &str);
    /// The last stage is over.
    fn finish(&self);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn stage(&self, _: &str, _: Option<Work>) {}
    fn advance(&self, _: u64, _: u64) {}
    fn note(&self, _: &str) {}
    fn finish(&self) {}
}

/// Asks a command to stop at the next safe place.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    inner: Arc<(AtomicBool, Notify)>,
}

impl Cancel {
    /// Asks. Safe to call twice.
    pub fn cancel(&self) {
        self.inner.0.store(true, Ordering::SeqCst);
        self.inner.1.notify_waiters();
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.inner.0.load(Ordering::SeqCst)
    }

    /// Waits until somebody asks.
    pub async fn cancelled(&self) {
        let notified = self.inner.1.notified();
        if !self.is_cancelled() {
            notified.await;
        }
    }
}
