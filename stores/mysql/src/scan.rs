//! One statement's rows as batches.

use crate::address::Address;
use crate::decode::Decoder;
use crate::error::failed;
use crate::polite::Watch;
use crate::pool::Session;
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

impl Reading {
    pub fn new(
        session: Session,
        sql: String,
        decoder: Decoder,
        (batch_rows, batch_bytes): (usize, usize),
        server: Address,
        watch: Option<Arc<Watch>>,
    ) -> Self {
        let (sender, batches) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let most = (batch_rows.max(1), batch_bytes);
            let read = read(session, &sql, decoder, most, watch.as_deref(), &sender).await;
            if let Err(e) = read {
                let e = match e {
                    Wrong::Wire(e) if e.code() == Some(TABLE_CHANGED) => StoreError::SchemaChanged {
                        table: sql,
                        position: "the cut".into(),
                        reason: e.to_string(),
                    },
                    Wrong::Wire(e @ WireError::Broken(_)) => {
                        StoreError::CutLost { store: server.to_string(), reason: e.to_string() }
                    }
                    Wrong::Wire(e) => failed("read rows", &server, e),
                    Wrong::Rows(e) => {
                        StoreError::Damaged { object: server.to_string(), reason: e.to_string() }
                    }
                };
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

/// The server's number for a table that was altered since the snapshot.
const TABLE_CHANGED: u16 = 1412;

enum Wrong {
    Wire(WireError),
    Rows(arrow::error::ArrowError),
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
    watch: Option<&Watch>,
    batches: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<(), Wrong> {
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
    session.done().await?;
    Ok(())
}
