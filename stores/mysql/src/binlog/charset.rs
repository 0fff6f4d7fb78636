//! Texts of logs, which are in their column's character set, as the UTF-8 that a SELECT gives.
//!
//! Sets of one or two bytes are converted by the server's own tables, read once: what has no Unicode character is the same `?` then.

use crate::connection::Connection;
use crate::names::text;
use crate::wire::WireError;
use std::borrow::Cow;
use std::sync::Arc;

/// How the bytes of a text are read.
#[derive(Clone, Debug)]
pub(crate) enum Charset {
    Utf8,
    Utf16,
    Utf16Le,
    Utf32,
    Own(Arc<Characters>),
}

/// Characters by their one or two bytes.
#[derive(Debug)]
pub(crate) struct Characters {
    single: Vec<Option<String>>,
    /// By first byte, then second.
    double: Vec<Option<String>>,
}

/// The character set of a collation.
pub(crate) fn of_collation(collation: &str) -> &str {
    collation.split('_').next().unwrap_or(collation)
}

impl Charset {
    /// A character set of this server; none where this version cannot convert it.
    pub async fn read(connection: &mut Connection, name: &str) -> Result<Option<Self>, WireError> {
        match name {
            "utf8mb4" | "utf8mb3" | "utf8" => return Ok(Some(Self::Utf8)),
            "utf16" | "ucs2" => return Ok(Some(Self::Utf16)),
            "utf16le" => return Ok(Some(Self::Utf16Le)),
            "utf32" => return Ok(Some(Self::Utf32)),
            _ => {}
        }
        let longest = format!(
            "SELECT maxlen FROM information_schema.character_sets WHERE character_set_name = {}",
            text(name)
        );
        let longest = connection.rows(&longest).await?;
        let longest = longest.first().and_then(|row| row.first()?.as_deref()).unwrap_or_default();
        // A name is put into statements; those of servers are plain words.
        if !matches!(longest, b"1" | b"2") || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Ok(None);
        }
        let numbers = |name: &str, from: u32, to: u32| {
            format!("{name} AS (SELECT {from} n UNION ALL SELECT n + 1 FROM {name} WHERE n < {to})")
        };
        let single = format!(
            "WITH RECURSIVE {} SELECT n, HEX(CONVERT(CHAR(n USING {name}) USING utf8mb4)) FROM a",
            numbers("a", 0, 255)
        );
        let single = characters(connection, &single, 256).await?;
        let mut double = vec![];
        if longest == b"2" {
            let sql = format!(
                "WITH RECURSIVE {}, {} SELECT a.n * 256 + b.n, HEX(CONVERT(CHAR(a.n, b.n USING {name}) USING utf8mb4)) FROM a, b",
                numbers("a", 128, 255),
                numbers("b", 48, 255)
            );
            double = characters(connection, &sql, 65_536).await?;
        }
        Ok(Some(Self::Own(Arc::new(Characters { single, double }))))
    }

    /// The text of these bytes; none where they are no text of this set.
    pub fn decode<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Self::Utf16 => units(bytes, u16::from_be_bytes).map(Cow::Owned),
            Self::Utf16Le => units(bytes, u16::from_le_bytes).map(Cow::Owned),
            Self::Utf32 => {
                let (four, rest) = bytes.as_chunks::<4>();
                let all = four.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
                rest.is_empty().then(|| all.collect()).flatten().map(Cow::Owned)
            }
            Self::Own(characters) => characters.decode(bytes).map(Cow::Owned),
        }
    }
}

fn units(bytes: &[u8], unit: impl Fn([u8; 2]) -> u16) -> Option<String> {
    let (two, rest) = bytes.as_chunks::<2>();
    let all = char::decode_utf16(two.iter().map(|bytes| unit(*bytes)));
    rest.is_empty().then(|| all.collect::<Result<String, _>>().ok()).flatten()
}

async fn characters(
    connection: &mut Connection,
    sql: &str,
    size: usize,
) -> Result<Vec<Option<String>>, WireError> {
    let mut all = vec![None; size];
    let malformed = || WireError::Malformed("a character is none");
    for row in connection.rows(sql).await? {
        let mut parts = row.into_iter().map(|part| part.map(|p| String::from_utf8_lossy(&p).into_owned()));
        let (code, hex) = (parts.next().flatten(), parts.next().flatten());
        let code: usize = code.and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
        let bytes = hex.map(|hex| {
            (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16))
                .collect::<Result<Vec<u8>, _>>()
        });
        let Some(bytes) = bytes.transpose().map_err(|_| malformed())? else { continue };
        let text = String::from_utf8(bytes).map_err(|_| malformed())?;
        // Bytes that are no character, or are two, give something else than one.
        if text.chars().count() == 1 {
            *all.get_mut(code).ok_or_else(malformed)? = Some(text);
        }
    }
    Ok(all)
}

impl Characters {
    fn decode(&self, bytes: &[u8]) -> Option<String> {
        let mut text = String::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((&first, more)) = rest.split_first() {
            if let Some(one) = self.single.get(usize::from(first))? {
                text.push_str(one);
                rest = more;
                continue;
            }
            let (&second, more) = more.split_first()?;
            let code = usize::from(first) << 8 | usize::from(second);
            text.push_str(self.double.get(code)?.as_deref()?);
            rest = more;
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_every_width_are_read() {
        assert_eq!(Charset::Utf16.decode(&[0, 0x41, 0xd8, 0x3d, 0xde, 0]).unwrap(), "A😀");
        assert_eq!(Charset::Utf16Le.decode(&[0x41, 0]).unwrap(), "A");
        assert_eq!(Charset::Utf32.decode(&[0, 1, 0xf6, 0]).unwrap(), "😀");
        for charset in [Charset::Utf8, Charset::Utf16, Charset::Utf16Le, Charset::Utf32] {
            assert!(charset.decode(&[0xff, 0xff, 0xff, 0xff, 0xff]).is_none());
        }
        let mut single = vec![None; 256];
        single[65] = Some("A".to_owned());
        let mut double = vec![None; 65_536];
        double[0x8140] = Some("丂".to_owned());
        let own = Charset::Own(Arc::new(Characters { single, double }));
        assert_eq!(own.decode(b"A\x81\x40A").unwrap(), "A丂A");
        assert!(own.decode(b"A\x81").is_none() && own.decode(b"\x82\x41").is_none());
        assert_eq!(of_collation("utf8mb4_0900_ai_ci"), "utf8mb4");
        assert_eq!(of_collation("binary"), "binary");
    }
}
