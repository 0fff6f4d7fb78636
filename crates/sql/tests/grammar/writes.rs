use crate::{error, one};
use keepfast_model::TableName;
use keepfast_sql::sqlparser::ast::{Expr, Value};
use keepfast_sql::{Delete, Insert, OnConflict, Statement, Update};

fn insert(sql: &str) -> Insert {
    match one(sql) {
        Statement::Insert(insert) => insert,
        other => panic!("{other:?}"),
    }
}

fn update(sql: &str) -> Update {
    match one(sql) {
        Statement::Update(update) => update,
        other => panic!("{other:?}"),
    }
}

fn delete(sql: &str) -> Delete {
    match one(sql) {
        Statement::Delete(delete) => delete,
        other => panic!("{other:?}"),
    }
}

/// A SET list as text.
fn set(list: &[keepfast_sql::Assignment]) -> Vec<String> {
    let value = |a: &keepfast_sql::Assignment| a.value.as_ref().map_or("DEFAULT".into(), |v| v.sql.clone());
    list.iter().map(|a| format!("{} = {}", a.column, value(a))).collect()
}

#[test]
fn inserts_keep_table_columns_and_source() {
    let i = insert("INSERT INTO shop.t (a, \"B\") VALUES (1, 'x'), (2, NULL)");
    assert_eq!(i.table, "shop.t".parse::<TableName>().unwrap());
    assert_eq!(i.columns, ["a", "B"]);
    assert_eq!(i.source_sql, "VALUES (1, 'x'), (2, NULL)");
    assert_eq!(i.on_conflict, OnConflict::Fail);
    let i = insert("INSERT INTO t SELECT * FROM u WHERE a > 1 ORDER BY a LIMIT 3");
    assert!(i.columns.is_empty());
    assert_eq!(i.source_sql, "SELECT * FROM u WHERE a > 1 ORDER BY a LIMIT 3");
    insert("INSERT INTO t (SELECT 1)");
    insert("INSERT INTO t (a) (SELECT 1)");
    insert("INSERT INTO t (a) WITH x AS (SELECT 1) SELECT * FROM x");
    insert("INSERT INTO t (a) TABLE u");
}

