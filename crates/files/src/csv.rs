//! CSV as records of fields, with the line in which each begins (RFC 4180, with a delimiter of choice).
//!
//! Invariant: every byte of the file belongs to a record or is an error; no field is lost, trimmed or guessed. A quote
//! begins a quoted field only as its first character; elsewhere in an unquoted field it is an ordinary character.
//! Records end with LF, CR LF or CR. Empty lines are skipped where a record has more than one field.

use crate::error::{FilesError, Place};
use crate::input::{Text, Window};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// One field's place in its record.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
    quoted: bool,
    /// Whether it holds doubled quotes.
    doubled: bool,
}

/// Reads records.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    window: Window,
    delimiter: u8,
    /// Bytes at which an unquoted field ends.
    ends: [bool; 256],
    line: u64,
    spans: Vec<Span>,
    at_start: bool,
}

/// One record: its fields, and the line in which it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) line: u64,
    /// Bytes it takes in the file.
    pub(crate) bytes: usize,
    text: &'a str,
    spans: &'a [Span],
}

impl<'a> Record<'a> {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Field `i` and whether it was quoted.
    #[inline]
    pub(crate) fn field(&self, i: usize) -> (Cow<'a, str>, bool) {
        let span = self.spans[i];
        // Fields end at ASCII characters, which never stand inside another character.
        let text = &self.text[span.start..span.end];
        (if span.doubled { Cow::Owned(text.replace("\"\"", "\"")) } else { Cow::Borrowed(text) }, span.quoted)
    }

    /// Whether it is an empty line.
    fn is_blank(&self) -> bool {
        matches!(self.spans, [Span { start, end, quoted: false, .. }] if start == end)
    }
}

/// How a try to find a record in the window ended.
enum Found {
    /// The record's bytes with its line end, and without.
    Record(usize, usize),
    More,
}

/// Why the text is no CSV.
enum Broken {
    UnclosedQuote,
    AfterQuote,
}

impl Reader {
    pub(crate) fn new(path: &Path, text: Text, delimiter: u8) -> Self {
        let mut ends = [false; 256];
        for b in [delimiter, b'\n', b'\r'] {
            ends[usize::from(b)] = true;
        }
        Self {
            path: path.to_owned(),
            window: Window::new(text),
            delimiter,
            ends,
            line: 1,
            spans: vec![],
            at_start: true,
        }
    }

