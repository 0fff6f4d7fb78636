//! A trigger's statement with another name and another table.

/// The statement with another name of the trigger and of its table, as names in backquotes; none where it is no such statement.
///
/// MariaDB keeps what stands behind TRIGGER as somebody wrote it: names with or without quotes and database, in any case of letters.
pub(crate) fn renamed(statement: &[u8], name: &str, table: &str) -> Option<Vec<u8>> {
    let mut words = Words { text: statement, at: 0 };
    while !words.next()?.is("TRIGGER") {}
    let mut first = words.next()?;
    if first.is("IF") {
        words.next().filter(|w| w.is("NOT"))?;
        words.next().filter(|w| w.is("EXISTS"))?;
        first = words.next()?;
    }
    let own = words.name(first)?;
    while !words.next()?.is("ON") {}
    let first = words.next()?;
    let on = words.name(first)?;
    let parts =
        [&statement[..own.0], name.as_bytes(), &statement[own.1..on.0], table.as_bytes(), &statement[on.1..]];
    Some(parts.concat())
}

/// A word, a quoted name or a sign, and where it stands.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a [u8],
    begin: usize,
    end: usize,
}

impl Word<'_> {
    /// Whether it is this word, without quotes.
    fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word.as_bytes())
    }
}

#[derive(Clone, Copy)]
struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    /// The next one; none at the end, and where a quote or a comment does not end.
    fn next(&mut self) -> Option<Word<'a>> {
        loop {
            let rest = &self.text[self.at..];
            match rest {
                [] => return None,
                [c, ..] if c.is_ascii_whitespace() => self.at += 1,
                [b'/', b'*', ..] => self.at += find(rest, b"*/", 2)?,
                [b'#', ..] | [b'-', b'-', ..] => self.at += find(rest, b"\n", 1)?,
                _ => break,
            }
        }
        let (begin, rest) = (self.at, &self.text[self.at..]);
        let length = match rest[0] {
            quote @ (b'`' | b'"' | b'\'') => {
                let mut at = 1;
                // Two of them stand for one; backslashes stand for themselves in names.
                loop {
                    at = find(rest, &[quote], at)?;
                    if rest.get(at) != Some(&quote) {
                        break at;
                    }
                    at += 1;
                }
            }
            c if is_letter(c) => rest.iter().take_while(|c| is_letter(**c)).count(),
            _ => 1,
        };
        self.at = begin + length;
        Some(Word { text: &rest[..length], begin, end: self.at })
    }

    /// Where a name ends that begins with a word and may have a database.
    fn name(&mut self, first: Word<'a>) -> Option<(usize, usize)> {
        let mut after = *self;
        match after.next() {
            Some(point) if point.is(".") => {
                let last = after.next()?;
                *self = after;
                Some((first.begin, last.end))
            }
            _ => Some((first.begin, first.end)),
        }
    }
}

fn is_letter(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c == b'$' || c >= 0x80
}

/// Behind the next place of some bytes.
fn find(text: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let at = text.get(from..)?.windows(wanted.len()).position(|w| w == wanted)?;
    Some(from + at + wanted.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_they_were_written() {
        for (statement, expected) in [
            (
                "CREATE DEFINER=`on`@`trigger` TRIGGER `t``1` AFTER INSERT ON `a` FOR EACH ROW SET @x = 'ON b'",
                "CREATE DEFINER=`on`@`trigger` TRIGGER `N` AFTER INSERT ON `T` FOR EACH ROW SET @x = 'ON b'",
            ),
            (
                "CREATE DEFINER=`a`@`%` trigger /* on x */ if not exists d . \"on\" before update -- on y\n on`d`.`a b`for each row",
                "CREATE DEFINER=`a`@`%` trigger /* on x */ if not exists `N` before update -- on y\n on`T`for each row",
            ),
        ] {
            let made = renamed(statement.as_bytes(), "`N`", "`T`").unwrap();
            assert_eq!(String::from_utf8(made).unwrap(), expected);
        }
        for wrong in
            ["", "CREATE TRIGGER", "CREATE TRIGGER `t", "CREATE TRIGGER t BEFORE INSERT ON", "TRIGGER IF a b"]
        {
            assert_eq!(renamed(wrong.as_bytes(), "`N`", "`T`"), None, "{wrong}");
        }
    }
}
