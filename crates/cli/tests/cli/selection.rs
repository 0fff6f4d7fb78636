//! Backup and restore of a part: columns, rows, databases, everything.

use crate::run::Folder;
use serde_json::json;

#[test]
fn chosen_columns_and_rows_are_all_that_a_backup_holds() {
    let folder = Folder::with_example();
    folder.ok(&["backup", "example", "--to", "adults", "--where", "age >= 25", "--columns", "id,name"]);
    folder.ok(&["restore", "example", "--from", "adults", "--into", "back"]);
    assert_eq!(
        folder.rows("SELECT * FROM back ORDER BY id"),
        json!([{"id": 1, "name": "John"}, {"id": 3, "name": "Bob"}])
    );
    let shown = folder.ok(&["show", "adults"]);
    assert!(shown.contains("age >= 25") && shown.contains("id, name"), "{shown}");
    folder.ok(&["verify", "adults", "--level", "compare"]);
}

#[test]
fn a_row_that_leaves_the_filter_is_gone_in_the_next_point() {
    let folder = Folder::with_example();
    folder.ok(&["backup", "example", "--to", "adults", "--where", "age >= 25"]);
    folder.sql("UPDATE example SET age = 1 WHERE id = 1; UPDATE example SET age = 70 WHERE id = 2");
    folder.ok(&["backup", "example", "--to", "adults", "--where", "age >= 25"]);
    assert_eq!(
        folder.value("SELECT string_agg(name, ',' ORDER BY id) FROM backup('adults', 'example')"),
        "Jane,Bob"
    );
    assert_eq!(
        folder.value("SELECT string_agg(name, ',' ORDER BY id) FROM backup('adults', 'example', '1')"),
        "John,Bob"
    );
}

#[test]
fn a_restore_takes_a_part_of_a_point() {
    let folder = Folder::with_backup();
    folder.ok(&[
        "restore",
        "example",
        "--from",
        "example_backup",
        "--into",
        "part",
        "--where",
        "id <> 2",
        "--columns",
        "id,age",
    ]);
    assert_eq!(
        folder.rows("SELECT * FROM part ORDER BY id"),
        json!([{"id": 1, "age": 25}, {"id": 3, "age": 30}])
    );
}

#[test]
fn several_tables_are_one_point_and_one_publication() {
    let folder = Folder::with_example();
    folder.sql("CREATE TABLE other (a INT); INSERT INTO other VALUES (1), (1), (2)");
    let report = folder.json(&["backup", "example", "other", "--to", "both"]);
    assert_eq!(report["tables"].as_array().unwrap().len(), 2);
    folder.sql("DROP TABLE example; DELETE FROM other");
    let report = folder.json(&["restore", "--all", "--from", "both"]);
    assert_eq!(report["tables"].as_array().unwrap().len(), 2);
    assert_eq!(folder.value("SELECT count(*) FROM example"), 3);
    assert_eq!(folder.value("SELECT sum(a) FROM other"), 4);
    folder.ok(&["undo", report["restore"].as_str().unwrap()]);
    assert_eq!(folder.value("SELECT count(*) FROM other"), 0);
    folder.ok(&["verify", "both"]);
}

#[test]
fn a_database_is_backed_up_and_restored_as_a_whole() {
    let folder = Folder::new();
    folder.sql(
        "CREATE TABLE shop.a (id INT PRIMARY KEY); CREATE TABLE shop.b (id INT PRIMARY KEY); CREATE TABLE elsewhere (id INT);
         INSERT INTO shop.a VALUES (1); INSERT INTO shop.b VALUES (2)",
    );
    let report = folder.json(&["backup", "--database", "shop", "--to", "shop"]);
    assert_eq!(report["tables"].as_array().unwrap().len(), 2);
    folder.sql("DROP TABLE shop.a, shop.b");
    folder.ok(&["restore", "--database", "shop", "--from", "shop"]);
    assert_eq!(folder.value("SELECT a.id + b.id FROM shop.a a, shop.b b"), 3);
    folder.fails(1, &["backup", "--database", "nothing", "--to", "x"]);
}

#[test]
fn tables_without_a_key_keep_their_equal_rows() {
    let folder = Folder::new();
    folder.sql(
        "CREATE TABLE bag (a INT, b TEXT); INSERT INTO bag VALUES (1, 'x'), (1, 'x'), (1, 'x'), (NULL, NULL)",
    );
    folder.ok(&["backup", "bag", "--to", "b"]);
    folder.sql("DELETE FROM bag WHERE a = 1; INSERT INTO bag VALUES (1, 'x')");
    folder.ok(&["backup", "bag", "--to", "b"]);
    assert_eq!(folder.value("SELECT count(*) FROM backup('b', 'bag', '1')"), 4);
    assert_eq!(folder.value("SELECT count(*) FROM backup('b', 'bag', '2')"), 2);
    folder.ok(&["restore", "bag", "--from", "b", "--as-of", "1"]);
    folder.ok(&["verify", "b", "--point", "1", "--level", "compare"]);
    assert_eq!(folder.value("SELECT count(*) FROM bag"), 4);
}

#[test]
fn empty_tables_come_back_empty() {
    let folder = Folder::new();
    folder.sql("CREATE TABLE nothing (id INT PRIMARY KEY, a TEXT)");
    folder.ok(&["backup", "nothing", "--to", "b"]);
    folder.sql("INSERT INTO nothing VALUES (1, 'x')");
    folder.ok(&["restore", "nothing", "--from", "b"]);
    assert_eq!(folder.value("SELECT count(*) FROM nothing"), 0);
    folder.ok(&["verify", "b", "--level", "content"]);
}
