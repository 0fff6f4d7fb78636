//! Encrypted backups as a user makes them: what opens them, what is seen of them without, and that nothing secret is anywhere.

use crate::planted::{PEOPLE, PHRASE, fails, holding, ok, with};
use crate::run::{Folder, Run, files_under};
use std::fmt::Write as _;

/// A table with planted words.
fn planted() -> Folder {
    let folder = Folder::new();
    folder.sql(PEOPLE);
    folder
}

/// Objects of the vault in which a word stands.
fn in_vault(folder: &Folder, word: &str) -> Vec<String> {
    holding(&folder.join("keepfast-data/vault"), &[word])
}

#[test]
fn an_encrypted_table_comes_back_with_its_passphrase_and_not_without() {
    let folder = planted();
    ok(&folder, &["backup", "people", "--to", "b", "--encrypt", "full"]);
    folder.sql("UPDATE people SET city = 'moved' WHERE id < 100; DELETE FROM people WHERE id > 2990");
    let second = with(&folder, PHRASE, &["backup", "people", "--to", "b", "--json"]);
    assert!(second.out.contains("\"incremental\""), "what is left out is as before: {second:?}");
    ok(&folder, &["verify", "b"]);
    ok(&folder, &["verify", "b", "--level", "content"]);
    ok(&folder, &["compact", "b"]);
    folder.sql("DROP TABLE people");
    ok(&folder, &["restore", "people", "--from", "b", "--as-of", "b@3"]);
    assert_eq!(folder.value("SELECT count(*) FROM people"), 3000);
    ok(&folder, &["restore", "people", "--from", "b"]);
    assert_eq!(folder.value("SELECT count(*) FROM people WHERE city = 'moved'"), 99);
    let counted = ok(&folder, &["query", "SELECT count(*) AS n FROM backup('b', 'people')", "--json"]);
    assert!(counted.contains("2990"), "{counted}");

    for args in [
        &["restore", "people", "--from", "b"][..],
        &["verify", "b"],
        &["backup", "people", "--to", "b"],
        &["backup", "people", "--to", "another"],
        &["diff", "b", "people"],
    ] {
        fails(&folder, "", args, "KF0240");
        fails(&folder, "another passphrase", args, "KF0241");
    }
    // What a vault holds, though not what is in it, is told to everybody who may read it.
    assert!(folder.ok(&["list", "b"]).contains("b@3"));
}

#[test]
fn nothing_planted_is_in_any_object_message_or_plan() {
    let folder = planted();
    let mut said = String::new();
    let mut say = |run: Run| {
        assert_eq!(run.code, 0, "{run:?}");
        write!(said, "{}{}", run.out, run.err).unwrap();
    };
    let filter = ["--where", "planted_column <> 'planted-literal'"];
    let backup = ["backup", "people", "--to", "b", "-vv", "--workers", "processes"];
    let first: Vec<&str> = backup.iter().chain(&filter).copied().chain(["--encrypt", "full"]).collect();
    say(with(&folder, PHRASE, &first));
    folder.sql("UPDATE people SET planted_column = 'planted-value new' WHERE id = 5");
    let again: Vec<&str> = backup.iter().chain(&filter).copied().collect();
    say(with(&folder, PHRASE, &again));
    say(with(&folder, PHRASE, &["verify", "b", "-vv"]));
    say(with(&folder, PHRASE, &["key", "list", "-vv"]));
    say(with(&folder, PHRASE, &["key", "rotate", "-vv"]));
    say(with(&folder, PHRASE, &["restore", "people", "--from", "b", "--dry-run", "-vv"]));
    for word in ["planted-value", "planted_column", "planted-literal", PHRASE, "city 3"] {
        assert_eq!(in_vault(&folder, word), [] as [String; 0], "{word}");
    }
    for word in ["planted-value", PHRASE] {
        assert!(!said.contains(word), "{word} in {said}");
    }
    // The same words are found where nothing is encrypted, so that looking for them shows something.
    folder.ok(&["backup", "people", "--to", "plain#b"]);
    let files = files_under(&folder.join("plain"));
    assert!(
        files.iter().any(|f| String::from_utf8_lossy(&std::fs::read(f).unwrap()).contains("planted_column"))
    );
}

