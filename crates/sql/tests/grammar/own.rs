use crate::{error, one};
use keepfast_model::{LogSeq, TableName};
use keepfast_sql::*;

fn backup(sql: &str) -> Backup {
    match one(sql) {
        Statement::Backup(backup) => backup,
        other => panic!("{other:?}"),
    }
}

fn restore(sql: &str) -> Restore {
    match one(sql) {
        Statement::Restore(restore) => restore,
        other => panic!("{other:?}"),
    }
}

fn verify(sql: &str) -> Verify {
    match one(sql) {
        Statement::Verify(verify) => verify,
        other => panic!("{other:?}"),
    }
}

fn table(text: &str) -> TableName {
    text.parse().unwrap()
}

#[test]
fn the_seven_statements_of_the_interface_are_read_word_for_word() {
    let script = "
    CREATE TABLE example (id INT PRIMARY KEY, name VARCHAR(255), age INT);
    INSERT INTO example (id, name, age) VALUES (1, 'John', 25);
    INSERT INTO example (id, name, age) VALUES (2, 'Jane', 22);
    INSERT INTO example (id, name, age) VALUES (3, 'Bob', 30);
    SELECT * FROM example;
    BACKUP TABLE example TO 'example_backup';
    RESTORE TABLE example FROM 'example_backup';
";
    let statements = parse(script).unwrap();
    assert_eq!(statements.len(), 7);
    let texts: Vec<&str> = statements.iter().map(|s| s.text.as_str()).collect();
    assert_eq!(texts[1], "INSERT INTO example (id, name, age) VALUES (1, 'John', 25)");
    assert_eq!(texts[6], "RESTORE TABLE example FROM 'example_backup'");
    assert_eq!(statements[5].at, TextPosition { line: 7, column: 5 });
    assert!(matches!(&statements[0].statement, Statement::CreateTable(c) if c.name == table("example")));
    for insert in &statements[1..4] {
        assert!(matches!(&insert.statement, Statement::Insert(i) if i.columns == ["id", "name", "age"]));
    }
    assert!(matches!(&statements[4].statement, Statement::Query(q) if q.sql == "SELECT * FROM example"));
    assert_eq!(
        statements[5].statement,
        Statement::Backup(Backup {
            scope: Scope::Tables(vec![table("example")]),
            columns: None,
            filter: None,
            targets: vec![Address::new("example_backup")],
            options: BackupOptions::default(),
        })
    );
    assert_eq!(
        statements[6].statement,
        Statement::Restore(Restore {
            scope: RestoreScope::Tables(vec![RestoreTable { table: table("example"), rename: None }]),
            from: Address::new("example_backup"),
            as_of: None,
            columns: None,
            filter: None,
            into: None,
            options: RestoreOptions::default(),
        })
    );
}

#[test]
fn a_backup_keeps_every_clause() {
    let b = backup(
        "backup table shop.orders, Customers columns (id, \"Total Price\") where total > 10 AND name <> 'to' \
         to 'nightly', 's3://bucket/vault#nightly' with (mode = incremental, encrypt = 'columns:id,total', \
         certify = full, segment_rows = 8192, threads = 4)",
    );
    assert_eq!(b.scope, Scope::Tables(vec![table("shop.orders"), table("Customers")]));
    assert_eq!(b.columns.unwrap(), ["id", "Total Price"]);
    assert_eq!(b.filter.unwrap().sql, "total > 10 AND name <> 'to'");
    assert_eq!(b.targets, [Address::new("nightly"), Address::new("s3://bucket/vault#nightly")]);
    assert_eq!(b.options.mode, Some(BackupMode::Incremental));
    assert_eq!(b.options.encrypt, Some(Encryption::Columns(vec!["id".into(), "total".into()])));
    assert_eq!(b.options.certify, Some(CertifyLevel::Full));
    assert_eq!(b.options.segment_rows, Some(8192));
    assert_eq!(b.options.threads.unwrap().get(), 4);
}

