//! JSON values that keep their own text: numbers as written, objects and arrays as a slice of the line.
//!
//! A number goes through no float and an object's text is kept as given, which is why this does not build a tree.
//! Invariant: accepts exactly RFC 8259, except that nesting ends at [`MOST_DEPTH`] and lone surrogates are refused.

use std::borrow::Cow;
use std::fmt;

/// How deep arrays and objects may stand in each other.
pub(crate) const MOST_DEPTH: u32 = 500;

/// One value of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as written.
    Number(&'a str),
    /// A string without its escapes.
    String(Cow<'a, str>),
    /// An array as written, brackets included.
    Array(&'a str),
    /// An object as written, braces included.
    Object(&'a str),
}

/// What would have been right, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonError {
    expected: &'static str,
    /// Byte offset in the text.
    at: usize,
}

impl JsonError {
    /// The error with its place counted in characters of `text`, from 1.
    pub(crate) fn in_text(&self, text: &str) -> String {
        let before = text.get(..self.at).map_or(self.at, |t| t.chars().count());
        format!("{self} at character {}", before + 1)
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

/// Whether the text is one JSON value.
pub(crate) fn is_json(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.skip_value(0).is_ok() && scanner.end().is_ok()
}

/// Calls `member` with each member of the object that the text is.
pub(crate) fn members<'a, E: From<JsonError>>(
    text: &'a str,
    mut member: impl FnMut(Cow<'a, str>, Value<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut scanner = Scanner::new(text);
    scanner.space();
    scanner.expect(b'{', "an object, '{'")?;
    scanner.space();
    if !scanner.eat(b'}') {
        loop {
            scanner.space();
            let name = scanner.string("a member's name in quotes")?;
            scanner.space();
            scanner.expect(b':', "':'")?;
            let value = scanner.value()?;
            member(name, value)?;
            scanner.space();
            if scanner.eat(b'}') {
                break;
            }
            scanner.expect(b',', "',' or '}'")?;
        }
    }
    Ok(scanner.end()?)
}

/// Calls `item` with each item of the array that the text is.
pub(crate) fn items<'a, E: From<JsonError>>(
    text: &'a str,
    mut item: impl FnMut(Value<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut scanner = Scanner::new(text);
    scanner.space();
    scanner.expect(b'[', "an array, '['")?;
    scanner.space();
    if !scanner.eat(b']') {
        loop {
            item(scanner.value()?)?;
            scanner.space();
            if scanner.eat(b']') {
                break;
            }
            scanner.expect(b',', "',' or ']'")?;
        }
    }
    Ok(scanner.end()?)
}

/// Appends the text as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut from = 0;
    for (at, b) in text.bytes().enumerate() {
        let escape: &str = match b {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=31 => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        if escape.is_empty() {
            out.push_str("\\u00");
            out.push(char::from(b'0' + b / 16));
            out.push(char::from(b"0123456789abcdef"[usize::from(b % 16)]));
        } else {
            out.push_str(escape);
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error(&self, expected: &'static str) -> JsonError {
        JsonError { expected, at: self.at }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { Err(self.error(expected)) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error("the end of the line")) }
    }

    fn since(&self, from: usize) -> &'a str {
        &self.text[from..self.at]
    }

    fn value(&mut self) -> Result<Value<'a>, JsonError> {
        self.space();
        let from = self.at;
        Ok(match self.peek() {
            Some(b'"') => Value::String(self.string("a string")?),
            Some(b'{') => {
                self.skip_value(0)?;
                Value::Object(self.since(from))
            }
            Some(b'[') => {
                self.skip_value(0)?;
                Value::Array(self.since(from))
            }
            Some(b't') => self.word("true").map(|()| Value::Bool(true))?,
            Some(b'f') => self.word("false").map(|()| Value::Bool(false))?,
            Some(b'n') => self.word("null").map(|()| Value::Null)?,
            _ => {
                self.number()?;
                Value::Number(self.since(from))
            }
        })
    }

    fn word(&mut self, word: &'static str) -> Result<(), JsonError> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.error("a value"))
        }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.error("a digit"));
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(self.error("a value"));
        }
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Steps over one value and checks it.
    fn skip_value(&mut self, depth: u32) -> Result<(), JsonError> {
        self.space();
        match self.peek() {
            Some(b'"') => self.skip_string("a string").map(|_| ()),
            Some(b'{' | b'[') if depth == MOST_DEPTH => Err(self.error("less nesting")),
            Some(b'{') => {
                self.at += 1;
                self.space();
                if self.eat(b'}') {
                    return Ok(());
                }
                loop {
                    self.space();
                    self.skip_string("a member's name in quotes")?;
                    self.space();
                    self.expect(b':', "':'")?;
                    self.skip_value(depth + 1)?;
                    self.space();
                    if self.eat(b'}') {
                        return Ok(());
                    }
                    self.expect(b',', "',' or '}'")?;
                }
            }
            Some(b'[') => {
                self.at += 1;
                self.space();
                if self.eat(b']') {
                    return Ok(());
                }
                loop {
                    self.skip_value(depth + 1)?;
                    self.space();
                    if self.eat(b']') {
                        return Ok(());
                    }
                    self.expect(b',', "',' or ']'")?;
                }
            }
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number(),
        }
    }

    /// Steps over a string and checks its escapes. True when it has any.
    fn skip_string(&mut self, expected: &'static str) -> Result<bool, JsonError> {
        self.expect(b'"', expected)?;
        let mut escapes = false;
        loop {
            match self.peek() {
                None => return Err(self.error("a closing quote")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escapes);
                }
                Some(b'\\') => {
                    escapes = true;
                    self.escape()?;
                }
                Some(0..=31) => return Err(self.error("no control character in a string")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn string(&mut self, expected: &'static str) -> Result<Cow<'a, str>, JsonError> {
        let from = self.at;
        if !self.skip_string(expected)? {
            return Ok(Cow::Borrowed(&self.text[from + 1..self.at - 1]));
        }
        let end = self.at - 1;
        let mut out = String::with_capacity(end - from);
        self.at = from + 1;
        while self.at < end {
            if self.peek() == Some(b'\\') {
                out.push(self.escape()?);
            } else {
                let plain = self.at;
                while self.at < end && self.peek() != Some(b'\\') {
                    self.at += 1;
                }
                out.push_str(self.since(plain));
            }
        }
        self.at = end + 1;
        Ok(Cow::Owned(out))
    }

    /// The character that the escape here stands for.
    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let first = self.hex4()?;
                if !(0xd800..0xe000).contains(&first) {
                    return char::from_u32(first).ok_or_else(|| self.error("a character"));
                }
                let expected = "a pair of surrogates";
                self.expect(b'\\', expected)?;
                self.expect(b'u', expected)?;
                let second = self.hex4()?;
                if first >= 0xdc00 || !(0xdc00..0xe000).contains(&second) {
                    return Err(self.error(expected));
                }
                let c = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(c).ok_or_else(|| self.error(expected));
            }
            _ => return Err(self.error("an escape such as \\n")),
        };
        self.at += 1;
        Ok(c)
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            value = value * 16 + digit.ok_or_else(|| self.error("four hex digits"))?;
            self.at += 1;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, JsonError> {
        let mut out = vec![];
        members(text, |name, value| {
            out.push((name.into_owned(), format!("{value:?}")));
            Ok::<_, JsonError>(())
        })?;
        Ok(out)
    }

    proptest! {
        #[test]
        fn every_string_reads_back(text in any::<String>()) {
            let mut json = String::from("[");
            write_string(&text, &mut json);
            json.push(']');
            prop_assert!(!json.contains('\n'));
            items(&json, |value| {
                assert_eq!(value, Value::String(Cow::Borrowed(&text)));
                Ok::<_, JsonError>(())
            }).unwrap();
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), vec![text]);
        }

        #[test]
        fn the_same_texts_are_json_as_elsewhere(text in r#"[-\[\]{}:,"\\u0-9aeE.+tnrul ]{0,24}"#) {
            if is_json(&text) {
                prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", text);
            }
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                prop_assert!(is_json(&text), "{}", text);
            }
        }
    }

    #[test]
    fn members_come_in_order_with_their_text() {
        assert_eq!(
            read(r#" {"a": 1.10, "b":[1, {"x":2}] ,"c":{"d":null},"e":"\u00e9\ud83e\udd80","f":null,"g":true} "#)
                .unwrap()
                .into_iter()
                .map(|(_, v)| v)
                .collect::<Vec<_>>(),
            [
                "Number(\"1.10\")",
                "Array(\"[1, {\\\"x\\\":2}]\")",
                "Object(\"{\\\"d\\\":null}\")",
                "String(\"é🦀\")",
                "Null",
                "Bool(true)"
            ]
        );
    }

    #[test]
    fn malformed_text_is_refused_with_its_place() {
        for (text, error) in [
            ("", "expected an object, '{' at character 1"),
            ("[1]", "expected an object, '{' at character 1"),
            (r#"{"a":1"#, "expected ',' or '}' at character 7"),
            (r#"{"é":}"#, "expected a value at character 6"),
            (r#"{"a":01}"#, "expected ',' or '}' at character 7"),
            (r#"{"a":1} x"#, "expected the end of the line at character 9"),
            (r#"{"a":"\ud800"}"#, "expected a pair of surrogates at character 13"),
            (r#"{a:1}"#, "expected a member's name in quotes at character 2"),
            (r#"{"a":"x"#, "expected a closing quote at character 8"),
            (r#"{"a":nul}"#, "expected a value at character 6"),
        ] {
            assert_eq!(read(text).unwrap_err().in_text(text), error, "{text}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(is_json(&deep(MOST_DEPTH as usize)));
        assert!(!is_json(&deep(MOST_DEPTH as usize + 1)));
        assert!(!is_json(&"[".repeat(1_000_000)));
    }
}
