//! Vaults: by URL and folder, several at once, made and looked into.

use crate::run::{Folder, assert_members, document};

#[test]
fn backing_up_to_an_empty_place_makes_a_vault_and_its_url_alone_is_enough() {
    let folder = Folder::with_example();
    let url = format!("file://{}", folder.join("elsewhere").display());
    let report = folder.json(&["backup", "example", "--to", &url]);
    assert_eq!(report["point"], "example@1");
    assert!(folder.join("elsewhere/keepfast.json").is_file());
    folder.sql("DROP TABLE example");
    folder.ok(&["restore", "example", "--from", &url]);
    folder.ok(&["restore", "example", "--from", &format!("{url}#example")]);
    folder.ok(&["restore", "example", "--from", "./elsewhere#example@1"]);
    assert_eq!(folder.json(&["list", &url]).as_array().unwrap().len(), 1);
    assert_eq!(folder.json(&["list", &format!("{url}#example")]).as_array().unwrap().len(), 1);
    folder.ok(&["backup", "example", "--to", &format!("{url}#second")]);
    let error = folder.fails(1, &["restore", "example", "--from", &url]);
    assert!(error.contains("2 backups"), "{error}");
}

#[test]
fn one_backup_goes_to_several_vaults_each_with_its_own_result() {
    let folder = Folder::with_example();
    let document_of_both = folder.json(&["backup", "example", "--to", "here", "./there#there"]);
    assert_members(&document_of_both, &["backups", "failed", "required", "ok"]);
    assert_eq!(document_of_both["backups"].as_array().unwrap().len(), 2);
    assert_eq!(
        document_of_both["backups"][0]["tables"][0]["digest"],
        document_of_both["backups"][1]["tables"][0]["digest"]
    );
    folder.write("plain", "x");
    let run = folder.run(&["backup", "example", "--to", "here", "--to", "./plain#b", "--json"]);
    assert_eq!(run.code, 1, "{run:?}");
    let both = document(&run.out);
    assert_eq!(both["backups"].as_array().unwrap().len(), 1);
    assert_eq!(both["failed"].as_array().unwrap().len(), 1);
    assert!(both["failed"][0]["error"]["code"].as_str().unwrap().starts_with("KF"));
    document(&run.err);
    assert_eq!(folder.json(&["list", "here"]).as_array().unwrap().len(), 2);
}

#[test]
fn vaults_are_made_once_and_looked_into() {
    let folder = Folder::with_example();
    let made = folder.json(&["vault", "init"]);
    assert_members(&made, &["vault", "id", "created"]);
    folder.fails(1, &["vault", "init"]);
    folder.ok(&["backup", "example", "--to", "b"]);
    let info = folder.json(&["vault", "info"]);
    assert_members(
        &info,
        &[
            "vault", "id", "created", "program", "records", "head", "points", "locks", "objects", "bytes",
            "backups",
        ],
    );
    assert_eq!((&info["points"], &info["locks"]["place"]), (&1.into(), &"none".into()));
    assert!(info["head"].as_str().unwrap().starts_with("1:"));
    assert_eq!(info["id"], made["id"]);
    assert_eq!(info["records"], 1);
    assert_eq!(info["backups"][0]["backup"], "b");
    folder.ok(&["vault", "init", "./second"]);
    assert!(folder.ok(&["vault", "info", "./second"]).contains("no backups"));
    folder.fails(1, &["vault", "info", "./third"]);
    assert!(!folder.join("third").exists());
}

