//! One conversation with one server.

use crate::address::Address;
use crate::wire::channel::{Channel, Socket};
use crate::wire::codec::Reader;
use crate::wire::greeting::{Greeting, greet};
use crate::wire::reply::{self, ColumnHead, Reply};
use crate::wire::{WireError, tls};
use rustls::pki_types::ServerName;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a server may be silent in a conversation. A count of a large table takes minutes.
const ANSWER: Duration = Duration::from_secs(600);

/// What is sent first: values as they are stored, times in UTC, names quoted alike, and no limit that a replica's
/// setting puts on a long read.
const SESSION: &str = "SET SESSION time_zone = '+00:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', \
    net_write_timeout = 3600, wait_timeout = 28800, lock_wait_timeout = 10";

/// A row of text; NULL is none.
pub(crate) type TextRow = Vec<Option<Vec<u8>>>;

/// A connection. When an exchange was cut off it can only be closed.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    /// An exchange is under way, or was cut off.
    busy: bool,
}

/// A statement whose rows are on their way, in the binary form.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    channel: &'a mut Channel,
    columns: Vec<ColumnHead>,
    ended: bool,
}

/// A statement whose rows are on their way as texts.
#[derive(Debug)]
pub(crate) struct TextRows<'a> {
    channel: &'a mut Channel,
    ended: bool,
}

impl Connection {
    /// Connects and presents itself.
    pub async fn open(address: &Address, password: &str) -> Result<Self, WireError> {
        let late = |_| WireError::Late(CONNECT);
        tokio::time::timeout(CONNECT, Self::present(address, password)).await.map_err(late)?
    }

    async fn present(address: &Address, password: &str) -> Result<Self, WireError> {
        let socket = match &address.socket {
            Some(path) => Socket::Unix(UnixStream::connect(path).await?),
            None => {
                let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
                socket.set_nodelay(true)?;
                Socket::Tcp(socket)
            }
        };
        let mut channel = Channel::new(socket, CONNECT);
        let tls = match (&address.socket, &address.trust) {
            (None, Some(trust)) => {
                let name = ServerName::try_from(address.host.clone()).map_err(|_| {
                    WireError::Greeting(format!("'{}' is no name that a certificate can have", address.host))
                })?;
                Some((tls::connector(trust)?, name))
            }
            _ => None,
        };
        greet(
            &mut channel,
            Greeting {
                user: &address.user,
                password,
                database: None,
                tls,
                server_key: address.server_key.as_deref(),
                tls_required: address.trust.as_ref().is_some_and(|trust| *trust != tls::Trust::Loopback),
            },
        )
        .await?;
        channel.set_limit(ANSWER);
        let mut connection = Self { channel, busy: false };
        connection.run(SESSION).await?;
        Ok(connection)
    }

    /// Whether the last exchange was brought to its end, of those that `run` and `rows` make.
    pub fn is_idle(&self) -> bool {
        !self.busy
    }

    /// Notes that an exchange is over: with an answer, or with a refusal.
    fn over<T>(&mut self, result: Result<T, WireError>) -> Result<T, WireError> {
        self.busy = !matches!(result, Ok(_) | Err(WireError::Refused { .. }));
        result
    }

    async fn send(&mut self, command: u8, body: &[u8]) -> Result<(), WireError> {
        self.busy = true;
        self.channel.begin();
        let message = [&[command][..], body].concat();
        self.channel.write(&message).await
    }

    /// Runs a statement that gives no rows; says how many it changed.
    pub async fn run(&mut self, sql: &str) -> Result<u64, WireError> {
        self.run_bytes(sql.as_bytes()).await
    }

    /// As [`Self::run`], for a statement in the character set that the session says it sends.
    pub async fn run_bytes(&mut self, sql: &[u8]) -> Result<u64, WireError> {
        let done = self.run_once(sql).await;
        self.over(done)
    }

    async fn run_once(&mut self, sql: &[u8]) -> Result<u64, WireError> {
        self.send(0x03, sql).await?;
        match reply::first(self.channel.read().await?)? {
            Reply::Done { rows, .. } => Ok(rows),
            Reply::Rows(columns) => {
                self.heads(columns).await?;
                while !reply::ends(self.channel.read().await?)? {}
                Ok(0)
            }
            Reply::File => {
                self.channel.write(&[]).await?;
                reply::done(self.channel.read().await?)?;
                Err(WireError::Malformed("it asks for a file"))
            }
        }
    }

