//! Every verb's happy path and the shape of its document.

use crate::run::{Folder, assert_members, document, files_under, flip};
use serde_json::json;

#[test]
fn backup_gives_the_documented_document() {
    let folder = Folder::with_example();
    let report = folder.json(&["backup", "example", "--to", "b"]);
    assert_members(&report, &["backup", "point", "vault", "cut", "tables", "seconds"]);
    assert_eq!(report["backup"], "b");
    assert_eq!(report["point"], "b@1");
    assert_eq!(report["cut"]["exactness"], "exact");
    let table = &report["tables"][0];
    assert_members(
        table,
        &[
            "table",
            "mode",
            "why",
            "rows",
            "digest",
            "segments",
            "segments_new",
            "bytes",
            "bytes_new",
            "certificate",
        ],
    );
    assert_eq!(table["table"], "example");
    assert_eq!(table["rows"], 3);
    assert_eq!(table["segments"], 1);
    assert_eq!(table["segments_new"], 1);
    assert!(table["bytes_new"].as_u64().unwrap() > 0);
    assert_eq!(table["certificate"]["kind"], "source");
    assert!(table["digest"].as_str().unwrap().starts_with("3:"));
    assert!(report["seconds"].as_f64().unwrap() >= 0.0);
}

#[test]
fn the_second_backup_is_incremental_and_an_older_state_comes_back_by_its_number() {
    let folder = Folder::with_backup();
    folder.sql("UPDATE example SET age = 26 WHERE id = 1; DELETE FROM example WHERE id = 3; INSERT INTO example VALUES (4, 'Ann', 41)");
    let report = folder.json(&["backup", "example", "--to", "example_backup"]);
    assert_eq!(report["point"], "example_backup@2");
    assert_eq!(report["tables"][0]["mode"], "incremental");
    assert_eq!(report["tables"][0]["rows"], 3);
    folder.sql("DROP TABLE example");
    folder.ok(&["restore", "example", "--from", "example_backup"]);
    assert_eq!(folder.value("SELECT string_agg(name, ',' ORDER BY id) FROM example"), "John,Jane,Ann");
    for point in ["1", "@1", "example_backup@1"] {
        folder.sql("DROP TABLE example");
        folder.ok(&["restore", "example", "--from", "example_backup", "--as-of", point]);
        assert_eq!(folder.value("SELECT string_agg(name, ',' ORDER BY id) FROM example"), "John,Jane,Bob");
    }
    folder.ok(&["restore", "example", "--from", "example_backup@2"]);
    assert_eq!(folder.value("SELECT count(*) FROM example WHERE id = 4"), 1);
}

#[test]
fn a_state_comes_back_by_its_time() {
    let folder = Folder::with_backup();
    let cut = folder.json(&["list", "example_backup"])[0]["cut"]["at"].as_str().unwrap().to_owned();
    folder.sql("DELETE FROM example");
    folder.ok(&["backup", "example", "--to", "example_backup"]);
    folder.ok(&["restore", "example", "--from", "example_backup", "--as-of", &cut]);
    assert_eq!(folder.value("SELECT count(*) FROM example"), 3);
    let error = folder.fails(1, &["restore", "example", "--from", "example_backup", "--as-of", "2001-01-01"]);
    assert!(error.contains("no restore point"), "{error}");
    assert_eq!(folder.value("SELECT count(*) FROM example"), 3);
}

#[test]
fn restore_keeps_the_replaced_table_and_undo_brings_it_back() {
    let folder = Folder::with_backup();
    folder.sql("UPDATE example SET age = 0");
    let report = folder.json(&["restore", "example", "--from", "example_backup"]);
    assert_members(&report, &["restore", "point", "tables", "seconds", "verify_seconds"]);
    assert_members(&report["tables"][0], &["table", "rows", "digest", "replaced"]);
    assert_eq!(report["tables"][0]["rows"], 3);
    assert_eq!(folder.value("SELECT sum(age) FROM example__replaced_1_1"), 0);
    assert_eq!(folder.value("SELECT sum(age) FROM example"), 77);
    let undone = folder.json(&["undo", report["restore"].as_str().unwrap()]);
    assert_eq!(undone, json!({"restore": report["restore"], "tables": ["example"]}));
    assert_eq!(folder.value("SELECT sum(age) FROM example"), 0);
    folder.fails(1, &["undo", report["restore"].as_str().unwrap()]);
    folder.fails(1, &["undo", "nothing"]);
}

