//! The interactive shell.

use crate::run::Folder;

#[test]
fn an_error_does_not_end_the_shell() {
    let folder = Folder::new();
    let input = "CREATE TABLE t (a INT);\nSELEC 1;\nSELECT * FROM nothing;\nINSERT INTO t\n  VALUES (1),\n  (2);\nSELECT sum(a) AS total FROM t;\n\\q\nDROP TABLE t;\n";
    let run = folder.run_with(&["sql", "--interactive"], input);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.err.matches("error KF").count(), 2, "{run:?}");
    assert!(run.out.contains("2 rows inserted") && run.out.contains("total"), "{run:?}");
    assert_eq!(folder.value("SELECT sum(a) FROM t"), 3);
}

#[test]
fn commands_of_the_shell_answer() {
    let folder = Folder::with_backup();
    let run = folder.run_with(
        &["sql", "-i"],
        "\\h\n\\d\n\\d example\n\\l\n\\timing\nCREATE TABLE t (a INT);\n\\timing\n\\nothing\n\\q\n",
    );
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    for part in [
        "RESTORE TABLE",
        "VARCHAR(255)",
        "example_backup",
        "timing is on",
        "timing is off",
        "no command \\nothing",
    ] {
        assert!(run.out.contains(part), "{part} is not in {run:?}");
    }
}

#[test]
fn what_stands_there_when_input_ends_is_still_run() {
    let folder = Folder::new();
    let run = folder.run_with(&["sql", "-i"], "CREATE TABLE t (a INT)");
    assert_eq!(run.code, 0, "{run:?}");
    folder.rows("SELECT * FROM t");
}

#[test]
fn entries_are_remembered_in_the_data_folder_but_no_passwords() {
    let folder = Folder::with_example();
    folder.run_with(
        &["sql", "-i"],
        "SELECT 12345 AS x;\nBACKUP TABLE example TO 'mysql://me:geheim@h/d';\n\\q\n",
    );
    let history = std::fs::read_to_string(folder.join("keepfast-data/sql_history")).unwrap();
    assert!(history.contains("12345") && !history.contains("geheim"), "{history}");
}
