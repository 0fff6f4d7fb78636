//! Vaults and stores in buckets of a real S3 server, as a user types it.

use crate::run::{Folder, Run, document};
use keepfast_testbed::s3::{Rights, S3, Settings, server_or_skip};
use serde_json::Value;
use std::future::Future;
use std::sync::OnceLock;
use tokio::runtime::Runtime;

/// A folder in which a user types who has these credentials.
struct Desk<'a> {
    folder: &'a Folder,
    variables: Vec<(String, String)>,
}

impl<'a> Desk<'a> {
    fn new(folder: &'a Folder, settings: &Settings) -> Self {
        Self { folder, variables: S3::variables(settings) }
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(self.folder.command(args).envs(self.variables.clone()).output().unwrap())
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> Run {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?} gave {run:?}");
        run
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        document(&self.ok(&[args, &["--json"]].concat()).out)
    }

    #[track_caller]
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, code, "{args:?} gave {run:?}");
        run.err
    }
}

/// Waits on one runtime for all tests: connections live as long as it does.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap()).block_on(future)
}

#[test]
fn a_table_goes_to_a_bucket_and_comes_back() {
    let Some(s3) = server_or_skip("a_table_goes_to_a_bucket_and_comes_back") else { return };
    let bucket = wait(s3.new_bucket("cli", false));
    let folder = Folder::with_example();
    let desk = Desk::new(&folder, &s3.settings());
    let vault = format!("s3://{bucket}/deep/vault");
    let backup = &format!("{vault}#b");
    assert_eq!(desk.json(&["backup", "example", "--to", backup])["point"], "b@1");
    folder.sql("INSERT INTO example VALUES (4, 'Ann', 7); DELETE FROM example WHERE id = 1");
    let second = desk.json(&["backup", "example", "--to", backup]);
    assert_eq!((&second["point"], &second["tables"][0]["mode"]), (&"b@2".into(), &"incremental".into()));
    desk.ok(&["verify", backup]);
    desk.ok(&["verify", backup, "--level", "content"]);
    desk.fails(3, &["diff", &format!("{backup}@1"), &format!("{backup}@2")]);
    let sql = format!("SELECT count(*) AS n FROM backup('{backup}', 'example', '1')");
    assert_eq!(desk.json(&["query", &sql])["rows"][0]["n"], 3);
    folder.sql("DROP TABLE example");
    desk.ok(&["restore", "example", "--from", backup]);
    assert_eq!(folder.value("SELECT string_agg(name, ' ' ORDER BY id) FROM example"), "Jane Bob Ann");
    desk.ok(&["diff", &format!("{backup}@2"), "example"]);
    desk.ok(&["compact", backup]);
    desk.ok(&["vault", "copy", &vault, "./here"]);
    folder.ok(&["verify", "./here#b"]);
    desk.ok(&["vault", "copy", "./here", &format!("s3://{bucket}/again")]);
    let info = desk.json(&["vault", "info", &format!("s3://{bucket}/again")]);
    assert_eq!((&info["points"], &info["locks"]["place"]), (&3.into(), &"off".into()));
    let error = desk.fails(2, &["backup", "example", "--to", "s3://no-such-bucket-here/v#b"]);
    assert!(error.contains("no such bucket"), "{error}");
    let several = ["backup", "example", "--to", "local", "s3://no-such-bucket-here/v#b", backup, "--require"];
    assert!(desk.fails(1, &[&several[..], &["all"]].concat()).contains("2 of 3 targets stand"));
    desk.ok(&[&several[..], &["2"]].concat());
}

