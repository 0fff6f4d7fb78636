//! The grammar as a user meets it: statements in, trees or errors out.

mod depth;
mod errors;
mod own;
mod queries;
mod shell;
mod soup;
mod tables;
mod types;
mod writes;

use keepfast_sql::{Statement, parse, parse_one};

/// The one statement of a text.
fn one(sql: &str) -> Statement {
    match parse_one(sql) {
        Ok(located) => located.statement,
        Err(error) => panic!("{sql}\n{error}"),
    }
}

/// The error of a text that has one.
fn error(sql: &str) -> String {
    match parse(sql) {
        Ok(statements) => panic!("{sql}\nwas read as {statements:#?}"),
        Err(error) => error.to_string(),
    }
}