    /// The next record; none at the end. `fields` is how many it has; none takes any number.
    pub(crate) fn next(&mut self, fields: Option<usize>) -> Result<Option<Record<'_>>, FilesError> {
        if self.at_start {
            self.skip_mark()?;
        }
        loop {
            let (taken, used) = loop {
                if self.window.rest().is_empty() && self.window.at_end() {
                    return Ok(None);
                }
                match self.find()? {
                    Found::Record(taken, used) => break (taken, used),
                    Found::More => self.window.more(&self.path, self.line)?,
                }
            };
            let line = self.line;
            let bytes = &self.window.rest()[..taken];
            self.line += lines_in(bytes);
            // An empty line is a record only where a record has one field.
            if used == 0 && fields != Some(1) {
                self.window.take(taken);
                continue;
            }
            let place = || Place::line(&self.path, line);
            let text =
                std::str::from_utf8(&self.window.take(taken)[..used]).map_err(|e| FilesError::Malformed {
                    place: place(),
                    reason: format!(
                        "field {} is not UTF-8",
                        self.spans.iter().position(|s| s.end > e.valid_up_to()).map_or(0, |i| i) + 1
                    ),
                })?;
            let record = Record { line, bytes: taken, text, spans: &self.spans };
            if let Some(fields) = fields
                && record.len() != fields
            {
                return Err(FilesError::Malformed {
                    place: place(),
                    reason: format!("{} where {fields} were expected", counted(record.len())),
                });
            }
            debug_assert!(fields == Some(1) || !record.is_blank());
            return Ok(Some(record));
        }
    }

    /// Takes the byte order mark, if the text begins with one.
    fn skip_mark(&mut self) -> Result<(), FilesError> {
        self.at_start = false;
        while self.window.rest().len() < 3 && !self.window.at_end() {
            self.window.more(&self.path, 1)?;
        }
        let rest = self.window.rest();
        if rest.starts_with(&[0xef, 0xbb, 0xbf]) {
            self.window.take(3);
        } else if rest.starts_with(&[0xff, 0xfe]) || rest.starts_with(&[0xfe, 0xff]) {
            return Err(FilesError::Malformed {
                place: Place::line(&self.path, 1),
                reason: "the text is UTF-16, not UTF-8".into(),
            });
        }
        Ok(())
    }

    fn find(&mut self) -> Result<Found, FilesError> {
        self.scan().map_err(|broken| FilesError::Malformed {
            place: Place::line(&self.path, self.line),
            reason: match broken {
                Broken::UnclosedQuote => {
                    format!("the quote that opens field {} is not closed", self.spans.len() + 1)
                }
                Broken::AfterQuote => {
                    format!("field {} goes on after its closing quote", self.spans.len() + 1)
                }
            },
        })
    }

    /// Looks for one record at the start of the window and notes its fields.
    #[inline]
    fn scan(&mut self) -> Result<Found, Broken> {
        let (bytes, at_end) = (self.window.rest(), self.window.at_end());
        self.spans.clear();
        let mut at = 0;
        loop {
            if bytes.get(at) == Some(&b'"') {
                let start = at + 1;
                at = start;
                let mut doubled = false;
                let end = loop {
                    let Some(n) = memchr::memchr(b'"', &bytes[at..]) else {
                        return if at_end { Err(Broken::UnclosedQuote) } else { Ok(Found::More) };
                    };
                    at += n + 1;
                    match bytes.get(at) {
                        Some(b'"') => {
                            doubled = true;
                            at += 1;
                        }
                        None if !at_end => return Ok(Found::More),
                        _ => break at - 1,
                    }
                };
                if bytes.get(at).is_some_and(|b| !self.ends[usize::from(*b)]) {
                    return Err(Broken::AfterQuote);
                }
                self.spans.push(Span { start, end, quoted: true, doubled });
            } else {
                let start = at;
                while at < bytes.len() && !self.ends[usize::from(bytes[at])] {
                    at += 1;
                }
                if at == bytes.len() && !at_end {
                    return Ok(Found::More);
                }
                self.spans.push(Span { start, end: at, quoted: false, doubled: false });
            }
            match bytes.get(at) {
                Some(b) if *b == self.delimiter => at += 1,
                None => return Ok(Found::Record(at, at)),
                Some(b'\r') => {
                    return match bytes.get(at + 1) {
                        Some(b'\n') => Ok(Found::Record(at + 2, at)),
                        None if !at_end => Ok(Found::More),
                        _ => Ok(Found::Record(at + 1, at)),
                    };
                }
                Some(_) => return Ok(Found::Record(at + 1, at)),
            }
        }
    }
}

/// Line ends in a record, its own included: LF, CR LF and CR each count once.
fn lines_in(bytes: &[u8]) -> u64 {
    let feeds = memchr::memchr_iter(b'\n', bytes).count();
    let returns = memchr::memchr_iter(b'\r', bytes).filter(|at| bytes.get(at + 1) != Some(&b'\n')).count();
    (feeds + returns) as u64
}

fn counted(fields: usize) -> String {
    if fields == 1 { "1 field".into() } else { format!("{fields} fields") }
}

