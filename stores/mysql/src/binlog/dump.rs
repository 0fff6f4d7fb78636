//! A server's binary log from one place on, as it sends it to replicas.

use super::LogError;
use super::event::{HEADER, Head, kind};
use crate::connection::Connection;
use crate::store::Server;
use crate::wire::WireError;
use flate2::Crc;
use std::cmp::Ordering;
use std::fmt;
use std::time::{Duration, Instant};

/// Where the first event of a file stands.
pub(crate) const FIRST: u64 = 4;
/// The last offset that the protocol can ask for.
const FARTHEST: u64 = u32::MAX as u64;
const CHECKSUM: usize = 4;
/// How long a server may take to give what it said it has: MySQL says where its log stands before replicas may read so far.
const LATE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// A place between two events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub file: String,
    pub offset: u64,
}

impl Place {
    /// The order in one server's log; none between logs of other names.
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        let (own, others) = (numbered(&self.file)?, numbered(&other.file)?);
        (own.0 == others.0).then(|| own.1.cmp(&others.1).then(self.offset.cmp(&other.offset)))
    }

    /// Which file of its log it is in.
    pub fn number(&self) -> Option<u64> {
        numbered(&self.file).map(|(_, number)| number)
    }

    /// What its display says.
    pub fn parse(text: &str) -> Option<Self> {
        let (file, offset) = text.rsplit_once(':')?;
        Some(Self { file: file.to_owned(), offset: offset.parse().ok()? })
    }

    pub fn has_reached(&self, other: &Self) -> bool {
        self.order(other).is_some_and(Ordering::is_ge)
    }
}

fn numbered(file: &str) -> Option<(&str, u64)> {
    let (name, number) = file.rsplit_once('.')?;
    Some((name, number.parse().ok()?))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// What tells one log file from another of the same name: when it was begun, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub seconds: u32,
    pub server: u32,
}

/// A log on its way. It ends at the place that was asked for, never before it.
#[derive(Debug)]
pub(crate) struct Dump<'a> {
    server: &'a Server,
    connection: Connection,
    at: Place,
    /// Where events begin to count, where the protocol could not ask for so large an offset.
    skip: Option<Place>,
    to: Place,
    checked: bool,
    origin: Option<Origin>,
    /// The event that was read last.
    event: Vec<u8>,
    /// When the last event came.
    last: Instant,
}

/// Asks for the log from a place on; gives back where it begins.
async fn ask(server: &Server, from: &Place) -> Result<(Connection, Place), LogError> {
    let mut connection = server.connect().await?;
    // Checksums stay in the events, and MariaDB sends its own kinds of them.
    connection
        .run("SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32', @mariadb_slave_capability = 4")
        .await?;
    let offset = u32::try_from(from.offset).unwrap_or(FIRST as u32);
    connection.begin_dump(&from.file, offset).await?;
    Ok((connection, Place { file: from.file.clone(), offset: offset.into() }))
}

impl<'a> Dump<'a> {
    /// Asks for the log between two places.
    pub async fn open(server: &'a Server, from: &Place, to: &Place) -> Result<Self, LogError> {
        let (connection, at) = ask(server, from).await?;
        let skip = (at != *from).then(|| from.clone());
        let (checked, origin, event, last) = (false, None, vec![], Instant::now());
        Ok(Self { server, connection, at, skip, to: to.clone(), checked, origin, event, last })
    }

    /// Who began the file that is read, once its first event was read.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The next event with where it ends; none at the end.
    pub async fn next(&mut self) -> Result<Option<(Head, &[u8], &Place)>, LogError> {
        loop {
            // The first event of a file comes whatever the place.
            if self.origin.is_some() && self.at.has_reached(&self.to) {
                return Ok(None);
            }
            let Some((head, length)) = self.step().await? else {
                if self.origin.is_some() && self.at.has_reached(&self.to) {
                    return Ok(None);
                }
                if self.last.elapsed() > LATE {
                    return Err(LogError::Gone(format!("the log ends at {}, before {}", self.at, self.to)));
                }
                tokio::time::sleep(PAUSE).await;
                let from = self.at.clone();
                (self.connection, self.at) = ask(self.server, &from).await?;
                self.skip = (self.at != from).then_some(from);
                continue;
            };
            self.last = Instant::now();
            let early = |skip: &Place| !self.at.has_reached(skip) || self.at == *skip;
            if head.kind == kind::FORMAT || !self.skip.as_ref().is_some_and(early) {
                return Ok(Some((head, &self.event[HEADER..length], &self.at)));
            }
        }
    }