#[test]
fn a_vault_is_copied_brought_up_to_date_and_never_mixed_with_another() {
    let folder = Folder::with_backup();
    let copied = folder.json(&["vault", "copy", "./keepfast-data/vault", "./copy"]);
    assert_members(
        &copied,
        &["from", "to", "id", "objects", "bytes", "kept", "records", "head", "damage", "seconds"],
    );
    assert_eq!((&copied["records"], &copied["kept"]), (&1.into(), &0.into()));
    folder.sql("INSERT INTO example VALUES (4, 'new', 1)");
    folder.ok(&["backup", "example", "--to", "example_backup"]);
    let again = folder.json(&["vault", "copy", "./keepfast-data/vault", "./copy"]);
    assert_eq!(again["records"], 1);
    assert!(again["kept"].as_u64().unwrap() > 0);
    folder.ok(&["verify", "./copy#example_backup"]);
    folder.ok(&["diff", "./copy#example_backup", "example"]);
    // The copy goes on by itself: then it is no earlier state of the first any more.
    folder.ok(&["backup", "example", "--to", "./copy#example_backup", "--mode", "full"]);
    let error = folder.fails(1, &["vault", "copy", "./keepfast-data/vault", "./copy"]);
    assert!(error.contains("KF0235"), "{error}");
    folder.ok(&["vault", "init", "./other"]);
    assert!(folder.fails(1, &["vault", "copy", "./keepfast-data/vault", "./other"]).contains("KF0235"));
    assert!(folder.fails(1, &["vault", "recover", "./copy"]).contains("KF0273"));
}

#[test]
fn a_backup_stands_when_as_many_targets_stand_as_are_required() {
    let folder = Folder::with_example();
    folder.write("plain", "x");
    let targets = ["backup", "example", "--to", "here", "./there#b", "./plain#b", "--require"];
    let with = |n| [&targets[..], &[n]].concat();
    let error = folder.run(&with("all"));
    assert_eq!(error.code, 1, "{error:?}");
    assert!(error.err.contains("KF0326") && error.err.contains("2 of 3 targets stand"), "{error:?}");
    assert!(error.err.contains("here@1 in") && error.err.contains("b@1 in"), "{error:?}");
    let enough = folder.run(&with("2"));
    assert_eq!(enough.code, 0, "{enough:?}");
    assert!(enough.err.contains("KF0210"), "what failed is said all the same: {enough:?}");
    assert!(folder.fails(2, &with("4")).contains("more targets"));
    folder.fails(2, &with("none"));
    folder.write("keepfast.toml", "[backup]\nrequire = 2\n");
    assert_eq!(folder.run(&targets[..6]).code, 0);
    let sql = "BACKUP TABLE example TO 'here', './plain#b' WITH (require = 1)";
    assert_eq!(folder.run(&["sql", "-c", sql]).code, 0);
    assert!(
        folder.fails(1, &["backup", "example", "--to", "here", "--retain-for", "30d"]).contains("KF0271")
    );
    folder.fails(2, &["backup", "example", "--to", "here", "--retain-for", "soon"]);
    folder.fails(2, &["backup", "example", "--to", "here", "--retain-mode", "governance"]);
    let firmly = "BACKUP TABLE example TO 'here' WITH (retain_mode = governance)";
    assert!(folder.fails(1, &["sql", "-c", firmly]).contains("KF0601"));
    assert!(folder.fails(1, &["sql", "-c", &format!("EXPLAIN {firmly}")]).contains("KF0601"));
}

#[test]
fn the_data_folder_is_where_the_user_says() {
    let folder = Folder::new();
    folder.ok(&["--data", "mine", "sql", "-c", "CREATE TABLE t (a INT)"]);
    assert!(folder.join("mine/store").is_dir() && !folder.join("keepfast-data").exists());
    let run = folder
        .command(&["sql", "-c", "BACKUP TABLE t TO 'b'"])
        .env("KEEPFAST_DATA", "mine")
        .output()
        .unwrap();
    assert!(run.status.success());
    assert!(folder.join("mine/vault/keepfast.json").is_file());
}

#[test]
fn a_table_is_restored_into_another_store_by_its_url() {
    let folder = Folder::with_backup();
    let url = format!("columnar://{}", folder.join("other/store").display());
    folder.ok(&["restore", "example", "--from", "example_backup", "--into", &url]);
    let rows =
        document(&folder.ok(&["--data", "other", "query", "--json", "SELECT count(*) AS n FROM example"]));
    assert_eq!(rows["rows"][0]["n"], 3);
    folder.write("keepfast.toml", &format!("[stores.old]\nurl = \"{url}\"\n"));
    let report = folder.json(&["backup", "old.main.example", "--to", "of_old"]);
    assert_eq!(report["tables"][0]["rows"], 3);
}