#[test]
fn clauses_may_stand_in_any_order_but_once() {
    let ordered = backup("BACKUP TABLE t COLUMNS (a) WHERE a > 1 TO 'b' WITH (mode = full)");
    for sql in [
        "BACKUP TABLE t TO 'b' COLUMNS (a) WHERE a > 1 WITH (mode = full)",
        "BACKUP TABLE t WITH (mode = full) TO 'b' WHERE a > 1 COLUMNS (a)",
        "BACKUP TABLE t WHERE a > 1 COLUMNS (a) WITH (mode = full) TO 'b'",
    ] {
        assert_eq!(backup(sql), ordered, "{sql}");
    }
    assert_eq!(
        error("BACKUP TABLE t TO 'a' WHERE x TO 'b'"),
        "clause 'TO' stands twice, at line 1, column 31"
    );
    assert_eq!(
        error("RESTORE TABLE t FROM 'a' POINT 1 AS OF POINT 2"),
        "clause 'AS OF' stands twice, at line 1, column 34"
    );
}

#[test]
fn a_database_is_backed_up_and_restored_whole() {
    assert_eq!(
        backup("BACKUP DATABASE shop TO 'b'").scope,
        Scope::Database(DatabaseName { store: None, database: "shop".into() })
    );
    assert_eq!(
        restore("RESTORE DATABASE \"mysql://h:3306\".shop FROM 'b'").scope,
        RestoreScope::Database(DatabaseName {
            store: Some("mysql://h:3306".into()),
            database: "shop".into()
        })
    );
    assert_eq!(restore("RESTORE ALL FROM 'b'").scope, RestoreScope::All);
}

#[test]
fn an_interval_before_to_does_not_swallow_the_target() {
    let b = backup("BACKUP TABLE t WHERE d > now() - INTERVAL '30' DAY TO 'archive'");
    assert_eq!(b.filter.unwrap().sql, "d > now() - INTERVAL '30' DAY");
    assert_eq!(b.targets, [Address::new("archive")]);
    let b = backup("BACKUP TABLE t WHERE d > now() - INTERVAL '1-2' YEAR TO MONTH TO 'x' WITH (threads = 1)");
    assert_eq!(b.filter.unwrap().sql, "d > now() - INTERVAL '1-2' YEAR TO MONTH");
    assert_eq!(b.options.threads.unwrap().get(), 1);
}

#[test]
fn a_condition_may_hold_a_subquery_and_words_of_ours() {
    let b = backup(
        "BACKUP TABLE t WHERE backup = 1 AND id IN (SELECT \"to\" FROM restore WHERE point > 2) TO 'b'",
    );
    assert_eq!(b.filter.unwrap().sql, "backup = 1 AND id IN (SELECT \"to\" FROM restore WHERE point > 2)");
}

#[test]
fn a_restore_keeps_every_clause() {
    let r = restore(
        "RESTORE TABLE a AS b, shop.c FROM 's3://x/v#n' AS OF TIMESTAMP '2026-01-31 10:00' COLUMNS (id) \
         WHERE id < 5 INTO 'columnar:///data' WITH (if_exists = merge, threads = 2)",
    );
    assert_eq!(
        r.scope,
        RestoreScope::Tables(vec![
            RestoreTable { table: table("a"), rename: Some(table("b")) },
            RestoreTable { table: table("shop.c"), rename: None },
        ])
    );
    assert_eq!(r.from, Address::new("s3://x/v#n"));
    assert_eq!(r.as_of, Some(AsOf::Timestamp("2026-01-31T10:00:00Z".parse().unwrap())));
    assert_eq!(r.columns.unwrap(), ["id"]);
    assert_eq!(r.filter.unwrap().sql, "id < 5");
    assert_eq!(r.into, Some(Address::new("columnar:///data")));
    assert_eq!(r.options.if_exists, Some(IfExists::Merge));
    assert_eq!(r.options.threads.unwrap().get(), 2);
}

#[test]
fn a_point_is_named_with_and_without_as_of() {
    for sql in ["RESTORE TABLE t FROM 'b' POINT 7", "RESTORE TABLE t FROM 'b' AS OF POINT 7"] {
        assert_eq!(restore(sql).as_of, Some(AsOf::Point(LogSeq(7))));
    }
    let renamed = restore("RESTORE TABLE t AS u FROM 'b' POINT 7");
    assert!(matches!(renamed.scope, RestoreScope::Tables(t) if t[0].rename == Some(table("u"))));
}

