//! One statement's rows as batches.

use crate::catalog::PhysicalTable;
use crate::decode::Decoder;
use crate::identity::{Witness, failed_at};
use crate::polite::Watch;
use crate::pool::Session;
use crate::store::Server;
use crate::wire::WireError;
use arrow::array::RecordBatch;
use keepfast_store::{Result, StoreError};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Rows on their way: read and decoded by a task of their own, so that the socket is never idle while a batch is used.
#[derive(Debug)]
pub(crate) struct Reading {
    batches: mpsc::Receiver<Result<RecordBatch>>,
    task: JoinHandle<()>,
}

/// What is read.
#[derive(Debug)]
pub(crate) struct Source {
    pub server: Server,
    pub table: PhysicalTable,
    pub watch: Option<Arc<Watch>>,
    pub witness: Option<Arc<Witness>>,
}

impl Reading {
    pub fn new(
        session: Session,
        sql: String,
        decoder: Decoder,
        (batch_rows, batch_bytes): (usize, usize),
        source: Source,
    ) -> Self {
        let (sender, batches) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let most = (batch_rows.max(1), batch_bytes);
            let read = read(session, &sql, decoder, most, &source, &sender).await;
            if let Err(e) = read {
                let mut e = match e {
                    Wrong::Wire(e @ WireError::Broken(_)) => StoreError::CutLost {
                        store: source.server.address.to_string(),
                        reason: e.to_string(),
                    },
                    Wrong::Wire(e) => failed_at("read rows", &source.table, &source.server, e),
                    Wrong::Rows(e) => StoreError::Damaged {
                        object: source.server.address.to_string(),
                        reason: e.to_string(),
                    },
                    Wrong::Table(e) => e,
                };
                // Rows that cannot be understood may be another table's.
                if let (Some(witness), StoreError::Unavailable { .. } | StoreError::Damaged { .. }) =
                    (&source.witness, &e)
                    && let Err(altered @ StoreError::SchemaChanged { .. }) =
                        witness.check(&source.table, false).await
                {
                    e = altered;
                }
                // Nobody waits for it any more, or it is told.
                let _ = sender.send(Err(e)).await;
            }
        });
        Self { batches, task }
    }

    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.batches.recv().await.transpose()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Wrong {
    Wire(WireError),
    Rows(arrow::error::ArrowError),
    Table(StoreError),
}

impl From<WireError> for Wrong {
    fn from(e: WireError) -> Self {
        Self::Wire(e)
    }
}

async fn read(
    mut session: Session,
    sql: &str,
    mut decoder: Decoder,
    (batch_rows, batch_bytes): (usize, usize),
    source: &Source,
    batches: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<(), Wrong> {
    let watch = source.watch.as_deref();
    if let Some(watch) = watch {
        watch.free().await;
    }
    let mut rows = session.connection().stream(sql).await?;
    let heads = rows.columns().to_vec();
    loop {
        let more = match rows.next().await? {
            Some(row) => {
                decoder.push(&heads, row)?;
                true
            }
            None => false,
        };
        let full = decoder.rows() >= batch_rows || decoder.bytes() >= batch_bytes;
        if full || !more && decoder.rows() > 0 {
            let batch = decoder.finish().map_err(Wrong::Rows)?;
            if batches.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
            if let Some(watch) = watch {
                watch.free().await;
            }
        }
        if !more {
            break;
        }
    }
    // The session still keeps it from being altered.
    if let Some(witness) = &source.witness {
        witness.check(&source.table, false).await.map_err(Wrong::Table)?;
    }
    session.done().await?;
    Ok(())
}
