//! Damage, repair, and what is restored all the same.

use crate::run::{Folder, files_under, flip};
use std::path::{Path, PathBuf};

/// A table of several segments, and a backup of it.
fn with_segments(options: &[&str]) -> Folder {
    let folder = Folder::new();
    let rows: Vec<String> = (1..=9_000).map(|n| format!("{n},name {n}")).collect();
    folder.write("t.csv", &format!("id,name\n{}\n", rows.join("\n")));
    folder.ok(&["import", "t.csv", "--into", "t", "--key", "id"]);
    let mut args = vec!["backup", "t", "--to", "b", "--segment-rows", "1024"];
    args.extend(options);
    folder.ok(&args);
    folder
}

fn segments(vault: &Path) -> Vec<PathBuf> {
    files_under(&vault.join("tables"))
        .into_iter()
        .filter(|p| p.to_string_lossy().contains("/segments/"))
        .collect()
}

fn vault(folder: &Folder) -> PathBuf {
    folder.join("keepfast-data/vault")
}

fn copy(from: &Path, to: &Path) {
    for file in files_under(from) {
        let place = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(file, place).unwrap();
    }
}

#[test]
fn verify_repair_heals_from_parity_and_later_points_inherit_it() {
    let folder = with_segments(&["--parity", "4+2"]);
    folder.sql("UPDATE t SET name = 'changed' WHERE id = 77");
    folder.ok(&["backup", "t", "--to", "b"]);
    let error = folder.fails(1, &["backup", "t", "--to", "b", "--parity", "none"]);
    assert!(error.contains("4+2"), "{error}");
    let vault = vault(&folder);
    let whole = files_under(&vault);
    assert!(whole.iter().filter(|p| p.to_string_lossy().contains("/parity/")).count() >= 6);
    let change = whole.iter().find(|p| p.to_string_lossy().contains("/changes/")).unwrap();
    let segments = segments(&vault);
    std::fs::remove_file(&segments[0]).unwrap();
    flip(&segments[1]);
    flip(change);
    std::fs::remove_file(vault.join("keepfast.json")).unwrap();
    let run = folder.run(&["verify", "b"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(run.out.matches("damaged ").count(), 4, "{}", run.out);
    let run = folder.run(&["verify", "b", "--repair"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("from parity") && run.out.contains("from its copy"), "{}", run.out);
    assert!(run.out.contains("4 objects healed, nothing is damaged any more"), "{}", run.out);
    assert_eq!(folder.json(&["verify", "b"])["ok"], true);
    assert_eq!(files_under(&vault), whole);
    folder.ok(&["restore", "t", "--from", "b", "--into", "back"]);
    assert_eq!(folder.value("SELECT count(*) FROM back WHERE name = 'changed'"), 1);
    let error = folder.fails(2, &["backup", "t", "--to", "c", "--parity", "0+1"]);
    assert!(error.contains("parity"), "{error}");
}

#[test]
fn a_damaged_segment_is_left_out_only_when_asked_and_its_keys_are_named() {
    let folder = with_segments(&[]);
    let lost = &segments(&vault(&folder))[2];
    std::fs::remove_file(lost).unwrap();
    folder.fails(1, &["restore", "t", "--from", "b", "--into", "back"]);
    let run = folder.run(&["restore", "t", "--from", "b", "--into", "back", "--skip-damaged", "--json"]);
    assert_eq!(run.code, 3, "{run:?}");
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let missing = report["tables"][0]["missing"][0].as_str().unwrap();
    // `n rows from id = a to id = b`
    let numbers: Vec<i64> =
        missing.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [rows, first, last] = numbers[..] else { panic!("{missing}") };
    assert_eq!(rows, last - first + 1);
    assert_eq!(folder.value("SELECT count(*) FROM back"), 9_000 - rows);
    assert_eq!(folder.value(&format!("SELECT count(*) FROM back WHERE id BETWEEN {first} AND {last}")), 0);
    let run = folder.run(&["verify", "b", "--repair"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.out.contains(&format!("lost: t: {rows} rows from id = {first} to id = {last}")),
        "{}",
        run.out
    );
}

#[test]
fn rows_in_damaged_ranges_are_left_out_with_their_changes() {
    let folder = with_segments(&[]);
    folder.sql("UPDATE t SET name = 'changed' WHERE id IN (5, 4500, 8999)");
    folder.ok(&["backup", "t", "--to", "b"]);
    std::fs::remove_file(&segments(&vault(&folder))[0]).unwrap();
    let run = folder.run(&["restore", "t", "--from", "b", "--into", "back", "--skip-damaged"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.out.contains("NOT restored of back"), "{}", run.out);
    let wrong = "SELECT count(*) FROM back b JOIN t ON b.id = t.id WHERE b.name <> t.name";
    assert_eq!(folder.value(wrong), 0);
    assert!(folder.value("SELECT count(*) FROM back").as_i64().unwrap() > 5_000);
}

#[test]
fn one_vault_repairs_another_and_a_stranger_is_refused() {
    let folder = with_segments(&[]);
    let vault = vault(&folder);
    copy(&vault, &folder.join("copy"));
    folder.ok(&["backup", "t", "--to", "./stranger#b"]);
    for path in segments(&vault).iter().take(3) {
        flip(path);
    }
    std::fs::remove_file(vault.join("keys/1.json")).unwrap();
    let error = folder.fails(1, &["verify", "b", "--repair", "--repair-from", "./stranger"]);
    assert!(error.contains("KF0280"), "{error}");
    let out = folder.ok(&["verify", "b", "--repair", "--repair-from", "./copy"]);
    assert!(out.contains("4 objects healed"), "{out}");
    folder.ok(&["restore", "t", "--from", "b", "--into", "back"]);
}

#[test]
fn a_vault_that_was_replaced_by_an_older_one_is_found_by_what_was_seen_before() {
    let folder = with_segments(&[]);
    let vault = vault(&folder);
    copy(&vault, &folder.join("old"));
    folder.sql("DELETE FROM t WHERE id = 1");
    folder.ok(&["backup", "t", "--to", "b"]);
    std::fs::rename(&vault, folder.join("newer")).unwrap();
    copy(&folder.join("old"), &vault);
    for args in
        [&["list", "b"][..], &["restore", "t", "--from", "b", "--into", "x"], &["backup", "t", "--to", "b"]]
    {
        let error = folder.fails(1, args);
        assert!(error.contains("KF0329"), "{args:?}: {error}");
    }
    let run = folder.run(&["verify", "b"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.out.contains("rolled back or replaced"), "{}", run.out);
    // The newer state brings the older one up to date.
    copy(&vault, &folder.join("again"));
    folder.ok(&["verify", "b", "--repair", "--repair-from", "./newer"]);
    assert_eq!(folder.json(&["list", "b"]).as_array().unwrap().len(), 2);
    // Or the older one is taken as it is.
    std::fs::remove_dir_all(&vault).unwrap();
    copy(&folder.join("again"), &vault);
    folder.fails(1, &["list", "b"]);
    folder.ok(&["verify", "b", "--accept-head"]);
    assert_eq!(folder.json(&["list", "b"]).as_array().unwrap().len(), 1);
}

#[test]
fn vaults_that_are_kept_as_fixtures_are_restored_as_far_as_they_are_whole() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vaults/format-1");
    let folder = Folder::new();
    copy(&fixtures.join("healthy"), &folder.join("v"));
    folder.ok(&["restore", "--all", "--from", "./v#shop"]);
    assert_eq!(folder.value("SELECT count(*) FROM people"), 4);
    assert_eq!(folder.value("SELECT name FROM people WHERE id = 1"), "Ada L.");
    folder.ok(&["restore", "people", "--from", "./v#shop", "--as-of", "1", "--into", "first"]);
    assert_eq!(folder.value("SELECT count(*) FROM first"), 3);
    copy(&fixtures.join("flipped-segments/changed"), &folder.join("v"));
    folder.ok(&["restore", "items", "--from", "./v#shop"]);
    folder.fails(1, &["restore", "people", "--from", "./v#shop"]);
    let run = folder.run(&["verify", "./v#shop"]);
    assert_eq!((run.code, run.out.matches("damaged ").count()), (3, 2), "{run:?}");
}
