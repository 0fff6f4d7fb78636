//! Stores with keys as a user makes them: given keys in one command, used like any other, closed without them.

use crate::planted::{PEOPLE, PHRASE, fails, holding, ok, with};
use crate::run::{Folder, files_under};
use std::path::Path;

const WORDS: [&str; 4] = ["planted-value", "planted_column", "city 3", PHRASE];

#[track_caller]
fn counted(folder: &Folder, sql: &str, rows: u64) {
    let run = with(folder, PHRASE, &["sql", "-c", sql, "--json"]);
    assert!(run.code == 0 && run.out.contains(&rows.to_string()), "{sql} gave {run:?}");
}

/// Files under a folder in which a planted word stands.
fn open_words(folder: &Path) -> Vec<String> {
    holding(folder, &WORDS)
}

#[test]
fn a_store_is_given_keys_written_backed_up_lost_and_restored() {
    let folder = Folder::new();
    let added = ok(&folder, &["key", "add", "office", "--store"]);
    assert!(added.contains("'office' can open"), "{added}");
    ok(&folder, &["sql", "-c", PEOPLE]);
    let data = folder.join("keepfast-data/store");
    assert_eq!(open_words(&data), [] as [String; 0]);

    ok(&folder, &["backup", "people", "--to", "b", "--workers", "processes"]);
    ok(
        &folder,
        &["sql", "-c", "UPDATE people SET city = 'moved' WHERE id < 100; DELETE FROM people WHERE id > 2990"],
    );
    let second = ok(&folder, &["backup", "people", "--to", "b", "--json"]);
    assert!(second.contains("\"incremental\""), "{second}");
    ok(&folder, &["verify", "b", "--level", "compare"]);
    ok(&folder, &["sql", "-c", "DROP TABLE people"]);
    ok(&folder, &["restore", "people", "--from", "b", "--as-of", "b@1", "--workers", "processes"]);
    counted(&folder, "SELECT count(*) FROM people", 3000);
    let restored = ok(&folder, &["restore", "people", "--from", "b"]);
    counted(&folder, "SELECT count(*) FROM people WHERE city = 'moved'", 99);
    let (_, id) = restored.split_once("`keepfast undo ").expect("a restore says how it is undone");
    ok(&folder, &["undo", id.split('`').next().unwrap()]);
    counted(&folder, "SELECT count(*) FROM people", 3000);
    assert_eq!(open_words(&data), [] as [String; 0]);

    for args in [&["sql", "-c", "SELECT * FROM people"][..], &["backup", "people", "--to", "b"]] {
        let said = fails(&folder, "", args, "KF0401");
        assert!(said.contains("KEEPFAST_PASSPHRASE"), "{said}");
        fails(&folder, "another", args, "KF0402");
    }
    // A vault with a passphrase of its own, and this store.
    folder.write("store.txt", PHRASE);
    let both = ["--passphrase-file", "store.txt"];
    for verb in [
        &["backup", "people", "--to", "secret#b", "--encrypt", "full"][..],
        &["restore", "people", "--from", "secret#b", "--workers", "processes"],
    ] {
        let run = with(&folder, "the vault's own", &[verb, &both[..]].concat());
        assert_eq!(run.code, 0, "{run:?}");
    }
    counted(&folder, "SELECT count(*) FROM people", 3000);
}

#[test]
fn a_store_with_tables_is_given_keys_and_they_come_and_go() {
    let folder = Folder::new();
    folder.write("second.txt", "the second passphrase\n");
    folder.sql(PEOPLE);
    fails(&folder, PHRASE, &["key", "rotate", "--store"], "KF0403");
    assert!(!open_words(&folder.join("keepfast-data/store")).is_empty());
    ok(&folder, &["backup", "people", "--to", "b"]);
    let restored = ok(&folder, &["restore", "people", "--from", "b"]);
    let (_, id) = restored.split_once("`keepfast undo ").expect("a restore says how it is undone");
    let given = ok(&folder, &["key", "add", "office", "--store"]);
    assert!(given.contains("cannot be undone"), "{given}");
    let said = fails(&folder, PHRASE, &["undo", id.split('`').next().unwrap()], "KF0309");
    assert!(said.contains("first keys"), "{said}");
    counted(&folder, "SELECT count(*) FROM people", 3000);
    assert_eq!(open_words(&folder.join("keepfast-data/store")), [] as [String; 0]);

    let segments = || {
        let files = files_under(&folder.join("keepfast-data/store/data"));
        files.into_iter().map(|f| (std::fs::read(&f).unwrap(), f)).collect::<Vec<_>>()
    };
    let before = segments();
    let added = ok(&folder, &["key", "add", "second", "--new-passphrase-file", "second.txt", "--store"]);
    assert!(!added.contains("undone"), "{added}");
    ok(&folder, &["key", "rotate", "--passphrase-file", "second.txt", "--store"]);
    ok(&folder, &["key", "remove", "office", "--passphrase-file", "second.txt", "--store"]);
    assert!(segments() == before, "no data were written again");
    fails(&folder, PHRASE, &["sql", "-c", "SELECT * FROM people"], "KF0402");
    let run = folder.run(&["sql", "-c", "SELECT count(*) FROM people", "--passphrase-file", "second.txt"]);
    assert!(run.code == 0 && run.out.contains("3000"), "{run:?}");
    let listed = folder.json(&["key", "list", "--store"]);
    assert_eq!(listed["recipients"][0]["name"], "second", "{listed}");
    assert!(listed["store"].is_string() && listed["recipients"].as_array().unwrap().len() == 1, "{listed}");
}

#[test]
fn a_store_of_the_configuration_names_its_own_passphrase_and_takes_a_copy() {
    let folder = Folder::new();
    folder.write("archive.txt", "the archive's passphrase\n");
    let url = format!("columnar://{}", folder.join("archive").display());
    let store = format!("[stores.archive]\nurl = \"{url}\"\npassphrase_file = \"archive.txt\"\n");
    folder.write("keepfast.toml", &store);
    // Whoever puts a plain store in its place is not served.
    for args in [
        &["sql", "-c", "SELECT * FROM archive.main.people"][..],
        &["backup", "archive.main.people", "--to", "b"],
    ] {
        fails(&folder, "", args, "KF0403");
    }
    folder.ok(&["key", "add", "office", "--store", "archive"]);
    folder.sql(PEOPLE);
    fails(&folder, "", &["backup", "people", "--to", &url], "KF0401");
    folder.ok(&["backup", "people", "--to", &url, "--passphrase-file", "archive.txt"]);
    assert_eq!(open_words(&folder.join("archive")), [] as [String; 0]);
    assert_eq!(folder.value("SELECT count(*) FROM archive.main.people"), 3000);
    folder.ok(&["backup", "archive.main.people", "--to", "b", "--workers", "processes"]);
    folder.sql("DROP TABLE people");
    folder.ok(&["verify", "b"]);
}
