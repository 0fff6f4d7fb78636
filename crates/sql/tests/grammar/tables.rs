use crate::{error, one};
use keepfast_model::{Column, ColumnId, TableName};
use keepfast_sql::{CreateTable, DropTable, Statement};

fn create(sql: &str) -> CreateTable {
    match one(sql) {
        Statement::CreateTable(create) => create,
        other => panic!("{other:?}"),
    }
}

/// Columns as text: `id name type [not null] [default …] [= origin]`.
fn columns(create: &CreateTable) -> Vec<String> {
    let text = |c: &Column| {
        let null = if c.nullable { "" } else { " not null" };
        let default = c.default.as_ref().map(|d| format!(" default {d}")).unwrap_or_default();
        let origin = c.origin.as_ref().map(|o| format!(" = {o}")).unwrap_or_default();
        format!("{} {} {}{null}{default}{origin}", c.id.0, c.name, c.column_type)
    };
    create.schema.columns.iter().map(text).collect()
}

#[test]
fn a_table_keeps_names_types_nulls_defaults_and_key() {
    let c = create(
        "CREATE TABLE IF NOT EXISTS Shop.Orders (
            Id BIGINT NOT NULL PRIMARY KEY,
            `from` VARCHAR(20) NOT NULL DEFAULT 'x, y' ,
            price DECIMAL(10, 2) DEFAULT -1.5 NOT NULL,
            at TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP,
            tags TEXT[] NULL DEFAULT NULL,
            n INT(11) UNSIGNED DEFAULT (1 + 2)
        );",
    );
    assert!(c.if_not_exists);
    assert_eq!(c.name, "Shop.Orders".parse::<TableName>().unwrap());
    assert_eq!(
        columns(&c),
        [
            "1 Id int64 not null",
            "2 from varchar(20) not null default 'x, y'",
            "3 price decimal(10,2) not null default -1.5",
            "4 at timestamp default CURRENT_TIMESTAMP = TIMESTAMP(3)",
            "5 tags list(text) default NULL",
            "6 n uint32 default (1 + 2) = INT(11) UNSIGNED",
        ]
    );
    assert_eq!(c.schema.key, [ColumnId(1)]);
}

#[test]
fn a_key_of_several_columns_keeps_its_order_and_makes_them_not_null() {
    for sql in [
        "CREATE TABLE t (a INT, b TEXT, c INT, PRIMARY KEY (C, a))",
        "CREATE TABLE t (PRIMARY KEY (c, A), a INT, b TEXT, c INT)",
        "CREATE TABLE t (a INT, b TEXT, CONSTRAINT t_key PRIMARY KEY (c, a), c INT NOT NULL)",
        "CREATE TABLE t (a INT, b TEXT, CONSTRAINT PRIMARY KEY (c, a), c INT NOT NULL)",
    ] {
        let c = create(sql);
        assert_eq!(c.schema.key_names(), ["c", "a"]);
        let nullable: Vec<bool> = c.schema.columns.iter().map(|c| c.nullable).collect();
        assert_eq!(nullable, [false, true, false]);
    }
    assert!(create("CREATE TABLE bag (a INT)").schema.is_bag());
}

#[test]
fn words_that_begin_constraints_stay_names_of_columns() {
    let c = create(
        "CREATE TABLE t (key TEXT, index INT, check DECIMAL(5,2), period DATE, comment TEXT, foreign INT)",
    );
    assert_eq!(c.schema.columns.len(), 6);
    create("CREATE TABLE t (key VARCHAR(10) PRIMARY KEY, value BLOB)");
    create("CREATE TABLE t (\"unique\" INT, \"primary\" INT)");
}

#[test]
fn defaults_end_where_the_next_property_begins() {
    for (default, kept) in [
        ("1", "1"),
        ("'a' || 'b'", "'a' || 'b'"),
        ("now()", "now()"),
        ("coalesce(NULL, 1)", "coalesce(NULL, 1)"),
        ("1 IS NOT NULL", "1 IS NOT NULL"),
        ("1 IS NULL", "1 IS NULL"),
        ("NOT TRUE", "NOT true"),
        ("DATE '2026-01-01'", "DATE '2026-01-01'"),
        ("CAST(1 AS DECIMAL(5,2))", "CAST(1 AS DECIMAL(5,2))"),
        ("X'00ff'", "X'00ff'"),
        ("ARRAY[1, 2]", "ARRAY[1, 2]"),
    ] {
        for (properties, nullable) in [("", true), (" NOT NULL", false), (" NULL", true)] {
            let c = create(&format!("CREATE TABLE t (a INT DEFAULT {default}{properties}, b INT)"));
            assert_eq!(c.schema.columns[0].default.as_deref(), Some(kept), "{default}{properties}");
            assert_eq!(c.schema.columns[0].nullable, nullable, "{default}{properties}");
        }
        let c = create(&format!("CREATE TABLE t (a INT DEFAULT {default} PRIMARY KEY)"));
        assert_eq!(c.schema.columns[0].default.as_deref(), Some(kept));
        assert_eq!(c.schema.key, [ColumnId(1)]);
    }
}

