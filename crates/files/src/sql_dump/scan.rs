//! Words, names, numbers and strings of MySQL's SQL.

use crate::error::{FilesError, Place, shown};
use std::path::Path;

/// The smallest pieces.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A keyword, or a name without quotes.
    Word(&'a str),
    /// A name in backticks.
    Name(String),
    Number(&'a str),
    /// A string without its quotes and escapes.
    Text(Vec<u8>),
    /// `0x…` or `X'…'`.
    Bytes(Vec<u8>),
    Symbol(u8),
    End,
}

/// A dump, read up to some place.
pub(super) struct Dump<'a> {
    pub(super) path: &'a Path,
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Dump<'a> {
    pub(super) fn place(&self, at: usize) -> Place {
        let before = &self.bytes[..at.min(self.bytes.len())];
        Place::line(self.path, 1 + memchr::memchr_iter(b'\n', before).count() as u64)
    }

    pub(super) fn error(&self, reason: String) -> FilesError {
        FilesError::Malformed { place: self.place(self.at), reason }
    }

    pub(super) fn expected<T>(&self, what: &str, found: &Token<'_>) -> Result<T, FilesError> {
        let found = match found {
            Token::Word(text) | Token::Number(text) => shown(text),
            Token::Name(text) => shown(text),
            Token::Text(_) | Token::Bytes(_) => "a string".into(),
            Token::Symbol(b) => char::from(*b).to_string(),
            Token::End => "the end of the file".into(),
        };
        Err(self.error(format!("expected {what}, found {found}")))
    }

    fn peek_byte(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Steps over white space and comments; a version comment's text is left to be read.
    fn skip_space(&mut self) {
        loop {
            let rest = &self.bytes[self.at..];
            let line_comment = rest.starts_with(b"#")
                || rest.starts_with(b"--") && rest.get(2).is_none_or(u8::is_ascii_whitespace);
            let end_of = |needle: &[u8]| {
                rest.windows(needle.len()).position(|w| w == needle).map_or(rest.len(), |n| n + needle.len())
            };
            self.at += if line_comment {
                memchr::memchr(b'\n', rest).unwrap_or(rest.len())
            } else if rest.starts_with(b"/*!") {
                3 + rest[3..].iter().take_while(|b| b.is_ascii_digit()).count()
            } else if rest.starts_with(b"/*") {
                end_of(b"*/")
            } else if rest.starts_with(b"*/") {
                2
            } else {
                match rest.iter().take_while(|b| b.is_ascii_whitespace()).count() {
                    0 => return,
                    n => n,
                }
            };
        }
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, FilesError> {
        self.skip_space();
        let (start, first) = (self.at, self.peek_byte(0));
        if self.at >= self.bytes.len() {
            return Ok(Token::End);
        }
        match first {
            b'\'' | b'"' => self.quoted(first, true).map(Token::Text),
            b'`' => match String::from_utf8(self.quoted(b'`', false)?) {
                Ok(name) => Ok(Token::Name(name)),
                Err(_) => Err(self.error("a name is not UTF-8".into())),
            },
            b'0' if matches!(self.peek_byte(1), b'x' | b'X') => {
                self.at += 2;
                let digits = self.take_while(|b| b.is_ascii_hexdigit());
                self.hex(digits.as_bytes())
            }
            b'x' | b'X' if self.peek_byte(1) == b'\'' => {
                self.at += 1;
                let digits = self.quoted(b'\'', false)?;
                self.hex(&digits)
            }
            b'0'..=b'9' | b'.' if first != b'.' || self.peek_byte(1).is_ascii_digit() => {
                self.take_while(|b| b.is_ascii_digit() || b == b'.');
                if matches!(self.peek_byte(0), b'e' | b'E') {
                    self.at += 1 + usize::from(matches!(self.peek_byte(1), b'+' | b'-'));
                    self.take_while(|b| b.is_ascii_digit());
                }
                Ok(Token::Number(std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default()))
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'@' | b'$' => Ok(Token::Word(
                self.take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'@' | b'$')),
            )),
            other => {
                self.at += 1;
                Ok(Token::Symbol(other))
            }
        }
    }

    /// ASCII characters from here on.
    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let bytes = &self.bytes[self.at..];
        let taken = &bytes[..bytes.iter().take_while(|b| b.is_ascii() && belongs(**b)).count()];
        self.at += taken.len();
        // Only ASCII is taken.
        std::str::from_utf8(taken).unwrap_or_default()
    }

    /// What stands between quotes, the opening one being here.
    fn quoted(&mut self, quote: u8, escapes: bool) -> Result<Vec<u8>, FilesError> {
        let start = self.at;
        let mut out = vec![];
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at).copied() {
            self.at += 1;
            if byte == quote {
                if self.peek_byte(0) != quote {
                    return Ok(out);
                }
                self.at += 1;
                out.push(quote);
            } else if byte == b'\\' && escapes {
                let escaped = self.peek_byte(0);
                self.at += 1;
                match escaped {
                    b'0' => out.push(0),
                    b'b' => out.push(8),
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    b'Z' => out.push(26),
                    b'%' | b'_' => out.extend([b'\\', escaped]),
                    other => out.push(other),
                }
            } else {
                out.push(byte);
            }
        }
        Err(FilesError::Malformed { place: self.place(start), reason: "a quote is not closed".into() })
    }

    fn hex(&self, digits: &[u8]) -> Result<Token<'a>, FilesError> {
        let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        // An odd number of digits has a zero before them.
        let (first, rest) = digits.split_at(digits.len() % 2);
        let mut bytes: Option<Vec<u8>> = first.iter().map(|b| digit(*b)).collect();
        for pair in rest.chunks_exact(2) {
            let byte = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low);
            bytes = bytes.zip(byte).map(|(mut bytes, byte)| {
                bytes.push(byte);
                bytes
            });
        }
        bytes
            .map(Token::Bytes)
            .ok_or_else(|| self.error("a string of hex digits holds something else".into()))
    }

    /// Steps over the words when they come next, in any case.
    pub(super) fn eat_word(&mut self, word: &str) -> Result<bool, FilesError> {
        let before = self.at;
        let found = matches!(self.next()?, Token::Word(w) if w.eq_ignore_ascii_case(word));
        if !found {
            self.at = before;
        }
        Ok(found)
    }

    pub(super) fn eat(&mut self, symbol: u8) -> Result<bool, FilesError> {
        let before = self.at;
        let found = self.next()? == Token::Symbol(symbol);
        if !found {
            self.at = before;
        }
        Ok(found)
    }

    pub(super) fn expect(&mut self, symbol: u8) -> Result<(), FilesError> {
        match self.next()? {
            Token::Symbol(found) if found == symbol => Ok(()),
            found => self.expected(&format!("'{}'", char::from(symbol)), &found),
        }
    }

    pub(super) fn name(&mut self) -> Result<String, FilesError> {
        let name = match self.next()? {
            Token::Word(name) => name.to_owned(),
            Token::Name(name) => name,
            found => return self.expected("a name", &found),
        };
        // The last part of `database.table` counts.
        if self.eat(b'.')? { self.name() } else { Ok(name) }
    }

    pub(super) fn skip_past(&mut self, symbol: u8) -> Result<(), FilesError> {
        loop {
            match self.next()? {
                Token::End => return Ok(()),
                Token::Symbol(found) if found == symbol => return Ok(()),
                _ => {}
            }
        }
    }

    /// Steps over procedures and triggers, up to the line `DELIMITER ;`.
    pub(super) fn skip_delimited(&mut self) {
        let rest = &self.bytes[self.at..];
        let own: &[u8] = b";";
        let line = rest.split(|b| *b == b'\n').next().unwrap_or_default();
        self.at += line.len();
        if line.trim_ascii() != own {
            for line in self.bytes[self.at..].split_inclusive(|b| *b == b'\n') {
                self.at += line.len();
                let line = line.trim_ascii();
                let word = line.get(..9).is_some_and(|w| w.eq_ignore_ascii_case(b"DELIMITER"));
                if word && line[9..].trim_ascii() == own {
                    return;
                }
            }
        }
    }
}
