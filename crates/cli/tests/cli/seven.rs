//! The seven statements, word for word, in an empty folder; then damage of every kind, restored each time.

use crate::run::Folder;
use serde_json::json;

const SEVEN: &str = "CREATE TABLE example (id INT PRIMARY KEY, name VARCHAR(255), age INT);
INSERT INTO example (id, name, age) VALUES (1, 'John', 25);
INSERT INTO example (id, name, age) VALUES (2, 'Jane', 22);
INSERT INTO example (id, name, age) VALUES (3, 'Bob', 30);
SELECT * FROM example;
BACKUP TABLE example TO 'example_backup';
RESTORE TABLE example FROM 'example_backup';
";

fn assert_example(folder: &Folder) {
    assert_eq!(
        folder.rows("SELECT * FROM example ORDER BY id"),
        json!([
            {"id": 1, "name": "John", "age": 25},
            {"id": 2, "name": "Jane", "age": 22},
            {"id": 3, "name": "Bob", "age": 30}
        ])
    );
}

#[test]
fn the_seven_statements_work_in_an_empty_folder() {
    let folder = Folder::new();
    let out = folder.sql(SEVEN);
    for part in ["John", "Jane", "Bob", "(3 rows", "example_backup@1", "example__replaced_1_1"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    assert_example(&folder);
    assert!(folder.join("keepfast-data/vault/keepfast.json").is_file());
    assert!(!folder.join("keepfast-data/store/keepfast.json").exists());
}

#[test]
fn the_seven_statements_work_one_command_each() {
    let folder = Folder::new();
    for statement in SEVEN.lines() {
        folder.sql(statement);
    }
    assert_example(&folder);
}

#[test]
fn the_seven_statements_work_from_a_file_and_from_standard_input() {
    let folder = Folder::new();
    folder.write("seven.sql", SEVEN);
    folder.ok(&["sql", "-f", "seven.sql"]);
    assert_example(&folder);

    let folder = Folder::new();
    let run = folder.run_with(&["sql"], SEVEN);
    assert_eq!(run.code, 0, "{run:?}");
    assert_example(&folder);
}

#[test]
fn a_table_comes_back_after_every_kind_of_damage() {
    let folder = Folder::new();
    folder.sql(SEVEN);
    for damage in [
        "UPDATE example SET age = 0, name = NULL",
        "DELETE FROM example",
        "DELETE FROM example WHERE id = 2",
        "INSERT INTO example VALUES (4, 'Eve', 99)",
        "UPDATE example SET id = id + 10",
        "DROP TABLE example",
        "DROP TABLE example; CREATE TABLE example (other TEXT)",
    ] {
        folder.sql(damage);
        folder.sql("RESTORE TABLE example FROM 'example_backup'");
        assert_example(&folder);
        folder.ok(&["verify", "example_backup", "--level", "content"]);
    }
}
