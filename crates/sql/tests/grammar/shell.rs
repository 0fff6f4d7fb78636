use keepfast_sql::is_complete;

#[test]
fn a_shell_waits_for_the_semicolon_that_ends_a_statement() {
    for text in [
        "",
        "  \n",
        "-- only a comment",
        "SELECT 1;",
        "SELECT 1; ",
        "SELECT 1; -- done",
        "a; /* x */",
        "nonsense;",
    ] {
        assert!(is_complete(text), "{text:?}");
    }
    for text in [
        "SELECT 1",
        "SELECT 1; SELECT",
        "SELECT ';",
        "SELECT ';'",
        "SELECT \"a;",
        "SELECT `a;",
        "SELECT 1 -- ;",
        "SELECT 1 /* ;",
        "SELECT 1 /* ; */",
        "SELECT 1 /* /* */ ;",
        "SELECT $$ a;",
        "SELECT $x$ a; $$;",
        "SELECT E'a;",
        "SELECT 'it''s;",
    ] {
        assert!(!is_complete(text), "{text:?}");
    }
    assert!(is_complete("SELECT $x$ a; $x$;"));
}
