//! Events of binary logs, of both families.

use super::LogError;
use crate::wire::WireError;
use crate::wire::codec::Reader;
use flate2::read::ZlibDecoder;
use jiff::Timestamp;
use std::borrow::Cow;
use std::io::Read;

/// Bytes before an event's body.
pub(crate) const HEADER: usize = 19;
/// The largest event that a server makes.
const LARGEST: u64 = 1 << 30;

/// Numbers of events.
pub(crate) mod kind {
    pub const QUERY: u8 = 2;
    pub const ROTATE: u8 = 4;
    pub const FORMAT: u8 = 15;
    pub const XID: u8 = 16;
    pub const EXECUTE_LOAD: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const INCIDENT: u8 = 26;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE: u8 = 39;
    pub const PAYLOAD: u8 = 40;
    pub const TAGGED_GTID: u8 = 42;
    pub const MARIADB_GTID: u8 = 162;
    pub const QUERY_COMPRESSED: u8 = 165;
    /// What says nothing of rows: ends and rotations of files, values for statements, files to load, heartbeats, the text of
    /// statements, sets of GTIDs, group views, checkpoints, the start of encryption.
    pub const SILENT: [u8; 18] =
        [3, ROTATE, 5, 9, 13, 14, 17, 27, 28, 29, 35, 36, 37, 41, 160, 161, 163, 164];
}

/// What stands before every event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub seconds: u32,
    pub kind: u8,
    pub server: u32,
    pub size: u32,
    /// The lower half of where it ends in its file; 0 for what is in no file.
    pub end: u32,
    flags: u16,
}

impl Head {
    pub fn read(event: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader(event);
        Ok(Self {
            seconds: reader.u32()?,
            kind: reader.u8()?,
            server: reader.u32()?,
            size: reader.u32()?,
            end: reader.u32()?,
            flags: reader.u16()?,
        })
    }

    /// In no file, made for whoever reads.
    pub fn is_artificial(&self) -> bool {
        self.flags & 0x20 != 0
    }

    /// Replicas that do not know it pass over it.
    pub fn is_ignorable(&self) -> bool {
        self.flags & 0x80 != 0
    }
}

/// The name of an XA branch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Xid {
    pub format: u32,
    /// The transaction, over all servers.
    pub gtrid: Vec<u8>,
    /// The branch of it.
    pub bqual: Vec<u8>,
}

impl Xid {
    /// What all branches of its transaction share.
    pub fn global(&self) -> (u32, Vec<u8>) {
        (self.format, self.gtrid.clone())
    }

    /// Of the bytes of both names together.
    pub fn split(format: u32, gtrid: usize, names: &[u8]) -> Option<Self> {
        let (gtrid, bqual) = names.split_at_checked(gtrid)?;
        Some(Self { format, gtrid: gtrid.to_vec(), bqual: bqual.to_vec() })
    }
}

/// Which columns a table has in the log.
#[derive(Debug)]
pub(crate) struct TableMap<'a> {
    pub id: u64,
    pub database: &'a [u8],
    pub table: &'a [u8],
    pub types: &'a [u8],
    pub metadata: &'a [u8],
}

fn id(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    let [a, b, c, d, e, f] = reader.array()?;
    Ok(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
}

fn sized<'a>(reader: &mut Reader<'a>, length: u64) -> Result<&'a [u8], WireError> {
    reader.take(usize::try_from(length).map_err(|_| WireError::Malformed("an event ends early"))?)
}

/// The table that the events behind it mean.
pub(crate) fn table_map(body: &[u8]) -> Result<TableMap<'_>, WireError> {
    let mut reader = Reader(body);
    let id = id(&mut reader)?;
    reader.u16()?;
    let mut name = || {
        let length = reader.u8()?;
        let name = reader.take(length.into())?;
        reader.u8()?;
        Ok::<_, WireError>(name)
    };
    let (database, table) = (name()?, name()?);
    let columns = reader.number()?;
    let types = sized(&mut reader, columns)?;
    let metadata = reader.bytes()?;
    Ok(TableMap { id, database, table, types, metadata })
}

/// What happened to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Insert,
    Update,
    Delete,
}

/// Rows of one table.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    pub op: Op,
    pub columns: usize,
    /// Whether the images have all columns.
    pub whole: bool,
    pub images: Cow<'a, [u8]>,
}

/// What kind of row event it is, whether of the second version, and whether compressed; none for others.
pub(crate) fn rows_kind(kind: u8) -> Option<(Op, bool, bool)> {
    const OPS: [Op; 3] = [Op::Insert, Op::Update, Op::Delete];
    let of = |first: u8| OPS.get(usize::from(kind.checked_sub(first)?)).copied();
    of(23)
        .map(|op| (op, false, false))
        .or_else(|| of(30).map(|op| (op, true, false)))
        .or_else(|| of(166).map(|op| (op, false, true)))
        .or_else(|| of(169).map(|op| (op, true, true)))
}

/// The table of a row event.
pub(crate) fn rows_table(body: &[u8]) -> Result<u64, WireError> {
    id(&mut Reader(body))
}

