//! Queries, and EXPLAIN of anything that has a plan.
//!
//! A query only reads, and every clause of it has an effect: what sqlparser reads but the engine would pass over in
//! silence (PREWHERE, TABLESAMPLE, FOR UPDATE, …) is refused here.

use crate::error::{SqlError, TextPosition};
use crate::parser::Cursor;
use crate::statement::{Query, QueryPlan, Statement};
use sqlparser::ast::{self, TableFactor, Visit, Visitor};
use sqlparser::tokenizer::{Token, Word};
use std::ops::ControlFlow;

const FORMATS: [&str; 4] = ["indent", "tree", "pgjson", "graphviz"];

impl Cursor<'_> {
    /// `SELECT`, `WITH`, `VALUES`, `(SELECT …)`
    pub(crate) fn plain_query(&mut self) -> Result<Query, SqlError> {
        let (query, sql) = self.query()?;
        Ok(Query { query, sql, plan: None })
    }

    /// `EXPLAIN …`
    pub(crate) fn explain(&mut self) -> Result<Statement, SqlError> {
        self.accept(&["EXPLAIN"]);
        if self.sees(&["BACKUP"]) {
            let backup = self.backup()?;
            return Ok(Statement::Explain(Box::new(Statement::Backup(backup))));
        }
        if self.sees(&["RESTORE"]) {
            let restore = self.restore()?;
            return Ok(Statement::Explain(Box::new(Statement::Restore(restore))));
        }
        let mut plan = QueryPlan {
            analyze: self.accept(&["ANALYZE"]),
            verbose: self.accept(&["VERBOSE"]),
            format: None,
        };
        if self.accept(&["FORMAT"]) {
            plan.format = Some(self.plan_format()?);
        }
        if !self.sees_query() {
            return Err(self.expected("BACKUP, RESTORE or a query after EXPLAIN"));
        }
        let query = self.plain_query()?;
        Ok(Statement::Query(Query { plan: Some(plan), ..query }))
    }

    fn plan_format(&mut self) -> Result<String, SqlError> {
        let format = match &self.peek().token {
            Token::Word(Word { value, quote_style: None, .. }) | Token::SingleQuotedString(value) => {
                value.to_ascii_lowercase()
            }
            _ => String::new(),
        };
        if !FORMATS.contains(&format.as_str()) {
            return Err(self.expected(format!("a format ({})", FORMATS.join(", "))));
        }
        self.parser.advance_token();
        Ok(format)
    }

    /// Whether a query begins here.
    pub(crate) fn sees_query(&self) -> bool {
        let mut n = 0;
        while self.parser.peek_nth_token_ref(n).token == Token::LParen {
            n += 1;
        }
        self.word(n).is_some_and(|word| {
            ["SELECT", "WITH", "VALUES", "VALUE", "FROM", "TABLE"]
                .iter()
                .any(|q| q.eq_ignore_ascii_case(word))
        })
    }
}

