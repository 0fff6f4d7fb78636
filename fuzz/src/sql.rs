//! Statements.

use keepfast_sql::{is_complete, parse, parse_column_type, parse_expression, parse_moment};

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = (is_complete(&text), parse_expression(&text), parse_column_type(&text), parse_moment(&text));
    let Ok(statements) = parse(&text) else { return };
    for statement in &statements {
        let _ = format!("{statement:?}");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "CREATE TABLE example (id INT PRIMARY KEY, name VARCHAR(255) NOT NULL DEFAULT 'x', d DECIMAL(10,2), l LIST(TEXT));",
        "INSERT INTO example (id, name, age) VALUES (1, 'John', 25), (2, NULL, -1.5e3);",
        "SELECT a.*, count(*) FROM \"db\".\"t\" a JOIN b USING (id) WHERE x IN (1,2) GROUP BY 1 HAVING y > 0x1F ORDER BY z LIMIT 3;",
        "BACKUP TABLE example, s.d.t COLUMNS (a, b) WHERE a > 1 TO 'example_backup', 's3://b/p#n' WITH (mode = full, certify = 'sample');",
        "BACKUP DATABASE d TO 'b'; EXPLAIN BACKUP TABLE t TO 'b';",
        "RESTORE TABLE example AS new, t FROM 'b' AS OF TIMESTAMP '2026-01-01 00:00:00+02:00' INTO 'columnar:///x' WITH (if_exists = replace);",
        "RESTORE ALL FROM 'b' AS OF POINT 3 COLUMNS (a) WHERE b IS NOT NULL; VERIFY BACKUP 'b' POINT 4 LEVEL content AGAINST t;",
        "SHOW BACKUPS; SHOW RESTORE POINTS FROM 'n'; DESCRIBE BACKUP 'n'; DROP BACKUP 'n'; DROP TABLE IF EXISTS t;",
        "UPDATE t SET a = a + 1, b = CASE WHEN c THEN 1 ELSE 2 END WHERE d LIKE '%x%'; DELETE FROM t WHERE e BETWEEN 1 AND 2; -- end",
        "SELECT * FROM backup('name', 'table', '2026-01-01') WITH RECURSIVE /* nested /* comment */ */ $$x$$;",
        "WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT ((((((((((1)))))))))) FROM r;",
        "2026-01-01T00:00:00Z",
        "decimal(38, 10)",
        "list(list(varchar(20)))",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
