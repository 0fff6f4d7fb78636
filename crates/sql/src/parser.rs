//! The entry points, and the cursor over one statement's tokens that all statement parsers share.
//!
//! The cursor wraps sqlparser's `Parser`: words of ours are read here, expressions and queries there, and its errors
//! become ours with the place where it stopped.

use crate::error::{SqlError, TextPosition, without_secrets};
use crate::queries::check;
use crate::source::{Piece, pieces, position, slice};
use crate::statement::{Expression, Located, Statement};
use keepfast_model::TableName;
use sqlparser::ast;
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Word};
use std::collections::HashSet;

pub(crate) static DIALECT: GenericDialect = GenericDialect {};

/// Reads a text of any number of statements, separated by `;`. The last `;` may be left out.
///
/// # Errors
/// The first [`SqlError`] of the text; nothing is returned then, so that a script with a mistake does nothing.
pub fn parse(sql: &str) -> Result<Vec<Located>, SqlError> {
    pieces(sql)?
        .into_iter()
        .map(|piece| {
            let at = piece.at;
            let text = piece.text.to_owned();
            let mut cursor = Cursor::new(piece);
            let statement = cursor.statement()?;
            cursor.finish()?;
            Ok(Located { text, at, statement })
        })
        .collect()
}

/// Reads exactly one statement.
///
/// # Errors
/// As [`parse`]; also when there is none or more than one.
pub fn parse_one(sql: &str) -> Result<Located, SqlError> {
    let mut statements = parse(sql)?;
    match (statements.pop(), statements.last()) {
        (Some(statement), None) => Ok(statement),
        (Some(second), Some(_)) => Err(SqlError::Syntax {
            expected: "one statement".into(),
            found: "more than one".into(),
            at: second.at,
        }),
        (None, _) => Err(nothing("a statement")),
    }
}

/// Reads exactly one expression, such as that of `--where`, and returns it with its text in normal form.
///
/// # Errors
/// [`SqlError`] when the text is no expression, or more than one.
pub fn parse_expression(text: &str) -> Result<Expression, SqlError> {
    let mut pieces = pieces(text)?.into_iter();
    let Some(piece) = pieces.next() else { return Err(nothing("an expression")) };
    if let Some(more) = pieces.next() {
        return Err(SqlError::Syntax {
            expected: "one expression".into(),
            found: "more behind ';'".into(),
            at: more.at,
        });
    }
    let mut cursor = Cursor::new(piece);
    let expression = cursor.expression()?;
    cursor.finish()?;
    Ok(expression)
}

fn nothing(expected: &str) -> SqlError {
    SqlError::Syntax {
        expected: expected.into(),
        found: "an empty text".into(),
        at: TextPosition { line: 1, column: 1 },
    }
}

/// Words that are no name unless they are quoted: those that would end a list of names.
const RESERVED: [&str; 24] = [
    "AS", "CREATE", "DELETE", "DROP", "FROM", "GROUP", "HAVING", "INSERT", "INTO", "JOIN", "LIMIT", "NOT",
    "NULL", "ON", "ORDER", "SELECT", "SET", "TABLE", "TO", "UNION", "UPDATE", "VALUES", "WHERE", "WITH",
];

