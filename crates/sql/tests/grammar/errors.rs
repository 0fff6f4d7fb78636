use crate::error;
use keepfast_model::{Class, Coded};
use keepfast_sql::parse;

#[test]
fn an_error_says_what_was_expected_what_was_found_and_where() {
    for (sql, message) in [
        (
            "BACKUP TABLE example FROM 'x'",
            "expected TO after the table list, found 'FROM' at line 1, column 22",
        ),
        (
            "BACKUP TABLE example",
            "expected TO after the table list, found the end of the statement at line 1, column 21",
        ),
        (
            "BACKUP example TO 'x'",
            "expected TABLE or DATABASE after BACKUP, found 'example' at line 1, column 8",
        ),
        ("BACKUP TABLE TO 'x'", "expected a table's name, found 'TO' at line 1, column 14"),
        (
            "BACKUP TABLE t TO example_backup",
            "expected a backup's name or URL in single quotes, found 'example_backup' at line 1, column 19",
        ),
        (
            "BACKUP TABLE t TO ''",
            "expected a backup's name or URL in single quotes, found an empty string at line 1, column 19",
        ),
        (
            "BACKUP TABLE t TO 'a' 'b'",
            "expected COLUMNS, WHERE, WITH or the end of the statement, found the string 'b' at line 1, column 23",
        ),
        ("BACKUP TABLE t WHERE TO 'x'", "expected an expression, found 'TO' at line 1, column 22"),
        ("BACKUP TABLE t COLUMNS a TO 'x'", "expected '(' and column names, found 'a' at line 1, column 24"),
        (
            "BACKUP TABLE t COLUMNS (a b) TO 'x'",
            "expected ',' or ')' in the column list, found 'b' at line 1, column 27",
        ),
        ("BACKUP DATABASE TO 'x'", "expected a database's name, found 'TO' at line 1, column 17"),
        (
            "RESTORE example",
            "expected TABLE, DATABASE or ALL after RESTORE, found 'example' at line 1, column 9",
        ),
        ("RESTORE TABLE t TO 'x'", "expected FROM after the table list, found 'TO' at line 1, column 17"),
        (
            "RESTORE TABLE t POINT 3",
            "expected FROM after the table list, found the end of the statement at line 1, column 24",
        ),
        (
            "RESTORE ALL FROM 'x' AS OF 3",
            "expected TIMESTAMP or POINT after AS OF, found '3' at line 1, column 28",
        ),
        ("RESTORE ALL FROM 'x' POINT 1.5", "expected a point's number, found '1.5' at line 1, column 28"),
        ("RESTORE ALL FROM 'x' POINT -1", "expected a point's number, found '-' at line 1, column 28"),
        (
            "SHOW RESTORE POINTS",
            "expected FROM after SHOW RESTORE POINTS, found the end of the statement at line 1, column 20",
        ),
        (
            "SHOW COLUMNS",
            "expected BACKUPS, RESTORE POINTS or TABLES after SHOW, found 'COLUMNS' at line 1, column 6",
        ),
        ("SHOW TABLES x", "expected the end of the statement, found 'x' at line 1, column 13"),
        ("VERIFY t", "expected BACKUP after VERIFY, found 't' at line 1, column 8"),
        ("UNDO t", "expected RESTORE after UNDO, found 't' at line 1, column 6"),
        ("DROP t", "expected TABLE or BACKUP after DROP, found 't' at line 1, column 6"),
        ("EXPLAIN t", "expected BACKUP, RESTORE or a query after EXPLAIN, found 't' at line 1, column 9"),
        ("DELETE t", "expected FROM after DELETE, found 't' at line 1, column 8"),
        ("INSERT t VALUES (1)", "expected INTO, found 't' at line 1, column 8"),
        ("INSERT INTO t", "expected VALUES or a query, found the end of the statement at line 1, column 14"),
        (
            "UPDATE t",
            "expected SET after the table's name, found the end of the statement at line 1, column 9",
        ),
        (
            "\n  SELECT 1,\n  FROM\n  t WHERE",
            "expected an expression, found the end of the statement at line 4, column 10",
        ),
        ("SELECT 1; SELECT (1", "expected ), found the end of the statement at line 1, column 20"),
    ] {
        assert_eq!(error(sql), message, "{sql}");
    }
}

#[test]
fn an_unknown_word_is_answered_with_what_can_be_said() {
    let message = error("FROBNICATE t");
    assert!(message.starts_with("expected a statement (BACKUP, RESTORE,"), "{message}");
    assert!(message.ends_with("found 'FROBNICATE' at line 1, column 1"), "{message}");
}

#[test]
fn statements_of_other_systems_are_named_with_a_way_out() {
    for (sql, message) in [
        ("TRUNCATE TABLE t", "TRUNCATE is not supported, at line 1, column 1: write DELETE FROM t"),
        ("BEGIN", "BEGIN is not supported, at line 1, column 1: each statement commits on its own"),
        (
            "ALTER TABLE t ADD x INT",
            "ALTER is not supported, at line 1, column 1: make a new table and fill it with INSERT … SELECT",
        ),
        (
            "CREATE VIEW v AS SELECT 1",
            "CREATE VIEW is not supported, at line 1, column 8: write the query where it is needed",
        ),
        (
            "CREATE UNIQUE INDEX i ON t (a)",
            "CREATE UNIQUE is not supported, at line 1, column 8: the embedded Table Store has no secondary indexes; leave it out",
        ),
    ] {
        assert_eq!(error(sql), message);
    }
}