#[test]
fn restore_under_another_name_leaves_the_table_alone() {
    let folder = Folder::with_backup();
    folder.sql("DELETE FROM example WHERE id > 1");
    folder.ok(&["restore", "example", "--from", "example_backup", "--into", "old"]);
    assert_eq!(folder.value("SELECT count(*) FROM example"), 1);
    assert_eq!(folder.value("SELECT count(*) FROM old"), 3);
}

#[test]
fn an_existing_table_is_replaced_refused_or_merged_as_asked() {
    let folder = Folder::with_backup();
    folder.sql("DELETE FROM example WHERE id = 1; UPDATE example SET age = 99 WHERE id = 2; INSERT INTO example VALUES (9, 'New', 1)");
    let error = folder.fails(1, &["restore", "example", "--from", "example_backup", "--if-exists", "fail"]);
    assert!(error.contains("exists already"), "{error}");
    assert_eq!(folder.value("SELECT count(*) FROM example"), 3);
    folder.ok(&["restore", "example", "--from", "example_backup", "--if-exists", "merge"]);
    assert_eq!(folder.value("SELECT string_agg(name, ',' ORDER BY id) FROM example"), "John,Jane,Bob,New");
    assert_eq!(folder.value("SELECT age FROM example WHERE id = 2"), 22);
}

#[test]
fn dry_runs_show_a_plan_and_do_nothing() {
    let folder = Folder::with_example();
    let plan = folder.json(&["backup", "example", "--to", "b", "--dry-run"]);
    assert_members(&plan, &["targets", "tables", "tasks", "bytes_read", "bytes_written", "seconds"]);
    assert_members(
        &plan["tables"][0],
        &["table", "mode", "why", "rows", "partitions", "bytes_read", "bytes_written", "segment_rows"],
    );
    assert!(!folder.join("keepfast-data/vault").exists());
    folder.ok(&["backup", "example", "--to", "b"]);
    let plan = folder.json(&["restore", "example", "--from", "b", "--dry-run"]);
    assert_members(&plan, &["point", "tables", "bytes_read", "seconds"]);
    assert_members(&plan["tables"][0], &["from", "to", "existing", "rows", "segments", "bytes"]);
    let tables = folder.json(&["sql", "-c", "SHOW TABLES"])["results"][0]["result"]["rows"].clone();
    assert_eq!(tables.as_array().unwrap().len(), 1, "{tables}");
    assert!(folder.ok(&["backup", "example", "--to", "b", "--dry-run"]).contains("nothing was done"));
}

#[test]
fn verify_finds_nothing_in_a_sound_backup_at_every_level() {
    let folder = Folder::with_backup();
    let report = folder.json(&["verify", "example_backup"]);
    assert_members(
        &report,
        &[
            "backup", "vault", "level", "ok", "objects", "bytes", "points", "damage", "healed", "tables",
            "head", "seconds",
        ],
    );
    assert_eq!(report["ok"], true);
    assert_eq!(report["level"], "checksum");
    assert!(report["objects"].as_u64().unwrap() >= 4, "{report}");
    for level in ["compare", "content"] {
        let report = folder.json(&["verify", "example_backup", "--level", level]);
        assert_eq!(report["ok"], true, "{report}");
        let table = &report["tables"][0];
        assert_members(table, &["table", "against", "recorded", "vault", "live", "equal", "differences"]);
        assert_eq!(table["recorded"], table["vault"]);
        assert_eq!(table["equal"], true);
    }
}

#[test]
fn verify_names_differing_rows_and_columns_and_exits_with_3() {
    let folder = Folder::with_backup();
    folder.sql("UPDATE example SET age = 23 WHERE id = 2; DELETE FROM example WHERE id = 3");
    let run = folder.run(&["verify", "example_backup", "--level", "compare"]);
    assert_eq!(run.code, 3, "{run:?}");
    let run = folder.run(&["verify", "example_backup", "--level", "content", "--json"]);
    assert_eq!(run.code, 3, "{run:?}");
    let report = document(&run.out);
    assert_eq!(report["ok"], false);
    let differences = &report["tables"][0]["differences"];
    assert_eq!(
        (&differences["changed"], &differences["only_left"], &differences["only_right"]),
        (&json!(1), &json!(1), &json!(0))
    );
    let changed = differences["rows"].as_array().unwrap().iter().find(|r| r["kind"] == "changed").unwrap();
    assert!(changed["key"].as_str().unwrap().contains("id = 2"), "{changed}");
    assert_eq!(changed["columns"], json!([{"column": "age", "left": "22", "right": "23"}]));
    let text = folder.run(&["verify", "example_backup", "--level", "content"]);
    assert!(text.out.contains("NOT OK") && text.out.contains("id = 2"), "{text:?}");
}