    /// Reads one event, checks it, and moves on; its length without the checksum. None where the server has no more.
    async fn step(&mut self) -> Result<Option<(Head, usize)>, LogError> {
        let packet = self.connection.packet().await?;
        match packet.split_first() {
            Some((0, event)) => {
                self.event.clear();
                self.event.extend(event);
            }
            Some((0xfe, rest)) if rest.len() < 8 => return Ok(None),
            Some((0xff, rest)) => {
                return Err(crate::wire::reply::refused(crate::wire::codec::Reader(rest)).into());
            }
            _ => return Err(WireError::Malformed("an event is none").into()),
        }
        let event = self.event.as_slice();
        let head = Head::read(event)?;
        if head.size as usize != event.len() {
            return Err(WireError::Malformed("an event has another length than it says").into());
        }
        let mut length = event.len();
        if head.kind == kind::FORMAT {
            // How the events behind it are checked stands before its own checksum.
            let algorithm = length.checked_sub(CHECKSUM + 1).filter(|at| *at >= HEADER);
            self.checked = match algorithm.map(|at| event[at]) {
                Some(0) => false,
                Some(1) => true,
                _ => return Err(LogError::Gone("its log has checksums of an unknown kind".into())),
            };
            self.origin = Some(Origin { seconds: head.seconds, server: head.server });
            if self.checked && !has_checksum(event) {
                return Err(damaged(&self.at));
            }
            length -= CHECKSUM;
        } else if head.is_artificial() {
            // Made for us, before the file said how its events are checked.
            length -= if has_checksum(event) { CHECKSUM } else { 0 };
        } else if self.checked {
            if !has_checksum(event) {
                return Err(damaged(&self.at));
            }
            length -= CHECKSUM;
        }
        let body = event.get(HEADER..length).ok_or(WireError::Malformed("an event is none"))?;
        if head.kind == kind::ROTATE {
            let (offset, file) =
                body.split_first_chunk().ok_or(WireError::Malformed("a rotation is none"))?;
            let file = std::str::from_utf8(file).map_err(|_| WireError::Malformed("a rotation is none"))?;
            self.at = Place { file: file.to_owned(), offset: u64::from_le_bytes(*offset) };
        } else if !head.is_artificial() && head.end > 0 {
            // Only the lower half of the place is said.
            let mut end = (self.at.offset & !FARTHEST) | u64::from(head.end);
            if end < self.at.offset {
                end += FARTHEST + 1;
            }
            self.at.offset = end;
        }
        Ok(Some((head, length)))
    }
}

fn has_checksum(event: &[u8]) -> bool {
    let Some((bytes, sum)) = event.split_last_chunk::<CHECKSUM>().filter(|(b, _)| b.len() >= HEADER) else {
        return false;
    };
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum() == u32::from_le_bytes(*sum)
}

fn damaged(at: &Place) -> LogError {
    LogError::Gone(format!("the event behind {at} does not have the checksum that it says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_log_have_an_order() {
        let place = |file: &str, offset| Place { file: file.into(), offset };
        assert_eq!(place("b.000009", 900).order(&place("b.000010", 4)), Some(Ordering::Less));
        assert_eq!(place("b.999999", 4).order(&place("b.1000000", 4)), Some(Ordering::Less));
        assert_eq!(place("b.000002", 5).order(&place("b.000002", 5)), Some(Ordering::Equal));
        assert_eq!(place("a.000002", 5).order(&place("b.000002", 5)), None);
    }

    #[test]
    fn a_changed_byte_shows_in_the_checksum() {
        let mut event = vec![7; HEADER + 10];
        let mut crc = Crc::new();
        crc.update(&event);
        event.extend(crc.sum().to_le_bytes());
        assert!(has_checksum(&event));
        event[HEADER] ^= 1;
        assert!(!has_checksum(&event) && !has_checksum(&[1, 2]));
    }
}
