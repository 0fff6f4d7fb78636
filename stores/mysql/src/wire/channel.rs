//! Messages over a socket: each in packets of up to 16 MiB with a number, as the protocol frames them.

use super::WireError;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// The longest packet; a message as long as this or longer goes on in the next one.
const LONGEST: usize = 0xff_ffff;
/// Asked of the socket at once.
const READ: usize = 256 << 10;

/// A socket of any kind.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// In place of one that is being wrapped.
    Gone,
}

/// A conversation with a server.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Socket,
    /// What was read; `start..end` is not taken yet.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// A message that came in several packets.
    joined: Vec<u8>,
    /// Number of the next packet.
    next: u8,
    limit: Duration,
}

impl Channel {
    /// `limit` is the longest wait for anything.
    pub fn new(socket: Socket, limit: Duration) -> Self {
        Self { socket, buffer: vec![0; READ], start: 0, end: 0, joined: vec![], next: 0, limit }
    }

    /// Whether nobody can listen in between: TLS, or a socket of this machine.
    pub fn is_private(&self) -> bool {
        matches!(self.socket, Socket::Tls(_) | Socket::Unix(_))
    }

    /// Another longest wait.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Wraps the socket, after the greeting said so.
    pub async fn wrap<F>(&mut self, wrap: impl FnOnce(TcpStream) -> F) -> Result<(), WireError>
    where
        F: Future<Output = io::Result<TlsStream<TcpStream>>>,
    {
        if self.start != self.end {
            return Err(WireError::Malformed("it said more before the connection was encrypted"));
        }
        let Socket::Tcp(plain) = std::mem::replace(&mut self.socket, Socket::Gone) else {
            return Err(WireError::Malformed("a connection is encrypted already"));
        };
        let wrapped = tokio::time::timeout(self.limit, wrap(plain)).await;
        self.socket = Socket::Tls(Box::new(wrapped.map_err(|_| WireError::Late(self.limit))??));
        Ok(())
    }

    /// The next message begins a new exchange.
    pub fn begin(&mut self) {
        self.next = 0;
    }

    /// Sends one message.
    pub async fn write(&mut self, message: &[u8]) -> Result<(), WireError> {
        let mut framed = Vec::with_capacity(message.len() + 4);
        let mut rest = message;
        loop {
            let (packet, more) = rest.split_at(rest.len().min(LONGEST));
            framed.extend(&(packet.len() as u32).to_le_bytes()[..3]);
            framed.push(self.next);
            framed.extend(packet);
            self.next = self.next.wrapping_add(1);
            rest = more;
            // One that ends with a full packet says so with an empty one.
            if packet.len() < LONGEST {
                break;
            }
        }
        let sent = async {
            self.socket.write_all(&framed).await?;
            self.socket.flush().await
        };
        tokio::time::timeout(self.limit, sent).await.map_err(|_| WireError::Late(self.limit))??;
        Ok(())
    }

    /// The next message.
    pub async fn read(&mut self) -> Result<&[u8], WireError> {
        let (at, length) = match self.ready()? {
            Some(found) => found,
            None => self.packet().await?,
        };
        if length < LONGEST {
            return Ok(&self.buffer[at..at + length]);
        }
        self.joined.clear();
        self.joined.extend(&self.buffer[at..at + length]);
        loop {
            let (at, length) = self.packet().await?;
            self.joined.extend(&self.buffer[at..at + length]);
            if length < LONGEST {
                return Ok(&self.joined);
            }
        }
    }

    /// Where the next packet stands in the buffer. It is taken: the next call may move it.
    async fn packet(&mut self) -> Result<(usize, usize), WireError> {
        loop {
            if let Some(found) = self.ready()? {
                return Ok(found);
            }
            let length = self.length().map_or(0, |(length, _)| length);
            self.fill(4 + length).await?;
        }
    }

    /// As [`Self::packet`], where all of it was read before.
    fn ready(&mut self) -> Result<Option<(usize, usize)>, WireError> {
        let Some((length, number)) = self.length() else { return Ok(None) };
        if number != self.next {
            return Err(WireError::Malformed("a packet is out of order"));
        }
        let at = self.start + 4;
        if self.end - at < length {
            return Ok(None);
        }
        self.next = self.next.wrapping_add(1);
        self.start = at + length;
        Ok(Some((at, length)))
    }

    /// Length and number of the next packet, where they were read before.
    fn length(&self) -> Option<(usize, u8)> {
        let [a, b, c, number] = *self.buffer[self.start..self.end].first_chunk()?;
        Some((u32::from_le_bytes([a, b, c, 0]) as usize, number))
    }

    /// Reads until so many bytes stand in the buffer.
    async fn fill(&mut self, bytes: usize) -> Result<(), WireError> {
        if self.end - self.start >= bytes {
            return Ok(());
        }
        if self.buffer.len() - self.start < bytes.max(READ / 2) {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.buffer.len() < bytes {
                self.buffer.resize(bytes.next_power_of_two(), 0);
            }
        }
        while self.end - self.start < bytes {
            let read = tokio::time::timeout(self.limit, self.socket.read(&mut self.buffer[self.end..])).await;
            match read.map_err(|_| WireError::Late(self.limit))?? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                read => self.end += read,
            }
        }
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}
