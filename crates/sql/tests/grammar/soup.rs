//! Token soup: whatever stands in it, the answer is a tree or an error, and neither is a panic.

use keepfast_sql::{is_complete, parse, parse_column_type, parse_expression, parse_moment};
use proptest::prelude::*;
use proptest::sample::select;

const WORDS: &[&str] = &[
    "BACKUP",
    "RESTORE",
    "VERIFY",
    "UNDO",
    "SHOW",
    "DESCRIBE",
    "EXPLAIN",
    "DROP",
    "CREATE",
    "TABLE",
    "DATABASE",
    "ALL",
    "COLUMNS",
    "WHERE",
    "TO",
    "FROM",
    "WITH",
    "AS",
    "OF",
    "TIMESTAMP",
    "POINT",
    "POINTS",
    "INTO",
    "LEVEL",
    "AGAINST",
    "BACKUPS",
    "TABLES",
    "INSERT",
    "REPLACE",
    "UPDATE",
    "DELETE",
    "SET",
    "VALUES",
    "SELECT",
    "ON",
    "CONFLICT",
    "DO",
    "NOTHING",
    "DEFAULT",
    "NOT",
    "NULL",
    "PRIMARY",
    "KEY",
    "UNIQUE",
    "INDEX",
    "CONSTRAINT",
    "CHECK",
    "IF",
    "EXISTS",
    "INT",
    "UNSIGNED",
    "VARCHAR",
    "DECIMAL",
    "ARRAY",
    "TIME",
    "ZONE",
    "INTERVAL",
    "DAY",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "AND",
    "OR",
    "IN",
    "IS",
    "BETWEEN",
    "LIKE",
    "UNION",
    "JOIN",
    "GROUP",
    "BY",
    "ORDER",
    "LIMIT",
    "OVER",
    "PARTITION",
    "CAST",
    "mode",
    "encrypt",
    "threads",
    "full",
    "t",
    "a",
    "b",
    "\"q q\"",
    "`q`",
    "\"\"",
    "'s'",
    "''",
    "'2026-01-31'",
    "'mysql://u:p@h/d'",
    "\"x://u:p@h\"",
    "1",
    "0",
    "1.5",
    "1e9",
    "99999999999999999999",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    ">>",
    ",",
    ";",
    ".",
    "=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "::",
    ":",
    "->",
    "<>",
    "?",
    "$1",
    "@x",
    "#",
    "!",
    "~",
    "^",
    "&",
    "--c\n",
    "/*c*/",
    "/*",
    "'",
    "\"",
    "`",
    "$$",
    "E'\\n'",
    "X'0f'",
    "N'x'",
    "U&'x'",
    "ü",
    "日本",
    "\u{0}",
    "\n",
    "\t",
];

/// Starts that lead deep into a rule.
const STARTS: &[&str] = &[
    "",
    "BACKUP TABLE t ",
    "BACKUP TABLE t WHERE a ",
    "BACKUP TABLE t TO 'b' WITH (",
    "RESTORE TABLE t FROM 'b' ",
    "VERIFY BACKUP 'b' ",
    "CREATE TABLE t (a ",
    "CREATE TABLE t (a INT, ",
    "CREATE TABLE t (a INT DEFAULT ",
    "INSERT INTO t ",
    "INSERT INTO t VALUES (1) ON ",
    "UPDATE t SET a = ",
    "DELETE FROM t ",
    "SELECT ",
    "EXPLAIN ",
];

fn soup() -> impl Strategy<Value = String> {
    let separator = select(&[" ", " ", " ", ""][..]);
    let words = proptest::collection::vec((select(WORDS), separator), 0..40);
    (select(STARTS), words).prop_map(|(start, words)| {
        words.iter().fold(start.to_owned(), |text, (word, separator)| text + word + separator)
    })
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let _ = is_complete(text);
    let _ = parse_expression(text);
    let _ = parse_column_type(text);
    let _ = parse_moment(text);
    let lines = text.split('\n').count() as u64;
    match parse(text) {
        Ok(statements) => {
            for statement in statements {
                prop_assert!(text.contains(&statement.text));
                // A statement stands on its own, and means the same there.
                let alone = parse(&statement.text).unwrap();
                prop_assert_eq!(alone.len(), 1);
                prop_assert_eq!(&alone[0].statement, &statement.statement);
            }
        }
        Err(error) => {
            prop_assert!((1..=lines).contains(&error.at().line), "{}", error);
            prop_assert!(!error.to_string().contains("u:p@h"), "{}", error);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_soup_of_tokens_makes_it_panic(text in soup()) {
        check(&text)?;
    }

    #[test]
    fn no_text_at_all_makes_it_panic(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn no_damaged_statement_makes_it_panic(
        start in select(&[
            "BACKUP TABLE a, b COLUMNS (x, y) WHERE x > 1 TO 'n', 'm' WITH (mode = full, encrypt = 'columns:a')",
            "RESTORE TABLE a AS b FROM 'n' AS OF TIMESTAMP '2026-01-31 10:00' WHERE a = 'x' INTO 'u' WITH (if_exists = fail)",
            "CREATE TABLE t (a INT UNSIGNED NOT NULL, b VARCHAR(3) DEFAULT 'x', c ARRAY<ARRAY<INT>>, PRIMARY KEY (a, b))",
            "INSERT INTO t (a, b) VALUES (1, DEFAULT) ON CONFLICT (a) DO UPDATE SET b = excluded.b || 'x'",
        ][..]),
        at in any::<prop::sample::Index>(),
        with in select(WORDS),
        cut in 0..12_usize,
    ) {
        let at = at.index(start.len());
        let rest = &start[(at + cut).min(start.len())..];
        check(&format!("{}{with}{rest}", &start[..at]))?;
    }
}