#[test]
fn the_embedded_store_lives_in_a_bucket() {
    let Some(s3) = server_or_skip("the_embedded_store_lives_in_a_bucket") else { return };
    let bucket = wait(s3.new_bucket("store", false));
    let folder = Folder::new();
    let desk = Desk::new(&folder, &s3.settings());
    folder.write("keepfast.toml", &format!("[stores.far]\nurl = \"columnar+s3://{bucket}/store\"\n"));
    let sql = |text: &str| desk.ok(&["sql", "-c", text]);
    sql("CREATE TABLE far.main.t (id INT PRIMARY KEY, name TEXT); INSERT INTO far.main.t VALUES (1, 'a')");
    sql("BACKUP TABLE far.main.t TO 'b'; UPDATE far.main.t SET name = 'lost'");
    let restored = desk.json(&["restore", "far.main.t", "--from", "b"]);
    let name = &["query", "SELECT name FROM far.main.t"];
    assert_eq!(desk.json(name)["rows"][0]["name"], "a");
    desk.ok(&["verify", "b", "--level", "content", "--against", "far.main.t"]);
    desk.ok(&["undo", restored["restore"].as_str().unwrap()]);
    assert_eq!(desk.json(name)["rows"][0]["name"], "lost");
}

#[test]
fn credentials_that_only_add_are_enough_to_back_up_and_a_later_backup_is_of_its_own_moment() {
    let Some(s3) = server_or_skip(
        "credentials_that_only_add_are_enough_to_back_up_and_a_later_backup_is_of_its_own_moment",
    ) else {
        return;
    };
    let bucket = wait(s3.new_bucket("addonly", false));
    let folder = Folder::with_example();
    let adding = Desk::new(&folder, &wait(s3.limited(&bucket, Rights::Append)));
    let backup = &format!("s3://{bucket}/v#b");
    let first = adding.ok(&["backup", "example", "--to", backup]);
    assert!(first.err.contains("temporary objects stay"), "{first:?}");
    // What the first run staged is still there; it must not be taken for an interrupted run.
    folder.sql("INSERT INTO example VALUES (4, 'Ann', 7)");
    for mode in ["full", "auto", "auto"] {
        let made = adding.json(&["backup", "example", "--to", backup, "--mode", mode]);
        assert_eq!(made["tables"][0]["rows"], 4, "{made}");
    }
    adding.ok(&["verify", backup, "--level", "compare"]);
    let refused = adding.fails(1, &["drop", backup]);
    assert!(refused.contains("KF0204"), "{refused}");
    assert_eq!(adding.json(&["list", backup]).as_array().unwrap().len(), 4);
    Desk::new(&folder, &s3.settings()).ok(&["drop", backup]);
}

#[test]
fn what_is_retained_is_shown_kept_and_recovered_after_a_thief() {
    let Some(s3) = server_or_skip("what_is_retained_is_shown_kept_and_recovered_after_a_thief") else {
        return;
    };
    let bucket = wait(s3.new_bucket("retained", true));
    let folder = Folder::with_example();
    let desk = Desk::new(&folder, &s3.settings());
    let vault = &format!("s3://{bucket}/v");
    let backup = &format!("{vault}#b");
    folder.write("keepfast.toml", "[backup]\nretain_for = \"1d\"\n");
    desk.ok(&["backup", "example", "--to", backup]);
    let both = desk.ok(&["backup", "example", "--to", backup, "local"]);
    assert!(both.err.contains("cannot lock objects"), "{both:?}");
    let info = desk.json(&["vault", "info", vault]);
    assert_eq!(info["locks"]["place"], "on");
    assert!(info["locks"]["until"].is_string(), "{info}");
    let refused = desk.fails(1, &["drop", backup]);
    assert!(refused.contains("KF0270") && refused.contains("locked until"), "{refused}");
    let named = |kind: &'static str| {
        let versions = wait(s3.request(
            "GET",
            &format!("/{bucket}?versions=&prefix=v%2F{kind}"),
            &[],
            Vec::new().into(),
        ));
        versions.all("Key").iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for key in [named("log"), named("tables"), named("manifests")].concat() {
        let answer = wait(s3.request("DELETE", &format!("/{bucket}/{key}"), &[], Vec::new().into()));
        assert!(answer.status < 300, "{answer:?}");
    }
    assert_ne!(desk.run(&["verify", backup]).code, 0);
    let recovered = desk.json(&["vault", "recover", vault]);
    assert!(recovered["recovered"].as_array().unwrap().len() >= 4, "{recovered}");
    desk.ok(&["verify", backup, "--level", "content"]);
}
