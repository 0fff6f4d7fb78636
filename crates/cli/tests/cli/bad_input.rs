//! Bad input: one clear error with its code and the next step, the right exit code, nothing half done, no panic.

use crate::run::{Folder, document};

#[test]
fn wrong_arguments_are_wrong_use() {
    let folder = Folder::new();
    for args in [
        &["frobnicate"][..],
        &["backup"],
        &["backup", "t"],
        &["backup", "--to", "b"],
        &["backup", "t", "--to", "b", "--mode", "sometimes"],
        &["backup", "t", "--to", "b", "--segment-rows", "1000"],
        &["backup", "t", "--to", "b", "--columns", "a,,b"],
        &["backup", "a.b.c.d", "--to", "b"],
        &["restore", "t"],
        &["restore", "t", "--all", "--from", "b"],
        &["restore", "t", "--from", "b", "--as-of", "yesterday"],
        &["restore", "t", "u", "--from", "b", "--into", "v"],
        &["restore", "t", "--from", "b", "--as-of", "other@1"],
        &["verify"],
        &["diff", "a"],
        &["query"],
        &["import", "f.csv"],
        &["export", "t"],
        &["list", "--threads", "0"],
        &["list", "--memory", "lots"],
        &["explain", "KF9999"],
        &["completions", "tcsh"],
        &["demo", "--rows", "3"],
    ] {
        folder.fails(2, args);
    }
    assert!(!folder.join("keepfast-data").exists());
}

#[test]
fn names_that_no_backup_has_are_wrong_use() {
    let folder = Folder::with_example();
    for name in ["", "../x#", "a b", "-x", ".x", "a@b", "x@", "s3://bucket/p#a b"] {
        let to = format!("--to={name}");
        let error = folder.fails(2, &["backup", "example", &to]);
        assert!(!error.contains("KF0799"), "{error}");
    }
    assert!(!folder.join("keepfast-data/vault").exists());
}

#[test]
fn an_error_is_one_document_with_json() {
    let folder = Folder::new();
    for args in [
        &["restore", "t", "--from", "nothing", "--json"][..],
        &["backup", "--json"],
        &["sql", "--json", "-c", "SELEC"],
    ] {
        let run = folder.run(args);
        assert!(run.code == 1 || run.code == 2, "{run:?}");
        let error = document(&run.err);
        for member in ["code", "message", "next_step"] {
            assert!(error["error"][member].as_str().is_some_and(|t| !t.is_empty()), "{error}");
        }
        assert!(error["error"]["code"].as_str().unwrap().starts_with("KF"), "{error}");
        assert_eq!(run.out, "", "{run:?}");
    }
}

#[test]
fn a_script_with_a_mistake_does_nothing() {
    let folder = Folder::with_example();
    for (sql, place) in [
        ("DELETE FROM example; SELEC 1", "line 1, column 22"),
        ("DELETE FROM example;\nBACKUP TABLE example", "line 2"),
        ("DELETE FROM example; SELECT 'a", "column"),
        ("DELETE FROM example; BACKUP TABLE example TO 'b' WITH (speed = 3)", "speed"),
        ("DELETE FROM example; CREATE TABLE t (a WIDGET)", "WIDGET"),
    ] {
        let error = folder.fails(2, &["sql", "-c", sql]);
        assert!(error.contains(place), "{sql} gave {error}");
    }
    assert_eq!(folder.value("SELECT count(*) FROM example"), 3);
}

