use crate::{error, one};
use keepfast_sql::{Query, QueryPlan, Statement, parse, parse_expression};

fn query(sql: &str) -> Query {
    match one(sql) {
        Statement::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_form_of_query_is_read_and_keeps_its_text() {
    for sql in [
        "SELECT 1",
        "WITH a AS (SELECT 1 AS x) SELECT * FROM a",
        "VALUES (1, 'a'), (2, 'b')",
        "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1 LIMIT 1",
        "SELECT a, count(*) FROM t GROUP BY a HAVING count(*) > 1",
        "SELECT * FROM backup('b', 't', '2026-01-01') AS old JOIN t USING (id) WHERE old.x <> t.x",
        "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM \"T\"",
        "SELECT a  -- a comment stays\n FROM t",
        "FROM t",
    ] {
        let q = query(&format!("  {sql} ;"));
        assert_eq!(q.sql, sql);
        assert_eq!(q.plan, None);
    }
}

#[test]
fn explain_of_a_query_keeps_what_is_asked() {
    let q = query("EXPLAIN SELECT 1");
    assert_eq!((q.sql.as_str(), q.plan), ("SELECT 1", Some(QueryPlan::default())));
    let q = query("EXPLAIN ANALYZE VERBOSE SELECT 1");
    assert_eq!(q.plan, Some(QueryPlan { analyze: true, verbose: true, format: None }));
    let q = query("EXPLAIN FORMAT TREE SELECT 1");
    assert_eq!(q.plan.unwrap().format.as_deref(), Some("tree"));
    assert!(error("EXPLAIN FORMAT xml SELECT 1").starts_with("expected a format (indent, tree,"));
    assert!(error("EXPLAIN INSERT INTO t VALUES (1)").starts_with("expected BACKUP, RESTORE or a query"));
}

#[test]
fn clauses_that_would_be_passed_over_in_silence_are_refused() {
    for (sql, what) in [
        ("SELECT * FROM t PREWHERE a = 1", "PREWHERE"),
        ("SELECT * FROM t FOR UPDATE", "FOR UPDATE"),
        ("SELECT * INTO u FROM t", "SELECT … INTO"),
        ("SELECT TOP 3 * FROM t", "TOP"),
        ("SELECT * FROM t FETCH FIRST 3 ROWS ONLY", "FETCH"),
        ("SELECT * FROM t TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
        ("SELECT * FROM t SETTINGS a = 1", "SETTINGS"),
        ("SELECT * FROM t FORMAT JSON", "FORMAT"),
        ("SELECT * FROM (SELECT * FROM t FOR UPDATE) AS x", "FOR UPDATE"),
        ("SELECT 1 WHERE EXISTS (SELECT 1 FROM t PREWHERE a)", "PREWHERE"),
        ("WITH x AS (DELETE FROM t) SELECT 1", "a change of data"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "a change of data"),
        ("INSERT INTO t SELECT * FROM u FOR UPDATE", "FOR UPDATE"),
        ("UPDATE t SET a = (SELECT b INTO c FROM u)", "SELECT … INTO"),
        ("BACKUP TABLE t WHERE a IN (SELECT 1 FROM u FOR UPDATE) TO 'b'", "FOR UPDATE"),
    ] {
        let message = error(sql);
        assert!(message.starts_with(what) && message.contains("is not supported"), "{sql}: {message}");
    }
}

#[test]
fn two_statements_need_a_semicolon_between() {
    assert_eq!(
        error("SELECT 1 FROM t SELECT 2"),
        "expected the end of the statement, found 'SELECT' at line 1, column 17"
    );
}

#[test]
fn several_statements_keep_their_texts_and_places() {
    let sql = "-- first; not yet\nSELECT ';' AS \"a;b\"; /* ; */ ;;\n  SHOW TABLES -- last;\n;";
    let statements = parse(sql).unwrap();
    let seen: Vec<_> = statements.iter().map(|s| (s.text.as_str(), s.at.line, s.at.column)).collect();
    assert_eq!(seen, [("SELECT ';' AS \"a;b\"", 2, 1), ("SHOW TABLES", 3, 3)]);
    assert!(parse("").unwrap().is_empty());
    assert!(parse(" ;; -- x").unwrap().is_empty());
}

#[test]
fn the_text_of_a_comment_is_never_run() {
    assert!(parse("/*! DROP TABLE t; */").unwrap().is_empty());
    assert_eq!(parse("SELECT 1 /*!40101 , 2; */").unwrap().len(), 1);
}

#[test]
fn an_expression_has_a_normal_form() {
    for (text, normal) in [
        ("a=1", "a = 1"),
        ("  a>1   and B in (1,2) -- why\n", "a > 1 AND B IN (1, 2)"),
        ("name like 'a%' or not (x is null)", "name LIKE 'a%' OR NOT (x IS NULL)"),
        ("\"Weird Name\" = 'it''s'", "\"Weird Name\" = 'it''s'"),
        ("day >= date '2026-01-01'", "day >= DATE '2026-01-01'"),
    ] {
        let expression = parse_expression(text).unwrap();
        assert_eq!(expression.sql, normal);
        assert_eq!(parse_expression(normal).unwrap(), expression);
    }
}

#[test]
fn only_one_whole_expression_is_an_expression() {
    for text in
        ["", " -- x", "a = 1; b", "a = 1; DROP TABLE t", "a = 1 b", "a =", "SELECT 1", "1)", "a, b", "x AS y"]
    {
        assert!(parse_expression(text).is_err(), "{text:?}");
    }
    assert!(parse_expression("a = 1;").is_ok());
}
