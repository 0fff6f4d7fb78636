//! A way to a server that ends after so many bytes.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes to servers, and bytes from them.
pub const WAYS: [usize; 2] = [0, 1];

/// Counts bytes of all connections, and cuts the one that carries the last byte that may pass.
#[derive(Debug, Default)]
pub struct Meter {
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    bytes: [u64; 2],
    /// The way that is cut, and behind how many bytes.
    cut: Option<(usize, u64)>,
    done: bool,
}

impl Meter {
    /// Begins to count anew; with a cut behind so many bytes of one way.
    pub fn begin(&self, cut: Option<(usize, u64)>) {
        *self.counted.lock().unwrap() = Counted { cut, ..Counted::default() };
    }

    /// Bytes that passed since, and whether a connection was cut.
    pub fn passed(&self) -> ([u64; 2], bool) {
        let counted = self.counted.lock().unwrap();
        (counted.bytes, counted.done)
    }

    /// How many of these bytes may pass; fewer than all are the last of their connection.
    fn take(&self, way: usize, bytes: usize) -> usize {
        let mut counted = self.counted.lock().unwrap();
        let before = counted.bytes[way];
        counted.bytes[way] += bytes as u64;
        match counted.cut {
            Some((cut, at)) if cut == way && before + bytes as u64 > at => {
                counted.cut = None;
                counted.done = true;
                (at - before) as usize
            }
            _ => bytes,
        }
    }
}

/// A port that leads to a server.
#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub async fn to(port: u16, meter: Arc<Meter>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let (over, ended) = watch::channel(false);
                let over = Arc::new(over);
                tokio::spawn(pass(from_client, to_server, 0, meter.clone(), over.clone(), ended.clone()));
                tokio::spawn(pass(from_server, to_client, 1, meter.clone(), over, ended));
            }
        });
        Self { port: own, task }
    }
}

/// Passes bytes on until one side ends or the meter cuts; then both ways end.
async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    way: usize,
    meter: Arc<Meter>,
    over: Arc<watch::Sender<bool>>,
    mut ended: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = ended.wait_for(|over| *over) => 0,
        };
        let may = meter.take(way, read);
        if read == 0 || to.write_all(&buffer[..may]).await.is_err() || may < read {
            break;
        }
    }
    let _ = to.shutdown().await;
    over.send_replace(true);
}