#[test]
fn every_spelling_of_an_upsert_is_kept() {
    for sql in ["REPLACE INTO t VALUES (1)", "INSERT OR REPLACE INTO t VALUES (1)"] {
        assert_eq!(insert(sql).on_conflict, OnConflict::Replace);
    }
    for sql in [
        "INSERT IGNORE INTO t VALUES (1)",
        "INSERT OR IGNORE INTO t VALUES (1)",
        "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
    ] {
        assert_eq!(insert(sql).on_conflict, OnConflict::Nothing { key: vec![] });
    }
    let i = insert("INSERT INTO t SELECT * FROM u ON CONFLICT (id, Day) DO NOTHING");
    assert_eq!(i.on_conflict, OnConflict::Nothing { key: vec!["id".into(), "Day".into()] });
    let i = insert(
        "INSERT INTO t AS old (id, n) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET n = old.n + excluded.n, m = DEFAULT",
    );
    assert_eq!(i.alias.as_deref(), Some("old"));
    match i.on_conflict {
        OnConflict::Update { key, set: list } => {
            assert_eq!(key, ["id"]);
            assert_eq!(set(&list), ["n = old.n + excluded.n", "m = DEFAULT"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_in_values_are_filled_in_place() {
    let mut i = insert("INSERT INTO t (a, b) VALUES (DEFAULT, 1), (2, default), (\"default\", 'DEFAULT')");
    let filled =
        i.fill_defaults(|column| (column == 0).then(|| Expr::Value(Value::Number("7".into(), false).into())));
    assert!(filled);
    assert_eq!(i.source.to_string(), "VALUES (7, 1), (2, NULL), (\"default\", 'DEFAULT')");
    assert!(!i.fill_defaults(|_| None));
    assert!(!insert("INSERT INTO t SELECT 1").fill_defaults(|_| None));
}

#[test]
fn rows_of_another_width_are_refused_before_anything_runs() {
    assert_eq!(
        error("INSERT INTO t (a, b) VALUES (1, 2), (3)"),
        "expected 2 values in each row, found 1 in row 2 at line 1, column 22"
    );
    assert_eq!(
        error("INSERT INTO t VALUES (1, 2), (3, 4, 5)"),
        "expected 2 values in each row, found 3 in row 2 at line 1, column 15"
    );
}

#[test]
fn updates_keep_assignments_and_selection() {
    let u = update(
        "UPDATE Shop.T AS x SET a = a + 1, x.b = DEFAULT, \"C\" = (SELECT max(c) FROM u) WHERE x.id IN (1,2)",
    );
    assert_eq!(u.table, "Shop.T".parse::<TableName>().unwrap());
    assert_eq!(u.alias.as_deref(), Some("x"));
    assert_eq!(set(&u.set), ["a = a + 1", "b = DEFAULT", "C = (SELECT max(c) FROM u)"]);
    assert_eq!(u.selection.unwrap().sql, "x.id IN (1, 2)");
    let u = update("UPDATE t x SET t.a = 1, main.T.b = 2");
    assert_eq!(set(&u.set), ["a = 1", "b = 2"]);
    assert_eq!(u.selection, None);
    assert_eq!(update("UPDATE ignore SET a = 1").table, TableName::bare("ignore"));
}

#[test]
fn deletes_keep_their_selection() {
    let d = delete("DELETE FROM t");
    assert_eq!((d.table, d.alias, d.selection), (TableName::bare("t"), None, None));
    let d = delete("DELETE FROM t AS x WHERE x.a = 1 OR NOT EXISTS (SELECT 1 FROM u WHERE u.id = x.id)");
    assert_eq!(d.alias.as_deref(), Some("x"));
    assert_eq!(d.selection.unwrap().sql, "x.a = 1 OR NOT EXISTS (SELECT 1 FROM u WHERE u.id = x.id)");
}

#[test]
fn changes_of_data_that_cannot_be_honoured_are_refused_by_name() {
    for (sql, what) in [
        ("UPDATE a, b SET x = 1", "UPDATE of several tables"),
        ("UPDATE a JOIN b ON a.i = b.i SET x = 1", "UPDATE of several tables"),
        ("UPDATE a SET x = 1 FROM b", "UPDATE … FROM"),
        ("UPDATE a SET b.x = 1", "setting a column of 'b'"),
        ("UPDATE a SET (x, y) = (1, 2)", "setting several columns at once"),
        ("UPDATE a SET x = 1 LIMIT 3", "LIMIT behind a change of data"),
        ("UPDATE a SET x = 1 ORDER BY x LIMIT 3", "ORDER behind a change of data"),
        ("UPDATE a SET x = 1 RETURNING x", "RETURNING"),
        ("UPDATE IGNORE a SET x = 1", "UPDATE IGNORE"),
        ("DELETE FROM a USING b WHERE a.i = b.i", "DELETE from several tables"),
        ("DELETE FROM a, b", "DELETE from several tables"),
        ("DELETE FROM a WHERE x LIMIT 3", "LIMIT behind a change of data"),
        ("DELETE FROM a RETURNING *", "RETURNING"),
        ("INSERT INTO a VALUES (1) RETURNING *", "RETURNING"),
        ("INSERT INTO a DEFAULT VALUES", "INSERT … DEFAULT VALUES"),
        ("INSERT INTO a SET x = 1", "INSERT … SET"),
        ("INSERT OR ABORT INTO a VALUES (1)", "INSERT OR …"),
        ("INSERT OVERWRITE a VALUES (1)", "INSERT OVERWRITE"),
        ("INSERT INTO a VALUES (1) ON DUPLICATE KEY UPDATE x = 1", "ON DUPLICATE KEY UPDATE"),
        ("INSERT INTO a VALUES (1) ON CONFLICT ON CONSTRAINT c DO NOTHING", "ON CONSTRAINT"),
        (
            "INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET x = 1 WHERE x = 2",
            "WHERE behind DO UPDATE",
        ),
        ("INSERT INTO a VALUES (1) ON CONFLICT (x) WHERE x > 1 DO NOTHING", "WHERE behind the key"),
    ] {
        let message = error(sql);
        assert!(
            message.starts_with(what) && message.contains(" is not supported, at line 1"),
            "{sql}: {message}"
        );
    }
    for (sql, what) in [
        ("UPDATE a SET x = 1, X = 2", "column 'X' stands twice, at line 1, column 21"),
        ("UPDATE a SET x", "expected '=' after the column 'x', found the end of the statement"),
        ("INSERT INTO a (x, X) VALUES (1, 2)", "column 'X' stands twice"),
        (
            "REPLACE INTO a VALUES (1) ON CONFLICT DO NOTHING",
            "rule for existing keys 'ON CONFLICT' stands twice",
        ),
        ("INSERT INTO a VALUES (1) ON CONFLICT", "expected DO NOTHING or DO UPDATE SET after ON CONFLICT"),
        ("DELETE a FROM a", "expected FROM after DELETE, found 'a'"),
    ] {
        let message = error(sql);
        assert!(message.starts_with(what), "{sql}: {message}");
    }
}