#[test]
fn a_restore_with_a_condition_and_a_store_behind_it_keeps_both() {
    let r =
        restore("RESTORE ALL FROM 'b' WHERE t::timestamp with time zone > '2026-01-01' INTO 'mysql://h/d'");
    assert!(r.filter.is_some());
    assert_eq!(r.into, Some(Address::new("mysql://h/d")));
    let r = restore("RESTORE ALL FROM 'b' WHERE a BETWEEN 1 AND 2 WITH (if_exists = fail)");
    assert_eq!(r.filter.unwrap().sql, "a BETWEEN 1 AND 2");
    assert_eq!(r.options.if_exists, Some(IfExists::Fail));
}

#[test]
fn neither_a_table_nor_a_new_name_stands_twice() {
    assert_eq!(error("BACKUP TABLE t, u, T TO 'b'"), "table 'T' stands twice, at line 1, column 20");
    assert_eq!(error("RESTORE TABLE a, a AS b FROM 'x'"), "table 'a' stands twice, at line 1, column 18");
    assert_eq!(
        error("RESTORE TABLE a AS c, b AS c FROM 'x'"),
        "new name 'c' stands twice, at line 1, column 23"
    );
    assert_eq!(error("RESTORE TABLE a AS b, b FROM 'x'"), "new name 'b' stands twice, at line 1, column 23");
    // A swap is fine.
    restore("RESTORE TABLE a AS b, b AS a FROM 'x'");
}

#[test]
fn verify_takes_its_clauses() {
    assert_eq!(
        verify("VERIFY BACKUP 'b'"),
        Verify { backup: Address::new("b"), point: None, level: None, against: None }
    );
    assert_eq!(
        verify("VERIFY BACKUP 'b' POINT 3 LEVEL content AGAINST shop.t"),
        Verify {
            backup: Address::new("b"),
            point: Some(LogSeq(3)),
            level: Some(VerifyLevel::Content),
            against: Some(table("shop.t")),
        }
    );
    assert_eq!(
        error("VERIFY BACKUP 'b' LEVEL deep"),
        "expected checksum, compare or content, found 'deep' at line 1, column 25"
    );
}

#[test]
fn the_small_statements_are_read() {
    assert_eq!(one("SHOW BACKUPS"), Statement::ShowBackups);
    assert_eq!(one("show tables;"), Statement::ShowTables);
    assert_eq!(one("SHOW RESTORE POINTS FROM 'b'"), Statement::ShowRestorePoints { from: Address::new("b") });
    assert_eq!(one("DESCRIBE BACKUP 'b'"), Statement::DescribeBackup { name: Address::new("b") });
    assert_eq!(one("DROP BACKUP 'b'"), Statement::DropBackup { name: Address::new("b") });
    assert_eq!(one("UNDO RESTORE 'r-1'"), Statement::UndoRestore { id: "r-1".into() });
    assert_eq!(one("DESC main.t"), Statement::DescribeTable { table: table("t") });
}

#[test]
fn explain_holds_the_statement_it_explains() {
    let inner = one("BACKUP TABLE t TO 'b'");
    assert_eq!(one("EXPLAIN BACKUP TABLE t TO 'b'"), Statement::Explain(Box::new(inner)));
    let inner = one("RESTORE ALL FROM 'b'");
    assert_eq!(one("EXPLAIN RESTORE ALL FROM 'b'"), Statement::Explain(Box::new(inner)));
}

#[test]
fn words_of_ours_stay_names_elsewhere() {
    assert_eq!(one("DESCRIBE backup"), Statement::DescribeTable { table: table("backup") });
    let b = backup("BACKUP TABLE backup, restore, point, verify, columns, level TO 'b'");
    assert!(matches!(b.scope, Scope::Tables(t) if t.len() == 6));
    one("SELECT backup, restore AS point FROM verify");
    one("SELECT * FROM backup('example_backup', 'example', '2026-01-31')");
    one("CREATE TABLE backup (backup INT PRIMARY KEY, restore TEXT, point INT, level INT, columns INT)");
    one("INSERT INTO restore (backup) VALUES (1)");
    one("UPDATE backup SET restore = point WHERE undo = 1");
    one("DROP TABLE backup");
    restore("RESTORE TABLE t AS of FROM 'b'");
}