    /// Runs a statement and reads its rows as text.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<TextRow>, WireError> {
        Ok(self.table(sql).await?.1)
    }

    /// As [`Self::rows`], with the names of the columns.
    pub async fn table(&mut self, sql: &str) -> Result<(Vec<String>, Vec<TextRow>), WireError> {
        let read = self.table_once(sql).await;
        self.over(read)
    }

    async fn table_once(&mut self, sql: &str) -> Result<(Vec<String>, Vec<TextRow>), WireError> {
        self.send(0x03, sql.as_bytes()).await?;
        let columns = match reply::first(self.channel.read().await?)? {
            Reply::Rows(columns) => columns,
            _ => return Ok((vec![], vec![])),
        };
        let names = self.heads(columns).await?.into_iter().map(|head| head.name).collect();
        let mut rows = vec![];
        loop {
            let message = self.channel.read().await?;
            if reply::ends(message)? {
                return Ok((names, rows));
            }
            let mut reader = Reader(message);
            let row = (0..columns).map(|_| Ok(reader.nullable()?.map(<[u8]>::to_vec)));
            rows.push(row.collect::<Result<_, WireError>>()?);
        }
    }

    /// Runs a statement whose rows are read one by one, as text.
    pub async fn texts(&mut self, sql: &str) -> Result<TextRows<'_>, WireError> {
        self.send(0x03, sql.as_bytes()).await?;
        match reply::first(self.channel.read().await?)? {
            Reply::Rows(columns) => self.heads(columns).await?,
            _ => return Err(WireError::Malformed("a query gives no rows")),
        };
        Ok(TextRows { channel: &mut self.channel, ended: false })
    }

    /// Runs a statement in the binary form, whose rows are read one by one.
    pub async fn stream(&mut self, sql: &str) -> Result<Rows<'_>, WireError> {
        self.send(0x16, sql.as_bytes()).await?;
        let message = self.channel.read().await?;
        let mut reader = Reader(message);
        match reader.u8()? {
            0 => {}
            0xff => return Err(reply::refused(reader)),
            _ => return Err(WireError::Malformed("a statement is of no known kind")),
        }
        let (statement, columns, parameters) = (reader.u32()?, reader.u16()?, reader.u16()?);
        self.heads(usize::from(parameters) + usize::from(columns)).await?;
        // No cursor, run once, no parameters.
        let mut body = statement.to_le_bytes().to_vec();
        body.push(0);
        body.extend(1_u32.to_le_bytes());
        self.send(0x17, &body).await?;
        let columns = match reply::first(self.channel.read().await?)? {
            Reply::Rows(columns) => columns,
            _ => return Err(WireError::Malformed("a query gives no rows")),
        };
        let columns = self.heads(columns).await?;
        Ok(Rows { channel: &mut self.channel, columns, ended: false })
    }

    /// Reads the rows of a statement and drops them; says how many bytes they had.
    pub async fn drain(&mut self, sql: &str, binary: bool) -> Result<u64, WireError> {
        let mut bytes = 0;
        if binary {
            let mut rows = self.stream(sql).await?;
            while let Some(row) = rows.next().await? {
                bytes += row.len() as u64;
            }
        } else {
            let mut rows = self.texts(sql).await?;
            while let Some(row) = rows.next().await? {
                bytes += row.0.len() as u64;
            }
        }
        Ok(bytes)
    }

    /// Asks for a binary log from an offset of a file on, up to where it ends now. The connection is of no other use then.
    pub async fn begin_dump(&mut self, file: &str, offset: u32) -> Result<(), WireError> {
        let mut body = offset.to_le_bytes().to_vec();
        // Do not wait for more; and no replica's number, so that no replica is thrown out.
        body.extend(1_u16.to_le_bytes());
        body.extend(0_u32.to_le_bytes());
        body.extend(file.as_bytes());
        self.send(0x12, &body).await
    }

    /// The next message of a binary log.
    pub async fn packet(&mut self) -> Result<&[u8], WireError> {
        self.channel.read().await
    }

    async fn heads(&mut self, count: usize) -> Result<Vec<ColumnHead>, WireError> {
        let mut heads = Vec::with_capacity(count.min(4096));
        for _ in 0..count {
            heads.push(reply::column(self.channel.read().await?)?);
        }
        Ok(heads)
    }

    /// Begins `LOAD DATA LOCAL INFILE`. A connection that is dropped before [`Self::end_file`] loads nothing: without the
    /// file's end the server rolls the statement back.
    pub async fn begin_file(&mut self, sql: &str) -> Result<(), WireError> {
        self.send(0x03, sql.as_bytes()).await?;
        match reply::first(self.channel.read().await?)? {
            Reply::File => Ok(()),
            _ => Err(WireError::Malformed("it takes no file")),
        }
    }

    /// Sends more of the file.
    pub async fn send_file(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        // Nothing at all would be the end.
        if bytes.is_empty() { Ok(()) } else { self.channel.write(bytes).await }
    }

    /// Ends the file; says how many rows it made, and how many warnings.
    pub async fn end_file(&mut self) -> Result<(u64, u16), WireError> {
        self.channel.write(&[]).await?;
        reply::done(self.channel.read().await?)
    }
}

impl Rows<'_> {
    /// Columns in order.
    pub fn columns(&self) -> &[ColumnHead] {
        &self.columns
    }

    /// The next row, in the binary form behind its first byte; none at the end.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, WireError> {
        if self.ended {
            return Ok(None);
        }
        let message = self.channel.read().await?;
        if reply::ends(message)? {
            self.ended = true;
            return Ok(None);
        }
        match message.split_first() {
            Some((0, row)) => Ok(Some(row)),
            _ => Err(WireError::Malformed("a row is none")),
        }
    }
}

impl TextRows<'_> {
    /// The next row, to be taken apart value by value; none at the end.
    pub async fn next(&mut self) -> Result<Option<Reader<'_>>, WireError> {
        if self.ended {
            return Ok(None);
        }
        let message = self.channel.read().await?;
        self.ended = reply::ends(message)?;
        Ok((!self.ended).then_some(Reader(message)))
    }
}