#[test]
fn a_default_is_one_expression_without_columns_and_queries() {
    for (default, message) in [
        ("", "expected an expression after DEFAULT, found ')' at line 1, column 31"),
        (
            "other",
            "a column in DEFAULT is not supported, at line 1, column 31: write a constant or a function; text stands in single quotes",
        ),
        (
            "\"text\"",
            "a column in DEFAULT is not supported, at line 1, column 31: write a constant or a function; text stands in single quotes",
        ),
        (
            "1 + a.b",
            "a column in DEFAULT is not supported, at line 1, column 31: write a constant or a function; text stands in single quotes",
        ),
        (
            "(SELECT 1)",
            "a query in DEFAULT is not supported, at line 1, column 31: write a constant or a function",
        ),
        ("1 2", "expected the end of the expression after DEFAULT, found '2' at line 1, column 33"),
        ("1 DEFAULT 2", "property 'DEFAULT' stands twice, at line 1, column 33"),
        ("1 +", "expected an expression, found ')' at line 1, column 34"),
    ] {
        assert_eq!(error(&format!("CREATE TABLE t (a INT DEFAULT {default})")), message, "{default}");
    }
}

#[test]
fn what_the_embedded_store_cannot_keep_is_refused_by_name_and_place() {
    for (part, what) in [
        ("id INT AUTO_INCREMENT", "AUTO_INCREMENT is not supported, at line 1, column 24"),
        ("id INT UNIQUE", "UNIQUE is not supported, at line 1, column 24"),
        ("id INT REFERENCES u (id)", "REFERENCES is not supported, at line 1, column 24"),
        ("id INT CHECK (id > 0)", "CHECK is not supported, at line 1, column 24"),
        ("id INT COMMENT 'x'", "COMMENT is not supported, at line 1, column 24"),
        ("id TEXT COLLATE \"C\"", "COLLATE is not supported, at line 1, column 25"),
        ("id TEXT CHARACTER SET utf8", "CHARACTER is not supported, at line 1, column 25"),
        ("id INT GENERATED ALWAYS AS IDENTITY", "a generated column is not supported, at line 1, column 24"),
        (
            "id INT GENERATED ALWAYS AS (1) STORED",
            "a generated column is not supported, at line 1, column 24",
        ),
        ("id TIMESTAMP DEFAULT now() ON UPDATE now()", "ON UPDATE is not supported, at line 1, column 44"),
        ("id INT KEY", "KEY is not supported, at line 1, column 24: write PRIMARY KEY"),
        ("id INT CONSTRAINT x CHECK (id > 0)", "CHECK is not supported, at line 1, column 37"),
        ("id INT PRIMARY KEY DESC", "an order in the key is not supported"),
        ("id INT, UNIQUE (id)", "UNIQUE is not supported, at line 1, column 25"),
        ("id INT, UNIQUE KEY k (id)", "UNIQUE is not supported, at line 1, column 25"),
        ("id INT, INDEX (id)", "an index is not supported, at line 1, column 25"),
        ("id INT, KEY by_id (id)", "an index is not supported, at line 1, column 25"),
        ("id INT, INDEX by_id USING BTREE (id)", "an index is not supported, at line 1, column 25"),
        ("id INT, FULLTEXT KEY k (id)", "an index is not supported, at line 1, column 25"),
        ("id INT, FOREIGN KEY (id) REFERENCES u (id)", "FOREIGN KEY is not supported, at line 1, column 25"),
        (
            "id INT, CONSTRAINT f FOREIGN KEY (id) REFERENCES u (id)",
            "FOREIGN KEY is not supported, at line 1, column 38",
        ),
        ("id INT, CHECK (id > 0)", "CHECK is not supported, at line 1, column 25"),
        ("id INT, CONSTRAINT c CHECK (id > 0)", "CHECK is not supported, at line 1, column 38"),
        ("id INT, LIKE u", "LIKE is not supported, at line 1, column 25"),
        (
            "id TEXT, PRIMARY KEY (id(10))",
            "a key on a part of a column is not supported, at line 1, column 41",
        ),
        ("id TEXT, PRIMARY KEY (id ASC)", "an order in the key is not supported, at line 1, column 42"),
    ] {
        let message = error(&format!("CREATE TABLE t ({part})"));
        assert!(message.starts_with(what), "{part}: {message}");
    }
    for (option, what) in [
        ("ENGINE = InnoDB", "ENGINE behind the columns is not supported, at line 1, column 25"),
        ("PARTITION BY HASH (id)", "PARTITION behind the columns"),
        ("COMMENT 'x'", "COMMENT behind the columns"),
        ("DEFAULT CHARSET=utf8mb4", "DEFAULT behind the columns"),
        ("WITHOUT ROWID", "WITHOUT behind the columns"),
        ("AS SELECT 1", "AS behind the columns"),
        ("frob", "expected the end of the statement, found 'frob'"),
    ] {
        let message = error(&format!("CREATE TABLE t (id INT) {option}"));
        assert!(message.starts_with(what), "{option}: {message}");
    }
    for (sql, what) in [
        ("CREATE TABLE t AS SELECT 1", "CREATE TABLE … AS is not supported"),
        ("CREATE TABLE t LIKE u", "CREATE TABLE … LIKE is not supported"),
        ("CREATE TABLE t (LIKE u)", "LIKE is not supported"),
        ("CREATE TABLE t (SELECT 1)", "CREATE TABLE … AS is not supported"),
        ("CREATE OR REPLACE TABLE t (a INT)", "CREATE OR is not supported"),
        ("CREATE TEMPORARY TABLE t (a INT)", "CREATE TEMPORARY is not supported"),
        ("CREATE EXTERNAL TABLE t (a INT)", "CREATE EXTERNAL is not supported"),
    ] {
        let message = error(sql);
        assert!(message.starts_with(what), "{sql}: {message}");
    }
}