/// Refuses a tree that holds what the engine would not honour, or that is too deep.
pub(crate) fn check(tree: &impl Visit, at: TextPosition) -> Result<(), SqlError> {
    match tree.visit(&mut Check { depth: 0 }) {
        ControlFlow::Break(Refusal::Clause(what, instead)) => {
            Err(SqlError::Unsupported { what: what.to_owned(), instead: instead.to_owned(), at })
        }
        ControlFlow::Break(Refusal::Depth) => Err(SqlError::Depth { at }),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Why a tree is refused.
enum Refusal {
    /// It holds a clause; behind it what to write in its place.
    Clause(&'static str, &'static str),
    /// Whoever walks or copies it would need too much stack.
    Depth,
}

/// How many expressions may stand inside each other. A copy takes about 1 KB of stack for each.
const MAX_LEVELS: usize = 600;

struct Check {
    depth: usize,
}

impl Visitor for Check {
    type Break = Refusal;

    fn pre_visit_statement(&mut self, _: &ast::Statement) -> ControlFlow<Refusal> {
        refuse_if(true, "a change of data inside a query", "write it as a statement of its own")
    }

    fn pre_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<Refusal> {
        self.depth += 1;
        if self.depth > MAX_LEVELS { ControlFlow::Break(Refusal::Depth) } else { ControlFlow::Continue(()) }
    }

    fn post_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<Refusal> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Refusal> {
        // Named one by one, so that a clause that a new sqlparser knows cannot slip through.
        let ast::Query {
            with: _,
            body: _,
            order_by: _,
            limit_clause: _,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators: _,
        } = query;
        refuse_if(fetch.is_some(), "FETCH", "write LIMIT n")?;
        refuse_if(
            !locks.is_empty(),
            "FOR UPDATE or FOR SHARE",
            "a query reads one version and locks nothing",
        )?;
        refuse_if(for_clause.is_some(), "FOR XML, JSON or BROWSE", "leave it out")?;
        refuse_if(settings.is_some(), "SETTINGS", "leave it out")?;
        refuse_if(format_clause.is_some(), "FORMAT", "use keepfast --json, or keepfast export")
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Refusal> {
        let ast::Select {
            select_token: _,
            // Hints stand in comments.
            optimizer_hints: _,
            distinct: _,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection: _,
            exclude,
            into,
            from: _,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by: _,
            cluster_by,
            distribute_by,
            sort_by,
            having: _,
            named_window: _,
            qualify: _,
            window_before_qualify: _,
            value_table_mode,
            flavor: _,
        } = select;
        refuse_if(
            select_modifiers.as_ref().is_some_and(|m| m.is_any_set()),
            "a modifier of SELECT",
            "leave it out",
        )?;
        refuse_if(top.is_some(), "TOP", "write LIMIT n")?;
        refuse_if(exclude.is_some(), "EXCLUDE behind the select list", "write SELECT * EXCLUDE (…)")?;
        refuse_if(into.is_some(), "SELECT … INTO", "write CREATE TABLE, then INSERT INTO … SELECT")?;
        refuse_if(!lateral_views.is_empty(), "LATERAL VIEW", "write unnest(…)")?;
        refuse_if(prewhere.is_some(), "PREWHERE", "write WHERE")?;
        refuse_if(!connect_by.is_empty(), "CONNECT BY", "write WITH RECURSIVE")?;
        refuse_if(!cluster_by.is_empty(), "CLUSTER BY", "write ORDER BY")?;
        refuse_if(!distribute_by.is_empty(), "DISTRIBUTE BY", "leave it out")?;
        refuse_if(!sort_by.is_empty(), "SORT BY", "write ORDER BY")?;
        refuse_if(value_table_mode.is_some(), "SELECT AS VALUE or AS STRUCT", "leave it out")
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refusal> {
        let sampled = match factor {
            TableFactor::Table {
                name: _,
                alias: _,
                args: _,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                refuse_if(
                    version.is_some(),
                    "a version behind a table's name",
                    "query a point with backup('name', 'table', 'as of')",
                )?;
                refuse_if(*with_ordinality, "WITH ORDINALITY", "write row_number() OVER ()")?;
                refuse_if(!partitions.is_empty(), "PARTITION behind a table's name", "write WHERE")?;
                refuse_if(json_path.is_some(), "a path behind a table's name", "leave it out")?;
                refuse_if(
                    !with_hints.is_empty() || !index_hints.is_empty(),
                    "a hint behind a table's name",
                    "leave it out",
                )?;
                sample.is_some()
            }
            TableFactor::Derived { sample, .. } => sample.is_some(),
            _ => false,
        };
        refuse_if(sampled, "TABLESAMPLE", "write WHERE random() < 0.1")
    }
}

fn refuse_if(condition: bool, what: &'static str, instead: &'static str) -> ControlFlow<Refusal> {
    if condition { ControlFlow::Break(Refusal::Clause(what, instead)) } else { ControlFlow::Continue(()) }
}
