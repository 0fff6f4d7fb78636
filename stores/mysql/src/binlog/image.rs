//! Images of rows as rows that a SELECT sends in the protocol's binary form, so that one decoder reads both.
//!
//! The log says little of types (no signs, no character sets); they are taken from the catalog and compared with what it says.

use super::charset::{Charset, of_collation};
use super::{Fault, json};
use crate::catalog::PhysicalColumn;
use crate::wire::WireError;
use crate::wire::codec::{Reader, put_number};
use crate::wire::reply::{ColumnHead, UNSIGNED};
use std::collections::HashMap;
use std::ops::Range;

/// How the rows of a table stand in the log.
#[derive(Debug)]
pub(crate) struct Form {
    types: Vec<u8>,
    metadata: Vec<u8>,
    columns: Vec<Kind>,
    heads: Vec<ColumnHead>,
}

/// How long a value is.
#[derive(Clone, Copy, Debug)]
enum Length {
    Of(u64),
    /// Said in so many bytes before it.
    Said(u8),
}

#[derive(Debug)]
enum Kind {
    /// Bytes in the log, and in the protocol; whether it has a sign.
    Number(usize, usize, bool),
    /// Bytes.
    Float(usize),
    Year,
    Decimal {
        precision: u8,
        scale: u8,
        zeros: bool,
    },
    Date,
    Time(u8),
    Datetime(u8),
    Timestamp(u8),
    Text(Length, Charset),
    Bytes(Length),
    /// Zeros at its end are not logged.
    Padded(Length, usize),
    Enum(usize, Vec<String>),
    Set(usize, Vec<String>),
    Json(Length),
    Uuid(Length),
    Inet4(Length),
    Inet6(Length),
}

const NOT_SO: WireError = WireError::Malformed("a logged value is none of its column");

impl Form {
    /// The form of a table whose columns the log states so; else the first way in which it contradicts the catalog.
    pub fn new(
        columns: &[PhysicalColumn],
        types: &[u8],
        metadata: &[u8],
        charsets: &HashMap<String, Charset>,
    ) -> Result<Self, Fault> {
        if columns.len() != types.len() {
            let (logged, now) = (types.len(), columns.len());
            return Err(Fault::Altered(format!("the log has {logged} columns, the table {now}")));
        }
        let mut reader = Reader(metadata);
        let mut kinds = vec![];
        for (column, logged) in columns.iter().zip(types) {
            let early = |_| Fault::Gone(format!("the log says too little of column '{}'", column.name));
            let of = match logged {
                4 | 5 | 17..=19 | 140 | 242 | 245 | 252 | 255 => [reader.u8().map_err(early)?, 0],
                15 | 16 | 141 | 246..=248 | 253 | 254 => reader.array().map_err(early)?,
                20 => return Err(Fault::Gone(format!("column '{}' is of an array", column.name))),
                _ => [0, 0],
            };
            let kind = kind(column, *logged, of, charsets).map_err(Fault::Gone)?;
            let kind = kind.ok_or_else(|| {
                let (name, is) = (&column.name, &column.declared.column_type);
                Fault::Altered(format!("column '{name}' is {is}, and the log has it as type {logged}"))
            })?;
            kinds.push(kind);
        }
        let heads = columns.iter().zip(&kinds).map(|(column, kind)| head(column, kind)).collect();
        Ok(Self { types: types.to_vec(), metadata: metadata.to_vec(), columns: kinds, heads })
    }

    /// Whether the log states the same columns.
    pub fn is_of(&self, types: &[u8], metadata: &[u8]) -> bool {
        self.types == types && self.metadata == metadata
    }

    /// The columns of its rows.
    pub fn heads(&self) -> &[ColumnHead] {
        &self.heads
    }

    /// Takes one image from the front and writes it as a row; says where each column's value stands in it.
    pub fn row(
        &self,
        images: &mut Reader<'_>,
        out: &mut Vec<u8>,
        places: &mut Vec<Range<usize>>,
    ) -> Result<(), WireError> {
        let count = self.columns.len();
        let nulls = images.take(count.div_ceil(8))?;
        out.clear();
        out.resize((count + 7 + 2) / 8, 0);
        places.clear();
        for (at, kind) in self.columns.iter().enumerate() {
            let from = out.len();
            if nulls[at / 8] >> (at % 8) & 1 == 1 {
                out[(at + 2) / 8] |= 1 << ((at + 2) % 8);
            } else {
                kind.copy(images, out)?;
            }
            places.push(from..out.len());
        }
        Ok(())
    }
}