#[test]
fn a_table_of_a_declared_store_comes_back_into_it() {
    let folder = Folder::new();
    folder.write(
        "keepfast.toml",
        &format!("[stores.old]\nurl = \"columnar://{}\"\n", folder.join("other").display()),
    );
    let rows = |table: &str| {
        let sql = format!("SELECT count(*) AS n, min(name) AS name FROM {table}");
        document(&folder.ok(&["query", "--json", &sql]))["rows"][0].to_string()
    };
    folder.sql(
        "CREATE TABLE old.main.t (id INT PRIMARY KEY, name TEXT); INSERT INTO old.main.t VALUES (1, 'a')",
    );
    folder.sql("BACKUP TABLE old.main.t TO 'b'; UPDATE old.main.t SET name = 'lost'");
    folder.ok(&["restore", "old.main.t", "--from", "b"]);
    assert_eq!(rows("old.main.t"), r#"{"n":1,"name":"a"}"#);
    folder.ok(&["verify", "b", "--level", "compare", "--against", "old.main.t"]);
    folder.ok(&["diff", "b", "old.main.t"]);
    folder.sql("RESTORE TABLE old.main.t AS u FROM 'b'; UPDATE old.main.t SET name = 'lost'");
    folder.sql("RESTORE DATABASE old.main FROM 'b'");
    assert_eq!(rows("old.main.u"), rows("old.main.t"));
    assert!(folder.fails(1, &["query", "SELECT * FROM t"]).contains("main.t' not found"));
    // A name without a store means the embedded one.
    folder.ok(&["restore", "t", "--from", "b"]);
    assert_eq!(rows("t"), rows("old.main.t"));
}

#[test]
fn a_backup_to_the_url_of_a_store_is_a_copy() {
    let folder = Folder::with_example();
    let url = format!("columnar://{}", folder.join("other/store").display());
    let copied = folder.json(&["backup", "example", "--to", &url, "--where", "id > 1"]);
    assert_eq!((&copied["tables"][0]["table"], &copied["tables"][0]["rows"]), (&"example".into(), &2.into()));
    let names = "SELECT string_agg(name, ' ' ORDER BY id) AS names FROM example";
    let there =
        |sql: &str| document(&folder.ok(&["--data", "other", "query", "--json", sql]))["rows"][0].clone();
    assert_eq!(there(names)["names"], "Jane Bob");
    // Once more: what is there is kept. A vault beside it gets the same tables.
    let both = folder.json(&["backup", "example", "--to", &url, "b"]);
    assert_eq!(both["copies"][0]["tables"][0]["replaced"]["table"], "example__replaced_copy_1");
    assert_eq!(both["copies"][0]["tables"][0]["digest"], both["backups"][0]["tables"][0]["digest"]);
    assert_eq!(there(names)["names"], "John Jane Bob");
    assert_eq!(there(&names.replace("FROM example", "FROM example__replaced_copy_1"))["names"], "Jane Bob");
    assert!(
        folder
            .fails(1, &["backup", "example", "--to", &url, "--mode", "incremental"])
            .contains("whole tables")
    );
    let plan = folder.json(&["backup", "example", "--to", &url, "--dry-run"]);
    assert_eq!(plan["tables"][0]["rows"], 3);
    assert!(!folder.join("keepfast-data/vault/log/00000000000000000002.json").exists());
}

#[test]
fn two_backups_to_one_name_at_once_both_succeed() {
    let folder = Folder::with_backup();
    folder.sql("INSERT INTO example VALUES (4, 'x', 1)");
    let children: Vec<_> = (0..3)
        .map(|_| {
            folder
                .command(&["backup", "example", "--to", "example_backup", "--mode", "full"])
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(folder.json(&["list", "example_backup"]).as_array().unwrap().len(), 4);
    folder.ok(&["verify", "example_backup"]);
}
