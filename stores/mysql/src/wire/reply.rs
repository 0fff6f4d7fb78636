//! What a server answers: done, refused, or rows with their columns.

use super::WireError;
use super::codec::{Reader, text};

/// Flags of what client and server can do.
pub(crate) mod can {
    pub const LONG_PASSWORD: u32 = 1;
    pub const LONG_FLAG: u32 = 1 << 2;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const LOCAL_FILES: u32 = 1 << 7;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
    pub const DEPRECATE_EOF: u32 = 1 << 24;
}

/// A column of rows, as the server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColumnHead {
    pub name: String,
    pub charset: u16,
    pub length: u32,
    pub kind: u8,
    pub flags: u16,
    pub decimals: u8,
}

/// Bit of [`ColumnHead::flags`]: its numbers have no sign.
pub(crate) const UNSIGNED: u16 = 1 << 5;

/// The first message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Done.
    Done { rows: u64, warnings: u16 },
    /// Rows of so many columns follow.
    Rows(usize),
    /// It wants a file of this name.
    File,
}

/// Done, or why not.
pub(crate) fn done(message: &[u8]) -> Result<(u64, u16), WireError> {
    let mut reader = Reader(message);
    match reader.u8()? {
        0x00 | 0xfe => {
            let rows = reader.number()?;
            reader.number()?;
            reader.u16()?;
            Ok((rows, reader.u16()?))
        }
        0xff => Err(refused(reader)),
        _ => Err(WireError::Malformed("an answer is of no known kind")),
    }
}

/// The first message of an answer to a statement.
pub(crate) fn first(message: &[u8]) -> Result<Reply, WireError> {
    match message.first() {
        Some(0x00) => done(message).map(|(rows, warnings)| Reply::Done { rows, warnings }),
        Some(0xff) => Err(refused(Reader(&message[1..]))),
        Some(0xfb) => Ok(Reply::File),
        _ => {
            let columns = Reader(message).number()?;
            match usize::try_from(columns) {
                Ok(columns @ 1..=0xffff) => Ok(Reply::Rows(columns)),
                _ => Err(WireError::Malformed("an answer has more columns than there can be")),
            }
        }
    }
}

/// Whether this message ends the rows; an error where they end badly.
pub(crate) fn ends(message: &[u8]) -> Result<bool, WireError> {
    match message.first() {
        // A row whose first value is 16 MiB or longer begins so too, and is longer.
        Some(0xfe) if message.len() < 0xff_ffff => done(message).map(|_| true),
        Some(0xff) => Err(refused(Reader(&message[1..]))),
        _ => Ok(false),
    }
}

pub(crate) fn column(message: &[u8]) -> Result<ColumnHead, WireError> {
    let mut reader = Reader(message);
    for _ in 0..4 {
        reader.bytes()?;
    }
    let name = text(reader.bytes()?);
    reader.bytes()?;
    reader.number()?;
    Ok(ColumnHead {
        name,
        charset: reader.u16()?,
        length: reader.u32()?,
        kind: reader.u8()?,
        flags: reader.u16()?,
        decimals: reader.u8()?,
    })
}

/// What stands behind the mark of an error.
pub(crate) fn refused(mut reader: Reader<'_>) -> WireError {
    let Ok(code) = reader.u16() else { return WireError::Malformed("an error has no number") };
    let state = match reader.0.split_first_chunk::<6>() {
        Some((state, rest)) if state[0] == b'#' => {
            reader.0 = rest;
            text(&state[1..])
        }
        _ => "HY000".to_owned(),
    };
    WireError::Refused { code, state, message: text(reader.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(first(&[0, 3, 0, 2, 0, 1, 0]).unwrap(), Reply::Done { rows: 3, warnings: 1 });
        assert_eq!(first(&[7]).unwrap(), Reply::Rows(7));
        assert_eq!(first(&[0xfb, b'f']).unwrap(), Reply::File);
        assert!(first(&[0xfe, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
        let error = first(b"\xff\x15\x04#28000Access denied").unwrap_err();
        assert_eq!(error.to_string(), "error 1045 (28000): Access denied");
        assert!(ends(&[0xfe, 0, 0, 2, 0, 0, 0]).unwrap() && !ends(&[0, 1, 2]).unwrap());
        assert!(ends(b"\xff\x25\x05#70100killed").is_err());
        assert!(matches!(first(&[]), Err(WireError::Malformed(_))));
    }
}