fn head(column: &PhysicalColumn, kind: &Kind) -> ColumnHead {
    let (kind, sign) = match kind {
        Kind::Number(_, 1, sign) => (1, *sign),
        Kind::Number(_, 2, sign) => (2, *sign),
        Kind::Number(_, 4, sign) => (3, *sign),
        Kind::Number(_, _, sign) => (8, *sign),
        Kind::Year => (13, false),
        _ => (253, true),
    };
    let flags = if sign { 0 } else { UNSIGNED };
    ColumnHead { name: column.name.clone(), charset: 0, length: 0, kind, flags, decimals: 0 }
}

/// How a column stands in the log; none where the log has another type for it than the catalog, an error for what is not read.
fn kind(
    column: &PhysicalColumn,
    logged: u8,
    [first, second]: [u8; 2],
    charsets: &HashMap<String, Charset>,
) -> Result<Option<Kind>, String> {
    let declared = &column.declared;
    let sign = !declared.column_type.contains("unsigned");
    let said = |longest: u64| Length::Said(if longest < 256 { 1 } else { 2 });
    // The real type of short values stands where their length does, which lends it two bits.
    let (logged, length) = match logged {
        254 if first & 0x30 != 0x30 => (254, u64::from(second) | u64::from((first & 0x30) ^ 0x30) << 4),
        254 => (first, u64::from(second)),
        15 | 253 => (15, u64::from(u16::from_le_bytes([first, second]))),
        other => (other, u64::from(first)),
    };
    let length = match logged {
        242 | 245 | 252 | 255 => Length::Said(first),
        _ => said(length),
    };
    let bytes = usize::from(second);
    let text = |length| {
        let charset = column.collation.as_deref().map_or("utf8mb4", of_collation);
        match charsets.get(charset) {
            Some(charset) => Ok(Some(Kind::Text(length, charset.clone()))),
            None => {
                Err(format!("column '{}' is in {charset}, which this version cannot convert", column.name))
            }
        }
    };
    Ok(Some(match (declared.data_type.as_str(), logged) {
        (_, 140 | 141) => return Err(format!("column '{}' is COMPRESSED", column.name)),
        ("tinyint", 1) => Kind::Number(1, 1, sign),
        ("smallint", 2) => Kind::Number(2, 2, sign),
        ("mediumint", 9) => Kind::Number(3, 4, sign),
        ("int", 3) => Kind::Number(4, 4, sign),
        ("bigint", 8) => Kind::Number(8, 8, sign),
        ("float", 4) => Kind::Float(4),
        ("double", 5) => Kind::Float(8),
        ("year", 13) => Kind::Year,
        ("bit", 16) => Kind::Bytes(Length::Of(u64::from(second) + u64::from(first > 0))),
        ("decimal", 246) => {
            let zeros = declared.column_type.contains("zerofill");
            Kind::Decimal { precision: first, scale: second, zeros }
        }
        ("date", 10) => Kind::Date,
        ("time", 19) => Kind::Time(first),
        ("datetime", 18) => Kind::Datetime(first),
        ("timestamp", 17) => Kind::Timestamp(first),
        ("time" | "datetime" | "timestamp", _) => {
            return Err(format!(
                "column '{}' is of an old form of {}; ALTER TABLE … FORCE gives it the new one",
                column.name, declared.data_type
            ));
        }
        ("char", 254) | ("varchar", 15) => return text(length),
        ("tinytext" | "text" | "mediumtext" | "longtext", 252) => return text(length),
        ("binary", 254) => Kind::Padded(length, declared.characters.unwrap_or(0) as usize),
        ("varbinary", 15) | ("tinyblob" | "blob" | "mediumblob" | "longblob", 252) => Kind::Bytes(length),
        ("vector", 242) => Kind::Bytes(length),
        ("enum", 247) => Kind::Enum(bytes, members(&declared.column_type)),
        ("set", 248) => Kind::Set(bytes, members(&declared.column_type)),
        ("json", 245) => Kind::Json(length),
        ("json", 252) => return text(length),
        ("uuid", 254) => Kind::Uuid(length),
        ("inet4", 254) => Kind::Inet4(length),
        ("inet6", 254) => Kind::Inet6(length),
        (_, 255) => Kind::Bytes(length),
        _ => return Ok(None),
    }))
}

