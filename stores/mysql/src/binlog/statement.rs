//! What a logged statement does to tables, without understanding SQL: its words, and the names among them.
//!
//! Invariant: a statement that may change a table is never taken for one that does not. One that only may is taken as if it did.

use super::event::Xid;

/// What a logged statement is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    Begin,
    Commit,
    Rollback,
    /// Undoes a part of a transaction.
    RollbackTo,
    XaStart(Xid),
    XaCommit(Xid),
    XaRollback(Xid),
    /// Changes nothing of any table's rows or columns.
    Harmless,
    /// Writes rows, to no one can say which tables: through triggers, functions and views.
    Writes,
    /// Empties exactly this table, as a server does with its tables in memory when it starts.
    Empties(String, String),
    /// May alter or remove these tables.
    Alters(Vec<(String, String)>),
    /// Removes this database.
    Drops(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A word or a name, and whether it stood in quotes.
    Name(String, bool),
    /// A text, as its bytes, and whether it was written in hexadecimal.
    Text(Vec<u8>),
    Sign(u8),
}

/// Words by which statements begin that change no rows and no columns.
const HARMLESS: [&str; 16] = [
    "ANALYZE",
    "OPTIMIZE",
    "CHECK",
    "CHECKSUM",
    "FLUSH",
    "GRANT",
    "REVOKE",
    "SET",
    "USE",
    "INSTALL",
    "UNINSTALL",
    "SAVEPOINT",
    "RELEASE",
    "SHOW",
    "KILL",
    "SHUTDOWN",
];
const WRITES: [&str; 9] = ["INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "WITH", "SELECT", "DO"];
/// What a CREATE, DROP or ALTER is of. Whichever of these words stands first says it.
const KINDS: [&str; 19] = [
    "TABLE",
    "DATABASE",
    "SCHEMA",
    "VIEW",
    "TRIGGER",
    "PROCEDURE",
    "FUNCTION",
    "EVENT",
    "USER",
    "ROLE",
    "INDEX",
    "SERVER",
    "TABLESPACE",
    "SEQUENCE",
    "PACKAGE",
    "LOGFILE",
    "RESOURCE",
    "LIBRARY",
    "INSTANCE",
];

/// What this statement is, where names without a database are of this one.
pub(crate) fn classify(text: &[u8], database: &str) -> Statement {
    let tokens = tokens(text);
    let words: Vec<String> = tokens
        .iter()
        .take(64)
        .map(|token| match token {
            Token::Name(word, false) => word.to_ascii_uppercase(),
            _ => String::new(),
        })
        .collect();
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match (word(0), word(1)) {
        ("BEGIN", _) | ("START", "TRANSACTION") => Statement::Begin,
        ("COMMIT", _) => Statement::Commit,
        ("ROLLBACK", second) => {
            let in_part = second == "TO" || words.iter().any(|word| word == "SAVEPOINT");
            if in_part { Statement::RollbackTo } else { Statement::Rollback }
        }
        ("XA", second) => match (second, xid(tokens.get(2..).unwrap_or_default())) {
            ("START" | "BEGIN", Some(xid)) => Statement::XaStart(xid),
            ("COMMIT", Some(xid)) => Statement::XaCommit(xid),
            ("ROLLBACK", Some(xid)) => Statement::XaRollback(xid),
            ("END", _) => Statement::Harmless,
            _ => Statement::Writes,
        },
        (first, _) if HARMLESS.contains(&first) => Statement::Harmless,
        ("DELETE", "FROM") => match named(&tokens[2..], database) {
            Some(table) => Statement::Empties(table.0, table.1),
            None => Statement::Writes,
        },
        (first, _) if WRITES.contains(&first) => Statement::Writes,
        ("CREATE" | "DROP" | "ALTER", _) => {
            let of = words.iter().enumerate().skip(1).find(|(_, word)| KINDS.contains(&word.as_str()));
            match of {
                None => Statement::Alters(tables(&tokens, database)),
                Some((_, of)) if of == "TABLE" => Statement::Alters(tables(&tokens, database)),
                Some((at, of)) if of == "DATABASE" || of == "SCHEMA" => {
                    let name = tokens[at + 1..].iter().rev().find_map(|token| match token {
                        Token::Name(name, _) => Some(name.clone()),
                        _ => None,
                    });
                    match name {
                        Some(name) if word(0) == "DROP" => Statement::Drops(name),
                        _ => Statement::Harmless,
                    }
                }
                Some(_) => Statement::Harmless,
            }
        }
        _ => Statement::Alters(tables(&tokens, database)),
    }
}

/// One name of a table that is all there is.
fn named(tokens: &[Token], database: &str) -> Option<(String, String)> {
    match tokens {
        [Token::Name(table, _)] => Some((database.to_owned(), table.clone())),
        [Token::Name(database, _), Token::Sign(b'.'), Token::Name(table, _)] => {
            Some((database.clone(), table.clone()))
        }
        _ => None,
    }
}

/// Every table that a name in the statement may mean.
fn tables(tokens: &[Token], database: &str) -> Vec<(String, String)> {
    let mut all = vec![];
    for (at, token) in tokens.iter().enumerate() {
        let Token::Name(name, _) = token else { continue };
        all.push((database.to_owned(), name.clone()));
        if let [Token::Sign(b'.'), Token::Name(table, _), ..] = &tokens[at + 1..] {
            all.push((name.clone(), table.clone()));
        }
    }
    all
}

/// The branch of `X'…',X'…',1`, or `'…','…'`.
fn xid(tokens: &[Token]) -> Option<Xid> {
    let Token::Text(gtrid) = tokens.first()? else { return None };
    let bqual = match tokens.get(1..3) {
        Some([Token::Sign(b','), Token::Text(bqual)]) => bqual.clone(),
        _ => vec![],
    };
    let format = match tokens.get(3..5) {
        Some([Token::Sign(b','), Token::Name(number, _)]) => number.parse().ok()?,
        _ => 1,
    };
    Some(Xid { format, gtrid: gtrid.clone(), bqual })
}

fn tokens(text: &[u8]) -> Vec<Token> {
    let mut tokens = vec![];
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        match byte {
            _ if byte.is_ascii_whitespace() => at += 1,
            b'#' => at += line(rest),
            b'-' if rest.starts_with(b"--") => at += line(rest),
            b'/' if rest.starts_with(b"/*!") || rest.starts_with(b"/*M!") => {
                // What stands in such a comment counts, behind a version.
                at += if rest[2] == b'M' { 4 } else { 3 };
                while text.get(at).is_some_and(u8::is_ascii_digit) {
                    at += 1;
                }
            }
            b'/' if rest.starts_with(b"/*") => {
                let end = rest.windows(2).skip(2).position(|two| two == b"*/");
                at += end.map_or(rest.len(), |end| end + 4);
            }
            b'*' if rest.starts_with(b"*/") => at += 2,
            b'`' | b'"' => {
                let (name, length) = quoted(rest, byte, byte == b'"');
                tokens.push(Token::Name(String::from_utf8_lossy(&name).into_owned(), true));
                at += length;
            }
            b'\'' => {
                let (text, length) = quoted(rest, byte, true);
                tokens.push(Token::Text(text));
                at += length;
            }
            b'X' | b'x' if rest.get(1) == Some(&b'\'') => {
                let (text, length) = quoted(&rest[1..], b'\'', false);
                tokens.push(Token::Text(hex(&text).unwrap_or(text)));
                at += length + 1;
            }
            _ if is_word(byte) => {
                let length = rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
                let word = String::from_utf8_lossy(&rest[..length]).into_owned();
                tokens.push(Token::Name(word, false));
                at += length;
            }
            _ => {
                tokens.push(Token::Sign(byte));
                at += 1;
            }
        }
    }
    tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn line(text: &[u8]) -> usize {
    text.iter().position(|b| *b == b'\n').map_or(text.len(), |end| end + 1)
}

/// What stands in quotes, and how long it is with them.
fn quoted(text: &[u8], quote: u8, escapes: bool) -> (Vec<u8>, usize) {
    let mut out = vec![];
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte == b'\\' && escapes {
            out.extend(text.get(at));
            at += 1;
        } else if byte != quote {
            out.push(byte);
        } else if text.get(at) == Some(&quote) {
            out.push(quote);
            at += 1;
        } else {
            return (out, at);
        }
    }
    (out, text.len())
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Statement {
        classify(text.as_bytes(), "d")
    }

    fn alters(text: &str, table: &str) -> bool {
        matches!(of(text), Statement::Alters(all) if all.contains(&("d".into(), table.into())))
    }

    #[test]
    fn branches_are_named_by_their_bytes() {
        let xid = Xid { format: 7, gtrid: b"g2".to_vec(), bqual: b"b1".to_vec() };
        assert_eq!(of("XA START X'6732',X'6231',7"), Statement::XaStart(xid.clone()));
        assert_eq!(of("xa commit 'g2','b1',7"), Statement::XaCommit(xid.clone()));
        assert_eq!(of("XA ROLLBACK X'6732',X'6231',7"), Statement::XaRollback(xid));
        assert_eq!(of("XA END X'6732',X'6231',7"), Statement::Harmless);
        assert_eq!(of("XA"), Statement::Writes);
    }

    #[test]
    fn statements_that_may_alter_a_table_name_it() {
        for text in [
            "ALTER TABLE t ADD c INT",
            "alter /* why */ table `t` add c int",
            "TRUNCATE t",
            "/*!40000 ALTER TABLE t DISABLE KEYS */",
            "RENAME TABLE a TO b, d.t TO e.t",
            "DROP TABLE IF EXISTS `a`,`d`.`t` /* generated by server */",
            "-- a comment\nCREATE OR REPLACE TABLE \"t\" (a INT)",
            "ALTER ONLINE IGNORE TABLE t ENGINE=InnoDB",
            "SOMETHING new t",
        ] {
            assert!(alters(text, "t"), "{text}: {:?}", of(text));
        }
        assert!(!alters("ALTER TABLE other.x ADD t2 INT COMMENT 'd.t'", "t"));
        assert!(
            matches!(of("ALTER TABLE e.t ADD c INT"), Statement::Alters(all) if all.contains(&("e".into(), "t".into())))
        );
        assert_eq!(of("DROP DATABASE IF EXISTS `x`"), Statement::Drops("x".into()));
    }

    #[test]
    fn statements_that_write_rows_are_told_from_those_that_do_not() {
        for text in
            ["INSERT INTO x VALUES (1)", "update t set a = 1", "SELECT f()", "DELETE FROM t WHERE a = 1"]
        {
            assert_eq!(of(text), Statement::Writes, "{text}");
        }
        assert_eq!(of("DELETE FROM `m`.`t`"), Statement::Empties("m".into(), "t".into()));
        for text in [
            "CREATE DEFINER=`a`@`b` TRIGGER g AFTER INSERT ON t FOR EACH ROW SET @a = 1",
            "CREATE OR REPLACE ALGORITHM=MERGE VIEW v AS SELECT * FROM t",
            "CREATE UNIQUE INDEX i ON t (a)",
            "GRANT SELECT ON t TO u",
            "ANALYZE TABLE t",
            "CREATE DATABASE x",
            "SAVEPOINT `s`",
        ] {
            assert_eq!(of(text), Statement::Harmless, "{text}");
        }
        assert_eq!((of("ROLLBACK"), of("ROLLBACK TO `s`")), (Statement::Rollback, Statement::RollbackTo));
        assert_eq!((of("BEGIN"), of("COMMIT")), (Statement::Begin, Statement::Commit));
        for broken in ["'", "`", "/*", "X'", "\\", "", "XA START X'"] {
            of(broken);
        }
    }
}