#[test]
fn verify_compares_with_another_table_when_asked() {
    let folder = Folder::with_backup();
    folder.ok(&["restore", "example", "--from", "example_backup", "--into", "copy"]);
    folder.sql("DELETE FROM example");
    assert_eq!(folder.run(&["verify", "example_backup", "--level", "compare"]).code, 3);
    folder.ok(&["verify", "example_backup", "--against", "copy"]);
    folder.fails(2, &["verify", "example_backup", "--level", "checksum", "--against", "copy"]);
}

#[test]
fn verify_names_every_damaged_missing_and_swapped_object() {
    let folder = Folder::with_backup();
    let vault = folder.join("keepfast-data/vault");
    for object in files_under(&vault) {
        let name = object.strip_prefix(&vault).unwrap().to_str().unwrap().to_owned();
        if name.contains("_delta_log") || name.contains("staging") {
            continue;
        }
        let right = std::fs::read(&object).unwrap();
        flip(&object);
        let run = folder.run(&["verify", "example_backup"]);
        assert!(run.code == 3 || run.code == 1, "{name} flipped gave {run:?}");
        assert!(run.out.contains(&name) || run.err.contains(&name), "{name} flipped gave {run:?}");
        std::fs::remove_file(&object).unwrap();
        let run = folder.run(&["verify", "example_backup"]);
        // A reader completes a missing copy of the log's head from the other one.
        let completed = name.starts_with("log") && std::fs::read(&object).is_ok_and(|bytes| bytes == right);
        assert!(completed || run.code == 3 || run.code == 1, "{name} removed gave {run:?}");
        assert!(
            completed || run.out.contains(&name) || run.err.contains(&name),
            "{name} removed gave {run:?}"
        );
        std::fs::write(&object, right).unwrap();
    }
    let run = folder.run(&["verify", "example_backup"]);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn a_damaged_segment_is_one_line_with_its_tables_and_points() {
    let folder = Folder::with_backup();
    let segment = files_under(&folder.join("keepfast-data/vault/tables"))
        .into_iter()
        .find(|p| p.extension().is_some_and(|e| e == "parquet"))
        .unwrap();
    flip(&segment);
    let run = folder.run(&["verify", "example_backup"]);
    assert_eq!(run.code, 3, "{run:?}");
    let lines: Vec<&str> = run.out.lines().filter(|l| l.starts_with("damaged ")).collect();
    assert_eq!(lines.len(), 1, "{run:?}");
    for part in [segment.to_str().unwrap(), "example", "example_backup@1"] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    let report = document(&folder.run(&["verify", "example_backup", "--json"]).out);
    assert_members(&report["damage"][0], &["object", "what", "tables", "points"]);
    // Nothing damaged is ever restored.
    folder.sql("UPDATE example SET age = 1");
    folder.fails(1, &["restore", "example", "--from", "example_backup"]);
    assert_eq!(folder.value("SELECT sum(age) FROM example"), 3);
}

#[test]
fn verify_holds_the_log_against_the_head_seen_before() {
    let folder = Folder::with_backup();
    let head = folder.json(&["verify", "example_backup"])["head"].as_str().unwrap().to_owned();
    folder.ok(&["verify", "example_backup", "--expect", &head]);
    folder.sql("INSERT INTO example VALUES (4, 'x', 1)");
    folder.ok(&["backup", "example", "--to", "example_backup"]);
    folder.ok(&["verify", "example_backup", "--expect", &head]);
    let other = format!("1:{}", "0".repeat(64));
    let run = folder.run(&["verify", "example_backup", "--expect", &other]);
    assert_eq!(run.code, 3, "{run:?}");
}

#[test]
fn diff_counts_and_names_what_differs() {
    let folder = Folder::with_backup();
    let same = folder.json(&["diff", "example_backup", "example"]);
    assert_members(&same, &["left", "right", "only_left", "only_right", "changed", "same", "rows"]);
    assert_eq!(same["same"], 3);
    folder.sql(
        "UPDATE example SET name = 'Jo', age = 26 WHERE id = 1; INSERT INTO example VALUES (7, 'Al', 1)",
    );
    let run = folder.run(&["diff", "example_backup@1", "example", "--json"]);
    assert_eq!(run.code, 3, "{run:?}");
    let report = document(&run.out);
    assert_eq!(
        (&report["changed"], &report["only_right"], &report["same"]),
        (&json!(1), &json!(1), &json!(2))
    );
    assert_members(&report["rows"][0], &["kind", "key", "columns"]);
    assert_eq!(report["rows"][0]["columns"].as_array().unwrap().len(), 2);
    folder.ok(&["backup", "example", "--to", "example_backup"]);
    let run = folder.run(&["diff", "example_backup@1", "example_backup@2", "--limit", "1"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.out.contains("… and 1 more")
            && run.out.contains("1 changed, 0 only left, 1 only right, 2 the same"),
        "{run:?}"
    );
}

#[test]
fn list_and_show_tell_what_there_is() {
    let folder = Folder::with_backup();
    folder.sql("INSERT INTO example VALUES (4, 'x', NULL)");
    folder.ok(&["backup", "example", "--to", "example_backup"]);
    folder.ok(&["backup", "example", "--to", "another"]);
    let backups = folder.json(&["list"]);
    assert_eq!(backups.as_array().unwrap().len(), 2);
    for backup in backups.as_array().unwrap() {
        assert_members(backup, &["backup", "vault", "points", "newest"]);
    }
    let points = folder.json(&["list", "example_backup"]);
    assert_eq!(points.as_array().unwrap().len(), 2);
    assert_members(
        &points[0],
        &["point", "cut", "mode", "tables", "rows", "bytes", "bytes_new", "proof", "held"],
    );
    assert_eq!((&points[0]["rows"], &points[1]["rows"]), (&json!(3), &json!(4)));
    let point = folder.json(&["show", "example_backup", "--point", "1"]);
    assert_eq!(point["point"], "example_backup@1");
    assert_eq!(point["rows"], 3);
    let detail = &point["details"][0];
    assert_members(
        detail,
        &[
            "table",
            "id",
            "selection",
            "schema",
            "mode",
            "rows",
            "digest",
            "segments",
            "change_segments",
            "bytes",
            "certificate",
            "positions",
            "dependents",
        ],
    );
    assert_eq!(detail["schema"]["columns"][1]["type"], "varchar(255)");
    let text = folder.ok(&["show", "example_backup"]);
    for part in ["example_backup@2", "VARCHAR(255)", "source", "key"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(folder.ok(&["list"]).contains("example_backup"));
}

#[test]
fn queries_read_backups_beside_live_tables() {
    let folder = Folder::with_backup();
    folder.sql("UPDATE example SET age = age + 1; DELETE FROM example WHERE id = 3");
    folder.ok(&["backup", "example", "--to", "example_backup"]);
    let sql = "SELECT b.id, b.age AS was, e.age AS now FROM backup('example_backup', 'example', '1') b \
               LEFT JOIN example e ON e.id = b.id ORDER BY b.id";
    assert_eq!(
        folder.rows(sql),
        json!([{"id": 1, "was": 25, "now": 26}, {"id": 2, "was": 22, "now": 23}, {"id": 3, "was": 30, "now": null}])
    );
    assert_eq!(folder.value("SELECT count(*) FROM backup('example_backup', 'example')"), 2);
    let document = folder.json(&["query", "SELECT id, name FROM example WHERE id = 1"]);
    assert_eq!(
        document,
        json!({"columns": [{"name": "id", "type": "int32"}, {"name": "name", "type": "varchar"}], "rows": [{"id": 1, "name": "John"}]})
    );
}

#[test]
fn compact_makes_a_new_base_of_equal_content() {
    let folder = Folder::with_backup();
    folder.sql("UPDATE example SET age = 50 WHERE id = 2");
    let before = folder.json(&["backup", "example", "--to", "example_backup"]);
    let compacted = folder.json(&["compact", "example_backup"]);
    assert_eq!(compacted["tables"][0]["mode"], "synthetic");
    assert_eq!(compacted["tables"][0]["digest"], before["tables"][0]["digest"]);
    folder.ok(&["verify", "example_backup", "--level", "content"]);
    let detail = folder.json(&["show", "example_backup"]);
    assert_eq!(detail["details"][0]["change_segments"], 0);
}

#[test]
fn a_dropped_backup_is_gone_and_the_others_stay() {
    let folder = Folder::with_backup();
    folder.ok(&["backup", "example", "--to", "other"]);
    assert_eq!(folder.json(&["drop", "example_backup"]), json!({"dropped": "example_backup", "points": 1}));
    folder.fails(1, &["restore", "example", "--from", "example_backup"]);
    folder.fails(1, &["drop", "example_backup"]);
    folder.ok(&["restore", "example", "--from", "other"]);
    assert_eq!(folder.json(&["list"]).as_array().unwrap().len(), 1);
}