#[test]
fn statements_stop_at_the_first_error_and_what_was_done_before_stays() {
    let folder = Folder::with_example();
    let run = folder.run(&[
        "sql",
        "-c",
        "DELETE FROM example WHERE id = 1; SELECT * FROM nothing; DELETE FROM example",
    ]);
    assert_eq!(run.code, 1, "{run:?}");
    run.assert_error();
    assert!(run.out.contains("1 row deleted"), "{run:?}");
    assert_eq!(folder.value("SELECT count(*) FROM example"), 2);
    let run = folder.run(&["sql", "--json", "-c", "SELECT 1 AS one; SELECT * FROM nothing; SELECT 2"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(document(&run.out)["results"].as_array().unwrap().len(), 1);
    document(&run.err);
}

#[test]
fn what_a_store_cannot_do_is_refused_and_nothing_changes() {
    let folder = Folder::with_backup();
    let before = folder.json(&["list", "example_backup"]);
    for (args, says) in [
        (&["restore", "example", "--from", "example_backup", "--shard-rule", "id % 2"][..], "id % 2"),
        (&["backup", "example", "--to", "example_backup", "--until", "2999-01-01"], "not over"),
        (&["backup", "example", "--to", "example_backup", "--until", "2000-01-01"], "no point"),
        (&["backup", "example", "--to", "example_backup", "--before-transaction", "1-2-3"], "earlier moment"),
    ] {
        let run = folder.run(args);
        assert!(run.code != 0 && run.err.contains(says), "{run:?}");
    }
    let both =
        "BACKUP TABLE example TO 'example_backup' WITH (until = '2026-01-01', before_transaction = '1-2-3')";
    let run = folder.run(&["sql", "-c", both]);
    assert!(run.code != 0 && run.err.contains("one moment"), "{run:?}");
    assert_eq!(folder.json(&["list", "example_backup"]), before);
}

#[test]
fn unknown_names_are_named_in_the_error() {
    let folder = Folder::with_backup();
    for (args, name) in [
        (&["backup", "nothing", "--to", "b"][..], "nothing"),
        (&["backup", "nodb.nothing", "--to", "b"], "nothing"),
        (&["backup", "nostore.main.example", "--to", "b"], "nostore"),
        (&["restore", "example", "--from", "nobackup"], "nobackup"),
        (&["restore", "nothing", "--from", "example_backup"], "nothing"),
        (&["restore", "example", "--from", "example_backup", "--as-of", "9"], "9"),
        (&["verify", "nobackup"], "nobackup"),
        (&["verify", "example_backup", "--against", "nothing"], "nothing"),
        (&["diff", "nobackup@1", "example"], "nobackup"),
        (&["diff", "example_backup", "nothing"], "nothing"),
        (&["list", "nobackup"], "nobackup"),
        (&["show", "nobackup"], "nobackup"),
        (&["show", "example_backup", "--point", "7"], "7"),
        (&["compact", "nobackup"], "nobackup"),
        (&["drop", "nobackup"], "nobackup"),
        (&["query", "SELECT * FROM nothing"], "nothing"),
        (&["query", "SELECT nocolumn FROM example"], "nocolumn"),
        (&["query", "SELECT * FROM backup('nobackup', 'example')"], "nobackup"),
        (&["export", "nothing", "--to", "x.csv"], "nothing"),
        (&["backup", "example", "--to", "b", "--columns", "id,nocolumn"], "nocolumn"),
        (&["backup", "example", "--to", "b", "--where", "nocolumn = 1"], "nocolumn"),
        (&["restore", "example", "--from", "example_backup", "--where", "nocolumn = 1"], "nocolumn"),
    ] {
        let run = folder.run(args);
        assert!(run.code == 1 || run.code == 2, "{args:?} gave {run:?}");
        run.assert_error();
        assert!(run.err.contains(name), "{args:?} gave {run:?}");
    }
    assert!(!folder.join("x.csv").exists());
    assert_eq!(folder.json(&["list"]).as_array().unwrap().len(), 1);
    assert_eq!(folder.value("SELECT count(*) FROM example"), 3);
}

#[test]
fn nothing_is_listed_from_a_place_without_a_vault() {
    let folder = Folder::new();
    let error = folder.fails(1, &["list", "./nowhere"]);
    assert!(error.contains("vault"), "{error}");
    assert!(!folder.join("nowhere").exists() && !folder.join("keepfast-data").exists());
}

#[test]
fn a_condition_with_a_mistake_is_found_before_anything_is_opened() {
    let folder = Folder::with_example();
    for filter in ["age >", "age = 1; DELETE FROM example", "'a", "", "SELECT 1"] {
        folder.fails(2, &["backup", "example", "--to", "b", "--where", filter]);
    }
    assert!(!folder.join("keepfast-data/vault").exists());
    folder.fails(2, &["query", "SELECT 1; SELECT 2"]);
    folder.fails(2, &["query", "DELETE FROM example"]);
    assert_eq!(folder.value("SELECT count(*) FROM example"), 3);
}

#[test]
fn configuration_mistakes_are_named_with_their_line() {
    let folder = Folder::with_example();
    folder.write("keepfast.toml", "[stores.old]\nurl = \"columnar:///x\"\npasword = \"x\"\n");
    let error = folder.fails(2, &["list"]);
    assert!(error.contains("keepfast.toml, line 3") && error.contains("pasword"), "{error}");
    std::fs::remove_file(folder.join("keepfast.toml")).unwrap();
    let in_data = folder.write("keepfast-data/keepfast.toml", "stores = 3\n");
    let error = folder.fails(2, &["list"]);
    assert!(error.contains("line 1"), "{error}");
    std::fs::remove_file(in_data).unwrap();
    folder.fails(1, &["list", "--config", "missing.toml"]);
}

#[test]
fn stores_of_later_versions_say_so_without_showing_a_password() {
    let folder = Folder::with_example();
    folder.write("keepfast.toml", "[stores.shop]\nurl = \"phoenix://me:geheim@10.0.0.1:8765\"\n");
    let error = folder.fails(1, &["backup", "shop.db.orders", "--to", "b"]);
    assert!(error.contains("not in this version") && !error.contains("geheim"), "{error}");
    for url in ["mysql://me:geheim@h/db", "phoenix://h", "tablestore://h", "voltdb://h"] {
        let error = folder.fails(1, &["backup", "example", "--to", url]);
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn folders_that_cannot_be_used_are_named() {
    let folder = Folder::with_example();
    let file = folder.write("plain", "x");
    let file = file.to_str().unwrap();
    let inside = format!("{file}/vault");
    for to in [file, &inside, "/proc/keepfast-vault"] {
        let run = folder.run(&["backup", "example", "--to", to]);
        assert_eq!(run.code, 1, "{run:?}");
        run.assert_error();
        assert!(run.err.contains(to), "{run:?}");
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "x");
    for data in [file, "/proc/keepfast-data"] {
        let run = folder.run(&["--data", data, "sql", "-c", "CREATE TABLE t (a INT)"]);
        assert_eq!(run.code, 1, "{run:?}");
        run.assert_error();
    }
    assert_eq!(folder.value("SELECT count(*) FROM example"), 3);
}

#[test]
fn a_folder_with_other_files_does_not_become_a_vault() {
    let folder = Folder::with_example();
    std::fs::create_dir(folder.join("photos")).unwrap();
    folder.write("photos/cat.txt", "meow");
    let error = folder.fails(1, &["backup", "example", "--to", "./photos"]);
    assert!(error.contains("photos"), "{error}");
    assert_eq!(std::fs::read_dir(folder.join("photos")).unwrap().count(), 1);
}

#[test]
fn files_with_mistakes_are_named_with_their_line_and_column() {
    let folder = Folder::with_example();
    folder.write("bad.csv", "id,name,age\n5,Ann,31\n6,Cy,old\n");
    let error = folder.fails(1, &["import", "bad.csv", "--into", "example"]);
    assert!(error.contains("bad.csv, line 3") && error.contains("age") && error.contains("old"), "{error}");
    folder.write("short.csv", "id,name,age\n5,Ann\n");
    let error = folder.fails(1, &["import", "short.csv", "--into", "example"]);
    assert!(error.contains("short.csv, line 2"), "{error}");
    folder.write("bad.jsonl", "{\"id\": 5}\n{\"id\": \n");
    let error = folder.fails(1, &["import", "bad.jsonl", "--into", "example"]);
    assert!(error.contains("bad.jsonl, line 2"), "{error}");
    folder.write("bad.parquet", "not parquet at all");
    let error = folder.fails(1, &["import", "bad.parquet", "--into", "example"]);
    assert!(error.contains("bad.parquet"), "{error}");
    folder.fails(1, &["import", "missing.csv", "--into", "example"]);
    folder.write("data.xyz", "1");
    folder.fails(2, &["import", "data.xyz", "--into", "example"]);
    folder.write("doubled.csv", "id,name,age\n5,a,1\n5,b,2\n");
    folder.fails(1, &["import", "doubled.csv", "--into", "fresh", "--key", "id"]);
    folder.fails(1, &["query", "SELECT * FROM fresh"]);
    assert_eq!(folder.value("SELECT count(*) FROM example"), 3);
}

#[test]
fn rows_that_break_a_rule_change_nothing() {
    let folder = Folder::with_example();
    for sql in [
        "INSERT INTO example VALUES (4, 'ok', 1), (1, 'doubled', 2)",
        "INSERT INTO example (name) VALUES ('no key')",
        "INSERT INTO example VALUES (4, 'x', 99999999999)",
        "UPDATE example SET id = 1",
        "CREATE TABLE example (id INT)",
        "DROP TABLE nothing",
        "INSERT INTO example VALUES (4)",
    ] {
        folder.fails(1, &["sql", "-c", sql]);
    }
    assert_eq!(folder.value("SELECT sum(id) FROM example"), 6);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::with_example();
    let mut child = folder.command(&["query", "SELECT * FROM generate_series(1, 2000000)"]).spawn().unwrap();
    drop(child.stdout.take());
    let run = crate::run::Run::of(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
}