impl Kind {
    fn copy(&self, images: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Self::Number(logged, sent, sign) => {
                let bytes = images.take(*logged)?;
                out.extend(bytes);
                let negative = *sign && bytes.last().is_some_and(|b| b & 0x80 != 0);
                out.extend(std::iter::repeat_n(if negative { 0xff } else { 0 }, sent - logged));
            }
            Self::Year => {
                let year = images.u8()?;
                let year = if year == 0 { 0 } else { 1900 + u16::from(year) };
                out.extend(year.to_le_bytes());
            }
            Self::Decimal { precision, scale, zeros } => {
                put(out, decimal(images, *precision, *scale, *zeros)?.as_bytes());
            }
            Self::Date => {
                let [a, b, c] = images.array()?;
                let date = u32::from_le_bytes([a, b, c, 0]);
                out.push(4);
                put_date(out, date >> 9, date >> 5 & 15, date & 31);
            }
            Self::Datetime(digits) => {
                let moment = high_first(images.take(5)?) - (1 << 39);
                put_moment(out, moment, fraction(images, *digits)?)?;
            }
            Self::Timestamp(digits) => {
                let seconds = high_first(images.take(4)?);
                let micros = fraction(images, *digits)?;
                let (mut day, mut second) = ((0, 0, 0), 0);
                // The zero timestamp is none of 1970.
                if seconds != 0 || micros != 0 {
                    let moment = jiff::Timestamp::from_second(seconds).map_err(|_| NOT_SO)?;
                    let date = jiff::tz::Offset::UTC.to_datetime(moment).date();
                    day = (date.year() as u32, date.month() as u32, date.day() as u32);
                    second = seconds % 86_400;
                }
                out.push(11);
                put_date(out, day.0, day.1, day.2);
                out.extend([second / 3600, second / 60 % 60, second % 60].map(|part| part as u8));
                out.extend((micros as u32).to_le_bytes());
            }
            Self::Time(digits) => {
                let packed = time(images, *digits)?;
                let (hour, minute, second, micros) = parts(packed.abs());
                out.extend([12, u8::from(packed < 0)]);
                out.extend(((hour / 24) as u32).to_le_bytes());
                out.extend([hour % 24, minute, second].map(|part| part as u8));
                out.extend((micros as u32).to_le_bytes());
            }
            Self::Text(length, charset) => {
                let text = charset.decode(length.take(images)?);
                let text = text.ok_or(WireError::Malformed("a logged text is none of its character set"))?;
                put(out, text.as_bytes());
            }
            Self::Float(bytes) => out.extend(images.take(*bytes)?),
            Self::Bytes(length) => put(out, length.take(images)?),
            Self::Padded(length, size) => {
                let bytes = length.take(images)?;
                put_number(out, bytes.len().max(*size) as u64);
                out.extend(bytes);
                out.extend(std::iter::repeat_n(0, size.saturating_sub(bytes.len())));
            }
            Self::Enum(bytes, members) => {
                let at = low_first(images.take(*bytes)?);
                let member = match at {
                    // What was no member when it was written.
                    0 => "",
                    _ => members.get(at as usize - 1).ok_or(NOT_SO)?,
                };
                put(out, member.as_bytes());
            }
            Self::Set(bytes, members) => {
                let chosen = low_first(images.take(*bytes)?);
                let names = members.iter().take(64).enumerate().filter(|(at, _)| chosen >> at & 1 == 1);
                let names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
                put(out, names.join(",").as_bytes());
            }
            Self::Json(length) => put(out, json::text(length.take(images)?)?.as_bytes()),
            Self::Uuid(length) => {
                put(out, uuid(u128::from_be_bytes(padded(length.take(images)?)?)).as_bytes())
            }
            Self::Inet4(length) => {
                let address = std::net::Ipv4Addr::from(padded(length.take(images)?)?);
                put(out, address.to_string().as_bytes());
            }
            Self::Inet6(length) => put(out, inet6(padded(length.take(images)?)?).as_bytes()),
        }
        Ok(())
    }
}