/// Takes a row event apart.
pub(crate) fn rows(body: &[u8], (op, second, compressed): (Op, bool, bool)) -> Result<Rows<'_>, LogError> {
    let mut reader = Reader(body);
    id(&mut reader)?;
    reader.u16()?;
    if second {
        let extra = reader.u16()?;
        reader.take(usize::from(extra).saturating_sub(2))?;
    }
    let columns = reader.number()?;
    let columns = usize::try_from(columns).ok().filter(|n| *n <= 4096);
    let columns = columns.ok_or(WireError::Malformed("a row has more columns than there can be"))?;
    let mut whole = true;
    for _ in 0..if op == Op::Update { 2 } else { 1 } {
        let present = reader.take(columns.div_ceil(8))?;
        whole &= (0..columns).all(|at| present[at / 8] >> (at % 8) & 1 == 1);
    }
    let images = if compressed { Cow::Owned(unpacked(reader.0)?) } else { Cow::Borrowed(reader.0) };
    Ok(Rows { op, columns, whole, images })
}

/// What MariaDB packed: the length of a length, the length with its highest byte first, and zlib.
fn unpacked(packed: &[u8]) -> Result<Vec<u8>, LogError> {
    let mut reader = Reader(packed);
    let first = reader.u8()?;
    if first & 0x70 != 0 {
        return Err(LogError::Gone("its log is compressed in a way that this version does not know".into()));
    }
    let length = reader.take(usize::from(first & 7))?;
    let length = length.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    if length > LARGEST {
        return Err(WireError::Malformed("an event is larger than events can be").into());
    }
    let mut out = vec![];
    let read = ZlibDecoder::new(reader.0).take(length).read_to_end(&mut out);
    match read {
        Ok(read) if read as u64 == length => Ok(out),
        _ => Err(WireError::Malformed("a compressed event is damaged").into()),
    }
}

/// A statement as it was logged.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pub database: &'a [u8],
    pub text: Cow<'a, [u8]>,
}

/// A statement, of an event of this kind.
pub(crate) fn query(body: &[u8], of: u8) -> Result<Query<'_>, LogError> {
    let mut reader = Reader(body);
    reader.take(8)?;
    let database = reader.u8()?;
    reader.u16()?;
    let status = reader.u16()?;
    if of == kind::EXECUTE_LOAD {
        reader.take(13)?;
    }
    reader.take(status.into())?;
    let database = reader.take(database.into())?;
    reader.u8()?;
    let text =
        if of == kind::QUERY_COMPRESSED { Cow::Owned(unpacked(reader.0)?) } else { Cow::Borrowed(reader.0) };
    Ok(Query { database, text })
}

/// The name of a transaction, where its first event has one, and when it was committed: MySQL says it to the microsecond, and MariaDB
/// the second in which the statement began that committed it.
pub(crate) fn named(head: &Head, body: &[u8]) -> Result<(Option<String>, Timestamp), WireError> {
    let mut reader = Reader(body);
    let second = Timestamp::from_second(head.seconds.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    match head.kind {
        kind::MARIADB_GTID => {
            let (number, domain) = (reader.u64()?, reader.u32()?);
            Ok((Some(format!("{domain}-{}-{number}", head.server)), second))
        }
        kind::GTID | kind::ANONYMOUS_GTID => {
            reader.u8()?;
            let (source, number) = (reader.array::<16>()?, reader.u64()?);
            let name = (head.kind == kind::GTID).then(|| format!("{}:{number}", uuid(&source)));
            Ok((name, committed(&mut reader).unwrap_or(second)))
        }
        _ => Ok((None, second)),
    }
}

/// When a transaction of MySQL was committed where it began.
fn committed(reader: &mut Reader<'_>) -> Option<Timestamp> {
    const ELSEWHERE: u64 = 1 << 55;
    // Its kind, and the two numbers by which it is ordered.
    (reader.u8().ok()? == 2).then_some(())?;
    reader.take(16).ok()?;
    let mut micros = || {
        let [a, b, c, d, e, f, g] = reader.array().ok()?;
        Some(u64::from_le_bytes([a, b, c, d, e, f, g, 0]))
    };
    let here = micros()?;
    let micros = if here & ELSEWHERE != 0 { micros()? } else { here };
    Timestamp::from_microsecond(i64::try_from(micros).ok()?).ok()
}

fn uuid(bytes: &[u8; 16]) -> String {
    let mut text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

/// The branch that a prepared transaction of MariaDB is of, as its GTID says.
pub(crate) fn mariadb_prepares(body: &[u8]) -> Result<Option<Xid>, WireError> {
    let mut reader = Reader(body);
    reader.take(12)?;
    let flags = reader.u8()?;
    if flags & 2 != 0 {
        // The number of a group commit.
        reader.take(8)?;
    }
    if flags & 0x40 == 0 {
        return Ok(None);
    }
    let (format, gtrid, bqual) = (reader.u32()?, reader.u8()?, reader.u8()?);
    let names = reader.take(usize::from(gtrid) + usize::from(bqual))?;
    Ok(Xid::split(format, gtrid.into(), names))
}

/// The branch that is prepared, and whether it was committed at once.
pub(crate) fn xa_prepare(body: &[u8]) -> Result<(Xid, bool), WireError> {
    let mut reader = Reader(body);
    let at_once = reader.u8()? != 0;
    let (format, gtrid, bqual) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let names = sized(&mut reader, u64::from(gtrid) + u64::from(bqual))?;
    let xid = Xid::split(format, gtrid as usize, names);
    Ok((xid.ok_or(WireError::Malformed("a branch has no name"))?, at_once))
}

/// The events of a transaction that MySQL packed as one, one after the other.
#[derive(Debug)]
pub(crate) struct Payload<'a> {
    bytes: Unpacking<'a>,
    event: Vec<u8>,
}

enum Unpacking<'a> {
    Plain(&'a [u8]),
    Zstd(Box<zstd::Decoder<'static, &'a [u8]>>),
}

impl std::fmt::Debug for Unpacking<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unpacking")
    }
}