#[test]
fn a_definition_that_contradicts_itself_is_refused() {
    for (parts, what) in [
        ("a INT, A TEXT", "column 'A' stands twice, at line 1, column 24"),
        (
            "a INT, PRIMARY KEY (b)",
            "schema of table 't' is not valid: the key names column 'b', which does not exist",
        ),
        ("a INT PRIMARY KEY, PRIMARY KEY (a)", "clause 'PRIMARY KEY' stands twice"),
        ("a INT PRIMARY KEY, b INT PRIMARY KEY", "clause 'PRIMARY KEY' stands twice"),
        ("a INT, PRIMARY KEY (a, A)", "key column 'A' stands twice"),
        ("a INT NULL PRIMARY KEY", "schema of table 't' is not valid: key column 'a' is declared NULL"),
        ("a INT NULL NOT NULL", "property 'NULL' stands twice"),
        ("a JSON PRIMARY KEY", "schema of table 't' is not valid: key column 'a' has type JSON"),
        ("a INT[] PRIMARY KEY", "schema of table 't' is not valid: key column 'a' has type INT[]"),
        ("__keepfast_x INT", "schema of table 't' is not valid: the name '__keepfast_x' is reserved"),
        ("", "expected a column's name, found ')'"),
        ("a INT,", "expected a column's name, found ')'"),
        ("a", "expected a column type, found ')'"),
        ("a INT b", "expected NOT NULL, NULL, DEFAULT, PRIMARY KEY, ',' or ')' after the type, found 'b'"),
        ("where INT", "expected a column's name, found 'where'"),
    ] {
        let message = error(&format!("CREATE TABLE t ({parts})"));
        assert!(message.starts_with(what), "{parts}: {message}");
    }
    assert!(error("CREATE TABLE t (a INT").starts_with("expected ',' or ')' after a column"));
    assert!(error("CREATE TABLE t").starts_with("expected '(' and the columns"));
}

#[test]
fn tables_are_dropped_by_name() {
    assert_eq!(
        one("DROP TABLE IF EXISTS a, shop.b"),
        Statement::DropTable(DropTable {
            names: vec![TableName::bare("a"), "shop.b".parse().unwrap()],
            if_exists: true,
        })
    );
    assert!(error("DROP TABLE a CASCADE").starts_with("DROP TABLE … CASCADE is not supported"));
    assert!(error("DROP TABLE a, main.A").starts_with("table 'A' stands twice"));
}