impl Length {
    fn take<'a>(self, images: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
        let length = match self {
            Self::Of(length) => length,
            Self::Said(bytes) => low_first(images.take(bytes.min(8).into())?),
        };
        images.take(usize::try_from(length).map_err(|_| NOT_SO)?)
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend(bytes);
}

fn low_first(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn high_first(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
}

/// Microseconds of a fraction of so many digits.
fn fraction(images: &mut Reader<'_>, digits: u8) -> Result<i64, WireError> {
    Ok(match digits {
        0 => 0,
        1 | 2 => high_first(images.take(1)?) * 10_000,
        3 | 4 => high_first(images.take(2)?) * 100,
        5 | 6 => high_first(images.take(3)?),
        _ => return Err(NOT_SO),
    })
}

/// A time, as hours, minutes, seconds and microseconds in one number, below zero for negative times.
fn time(images: &mut Reader<'_>, digits: u8) -> Result<i64, WireError> {
    if matches!(digits, 5 | 6) {
        return Ok(high_first(images.take(6)?) - (1 << 47));
    }
    let mut whole = high_first(images.take(3)?) - (1 << 23);
    let (bytes, scale): (usize, i64) = match digits {
        0 => return Ok(whole << 24),
        1 | 2 => (1, 10_000),
        3 | 4 => (2, 100),
        _ => return Err(NOT_SO),
    };
    let mut part = high_first(images.take(bytes)?);
    // Negative times count their fraction from the next lower second.
    if whole < 0 && part > 0 {
        whole += 1;
        part -= 1 << (8 * bytes);
    }
    Ok((whole << 24) + part * scale)
}

/// Hours, minutes, seconds and microseconds of one number.
fn parts(packed: i64) -> (i64, i64, i64, i64) {
    let whole = packed >> 24;
    (whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63, packed & 0xff_ffff)
}

fn put_date(out: &mut Vec<u8>, year: u32, month: u32, day: u32) {
    out.extend((year as u16).to_le_bytes());
    out.extend([month as u8, day as u8]);
}

fn put_moment(out: &mut Vec<u8>, moment: i64, micros: i64) -> Result<(), WireError> {
    let months = u32::try_from(moment >> 22).map_err(|_| NOT_SO)?;
    out.push(11);
    put_date(out, months / 13, months % 13, (moment >> 17 & 31) as u32);
    out.extend([moment >> 12 & 31, moment >> 6 & 63, moment & 63].map(|part| part as u8));
    out.extend((micros as u32).to_le_bytes());
    Ok(())
}

/// The text of a date in a JSON document.
pub(super) fn packed_date(packed: i64) -> String {
    let whole = packed >> 24;
    let months = whole >> 22;
    format!("{:04}-{:02}-{:02}", months / 13, months % 13, whole >> 17 & 31)
}

/// The text of a date with its time in a JSON document.
pub(super) fn packed_moment(packed: i64) -> String {
    let (whole, micros) = (packed >> 24, packed & 0xff_ffff);
    let (hour, minute, second) = (whole >> 12 & 31, whole >> 6 & 63, whole & 63);
    format!("{} {hour:02}:{minute:02}:{second:02}.{micros:06}", packed_date(packed))
}

/// The text of a time in a JSON document.
pub(super) fn packed_time(packed: i64) -> String {
    let (hour, minute, second, micros) = parts(packed.saturating_abs());
    format!("{}{hour:02}:{minute:02}:{second:02}.{micros:06}", if packed < 0 { "-" } else { "" })
}

/// Bytes of so many decimal digits.
const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// The text of a decimal: nine digits in four bytes, those of the ends in fewer; the first bit says that it is not negative, and
/// negative ones have all bits turned.
pub(super) fn decimal(
    images: &mut Reader<'_>,
    precision: u8,
    scale: u8,
    zeros: bool,
) -> Result<String, WireError> {
    let whole = usize::from(precision.checked_sub(scale).ok_or(NOT_SO)?);
    let scale = usize::from(scale);
    let bytes = whole / 9 * 4 + DIGIT_BYTES[whole % 9] + scale / 9 * 4 + DIGIT_BYTES[scale % 9];
    let mut bytes = images.take(bytes)?.to_vec();
    let Some(first) = bytes.first_mut() else { return Err(NOT_SO) };
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let mut rest = Reader(&bytes);
    let mut digits = |count: usize, text: &mut String| {
        if count > 0 {
            let number = high_first(rest.take(DIGIT_BYTES[count])?);
            *text += &format!("{number:0count$}");
        }
        Ok::<_, WireError>(())
    };
    let (mut before, mut behind) = (String::new(), String::new());
    digits(whole % 9, &mut before)?;
    for _ in 0..whole / 9 {
        digits(9, &mut before)?;
    }
    for _ in 0..scale / 9 {
        digits(9, &mut behind)?;
    }
    digits(scale % 9, &mut behind)?;
    let before = match before.trim_start_matches('0') {
        _ if zeros && whole > 0 => before.as_str(),
        "" => "0",
        shown => shown,
    };
    let sign = if negative { "-" } else { "" };
    Ok(if behind.is_empty() { format!("{sign}{before}") } else { format!("{sign}{before}.{behind}") })
}

/// The members of `enum('a','b''c')`.
fn members(column_type: &str) -> Vec<String> {
    let mut all = vec![];
    let mut characters = column_type.chars().peekable();
    while characters.by_ref().any(|c| c == '\'') {
        let mut member = String::new();
        while let Some(character) = characters.next() {
            match character {
                '\'' if characters.peek() == Some(&'\'') => {
                    characters.next();
                    member.push('\'');
                }
                '\'' => break,
                '\\' => member.push(match characters.next() {
                    Some('0') => '\0',
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some(other) => other,
                    None => '\\',
                }),
                other => member.push(other),
            }
        }
        all.push(member);
    }
    all
}

/// Zeros at the end are not logged.
fn padded<const N: usize>(bytes: &[u8]) -> Result<[u8; N], WireError> {
    let mut all = [0; N];
    all.get_mut(..bytes.len()).ok_or(NOT_SO)?.copy_from_slice(bytes);
    Ok(all)
}

fn uuid(number: u128) -> String {
    let digits = format!("{number:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// As MariaDB writes it: the longest gap of zeros is left out, be it one group long, and what stands for an address of four
/// bytes is written as one.
fn inet6(bytes: [u8; 16]) -> String {
    let groups: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|two| u16::from_be_bytes(*two)).collect();
    let (mut gap, mut at) = (0..0, 0);
    while at < groups.len() {
        let length = groups[at..].iter().take_while(|group| **group == 0).count();
        if length > gap.len() {
            gap = at..at + length;
        }
        at += length.max(1);
    }
    let hex = |groups: &[u16]| groups.iter().map(|g| format!("{g:x}")).collect::<Vec<_>>().join(":");
    let four = gap.start == 0 && (gap.len() == 6 || gap.len() == 5 && groups[5] == 0xffff);
    if four {
        let last = std::net::Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]);
        return format!("::{}{last}", if gap.len() == 5 { "ffff:" } else { "" });
    }
    match gap.is_empty() {
        true => hex(&groups),
        false => format!("{}::{}", hex(&groups[..gap.start]), hex(&groups[gap.end..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_with_all_their_digits() {
        let text = |bytes: &[u8], precision, scale| decimal(&mut Reader(bytes), precision, scale, false);
        // 1234567890.1234 of decimal(14,4), and its negative.
        assert_eq!(text(&[0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2], 14, 4).unwrap(), "1234567890.1234");
        assert_eq!(text(&[0x7e, 0xf2, 0x04, 0xc7, 0x2d, 0xfb, 0x2d], 14, 4).unwrap(), "-1234567890.1234");
        assert_eq!(text(&[0x80, 0, 5], 5, 2).map(|t| t.len()).unwrap(), 4);
        assert!(text(&[0x80], 5, 2).is_err() && text(&[0x80], 2, 5).is_err());
    }

    #[test]
    fn members_are_read_as_they_were_declared() {
        assert_eq!(members("enum('a','b''c','','x,y')"), ["a", "b'c", "", "x,y"]);
        assert_eq!(members(r"set('a\\b','\n')"), ["a\\b", "\n"]);
    }

    #[test]
    fn addresses_are_written_as_mariadb_does() {
        let shown = |text: &str| inet6(text.parse::<std::net::Ipv6Addr>().unwrap().octets());
        for (given, wanted) in [
            ("::", "::"),
            ("::1", "::1"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("::0.0.1.0", "::100"),
            ("1:0:2:3:4:5:6:7", "1::2:3:4:5:6:7"),
            ("1:0:0:3:0:0:0:7", "1:0:0:3::7"),
            ("1:0:0:3:0:0:5:7", "1::3:0:0:5:7"),
            ("1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7::"),
            ("::ffff:0:1", "::ffff:0.0.0.1"),
            ("0:0:0:0:0:fffe:1:2", "::fffe:1:2"),
            ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ] {
            assert_eq!(shown(given), wanted);
        }
        assert_eq!(uuid(0x0123_4567_89ab_4def_8123_4567_89ab_cdef), "01234567-89ab-4def-8123-456789abcdef");
    }

    #[test]
    fn images_of_any_bytes_are_rows_or_errors() {
        let column = |data_type: &str, column_type: &str| PhysicalColumn {
            name: "c".into(),
            declared: crate::types::Declared {
                data_type: data_type.into(),
                column_type: column_type.into(),
                characters: Some(9),
                precision: None,
                scale: None,
            },
            nullable: true,
            collation: Some("utf8mb4_bin".into()),
            generated: false,
        };
        let all = [
            ("int", 3, &[][..]),
            ("mediumint", 9, &[]),
            ("bigint", 8, &[]),
            ("year", 13, &[]),
            ("double", 5, &[8]),
            ("bit", 16, &[3, 1]),
            ("decimal", 246, &[30, 10]),
            ("decimal", 246, &[255, 255]),
            ("date", 10, &[]),
            ("time", 19, &[3]),
            ("time", 19, &[9]),
            ("datetime", 18, &[6]),
            ("timestamp", 17, &[2]),
            ("varchar", 15, &[80, 1]),
            ("char", 254, &[254, 9]),
            ("binary", 254, &[254, 9]),
            ("blob", 252, &[4]),
            ("blob", 252, &[200]),
            ("json", 245, &[4]),
            ("enum", 254, &[247, 1]),
            ("enum", 254, &[247, 200]),
            ("set", 254, &[248, 8]),
            ("uuid", 254, &[254, 16]),
            ("inet4", 254, &[254, 4]),
            ("inet6", 254, &[254, 16]),
        ];
        let charsets = HashMap::from([("utf8mb4".to_owned(), Charset::Utf8)]);
        let (mut seed, mut good, mut bad) = (1_u64, 0, 0);
        for (name, logged, metadata) in all {
            let columns = [column(name, "x('a','b')")];
            let form = Form::new(&columns, &[logged], metadata, &charsets).unwrap();
            for length in 0..600 {
                let mut next = || {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 56) as u8
                };
                let image: Vec<u8> =
                    std::iter::once(0).chain((0..length % 40).map(|_| next() >> (length % 8))).collect();
                let (mut row, mut places) = (vec![], vec![]);
                match form.row(&mut Reader(&image), &mut row, &mut places) {
                    Ok(()) => good += 1,
                    Err(_) => bad += 1,
                }
            }
            assert!(Form::new(&columns, &[logged], &[], &charsets).is_err() || metadata.is_empty());
        }
        assert!(good > 1000 && bad > 1000, "{good} rows, {bad} errors");
        let error = Form::new(&[column("int", "int")], &[8], &[], &charsets).unwrap_err();
        assert!(matches!(error, Fault::Altered(_)));
        assert!(matches!(Form::new(&[], &[8], &[], &charsets).unwrap_err(), Fault::Altered(_)));
    }

    #[test]
    fn times_below_zero_keep_their_fraction() {
        // -00:00:01.5 of time(1): the next lower second and half of it.
        let whole = ((1_i64 << 23) - 2).to_be_bytes();
        let packed =
            time(&mut Reader(&[whole[5], whole[6], whole[7], 256u16.wrapping_sub(50) as u8]), 1).unwrap();
        assert_eq!(packed_time(packed), "-00:00:01.500000");
        assert!(time(&mut Reader(&[0x80]), 0).is_err() && time(&mut Reader(&[0; 9]), 7).is_err());
    }
}
