//! The demo, with fewer rows.

use crate::run::{Folder, document, files_under};

#[test]
fn the_demo_shows_every_step_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let temp = folder.join("temp");
    std::fs::create_dir(&temp).unwrap();
    let output = folder.command(&["demo", "--rows", "20000"]).env("TMPDIR", &temp).output().unwrap();
    let run = crate::run::Run::of(output);
    assert_eq!(run.code, 0, "{run:?}");
    for part in [
        "20,000 orders made",
        "$ keepfast backup orders --to orders_backup",
        "UPDATE orders SET",
        "20,000 changed, 0 only left, 0 only right, 0 the same",
        "$ keepfast restore orders --from orders_backup",
        "all are equal",
        "orders_backup@2",
        "backup('orders_backup', 'orders', '1')",
        "NOT OK",
        "Shown in",
    ] {
        assert!(run.out.contains(part), "{part} is not in {}", run.out);
    }
    assert_eq!(files_under(&temp), Vec::<std::path::PathBuf>::new());
    assert_eq!(std::fs::read_dir(&temp).unwrap().count(), 0);
    assert!(!folder.join("keepfast-data").exists());
}

#[test]
fn a_kept_demo_can_be_used_and_its_document_lists_the_steps() {
    let folder = Folder::new();
    let report = document(&folder.ok(&["demo", "--rows", "10000", "--keep", "kept", "--json"]));
    assert_eq!(report["steps"].as_array().unwrap().len(), 9);
    assert_eq!(report["rows"], 10000);
    for step in report["steps"].as_array().unwrap() {
        assert!(
            step["seconds"].as_f64().unwrap() >= 0.0 && !step["shown"].as_str().unwrap().is_empty(),
            "{step}"
        );
    }
    let points = document(&folder.ok(&["--data", "kept", "list", "orders_backup", "--json"]));
    assert_eq!(points.as_array().unwrap().len(), 2);
    folder.ok(&["--data", "kept", "verify", "orders_backup", "--level", "compare"]);
    folder.fails(2, &["demo", "--keep", "kept"]);
}