#[test]
fn names_keep_their_case_and_quotes_hold_anything() {
    let b = backup("BACKUP TABLE Shop.\"my table\", `Back``quoted`.\"select\" TO 'b'");
    let names = vec![
        TableName { store: None, database: "Shop".into(), table: "my table".into() },
        TableName { store: None, database: "Back`quoted".into(), table: "select".into() },
    ];
    assert_eq!(b.scope, Scope::Tables(names));
    let b = backup("BACKUP TABLE \"mysql://h:3306\".d.t TO 'b'");
    assert!(matches!(b.scope, Scope::Tables(t) if t[0].store.as_deref() == Some("mysql://h:3306")));
}

#[test]
fn an_address_shows_no_password() {
    let b = backup("BACKUP TABLE t TO 'mysql://me:geheim@h/d'");
    assert_eq!(b.targets[0].to_string(), "mysql://***@h/d");
    assert_eq!(b.targets[0].as_str(), "mysql://me:geheim@h/d");
    assert!(!format!("{b:?}").contains("geheim"));
    assert!(!error("BACKUP TABLE t 'mysql://me:geheim@h/d'").contains("geheim"));
    assert!(!error("BACKUP TABLE t TO 'mysql://me:geheim@h/d', 'mysql://me:geheim@h/d'").contains("geheim"));
    for sql in [
        "BACKUP TABLE \"x://u:geheim@h\".d.t, \"x://u:geheim@h\".d.t TO 'b'",
        "BACKUP TABLE \"x://u:geheim@h\".d.t.u TO 'b'",
        "BACKUP TABLE t TO 'b' WITH (mode = 'x://u:geheim@h')",
        "BACKUP TABLE t TO 'b' WITH ('x://u:geheim@h' = 1)",
        "RESTORE TABLE t FROM 'b' AS OF TIMESTAMP 'x://u:geheim@h'",
        "UPDATE t SET \"x://u:geheim@h\".d = 1",
        "UPDATE t SET \"x://u:geheim@h\" 1",
        "CREATE TABLE t (\"x://u:geheim@h\" INT, \"x://u:geheim@h\" INT)",
        "CREATE TABLE t (a INT, PRIMARY KEY (\"x://u:geheim@h\"))",
        "CREATE TABLE \"x://u:geheim@h\".d.t (a JSON PRIMARY KEY)",
    ] {
        let error = parse(sql).unwrap_err();
        assert!(
            !error.to_string().contains("geheim") && !format!("{error:?}").contains("geheim"),
            "{error:?}"
        );
    }
    assert!(!error("SELECT (1 'mysql://me:geheim@h/d')").contains("geheim"));
}

#[test]
fn encryption_is_written_as_a_word_a_text_or_a_list() {
    let of = |value: &str| {
        backup(&format!("BACKUP TABLE t TO 'b' WITH (encrypt = {value})")).options.encrypt.unwrap()
    };
    assert_eq!(of("none"), Encryption::None);
    assert_eq!(of("FULL"), Encryption::Full);
    assert_eq!(of("'full'"), Encryption::Full);
    assert_eq!(of("'columns: a , b'"), Encryption::Columns(vec!["a".into(), "b".into()]));
    assert_eq!(of("columns(a, \"b,c\")"), Encryption::Columns(vec!["a".into(), "b,c".into()]));
    for value in ["none", "full", "columns:a,b"] {
        assert_eq!(value.parse::<Encryption>().unwrap().to_string(), value);
    }
    assert_eq!(
        error("BACKUP TABLE t TO 'b' WITH (mode = columns(a))"),
        "option 'mode' takes auto, full or incremental, not 'columns(a)', at line 1, column 36"
    );
}
