//! Rows of one part on their way to the servers: in one transaction on each, with a mark of the part in it.
//!
//! Invariant: a server has the mark of a part exactly if it has the part's rows. So a part can be written again after any crash, by
//! any process: a server that has it takes no rows a second time.

use super::journal::{DOUBLE, Journal, PART};
use super::place::conflict;
use super::{MySqlLoad, Target};
use crate::connection::Connection;
use crate::encode::{Encoder, Refused};
use crate::error::failed;
use crate::store::Shared;
use crate::wire::WireError;
use futures::StreamExt;
use keepfast_model::{Digest, RowHasher};
use keepfast_store::{BatchStream, Result, StoreError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes of a part that wait in memory to be sent, about; the fullest file goes first.
const WAITING: usize = 8 << 20;

/// Room that a file may have for nothing.
const LITTLE: usize = 64 << 10;

/// Rows for one physical table.
#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    rows: u64,
}

enum Order {
    /// A file, and the physical table's place in the declaration.
    Send(usize, File),
    /// These are all rows of the part for this server.
    Commit(Digest),
}

/// One server's side of a part.
struct Writer {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<Result<()>>,
    digest: Digest,
}

/// What a writer needs to know.
struct Work {
    shared: Arc<Shared>,
    server: usize,
    journal: Journal,
    mark: String,
    table: String,
    statements: Arc<Vec<String>>,
    spare: Spare,
}

/// Memory of the file that was sent last, for the next one.
#[derive(Clone, Debug, Default)]
struct Spare(Arc<Mutex<Vec<u8>>>);

impl Spare {
    fn place(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.place())
    }

    fn give(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        *self.place() = bytes;
    }
}

/// The name of a part's mark.
pub(super) fn mark(table: usize, part: u32) -> String {
    format!("{table}/{part}")
}

/// Routes the rows of a part to their physical tables; says what they are together.
pub(super) async fn send(
    load: &MySqlLoad,
    (at, target): (usize, &Target),
    part: u32,
    mut rows: BatchStream,
) -> Result<Digest> {
    let form = load.form(target).await?;
    let refused = |reason: String| StoreError::Row { table: target.logical.table.clone(), reason };
    let hasher = RowHasher::new(&target.schema);
    let encoder = Encoder::new(&target.schema, &form.columns);
    let mut files: Vec<Vec<u8>> = target.places.iter().map(|_| vec![]).collect();
    let mut counts = vec![0_u64; files.len()];
    let mut writers: BTreeMap<usize, Writer> = BTreeMap::new();
    let sent = Spare::default();
    let writer = |server: usize| -> Result<Writer> {
        let (orders, receiver) = mpsc::channel(1);
        let work = Work {
            shared: load.controls.shared.clone(),
            server,
            journal: load.journal(server)?,
            mark: mark(at, part),
            table: target.logical.table.clone(),
            statements: form.statements.clone(),
            spare: sent.clone(),
        };
        Ok(Writer { orders, task: tokio::spawn(work.run(receiver)), digest: Digest::default() })
    };
    let mut ended = false;
    while !ended {
        match rows.next().await.transpose()? {
            None => ended = true,
            Some(batch) => {
                let routes = target.router.as_ref().map(|router| router.route(&batch)).transpose();
                let routes = routes.map_err(refused)?;
                for (row, hash) in hasher.hash(&batch)?.rows.into_iter().enumerate() {
                    let to = routes.as_ref().map_or(0, |routes| routes[row] as usize);
                    let server = target.places[to].server;
                    if let std::collections::btree_map::Entry::Vacant(free) = writers.entry(server) {
                        free.insert(writer(server)?);
                    }
                    if let Some(writer) = writers.get_mut(&server) {
                        writer.digest.add_row(hash);
                    }
                    counts[to] += 1;
                }
                let written = encoder.write(&batch, routes.as_deref(), &mut files);
                written.map_err(|Refused(reason)| refused(reason))?;
            }
        }
        let mut waiting: usize = files.iter().map(Vec::len).sum();
        while waiting > if ended { 0 } else { WAITING } {
            let Some(fullest) = (0..files.len()).max_by_key(|at| files[*at].len()) else { break };
            let file = File {
                bytes: std::mem::replace(&mut files[fullest], sent.take()),
                rows: std::mem::take(&mut counts[fullest]),
            };
            waiting -= file.bytes.len();
            // Rows may go elsewhere from now on: what a file was once is no room that it needs.
            for (at, file) in files.iter_mut().enumerate() {
                if at != fullest && file.capacity() / 2 > file.len() + LITTLE {
                    file.shrink_to_fit();
                }
            }
            let server = target.places[fullest].server;
            if let Some(writer) = writers.get_mut(&server)
                && writer.orders.send(Order::Send(fullest, file)).await.is_err()
            {
                return Err(why(&mut writer.task, server, load).await);
            }
        }
    }
    let mut whole = Digest::default();
    for (server, writer) in &mut writers {
        if writer.orders.send(Order::Commit(writer.digest)).await.is_err() {
            return Err(why(&mut writer.task, *server, load).await);
        }
    }
    for (server, writer) in writers {
        writer.task.await.unwrap_or_else(|e| Err(broken(server, load, e.to_string())))?;
        whole = whole.merge(writer.digest);
    }
    Ok(whole)
}

