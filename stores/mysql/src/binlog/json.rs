//! MySQL's binary JSON as the text that the server prints.

use super::image::{decimal, packed_date, packed_moment, packed_time};
use crate::wire::WireError;
use crate::wire::codec::Reader;
use std::fmt::Write as _;

/// As deep as the server lets documents be.
const DEEPEST: u32 = 100;

const MALFORMED: WireError = WireError::Malformed("a JSON document is damaged");

/// Bytes of text that a byte of a document makes at most. Damaged ones that mean a part of them many times make more.
const LONGEST: usize = 16;

/// The text of a document.
pub(crate) fn text(document: &[u8]) -> Result<String, WireError> {
    let mut out = String::new();
    match document.split_first() {
        // What a column that allows no NULL gets where it was told to take anything.
        None => out.push_str("null"),
        Some((kind, rest)) => {
            value(*kind, rest, (0, (document.len() + 16) * LONGEST), &mut out)?;
        }
    }
    Ok(out)
}

/// `within`: how deep it is, and how long the text may become.
fn value(kind: u8, bytes: &[u8], within: (u32, usize), out: &mut String) -> Result<(), WireError> {
    if within.0 > DEEPEST || out.len() > within.1 {
        return Err(MALFORMED);
    }
    let mut reader = Reader(bytes);
    match kind {
        0..=3 => return container(kind, bytes, within, out),
        4 => out.push_str(match reader.u8()? {
            0 => "null",
            1 => "true",
            2 => "false",
            _ => return Err(MALFORMED),
        }),
        5 => put(out, i16::from_le_bytes(reader.array()?)),
        6 => put(out, reader.u16()?),
        7 => put(out, i32::from_le_bytes(reader.array()?)),
        8 => put(out, reader.u32()?),
        9 => put(out, i64::from_le_bytes(reader.array()?)),
        10 => put(out, reader.u64()?),
        11 => number(f64::from_le_bytes(reader.array()?), out),
        12 => {
            let length = length(&mut reader)?;
            quote(std::str::from_utf8(reader.take(length)?).map_err(|_| MALFORMED)?, out);
        }
        15 => {
            let of = reader.u8()?;
            let length = length(&mut reader)?;
            opaque(of, reader.take(length)?, out)?;
        }
        _ => return Err(MALFORMED),
    }
    Ok(())
}

fn put(out: &mut String, number: impl std::fmt::Display) {
    // Writing to memory does not fail.
    let _ = write!(out, "{number}");
}

fn container(kind: u8, bytes: &[u8], within: (u32, usize), out: &mut String) -> Result<(), WireError> {
    let (large, object) = (kind & 1 == 1, kind < 2);
    let within = (within.0 + 1, within.1);
    let mut reader = Reader(bytes);
    let size = |reader: &mut Reader<'_>| -> Result<usize, WireError> {
        Ok(if large { reader.u32()? as usize } else { reader.u16()?.into() })
    };
    let (count, total) = (size(&mut reader)?, size(&mut reader)?);
    let bytes = bytes.get(..total).ok_or(MALFORMED)?;
    let mut keys = Reader(reader.0);
    if object {
        reader.take(count.checked_mul(if large { 6 } else { 4 }).ok_or(MALFORMED)?)?;
    }
    out.push(if object { '{' } else { '[' });
    for at in 0..count {
        if at > 0 {
            out.push_str(", ");
        }
        if object {
            let from = size(&mut keys)?;
            let length = usize::from(keys.u16()?);
            let key = bytes.get(from..).and_then(|rest| rest.get(..length)).ok_or(MALFORMED)?;
            quote(std::str::from_utf8(key).map_err(|_| MALFORMED)?, out);
            out.push_str(": ");
        }
        let kind = reader.u8()?;
        let inline = reader.take(if large { 4 } else { 2 })?;
        if matches!(kind, 4..=6) || large && matches!(kind, 7 | 8) {
            value(kind, inline, within, out)?;
        } else {
            let from = size(&mut Reader(inline))?;
            value(kind, bytes.get(from..).ok_or(MALFORMED)?, within, out)?;
        }
    }
    out.push(if object { '}' } else { ']' });
    Ok(())
}

