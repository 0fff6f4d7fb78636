//! Deep and long input, on the small stack that a thread of a server has.

use keepfast_sql::parse;

/// Parses, copies, compares, prints and drops on a thread with a stack of 2 MiB; says whether it was read.
fn survives(sql: String) -> bool {
    let work = move || match parse(&sql) {
        Ok(statements) => {
            let copy = statements.clone();
            assert!(copy == statements);
            assert!(!format!("{statements:?}").is_empty());
            true
        }
        Err(_) => false,
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap()
}

/// The ways to make a tree deep: a text to repeat, with what stands before and behind.
fn growths() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    vec![
        ("SELECT 1", " + 1", "", ""),
        ("SELECT a", " OR a = 1", "", ""),
        ("SELECT a", " AND a IN (1, 2)", "", ""),
        ("SELECT a", " IS NULL", "", ""),
        ("SELECT a", "::INT", "", ""),
        ("SELECT a", "[1]", "", ""),
        ("SELECT a", ".b", "", ""),
        ("SELECT a", ".b", "", "."),
        ("SELECT a", " .CASE WHEN b", "", ""),
        ("SELECT a", ".-b", "", ""),
        ("SELECT a", ".f(a.b", "", ")"),
        ("SELECT a", " COLLATE x", "", ""),
        ("SELECT a", " AT TIME ZONE 'x'", "", ""),
        ("SELECT a", " BETWEEN 1 AND 2", "", ""),
        ("SELECT a", " LIKE 'x'", "", ""),
        ("SELECT a", " -> 'x'", "", ""),
        ("SELECT ", "NOT ", "a", ""),
        ("SELECT ", "- ", "1", ""),
        ("SELECT ", "+ ", "1", ""),
        ("SELECT ", "(", "1", ")"),
        ("SELECT ", "[", "1", "]"),
        ("SELECT ", "{'a': ", "1", "}"),
        ("SELECT ", "f(", "1", ")"),
        ("SELECT ", "CASE WHEN a THEN ", "1", " END"),
        ("SELECT ", "CASE ", "1", " WHEN 1 THEN 1 END"),
        ("SELECT ", "CAST(", "1", " AS INT)"),
        ("SELECT ", "EXTRACT(DAY FROM ", "d", ")"),
        ("SELECT ", "INTERVAL ", "'1' DAY", ""),
        ("SELECT ", "(SELECT ", "1", ")"),
        ("SELECT ", "EXISTS (SELECT ", "1", ")"),
        ("", "SELECT * FROM (", "SELECT 1", ") AS x"),
        ("", "(", "SELECT 1", ")"),
        ("", "WITH x AS (", "SELECT 1", ") SELECT 1"),
        ("SELECT 1, 2", " UNION SELECT 1, 2", "", ""),
        ("SELECT 1, 2", " UNION ALL (SELECT 1, 2)", "", ""),
        ("SELECT 1", " INTERSECT SELECT 1 EXCEPT SELECT 2", "", ""),
        ("VALUES (1, 2)", " UNION VALUES (1, 2)", "", ""),
        ("SELECT * FROM a", " JOIN a ON a.x = 1", "", ""),
        ("SELECT * FROM a", " JOIN b", "", " ON 1"),
        ("SELECT * FROM a", " CROSS JOIN b", "", ""),
        ("SELECT * FROM a", ", b", "", ""),
        ("SELECT * FROM ", "(", "a", ")"),
        ("SELECT * FROM ", "(a JOIN ", "b", " ON 1)"),
        ("SELECT CAST(a AS ", "ARRAY<", "INT", ">)"),
        ("SELECT CAST(a AS ", "ARRAY<", "INT", "> "),
        ("SELECT CAST(a AS INT", "[]", ")", ""),
        ("SELECT CAST(a AS ", "MAP(INT, ", "INT", ")"),
        ("SELECT CAST(a AS ", "STRUCT<a ", "INT", ">"),
        ("SELECT CAST(a AS ", "Nullable(", "INT", ")"),
        ("SELECT * FROM a", " |> WHERE x", "", ""),
        ("SELECT * FROM a PIVOT (", "(", "a", ")"),
        ("SELECT * FROM a MATCH_RECOGNIZE (PATTERN (", "(", "a", ")"),
        ("SELECT f(", "x -> ", "1", ")"),
        ("CREATE TABLE t (a INT", "[]", ")", ""),
        ("CREATE TABLE t (a ", "ARRAY<", "INT", ">"),
        ("CREATE TABLE t (a ", "ARRAY(", "INT", ")"),
        ("CREATE TABLE t (a INT DEFAULT 1", " + 1", ")", ""),
        ("BACKUP TABLE t WHERE a", " OR a", " TO 'b'", ""),
        ("", "EXPLAIN ", "SELECT 1", ""),
        ("UPDATE t SET a = 1", " + 1", "", ""),
        ("INSERT INTO t VALUES (1", " + 1", ")", ""),
    ]
}