#[test]
fn options_name_the_key_its_place_and_what_is_valid() {
    for (options, message) in [
        (
            "speed = 1",
            "option 'speed' is unknown here, valid are mode, until, before_transaction, encrypt, certify, segment_rows, parity, threads, require, retain_for, retain_mode, at line 1, column 30",
        ),
        (
            "if_exists = fail",
            "option 'if_exists' is unknown here, valid are mode, until, before_transaction, encrypt, certify, segment_rows, parity, threads, require, retain_for, retain_mode, at line 1, column 30",
        ),
        ("mode = fast", "option 'mode' takes auto, full or incremental, not 'fast', at line 1, column 37"),
        ("mode = full, MODE = full", "option 'MODE' stands twice, at line 1, column 43"),
        (
            "encrypt = yes",
            "option 'encrypt' takes none, full or columns:a,b, not 'yes', at line 1, column 40",
        ),
        (
            "encrypt = 'columns:'",
            "option 'encrypt' takes none, full or columns:a,b, not 'columns:', at line 1, column 40",
        ),
        (
            "encrypt = 'columns:a,A'",
            "option 'encrypt' takes none, full or columns:a,b, not 'columns:a,A', at line 1, column 40",
        ),
        ("certify = some", "option 'certify' takes sample or full, not 'some', at line 1, column 40"),
        ("require = 0", "option 'require' takes all, or a number from 1, not '0', at line 1, column 40"),
        (
            "retain_for = '30'",
            "option 'retain_for' takes a duration such as 12h, 30d or 7y, at most 100y, or none, not '30', at line 1, column 43",
        ),
        (
            "segment_rows = 1000",
            "option 'segment_rows' takes a power of two from 1024 to 16777216, not '1000', at line 1, column 45",
        ),
        (
            "segment_rows = 512",
            "option 'segment_rows' takes a power of two from 1024 to 16777216, not '512', at line 1, column 45",
        ),
        (
            "until = 'then'",
            "option 'until' takes a time such as '2026-01-31 10:00', not 'then', at line 1, column 38",
        ),
        ("threads = 0", "option 'threads' takes a number from 1 to 1024, not '0', at line 1, column 40"),
        (
            "threads = -1",
            "expected a value of the option 'threads' without a sign, found '-' at line 1, column 40",
        ),
        ("threads", "expected '=' after the option 'threads', found ')' at line 1, column 37"),
        ("", "expected an option's name, found ')' at line 1, column 30"),
        (
            "mode = full certify = full",
            "expected ',' or ')' after an option, found 'certify' at line 1, column 42",
        ),
    ] {
        assert_eq!(error(&format!("BACKUP TABLE t TO 'bk' WITH ({options})")), message, "{options}");
    }
    assert_eq!(
        error("RESTORE ALL FROM 'b' WITH (mode = full)"),
        "option 'mode' is unknown here, valid are if_exists, shard_rule, threads, at line 1, column 28"
    );
}

#[test]
fn a_moment_that_does_not_exist_is_refused_with_its_place() {
    let message = error("RESTORE ALL FROM 'b' AS OF TIMESTAMP 'yesterday'");
    assert!(message.starts_with("'yesterday' is not a moment such as 2026-01-31"), "{message}");
    assert!(message.ends_with(", at line 1, column 38"), "{message}");
}

#[test]
fn what_is_not_closed_is_found_where_it_begins() {
    for (sql, message) in [
        ("SELECT 1;\nSELECT 'abc", "a string has no end; it begins at line 2, column 8"),
        ("SELECT \"abc", "a quoted name has no end; it begins at line 1, column 8"),
        ("SELECT `abc", "a quoted name has no end; it begins at line 1, column 8"),
        ("SELECT 1 /* abc", "a comment has no end; it begins at line 1, column 10"),
        ("SELECT $$abc", "a string has no end; it begins at line 1, column 8"),
    ] {
        assert_eq!(error(sql), message);
    }
}

#[test]
fn lines_and_columns_count_characters() {
    assert_eq!(
        error("SELECT 'äöü'; -- ünd\r\n  BACKUP TABLE \"ß\" VON 'x'"),
        "expected TO after the table list, found 'VON' at line 2, column 20"
    );
}

#[test]
fn names_that_no_table_can_have_are_refused() {
    assert_eq!(
        error("BACKUP TABLE a.b.c.d TO 'x'"),
        "'a.b.c.d' is not a table name: a name has one to three parts, at line 1, column 14"
    );
    assert!(error("BACKUP TABLE \"\" TO 'x'").starts_with("expected a table's name"));
    assert!(error("DROP TABLE \"a\nb\"").contains("control character"));
}

#[test]
fn every_error_has_a_code_of_this_crate_and_a_next_step() {
    let mut codes = std::collections::BTreeSet::new();
    for sql in [
        "x",
        "SELECT 'x",
        "TRUNCATE t",
        "BACKUP TABLE t TO 'b' WITH (x = 1)",
        "DROP TABLE a.b.c.d",
        "CREATE TABLE t (a FROB)",
        "RESTORE ALL FROM 'b' AS OF TIMESTAMP 'x'",
        &format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500)),
        "CREATE TABLE t (a INT, PRIMARY KEY (b))",
        "DROP TABLE a, a",
    ] {
        let error = parse(sql).unwrap_err();
        assert_eq!(error.class(), Class::Fix);
        assert!(!error.next_step().is_empty());
        codes.insert(error.code().0);
    }
    assert_eq!(codes, (501..=510).collect());
}