#[test]
fn chosen_columns_are_secret_and_the_others_stay_open() {
    let folder = planted();
    ok(&folder, &["backup", "people", "--to", "b", "--encrypt", "columns:planted_column"]);
    assert_eq!(in_vault(&folder, "planted-value"), [] as [String; 0]);
    assert!(!in_vault(&folder, "planted_column").is_empty(), "names of columns are open in this mode");
    ok(&folder, &["verify", "b", "--level", "compare"]);
    let other = with(&folder, PHRASE, &["backup", "people", "--to", "b", "--encrypt", "none"]);
    assert!(other.code == 1 && other.err.contains("KF0617"), "{other:?}");
    ok(&folder, &["key", "shred", "b", "people", "--column", "planted_column"]);
    let open =
        ok(&folder, &["query", "SELECT count(DISTINCT city) AS n FROM backup('b', 'people')", "--json"]);
    assert!(open.contains('7'), "{open}");
    let restore = ["restore", "people", "--from", "b", "--into", "rest"];
    let with_option = |option: &[&'static str]| [&restore[..], option].concat();
    fails(&folder, PHRASE, &restore, "KF0245");
    let over = ["restore", "people", "--from", "b", "--if-exists", "merge", "--skip-shredded"];
    fails(&folder, PHRASE, &over, "KF0245");
    let by_lost = with_option(&["--skip-shredded", "--where", "planted_column > 'a'"]);
    fails(&folder, PHRASE, &by_lost, "KF0245");
    let plan = ok(&folder, &with_option(&["--skip-shredded", "--dry-run"]));
    assert!(plan.contains("planted_column will be NULL in all rows of rest"), "{plan}");
    let rest = with(&folder, PHRASE, &with_option(&["--skip-shredded", "--workers", "processes"]));
    assert!(rest.code == 3 && rest.out.contains("planted_column is NULL in all rows of rest"), "{rest:?}");
    assert_eq!(folder.value("SELECT count(*) FROM rest WHERE planted_column IS NULL"), 3000);
    assert_eq!(
        folder.value("SELECT count(*) FROM rest JOIN people USING (id) WHERE rest.city = people.city"),
        3000
    );
    // Who does not ask for it misses nothing.
    ok(&folder, &with_option(&["--columns", "id,city", "--where", "id <= 10"]));
    assert_eq!(folder.value("SELECT count(*) FROM rest"), 10);
    // The next backup begins anew under another key.
    ok(&folder, &["backup", "people", "--to", "b"]);
    folder.sql("DROP TABLE people");
    ok(&folder, &["restore", "people", "--from", "b"]);
    assert_eq!(folder.value("SELECT count(*) FROM people WHERE planted_column LIKE 'planted-value %'"), 3000);
}

#[test]
fn keys_of_a_backup_that_was_dropped_do_not_decide_how_the_next_one_of_its_name_is_encrypted() {
    let folder = planted();
    ok(&folder, &["backup", "people", "--to", "b", "--encrypt", "columns:planted_column"]);
    let open_names = || in_vault(&folder, "planted_column");
    let of_the_first = open_names();
    assert!(!of_the_first.is_empty());
    ok(&folder, &["drop", "b"]);
    ok(&folder, &["backup", "people", "--to", "b", "--encrypt", "full"]);
    assert_eq!(open_names(), of_the_first, "full is full");
    ok(&folder, &["verify", "b", "--level", "compare"]);
    ok(&folder, &["drop", "b"]);
    ok(&folder, &["backup", "people", "--to", "b", "--encrypt", "none"]);
    assert!(open_names().len() > of_the_first.len(), "and none is none");
    folder.sql("DROP TABLE people");
    ok(&folder, &["restore", "people", "--from", "b"]);
    assert_eq!(folder.value("SELECT count(*) FROM people"), 3000);
}

#[test]
fn a_secret_that_is_typed_in_place_of_a_public_key_is_not_shown() {
    let folder = planted();
    ok(&folder, &["backup", "people", "--to", "b", "--encrypt", "full"]);
    let typed = |key| fails(&folder, PHRASE, &["key", "add", "ops", "--recipient", key], "KF0242");
    assert!(!typed("AGE-SECRET-KEY-1TYPEDBYMISTAKE").contains("TYPED"));
    assert!(typed("age1typedwrong").contains("age1typedwrong"));
}

#[test]
fn recipients_come_and_go_without_any_data_being_written_again() {
    let folder = planted();
    ok(&folder, &["backup", "people", "--to", "b", "--encrypt", "full"]);
    let tables = || {
        let files = files_under(&folder.join("keepfast-data/vault/tables"));
        files.into_iter().map(|f| (std::fs::read(&f).unwrap(), f)).collect::<Vec<_>>()
    };
    let before = tables();
    let added = ok(&folder, &["key", "add", "--recovery"]);
    let secret =
        added.lines().find(|l| l.starts_with("AGE-SECRET-KEY-1")).expect("it is shown once").to_owned();
    let identity = folder.write("identity.txt", &format!("# recovery\n{secret}\n"));
    let identity = identity.to_str().unwrap();
    folder.write("second.txt", "the second passphrase\n");
    ok(&folder, &["key", "add", "second", "--new-passphrase-file", "second.txt"]);
    let refused = with(&folder, PHRASE, &["key", "rotate"]);
    assert!(refused.err.contains("KF0249") && refused.err.contains("second"), "{refused:?}");
    ok(&folder, &["key", "rotate", "--passphrase-file", "second.txt"]);
    let removed = with(&folder, "", &["key", "remove", "passphrase", "--passphrase-file", "second.txt"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    assert_eq!(tables(), before, "no data were written again");
    fails(&folder, PHRASE, &["verify", "b"], "KF0241");
    folder.ok(&["verify", "b", "--identity", identity]);
    folder.ok(&["verify", "b", "--passphrase-file", "second.txt"]);
    assert_eq!(in_vault(&folder, secret.trim_start_matches("AGE-SECRET-KEY-1")), [] as [String; 0]);
    let listed = folder.json(&["key", "list"]);
    let names: Vec<_> = listed["recipients"].as_array().unwrap().iter().map(|r| r["name"].clone()).collect();
    assert_eq!(names, ["recovery", "second"]);
    folder.sql("DROP TABLE people");
    folder.ok(&["restore", "people", "--from", "b", "--identity", identity]);
    assert_eq!(folder.value("SELECT count(*) FROM people"), 3000);
}

#[test]
fn a_copy_opens_for_its_own_recipients_and_one_that_is_encrypted_anew_with_other_keys() {
    let folder = planted();
    ok(&folder, &["backup", "people", "--to", "b", "--encrypt", "full"]);
    folder.sql("UPDATE people SET city = 'elsewhere' WHERE id < 10");
    ok(&folder, &["backup", "people", "--to", "b"]);
    folder.write("theirs.txt", "a passphrase of theirs\n");
    let theirs = ["--recipient-passphrase-file", "theirs=theirs.txt"];
    let copied = ok(&folder, &[&["vault", "copy", "keepfast-data/vault", "copy"][..], &theirs].concat());
    assert!(copied.contains("read back in all"), "{copied}");
    let anew = ["vault", "copy", "keepfast-data/vault", "anew", "--reencrypt", "--json"];
    let made = crate::run::document(&ok(&folder, &[&anew[..], &theirs].concat()));
    assert_eq!(made["points"], 2);
    assert!(made["left_out"] == serde_json::json!([]) && made["damage"] == serde_json::json!([]), "{made}");
    assert_eq!(crate::run::document(&ok(&folder, &[&anew[..], &theirs].concat()))["kept"], 2);
    folder.sql("DROP TABLE people");
    for place in ["./copy#b", "./anew#b"] {
        fails(&folder, PHRASE, &["verify", place], "KF0241");
        folder.ok(&["verify", place, "--passphrase-file", "theirs.txt"]);
        folder.ok(&["restore", "people", "--from", place, "--passphrase-file", "theirs.txt"]);
        assert_eq!(folder.value("SELECT count(*) FROM people WHERE city = 'elsewhere'"), 9);
    }
    folder.write("other.txt", "of another\n");
    let other = ["--recipient-passphrase-file", "other=other.txt", "--passphrase-file", "theirs.txt"];
    fails(&folder, PHRASE, &[&anew[..], &other].concat(), "KF0275");
    let plain = ["vault", "copy", "keepfast-data/vault", "plain", "--reencrypt", "--encrypt", "none"];
    ok(&folder, &plain);
    folder.ok(&["verify", "./plain#b"]);
    ok(&folder, &["backup", "people", "--to", "lost", "--encrypt", "full"]);
    ok(&folder, &["key", "shred", "lost", "people"]);
    for run in 0..2 {
        let left_out = with(&folder, PHRASE, &[&anew[..], &theirs].concat());
        assert!(left_out.code == 3 && left_out.out.contains("people of lost@"), "{run}: {left_out:?}");
    }
    let refused =
        with(&folder, "", &[&["vault", "copy", "keepfast-data/vault", "elsewhere"][..], &theirs].concat());
    assert!(refused.code == 1 && refused.err.contains("KF0240"), "{refused:?}");
    let shredded = crate::run::document(&ok(&folder, &["key", "shred", "b", "people", "--json"]));
    let copies = shredded["copies"].as_array().unwrap();
    assert!(copies.len() == 1 && copies[0].as_str().unwrap().ends_with("/copy"), "{shredded}");
}

#[test]
fn encryption_without_a_passphrase_makes_nothing() {
    let folder = planted();
    let refused = folder.run(&["backup", "people", "--to", "b", "--encrypt", "full"]);
    assert!(refused.code == 1 && refused.err.contains("KF0255"), "{refused:?}");
    let wrong = with(&folder, PHRASE, &["backup", "people", "--to", "b", "--encrypt", "columns:nobody"]);
    assert!(wrong.code != 0 && wrong.err.contains("nobody"), "{wrong:?}");
    let empty = folder.write("empty.txt", "\n");
    let run = folder.run(&["verify", "b", "--passphrase-file", empty.to_str().unwrap()]);
    assert!(run.code == 1 && run.err.contains("KF0250"), "{run:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_holds_a_passphrase_writes_no_core_and_shows_none_in_its_arguments() {
    use std::io::{BufRead, BufReader, Write};
    let folder = planted();
    ok(&folder, &["backup", "people", "--to", "b", "--encrypt", "full"]);
    let mut child = folder
        .command(&["sql", "-i", "--no-progress"])
        .env("KEEPFAST_PASSPHRASE", PHRASE)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "SELECT count(*) FROM backup('b', 'people');").unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("3000") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the shell ended");
    }
    let proc = format!("/proc/{}", child.id());
    let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap().to_owned();
    let arguments = std::fs::read(format!("{proc}/cmdline")).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    assert!(!String::from_utf8_lossy(&arguments).contains(PHRASE));
}
