//! Lines of a text that hold something, with their numbers.
//!
//! Invariant: every line is UTF-8 text without its line end (LF or CR LF); lines of nothing but white space are skipped.

use crate::error::{FilesError, Place};
use crate::input::{Text, Window};
use std::path::{Path, PathBuf};

/// Reads lines.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    window: Window,
    /// Lines taken.
    line: u64,
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Its number, from 1.
    pub(crate) number: u64,
    pub(crate) text: &'a str,
}

impl Lines {
    pub(crate) fn new(path: &Path, text: Text) -> Self {
        Self { path: path.to_owned(), window: Window::new(text), line: 0 }
    }

    /// The next line that holds something; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Line<'_>>, FilesError> {
        let length = loop {
            // What was searched already holds no line end.
            let mut searched = 0;
            let length = loop {
                let rest = self.window.rest();
                match memchr::memchr(b'\n', &rest[searched..]) {
                    Some(at) => break searched + at + 1,
                    None if self.window.at_end() => break rest.len(),
                    None => {
                        searched = rest.len();
                        self.window.more(&self.path, self.line + 1)?;
                    }
                }
            };
            if length == 0 {
                return Ok(None);
            }
            self.line += 1;
            let mark: &[u8] = if self.line == 1 { b"\xef\xbb\xbf" } else { b"" };
            let bytes = &self.window.rest()[..length];
            if !bytes.strip_prefix(mark).unwrap_or(bytes).trim_ascii().is_empty() {
                if bytes.starts_with(mark) {
                    self.window.take(mark.len());
                    break length - mark.len();
                }
                break length;
            }
            self.window.take(length);
        };
        let number = self.line;
        match std::str::from_utf8(self.window.take(length)) {
            Ok(text) => Ok(Some(Line { number, text: text.trim_end_matches(['\n', '\r']) })),
            Err(e) => Err(FilesError::Malformed {
                place: Place::line(&self.path, number),
                reason: format!("byte {} is not UTF-8", e.valid_up_to() + 1),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<(u64, String)>, String> {
        let mut lines = Lines::new(Path::new("t.jsonl"), Text::of(text));
        let mut out = vec![];
        loop {
            match lines.next().map_err(|e| e.to_string())? {
                None => return Ok(out),
                Some(line) => out.push((line.number, line.text.to_owned())),
            }
        }
    }

    #[test]
    fn lines_keep_their_numbers_when_empty_ones_are_skipped() {
        let long = "x".repeat(1 << 20);
        let text = format!("\u{feff}a\r\n\n \t\r\nb\n{long}\nc");
        let lines = read(text.as_bytes()).unwrap();
        assert_eq!(lines, [(1, "a".into()), (4, "b".into()), (5, long), (6, "c".into())]);
        assert_eq!(read(b"").unwrap(), []);
        assert_eq!(read(b"\xef\xbb\xbf\n").unwrap(), []);
    }

    #[test]
    fn a_line_that_is_not_utf8_is_named() {
        assert_eq!(read(b"a\n\nb\xff\n").unwrap_err(), "t.jsonl, line 3: byte 2 is not UTF-8");
    }
}