/// A place among the tokens of one statement.
pub(crate) struct Cursor<'a> {
    pub(crate) parser: Parser<'static>,
    text: &'a str,
    start: TextPosition,
    end: TextPosition,
    count: usize,
    /// What stands behind the last token, as errors name it.
    behind: String,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(piece: Piece<'a>) -> Self {
        Self {
            count: piece.tokens.len(),
            behind: END.to_owned(),
            parser: Parser::new(&DIALECT).with_tokens_with_locations(piece.tokens),
            text: piece.text,
            start: piece.at,
            end: piece.end,
        }
    }

    /// The next token.
    pub(crate) fn peek(&self) -> &TokenWithSpan {
        self.parser.peek_token_ref()
    }

    /// Where the next token stands; the end of the statement behind the last.
    pub(crate) fn at(&self) -> TextPosition {
        self.place(self.peek())
    }

    fn place(&self, token: &TokenWithSpan) -> TextPosition {
        if token.token == Token::EOF { self.end } else { position(token.span.start) }
    }

    /// The `n`th word from here, when it is unquoted.
    pub(crate) fn word(&self, n: usize) -> Option<&str> {
        match &self.parser.peek_nth_token_ref(n).token {
            Token::Word(Word { value, quote_style: None, .. }) => Some(value),
            _ => None,
        }
    }

    /// Whether these words come next.
    pub(crate) fn sees(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, w)| self.word(n).is_some_and(|found| found.eq_ignore_ascii_case(w)))
    }

    /// Takes these words if they come next.
    pub(crate) fn accept(&mut self, words: &[&str]) -> bool {
        let sees = self.sees(words);
        if sees {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        sees
    }

    /// Takes this token if it comes next.
    pub(crate) fn accept_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    /// Takes this token, or says what was expected.
    pub(crate) fn expect_token(&mut self, token: &Token, expected: &str) -> Result<(), SqlError> {
        if self.accept_token(token) { Ok(()) } else { Err(self.expected(expected)) }
    }

    /// The error that something else was expected here.
    pub(crate) fn expected(&self, expected: impl Into<String>) -> SqlError {
        SqlError::Syntax { expected: expected.into(), found: self.shown(self.peek()), at: self.at() }
    }

    /// A token as errors name it.
    fn shown(&self, token: &TokenWithSpan) -> String {
        if token.token == Token::EOF { self.behind.clone() } else { describe(token) }
    }

    /// The error that what stands here is not supported.
    pub(crate) fn unsupported(&self, what: impl Into<String>, instead: impl Into<String>) -> SqlError {
        SqlError::Unsupported { what: what.into(), instead: instead.into(), at: self.at() }
    }

    /// Whether no token is left.
    pub(crate) fn is_done(&self) -> bool {
        self.peek().token == Token::EOF
    }

    /// Refuses what is left.
    pub(crate) fn finish(&self) -> Result<(), SqlError> {
        if self.is_done() { Ok(()) } else { Err(self.expected("the end of the statement")) }
    }

    /// A name, quoted or not; `expected` says of what.
    pub(crate) fn name(&mut self, expected: &str) -> Result<String, SqlError> {
        let name = match &self.peek().token {
            Token::Word(Word { value, quote_style: None, .. })
                if RESERVED.iter().any(|r| r.eq_ignore_ascii_case(value)) =>
            {
                return Err(self.expected(expected));
            }
            Token::Word(Word { value, .. }) => value.clone(),
            _ => return Err(self.expected(expected)),
        };
        if name.is_empty() {
            return Err(self.expected(expected));
        }
        self.parser.advance_token();
        Ok(name)
    }

    /// Names with dots between, at most `most`.
    pub(crate) fn dotted(&mut self, expected: &str, most: usize) -> Result<Vec<String>, SqlError> {
        let mut parts = vec![self.name(expected)?];
        while parts.len() < most && self.accept_token(&Token::Period) {
            parts.push(self.name(expected)?);
        }
        Ok(parts)
    }

    /// `table`, `database.table` or `store.database.table`.
    pub(crate) fn table_name(&mut self) -> Result<TableName, SqlError> {
        let at = self.at();
        let parts = self.dotted("a table's name", usize::MAX)?;
        TableName::from_parts(&parts).map_err(|source| SqlError::name(source, at))
    }

    /// `name [, …]`, each once; `what` they name.
    pub(crate) fn names(&mut self, what: &'static str, expected: &str) -> Result<Vec<String>, SqlError> {
        let mut names = vec![];
        let mut seen = HashSet::new();
        loop {
            let at = self.at();
            let name = self.name(expected)?;
            if !seen.insert(name.to_lowercase()) {
                return Err(SqlError::doubled(what, &name, at));
            }
            names.push(name);
            if !self.accept_token(&Token::Comma) {
                return Ok(names);
            }
        }
    }

    /// `(a, b)`: column names, each once.
    pub(crate) fn column_list(&mut self) -> Result<Vec<String>, SqlError> {
        self.expect_token(&Token::LParen, "'(' and column names")?;
        let names = self.names("column", "a column's name")?;
        self.expect_token(&Token::RParen, "',' or ')' in the column list")?;
        Ok(names)
    }

    /// A string in single quotes.
    pub(crate) fn string(&mut self, expected: &str) -> Result<String, SqlError> {
        match &self.peek().token {
            Token::SingleQuotedString(text) => {
                let text = text.clone();
                self.parser.advance_token();
                Ok(text)
            }
            _ => Err(self.expected(expected)),
        }
    }

    /// A whole number.
    pub(crate) fn number(&mut self, expected: &str) -> Result<u64, SqlError> {
        let number = match &self.peek().token {
            Token::Number(text, false) => text.parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.expected(expected))?;
        self.parser.advance_token();
        Ok(number)
    }

    /// An expression as sqlparser reads it, as far as it goes.
    pub(crate) fn expression(&mut self) -> Result<Expression, SqlError> {
        if self.is_done() {
            return Err(self.expected("an expression"));
        }
        let start = self.peek().span.start;
        let ast = self.read(Parser::parse_expr)?;
        // Normal form, unless sqlparser would not read its own text back.
        let normal = ast.to_string();
        let reads_back = Parser::new(&DIALECT)
            .try_with_sql(&normal)
            .and_then(|mut parser| Ok((parser.parse_expr()?, parser.peek_token().token)))
            .is_ok_and(|(again, rest)| again == ast && rest == Token::EOF);
        let sql = if reads_back { normal } else { self.typed_from(start) };
        Ok(Expression { ast, sql })
    }

    /// A query as sqlparser reads it, as far as it goes, and its text as typed.
    pub(crate) fn query(&mut self) -> Result<(Box<ast::Query>, String), SqlError> {
        let start = self.peek().span.start;
        let query = self.read(Parser::parse_query)?;
        Ok((query, self.typed_from(start)))
    }

    /// Runs one of sqlparser's rules and refuses what its tree would promise in vain.
    fn read<T: ast::Visit>(
        &mut self,
        rule: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>,
    ) -> Result<T, SqlError> {
        let at = self.at();
        let tree = self.run(rule)?;
        check(&tree, at)?;
        Ok(tree)
    }

    /// The text from a place to the end of the last token taken.
    fn typed_from(&self, start: Location) -> String {
        slice(self.text, self.start, start, self.parser.get_current_token().span.end).to_owned()
    }

    /// Runs one of sqlparser's own rules.
    pub(crate) fn run<T>(
        &mut self,
        rule: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>,
    ) -> Result<T, SqlError> {
        rule(&mut self.parser).map_err(|error| self.foreign(error))
    }

    /// sqlparser's error in our form.
    fn foreign(&self, error: ParserError) -> SqlError {
        let current = self.parser.get_current_token();
        let here = self.place(current);
        let message = match error {
            ParserError::RecursionLimitExceeded => return SqlError::Depth { at: here },
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        };
        let (message, at) = split_place(&message);
        let at = at.unwrap_or(here);
        match message.strip_prefix("Expected: ").and_then(|m| m.rsplit_once(", found: ")) {
            Some((expected, found)) => SqlError::Syntax {
                expected: expected.to_owned(),
                found: if found == "EOF" {
                    self.behind.clone()
                } else {
                    format!("'{}'", without_secrets(found.trim_matches('\'')))
                },
                at: if found == "EOF" { self.end } else { at },
            },
            None => SqlError::Syntax {
                expected: format!("other SQL ({})", without_secrets(message)),
                found: self.shown(current),
                at,
            },
        }
    }

    /// The tokens from here on up to the first that `stop` accepts on this level of brackets, as a cursor of their
    /// own; this cursor moves behind them.
    pub(crate) fn until(&mut self, mut stop: impl FnMut(&Self) -> bool) -> Cursor<'a> {
        let mut tokens = vec![];
        let mut depth = 0_usize;
        while !self.is_done() && !(depth == 0 && stop(self)) {
            match self.peek().token {
                Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
                Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
                _ => {}
            }
            tokens.push(self.parser.next_token());
        }
        let behind = self.shown(self.peek());
        let piece = Piece { text: self.text, at: self.start, tokens, end: self.at() };
        Cursor { behind, ..Cursor::new(piece) }
    }

    /// Moves back to the first token that `part`, made by [`Self::until`] and at least begun, left unread.
    pub(crate) fn give_back(&mut self, part: &Cursor<'_>) {
        for _ in part.parser.get_current_index() + 1..part.count {
            self.parser.prev_token();
        }
    }

    /// Any statement.
    fn statement(&mut self) -> Result<Statement, SqlError> {
        let Some(first) = self.word(0).map(str::to_ascii_uppercase) else {
            return match self.peek().token {
                Token::LParen => self.plain_query().map(Statement::Query),
                _ => Err(self.expected(STATEMENTS)),
            };
        };
        match first.as_str() {
            "BACKUP" => self.backup().map(Statement::Backup),
            "RESTORE" => self.restore().map(Statement::Restore),
            "UNDO" => self.undo(),
            "VERIFY" => self.verify().map(Statement::Verify),
            "SHOW" => self.show(),
            "DESCRIBE" | "DESC" => self.describe(),
            "EXPLAIN" => self.explain(),
            "CREATE" => self.create_table().map(Statement::CreateTable),
            "INSERT" | "REPLACE" => self.insert().map(Statement::Insert),
            "UPDATE" => self.update().map(Statement::Update),
            "DELETE" => self.delete().map(Statement::Delete),
            "DROP" => self.drop(),
            "SELECT" | "WITH" | "VALUES" | "FROM" | "TABLE" => self.plain_query().map(Statement::Query),
            _ => self.other_statement(&first),
        }
    }

    /// A word that begins none of our statements: known to other systems, or to nobody.
    fn other_statement(&self, first: &str) -> Result<Statement, SqlError> {
        let instead = match first {
            "TRUNCATE" => "write DELETE FROM t",
            "ALTER" | "RENAME" => "make a new table and fill it with INSERT … SELECT",
            "MERGE" => "write INSERT … ON CONFLICT (…) DO UPDATE SET …",
            "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" => "each statement commits on its own",
            "COPY" | "LOAD" | "IMPORT" | "EXPORT" => "use keepfast import or keepfast export",
            "SET" | "RESET" | "USE" => "write names in full and give options with each statement",
            "GRANT" | "REVOKE" | "ANALYZE" | "VACUUM" | "CALL" | "PRAGMA" | "LOCK" | "UNLOCK" => {
                "the embedded Table Store has no such thing"
            }
            _ => return Err(self.expected(STATEMENTS)),
        };
        Err(self.unsupported(first, instead))
    }
}

