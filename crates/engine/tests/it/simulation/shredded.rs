//! A table of which a secret column was shredded comes back without it, and nothing else is missing.

use super::world::{Rows, Running, World};
use keepfast_engine::EngineError;
use keepfast_engine::api::{IfExists, Mode};
use keepfast_keys::KeyError;
use keepfast_model::TableName;
use keepfast_vault::VaultError;

fn is_shredded(error: &EngineError) -> bool {
    matches!(error, EngineError::Vault(VaultError::Keys(KeyError::Shredded { .. })))
}

/// Rows of which nothing but the key is left.
fn keys_of(rows: Rows) -> Rows {
    rows.into_keys().map(|key| (key, String::new())).collect()
}

async fn rows_back(running: &Running, point: &str) -> Rows {
    let mut request = running.restore_request(point, &["t"], "_rest");
    request.skip_shredded = true;
    let plan = running.engine.plan_restore(&request).await.unwrap();
    assert_eq!(plan.tables[0].shredded, ["v"]);
    let report = running.engine.restore(&request).await.unwrap();
    assert_eq!(report.tables[0].shredded, ["v"]);
    assert!(report.tables[0].missing.is_empty());
    running.live("t_rest").await.unwrap()
}

#[tokio::test]
async fn a_table_with_a_shredded_column_comes_back_without_that_column_only_where_it_was_said() {
    let world = World::encrypting("columns:v");
    let running = world.sound();
    running.create("t").await.unwrap();
    let rows: Vec<_> = (0..300).map(|i| (i, format!("v{i}"))).collect();
    running.write("t", &rows, &[]).await.unwrap();
    running.backup("x", &["t"], Mode::Full).await.unwrap();
    let full = running.live("t").await.unwrap();
    running.write("t", &[(5, "changed".into()), (900, "new".into())], &[7, 250]).await.unwrap();
    running.backup("x", &["t"], Mode::Incremental).await.unwrap();
    let changed = running.live("t").await.unwrap();
    running.engine.shred("x", &TableName::bare("t"), Some("v")).await.unwrap();
    // The first records are of keys.
    for (point, rows) in [("x@3", full), ("x@4", changed.clone())] {
        let refused = running.restore(point, &["t"], "_rest").await.unwrap_err();
        assert!(is_shredded(&refused), "{refused}");
        assert_eq!(rows_back(&running, point).await, keys_of(rows), "{point}");
    }
    // However its name is typed, it is the same column.
    for names in [["id", "V"], ["ID", "v"]] {
        let mut typed = running.restore_request("x@4", &["t"], "_typed");
        typed.selection.columns = Some(names.map(str::to_owned).to_vec());
        let refused = running.engine.restore(&typed).await.unwrap_err();
        assert!(is_shredded(&refused), "{names:?}: {refused}");
        typed.skip_shredded = true;
        let report = running.engine.restore(&typed).await.unwrap();
        assert_eq!(report.tables[0].shredded, ["v"], "{names:?}");
        typed.if_exists = IfExists::Merge;
        let refused = running.engine.restore(&typed).await.unwrap_err();
        assert!(is_shredded(&refused), "a merge would put NULL over values: {names:?}: {refused}");
    }
    // What needs the column is refused, whatever was said.
    let mut by_it = running.restore_request("x@4", &["t"], "_rest");
    by_it.skip_shredded = true;
    by_it.selection.filter = Some("v = 'v3'".into());
    let refused = running.engine.restore(&by_it).await.unwrap_err();
    assert!(is_shredded(&refused), "{refused}");
    // Who leaves it out misses nothing.
    let mut without = running.restore_request("x@4", &["t"], "_keys");
    without.selection.columns = Some(vec!["id".into()]);
    let report = running.engine.restore(&without).await.unwrap();
    assert!(report.tables[0].shredded.is_empty());
    assert_eq!(report.tables[0].rows, changed.len() as u64);
    // The next point begins under a new key, and is whole.
    running.backup("x", &["t"], Mode::Auto).await.unwrap();
    let newest = running.points().await.pop().unwrap();
    running.restore(&format!("x@{}", newest.1), &["t"], "_new").await.unwrap();
    assert_eq!(running.live("t_new").await.unwrap(), changed);
}