#[test]
fn no_repetition_overflows_the_stack() {
    for (before, repeated, middle, behind) in growths() {
        for times in [30, 100, 300, 1_000, 3_000, 10_000, 200_000] {
            let sql = format!("{before}{}{middle}{}", repeated.repeat(times), behind.repeat(times));
            if sql.len() < 8_000_000 {
                survives(sql);
            }
        }
    }
}

#[test]
fn chains_inside_chains_add_up() {
    // Every part is short enough alone.
    let ends = " + 1".repeat(500);
    let cases = (0..40).fold("1".to_owned(), |inner, _| format!("CASE WHEN a THEN {inner} END{ends} AND b"));
    assert!(!survives(format!("SELECT {cases}")));
    let sets = " UNION SELECT 1".repeat(150);
    let unions = (0..10).fold("SELECT 1".to_owned(), |inner, _| format!("({inner}){sets}"));
    assert!(!survives(unions));
    let calls = (0..20).fold("1".to_owned(), |inner, _| format!("f(1, {inner}{ends})"));
    assert!(!survives(format!("SELECT {calls}")));
}

#[test]
fn names_that_break_off_are_refused_soon() {
    // Not timed: the parser reads what follows a period twice, so that forty of them would take days.
    for broken in [".b", ".CASE WHEN b", ".NOT b", ".-b", ".f(a.b", "[a.b", ".f(c, a.CASE WHEN b"] {
        for behind in [".", " .+", ".b c.("] {
            assert!(!survives(format!("SELECT a{}{behind}", broken.repeat(40))), "{broken}{behind}");
        }
    }
}

#[test]
fn what_people_write_is_not_too_deep() {
    assert!(survives(
        "SELECT a.b.c.d.e.f, t.case, x.g(t.u.v, u.v.w).h.i[x.y.z] FROM a.b.c WHERE a.b = 1".into()
    ));
    let named = vec!["a.b = c.d.e.f AND g.h IN (SELECT i.j.k FROM l.m)"; 100].join(" OR ");
    assert!(survives(format!("SELECT * FROM t WHERE {named}")));
    let ors = (0..500).map(|i| format!("(a = {i} AND b = 'x')")).collect::<Vec<_>>().join(" OR ");
    assert!(survives(format!("SELECT * FROM t WHERE {ors}")));
    let list = (0..100_000).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    assert!(survives(format!("SELECT * FROM t WHERE a IN ({list})")));
    let rows = (0..50_000).map(|i| format!("({i}, 'row {i}', -{i}.5 + 1)")).collect::<Vec<_>>().join(", ");
    assert!(survives(format!("INSERT INTO t VALUES {rows}")));
    let unions = vec!["SELECT a, b, c FROM t WHERE a > 1"; 150].join(" UNION ALL ");
    assert!(survives(unions));
    let nested = (0..20).fold("1".to_owned(), |inner, _| format!("coalesce({inner}, 2)"));
    assert!(survives(format!("SELECT {nested}")));
    let script = "INSERT INTO t (a, b) VALUES (1, 'x');\n".repeat(20_000);
    assert!(survives(script));
}

#[test]
fn long_lists_are_read_in_linear_time() {
    // Not timed: with work that grows with the square, this would take hours.
    let columns = (0..20_000).map(|i| format!("c{i} INT(11) DEFAULT 1")).collect::<Vec<_>>().join(", ");
    assert!(survives(format!("CREATE TABLE t ({columns})")));
    let names = (0..20_000).map(|i| format!("t{i}")).collect::<Vec<_>>().join(", ");
    assert!(survives(format!("BACKUP TABLE {names} WHERE a = 1 TO 'b' WITH (mode = full)")));
    assert!(survives(format!("RESTORE TABLE {names} FROM 'b' WHERE a = 1 POINT 3")));
    assert!(survives(format!("DROP TABLE {names}")));
    let targets = (0..10_000).map(|i| format!("'t{i}'")).collect::<Vec<_>>().join(", ");
    assert!(survives(format!("BACKUP TABLE t TO {targets}")));
    let set = (0..100_000).map(|i| format!("c{i} = {i}")).collect::<Vec<_>>().join(", ");
    assert!(survives(format!("UPDATE t SET {set}")));
}