/// Why a writer ended before its time.
async fn why(task: &mut JoinHandle<Result<()>>, server: usize, load: &MySqlLoad) -> StoreError {
    match task.await {
        Ok(Err(error)) => error,
        Ok(Ok(())) => broken(server, load, "it ended early".into()),
        Err(e) => broken(server, load, e.to_string()),
    }
}

fn broken(server: usize, load: &MySqlLoad, reason: String) -> StoreError {
    let object = load.controls.shared.servers[server].address.to_string();
    StoreError::Unavailable { what: "load rows".into(), object, source: reason.into() }
}

impl Work {
    async fn run(self, mut orders: mpsc::Receiver<Order>) -> Result<()> {
        let fail = |e: WireError| failed("load rows", &self.shared.servers[self.server].address, e);
        let mut session = self.shared.servers[self.server].connect_to_write().await?;
        session.run("BEGIN").await.map_err(fail)?;
        // The mark first: a second process that writes the same part waits here, and then finds it.
        let marked = self.journal.put(&mut session, PART, &self.mark, &serde_json::Value::Null).await;
        let marked = marked.map_err(|e| match e.code() {
            Some(1146) => conflict(&self.table, "its unpublished rows were removed"),
            _ => fail(e),
        })?;
        while let Some(order) = orders.recv().await {
            match order {
                Order::Send(to, file) if marked => self.send(&mut session, to, file).await?,
                Order::Send(..) => {}
                Order::Commit(digest) if marked => {
                    let digest = serde_json::json!(digest);
                    self.journal.set(&mut session, PART, &self.mark, &digest).await.map_err(fail)?;
                    session.run("COMMIT").await.map_err(fail)?;
                    return Ok(());
                }
                Order::Commit(digest) => {
                    let stands = self.journal.all(&mut session, PART).await.map_err(fail)?;
                    return match stands.get(&self.mark) == Some(&serde_json::json!(digest)) {
                        true => Ok(()),
                        false => Err(conflict(
                            &self.table,
                            format!(
                                "part {} stands there with other rows; the load has to begin anew",
                                self.mark
                            ),
                        )),
                    };
                }
            }
        }
        // Whoever gave orders is gone: closing the session rolls back.
        Ok(())
    }

    /// Sends a file as one statement.
    async fn send(&self, session: &mut Connection, to: usize, mut file: File) -> Result<()> {
        let fail = |e: WireError| match e.code() {
            Some(DOUBLE) => StoreError::Row { table: self.table.clone(), reason: e.to_string() },
            _ => failed("load rows", &self.shared.servers[self.server].address, e),
        };
        session.begin_file(&self.statements[to]).await.map_err(fail)?;
        // The server's limit of a packet counts for files too.
        for piece in file.bytes.chunks(1 << 20) {
            session.send_file(piece).await.map_err(fail)?;
        }
        let (count, warnings) = session.end_file().await.map_err(fail)?;
        self.spare.give(std::mem::take(&mut file.bytes));
        if warnings > 0 {
            let said = session.rows("SHOW WARNINGS LIMIT 3").await.unwrap_or_default();
            let said: Vec<String> = said
                .iter()
                .filter_map(|row| Some(String::from_utf8_lossy(row.get(2)?.as_deref()?).into_owned()))
                .collect();
            return Err(StoreError::Row { table: self.table.clone(), reason: said.join("; ") });
        }
        if count != file.rows {
            let reason = format!("{count} of {} rows were taken", file.rows);
            return Err(StoreError::Row { table: self.table.clone(), reason });
        }
        Ok(())
    }
}