/// Seven bits a byte, the lowest first.
fn length(reader: &mut Reader<'_>) -> Result<usize, WireError> {
    let mut length = 0_u64;
    for shift in 0..5 {
        let byte = reader.u8()?;
        length |= u64::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            return usize::try_from(length).map_err(|_| MALFORMED);
        }
    }
    Err(MALFORMED)
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// A value of SQL in a document.
fn opaque(of: u8, bytes: &[u8], out: &mut String) -> Result<(), WireError> {
    let packed = || Ok::<_, WireError>(i64::from_le_bytes(Reader(bytes).array()?));
    match of {
        246 => {
            let mut reader = Reader(bytes);
            let (precision, scale) = (reader.u8()?, reader.u8()?);
            out.push_str(&decimal(&mut reader, precision, scale, false)?);
        }
        10 => quote(&packed_date(packed()?), out),
        7 | 12 => quote(&packed_moment(packed()?), out),
        11 => quote(&packed_time(packed()?), out),
        of => quote(&format!("base64:type{of}:{}", base64(bytes)), out),
    }
    Ok(())
}

/// In lines of 76 characters, as the server writes it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for (at, three) in bytes.chunks(3).enumerate() {
        if at > 0 && at % 19 == 0 {
            out.push('\n');
        }
        let number = three.iter().fold(0_u32, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let index = (number >> (18 - 6 * digit)) & 63;
            out.push(if digit > three.len() { '=' } else { DIGITS[index as usize].into() });
        }
    }
    out
}

/// The shortest text of a number, in the server's choice between `0.001` and `1e-3`.
fn number(number: f64, out: &mut String) {
    if number == 0.0 {
        out.push_str(if number.is_sign_negative() { "-0.0" } else { "0.0" });
        return;
    }
    let text = format!("{:e}", number.abs());
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = digits.replace('.', "");
    let (count, point) = (digits.len() as i32, exponent.parse::<i32>().unwrap_or(0) + 1);
    let sign = if number < 0.0 { "-" } else { "" };
    out.push_str(sign);
    let plain = point >= -14 && (point <= 15 || count > point);
    if !plain {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let _ = write!(out, "{first}{dot}{rest}e{}", point - 1);
    } else if point <= 0 {
        let _ = write!(out, "0.{}{digits}", "0".repeat(-point as usize));
    } else if point < count {
        let (whole, part) = digits.split_at(point as usize);
        let _ = write!(out, "{whole}.{part}");
    } else {
        let _ = write!(out, "{digits}{}.0", "0".repeat((point - count) as usize));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_server_does() {
        for (given, wanted) in [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (1e15, "1e15"),
            (1e14, "100000000000000.0"),
            (1e100, "1e100"),
            (1.5e-7, "0.00000015"),
            (1e-20, "1e-20"),
        ] {
            let mut out = String::new();
            number(given, &mut out);
            assert_eq!(out, wanted);
        }
    }

    #[test]
    fn damaged_documents_are_errors() {
        // {"a": [1, "x"]}
        let document = b"\0\x01\0\x1d\0\x0b\0\x01\0\x02\x0c\0a\x02\0\x11\0\x05\x01\0\x0c\x0a\0\x01x";
        let _ = text(document);
        for end in 1..document.len() {
            assert!(text(&document[..end]).is_err() || end > 20, "{end}");
        }
        // An array that holds itself.
        assert!(text(b"\x02\x01\0\x07\0\x02\0\0").is_err());
        // Arrays that each hold the next one many times.
        let mut nested = vec![2];
        for _ in 0..90 {
            nested.extend([8, 0, 28, 0]);
            (0..8).for_each(|_| nested.extend([2, 28, 0]));
        }
        let length = nested.len();
        for level in 0..90 {
            let rest = (length - 1 - level * 28).min(0xffff) as u16;
            nested[1 + level * 28 + 2..1 + level * 28 + 4].copy_from_slice(&rest.to_le_bytes());
        }
        assert!(text(&nested).is_err());
        let mut seed = 1_u64;
        for length in 0..4000 {
            let mut next = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8 % if length % 2 == 0 { 16 } else { 255 }
            };
            let document: Vec<u8> = (0..length % 80).map(|_| next()).collect();
            let _ = text(&document);
        }
        assert_eq!(text(b"").unwrap(), "null");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b"abc"), "YWJj");
    }
}
