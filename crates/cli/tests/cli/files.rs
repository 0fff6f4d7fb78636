//! Import and export.

use crate::run::{Folder, assert_members};
use serde_json::json;

#[test]
fn files_of_every_format_come_in_and_go_out_the_same() {
    let folder = Folder::new();
    folder.write("people.csv", "id,name,joined\n1,\"Ann, B.\",2026-01-31\n2,,2025-12-01\n3,Çe,\n");
    let report = folder.json(&["import", "people.csv", "--into", "people", "--key", "id"]);
    assert_members(&report, &["table", "rows", "seconds"]);
    assert_eq!((&report["table"], &report["rows"]), (&json!("people"), &json!(3)));
    let rows = folder.rows("SELECT * FROM people ORDER BY id");
    assert_eq!(rows[0]["name"], "Ann, B.");
    for (i, name) in ["out.csv", "out.jsonl", "out.parquet", "out.csv.gz", "out.jsonl.zst"].iter().enumerate()
    {
        let report = folder.json(&["export", "people", "--to", name]);
        assert_members(&report, &["table", "file", "rows", "seconds"]);
        let table = format!("again_{i}");
        folder.ok(&["import", name, "--into", &table, "--key", "id"]);
        assert_eq!(folder.rows(&format!("SELECT * FROM {table} ORDER BY id")), rows, "{name}");
    }
    let error = folder.fails(1, &["export", "people", "--to", "out.csv"]);
    assert!(error.contains("exists already"), "{error}");
    folder.ok(&["export", "people", "--to", "out.csv", "--overwrite"]);
}

#[test]
fn imported_rows_join_an_existing_table() {
    let folder = Folder::with_example();
    folder.write("more.tsv", "age\tid\tname\n31\t4\tAnn\n\\N\t5\tCy\n");
    folder.ok(&["import", "more.tsv", "--into", "example", "--null", "\\N"]);
    assert_eq!(folder.value("SELECT count(*) FROM example"), 5);
    assert_eq!(folder.value("SELECT age FROM example WHERE id = 5"), json!(null));
    folder.write("bare.csv", "6;Di;1\n");
    folder.ok(&["import", "bare.csv", "--into", "example", "--no-header", "--delimiter", ";"]);
    assert_eq!(folder.value("SELECT name FROM example WHERE id = 6"), "Di");
}

#[test]
fn several_files_are_one_table() {
    let folder = Folder::new();
    folder.write("a.jsonl", "{\"id\": 1, \"v\": 1.5}\n");
    folder.write("b.jsonl", "{\"id\": 2, \"v\": 2.5}\n");
    folder.ok(&["import", "a.jsonl", "b.jsonl", "--into", "t", "--key", "id"]);
    assert_eq!(folder.value("SELECT sum(v) FROM t"), 4.0);
}