impl<'a> Payload<'a> {
    pub fn open(body: &'a [u8]) -> Result<Self, LogError> {
        let mut reader = Reader(body);
        let mut how = 255;
        loop {
            let field = reader.number()?;
            if field == 0 {
                break;
            }
            let value = reader.bytes()?;
            if field == 2 {
                how = Reader(value).number()?;
            }
        }
        let damaged = |_| WireError::Malformed("a compressed event is damaged");
        let bytes = match how {
            0 => {
                let mut decoder = zstd::Decoder::with_buffer(reader.0).map_err(damaged)?;
                // A frame cannot ask for more than this.
                decoder.window_log_max(27).map_err(damaged)?;
                Unpacking::Zstd(Box::new(decoder))
            }
            255 => Unpacking::Plain(reader.0),
            _ => {
                return Err(LogError::Gone(
                    "its transactions are compressed in a way that this version does not know".into(),
                ));
            }
        };
        Ok(Self { bytes, event: vec![] })
    }

    /// The next event; none at the end. They have no checksums of their own.
    pub fn next(&mut self) -> Result<Option<(Head, &[u8])>, LogError> {
        self.event.clear();
        self.read(HEADER as u64)?;
        if self.event.is_empty() {
            return Ok(None);
        }
        let head = Head::read(&self.event)?;
        let rest = u64::from(head.size).checked_sub(HEADER as u64).filter(|rest| *rest <= LARGEST);
        self.read(rest.ok_or(WireError::Malformed("an event has another length than it says"))?)?;
        if self.event.len() as u64 != u64::from(head.size) {
            return Err(WireError::Malformed("a compressed event is damaged").into());
        }
        Ok(Some((head, &self.event[HEADER..])))
    }

    fn read(&mut self, bytes: u64) -> Result<(), WireError> {
        let read = match &mut self.bytes {
            Unpacking::Plain(rest) => rest.take(bytes).read_to_end(&mut self.event),
            Unpacking::Zstd(rest) => rest.take(bytes).read_to_end(&mut self.event),
        };
        read.map(drop).map_err(|_| WireError::Malformed("a compressed event is damaged"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_end_early_are_errors() {
        let map = b"\x08\0\0\0\0\0\x01\0\x01x\0\x01t\0\x02\x03\x0f\x02\x50\0\x02";
        let read = table_map(map).unwrap();
        assert_eq!(
            (read.id, read.table, read.types, read.metadata),
            (8, &b"t"[..], &[3, 15][..], &[80, 0][..])
        );
        for end in 0..map.len() - 1 {
            assert!(table_map(&map[..end]).is_err(), "{end}");
        }
        let prepare = b"\0\x01\0\0\0\x02\0\0\0\x02\0\0\0g2b1";
        let (xid, at_once) = xa_prepare(prepare).unwrap();
        assert_eq!((xid.gtrid.as_slice(), xid.bqual.as_slice(), at_once), (&b"g2"[..], &b"b1"[..], false));
        for end in 0..prepare.len() {
            assert!(xa_prepare(&prepare[..end]).is_err());
        }
        assert!(rows(&[0; 9], (Op::Insert, false, false)).is_ok());
        assert!(rows(&[0; 7], (Op::Insert, false, false)).is_err());
        // A length that no memory has.
        assert!(unpacked(&[0x84, 0xff, 0xff, 0xff, 0xff, 0]).is_err());
        assert!(Payload::open(&[2, 1, 0, 0, 1, 2, 3]).unwrap().next().is_err());
    }

    #[test]
    fn row_events_of_both_families_are_known() {
        assert_eq!(rows_kind(25), Some((Op::Delete, false, false)));
        assert_eq!(rows_kind(31), Some((Op::Update, true, false)));
        assert_eq!(rows_kind(166), Some((Op::Insert, false, true)));
        assert_eq!(rows_kind(171), Some((Op::Delete, true, true)));
        assert_eq!((rows_kind(22), rows_kind(33), rows_kind(172)), (None, None, None));
    }
}
