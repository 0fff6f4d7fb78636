//! Keepfast's own statements, each as its verb.

use crate::run::{Folder, assert_members, document};
use serde_json::json;

#[test]
fn every_statement_has_its_kind_and_result() {
    let folder = Folder::with_backup();
    let script = "SHOW TABLES; DESCRIBE example; INSERT INTO example VALUES (4, 'x', 1); UPDATE example SET age = 2 WHERE id = 4;
        DELETE FROM example WHERE id = 4; EXPLAIN BACKUP TABLE example TO 'example_backup'; BACKUP TABLE example TO 'example_backup';
        SHOW BACKUPS; SHOW RESTORE POINTS FROM 'example_backup'; DESCRIBE BACKUP 'example_backup';
        VERIFY BACKUP 'example_backup'; EXPLAIN RESTORE TABLE example FROM 'example_backup';
        RESTORE TABLE example AS again FROM 'example_backup'; SELECT 1 AS one; CREATE TABLE t (a INT); DROP TABLE t; DROP BACKUP 'example_backup'";
    let results = folder.json(&["sql", "-c", script])["results"].clone();
    let kinds: Vec<&str> = results.as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "rows",
            "rows",
            "changed",
            "changed",
            "changed",
            "backup_plan",
            "backup",
            "backups",
            "points",
            "point",
            "verify",
            "restore_plan",
            "restore",
            "rows",
            "done",
            "done",
            "done"
        ]
    );
    for (i, result) in results.as_array().unwrap().iter().enumerate() {
        assert_members(result, &["statement", "kind", "result"]);
        assert_eq!(result["statement"], i + 1);
    }
    assert_eq!(results[2]["result"], json!({"verb": "inserted", "rows": 1}));
    assert_eq!(results[6]["result"]["point"], "example_backup@2");
    assert_eq!(
        results[13]["result"],
        json!({"columns": [{"name": "one", "type": "int64"}], "rows": [{"one": 1}]})
    );
}

#[test]
fn a_verification_that_finds_something_ends_the_script_with_3() {
    let folder = Folder::with_backup();
    folder.sql("DELETE FROM example WHERE id = 1");
    let run = folder.run(&["sql", "-c", "VERIFY BACKUP 'example_backup' LEVEL compare; DELETE FROM example"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(folder.value("SELECT count(*) FROM example"), 2);
    let run = folder.run(&["sql", "--json", "-c", "VERIFY BACKUP 'example_backup' LEVEL content"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(document(&run.out)["results"][0]["result"]["ok"], false);
}

#[test]
fn a_past_state_is_asked_for_by_point_and_by_time() {
    let folder = Folder::with_backup();
    let cut = folder.json(&["list", "example_backup"])[0]["cut"]["at"].as_str().unwrap().to_owned();
    folder.sql("DELETE FROM example; BACKUP TABLE example TO 'example_backup'");
    folder.sql(&format!("RESTORE TABLE example AS by_time FROM 'example_backup' AS OF TIMESTAMP '{cut}'"));
    folder.sql("RESTORE TABLE example AS by_point FROM 'example_backup' AS OF POINT 1");
    for table in ["by_time", "by_point"] {
        assert_eq!(folder.value(&format!("SELECT count(*) FROM {table}")), 3);
    }
    assert_eq!(folder.value("SELECT count(*) FROM example"), 0);
}

#[test]
fn values_of_every_kind_are_shown_exactly() {
    let folder = Folder::new();
    folder.sql(
        "CREATE TABLE v (id BIGINT PRIMARY KEY, b BOOLEAN, d DECIMAL(38,2), f DOUBLE, t TEXT, x BLOB, day DATE, at TIMESTAMP, u BIGINT UNSIGNED);
         INSERT INTO v VALUES (1, TRUE, 123456789012345678901234567890123456.78, 0.1, 'tab\tnewline\nquote\"ü', X'00ff', DATE '2026-01-31',
            TIMESTAMP '2026-01-31 10:00:00.123456', 18446744073709551615), (2, NULL, NULL, NULL, '', NULL, NULL, NULL, NULL)",
    );
    let text = folder.ok(&["query", "--json", "SELECT * FROM v ORDER BY id"]);
    for part in [
        "123456789012345678901234567890123456.78",
        "18446744073709551615",
        "\"2026-01-31\"",
        "2026-01-31T10:00:00.123456",
        "\\nquote",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let table = folder.ok(&["query", "SELECT * FROM v ORDER BY id"]);
    assert!(table.contains("tab\\tnewline\\nquote\"ü") && table.contains("NULL"), "{table}");
    assert_eq!(table.lines().count(), 5, "{table}");
}