/// Appends a field, quoted where it would otherwise be read as something else. `null` is what stands for NULL.
pub(crate) fn write_field(text: &str, delimiter: u8, null: &str, out: &mut String) {
    let special = |b: u8| b == delimiter || matches!(b, b'"' | b'\n' | b'\r');
    // An empty field stands for NULL in most readers, whatever else does.
    if text.is_empty() || text == null || text.starts_with('\u{feff}') || text.bytes().any(special) {
        out.push('"');
        for (i, part) in text.split('"').enumerate() {
            if i > 0 {
                out.push_str("\"\"");
            }
            out.push_str(part);
        }
        out.push('"');
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(String, bool)>;

    fn read(text: &[u8], delimiter: u8, fields: Option<usize>) -> Result<Vec<(u64, Fields)>, String> {
        let mut reader = Reader::new(Path::new("t.csv"), Text::of(text), delimiter);
        let mut out = vec![];
        loop {
            match reader.next(fields).map_err(|e| e.to_string())? {
                None => return Ok(out),
                Some(record) => {
                    let fields = (0..record.len()).map(|i| record.field(i));
                    out.push((record.line, fields.map(|(t, q)| (t.into_owned(), q)).collect()));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_fields_read_back(
            rows in prop::collection::vec(prop::collection::vec("[a\",;\r\n\t \u{feff}é]{0,6}", 3), 0..6),
            tab in any::<bool>()
        ) {
            let delimiter = if tab { b'\t' } else { b',' };
            let mut text = String::new();
            for row in &rows {
                for (i, field) in row.iter().enumerate() {
                    if i > 0 {
                        text.push(char::from(delimiter));
                    }
                    write_field(field, delimiter, "a", &mut text);
                }
                text.push('\n');
            }
            let back = read(text.as_bytes(), delimiter, Some(3)).unwrap();
            let back: Vec<Vec<String>> =
                back.into_iter().map(|(_, r)| r.into_iter().map(|(t, _)| t).collect()).collect();
            prop_assert_eq!(back, rows);
        }

        #[test]
        fn any_bytes_are_records_or_an_error(bytes in prop::collection::vec(prop_oneof![
            Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()
        ], 0..200)) {
            let _ = read(&bytes, b',', None);
            let _ = read(&bytes, b',', Some(2));
        }
    }

    #[test]
    fn records_know_the_line_in_which_they_begin() {
        let rows = read(b"a,b\r\n\"x\ny\r\nz\",2\n\n3,\"\"\r4,5", b',', Some(2)).unwrap();
        let lines: Vec<u64> = rows.iter().map(|r| r.0).collect();
        assert_eq!(lines, [1, 2, 6, 7]);
        assert_eq!(rows[1].1[0], ("x\ny\r\nz".into(), true));
        assert_eq!(rows[2].1[1], (String::new(), true));
        assert_eq!(rows[3].1[1], ("5".into(), false));
    }

    #[test]
    fn an_empty_line_is_a_record_only_of_one_field() {
        assert_eq!(read(b"a\n\nb\n", b',', Some(1)).unwrap().len(), 3);
        assert_eq!(read(b"a,b\n\nc,d\n\n", b',', Some(2)).unwrap().len(), 2);
    }

    #[test]
    fn broken_records_are_refused_with_their_line() {
        for (text, error) in [
            (&b"a,b\n1\n"[..], "t.csv, line 2: 1 field where 2 were expected"),
            (b"a,b\n1,2,3\n", "t.csv, line 2: 3 fields where 2 were expected"),
            (b"a,b\n1,\"2\n3,4\n", "t.csv, line 2: the quote that opens field 2 is not closed"),
            (b"a,b\n\"1\"x,2\n", "t.csv, line 2: field 1 goes on after its closing quote"),
            (b"a,b\n1,\xff\n", "t.csv, line 2: field 2 is not UTF-8"),
            (b"\xff\xfea\0", "t.csv, line 1: the text is UTF-16, not UTF-8"),
        ] {
            assert_eq!(read(text, b',', Some(2)).unwrap_err(), error);
        }
    }

    #[test]
    fn records_longer_than_the_window_and_a_mark_are_read() {
        let long = "x".repeat(1 << 20);
        let text = format!("\u{feff}a,\"{long}\"\nb,{long}\n");
        let rows = read(text.as_bytes(), b',', Some(2)).unwrap();
        assert_eq!((rows.len(), rows[0].1[0].0.as_str(), rows[1].1[1].0.len()), (2, "a", 1 << 20));
    }
}