const END: &str = "the end of the statement";
const STATEMENTS: &str = "a statement (BACKUP, RESTORE, UNDO RESTORE, VERIFY BACKUP, SHOW, DESCRIBE, EXPLAIN, CREATE TABLE, \
                          INSERT, UPDATE, DELETE, DROP, SELECT, WITH or VALUES)";

/// Whether two names are the same.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// A token, short and without secrets.
fn describe(token: &TokenWithSpan) -> String {
    let text = match &token.token {
        Token::SingleQuotedString(text) => text.clone(),
        other => other.to_string(),
    };
    let text = without_secrets(&text);
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    match token.token {
        Token::SingleQuotedString(_) => format!("the string '{short}'"),
        _ => format!("'{short}'"),
    }
}

/// sqlparser's message without its place, and the place.
fn split_place(message: &str) -> (&str, Option<TextPosition>) {
    let split = || {
        let (text, place) = message.rsplit_once(" at Line: ")?;
        let (line, column) = place.split_once(", Column: ")?;
        Some((text, TextPosition { line: line.parse().ok()?, column: column.trim().parse().ok()? }))
    };
    match split() {
        Some((text, at)) => (text, Some(at)),
        None => (message, None),
    }
}

/// Whether a token is this keyword of sqlparser's, unquoted.
pub(crate) fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(Word { quote_style: None, keyword: k, .. }) if *k == keyword)
}
