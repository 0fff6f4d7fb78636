//! From text to the tokens of single statements: cutting at `;`, places, and the limits that keep trees shallow.
//!
//! Invariant: a statement that leaves here makes a tree that can be walked and dropped on any thread's stack. The
//! parser guards its own recursion, but chains such as `1 + 1 + …` are loops for it and deep trees for everybody who
//! walks, copies or drops the result.

use crate::error::{SqlError, TextPosition};
use sqlparser::dialect::{Dialect, GenericDialect};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};
use std::any::TypeId;

/// How many brackets may stand inside each other.
const MAX_NESTING: usize = 120;
/// How many words and operators may stand between two commas, over all brackets that are open. More than any tree that
/// [`crate::queries::check`] lets pass has, and few enough for that check and for dropping what it refuses.
const MAX_CHAIN: usize = 10_000;
/// How many set operations may stand in one chain, over all brackets that are open. A copy takes about 4 KB of stack
/// for each, and no visitor sees them.
const MAX_SETS: usize = 200;
/// How many `[]` may follow each other, as in a type.
const MAX_LISTS: usize = 100;
/// How many casts may stand inside each other: the parser tries each of them twice.
const MAX_CASTS: usize = 8;
/// How many periods may join names, over all brackets that are open: the parser tries what follows each of them twice.
const MAX_PERIODS: usize = 10;
/// Words that begin an expression, also behind a period (`a.CASE WHEN b.CASE …`).
const PREFIXES: [Keyword; 6] = [
    Keyword::CASE,
    Keyword::NOT,
    Keyword::INTERVAL,
    Keyword::EXISTS,
    Keyword::PRIOR,
    Keyword::CONNECT_BY_ROOT,
];

/// How characters become words: as DataFusion reads them, but the text of a comment stays a comment.
///
/// Only the tokenizer sees this dialect; sqlparser's parser gets [`GenericDialect`] itself.
#[derive(Debug)]
struct Lexis;

impl Dialect for Lexis {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_identifier_start(ch)
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }
    fn supports_unicode_string_literal(&self) -> bool {
        true
    }
    fn supports_nested_comments(&self) -> bool {
        true
    }
    fn supports_string_escape_constant(&self) -> bool {
        true
    }
    fn supports_pipe_operator(&self) -> bool {
        GenericDialect.supports_pipe_operator()
    }
}

/// The tokens of one statement, without white space and comments, and where they stand.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    /// The input from the statement's first token on, up to the end of its last.
    pub text: &'a str,
    /// Where `text` begins.
    pub at: TextPosition,
    /// The tokens; at least one.
    pub tokens: Vec<TokenWithSpan>,
    /// Where the statement ends: behind its last token.
    pub end: TextPosition,
}

/// Cuts a text into its statements. Empty statements are left out.
///
/// # Errors
/// [`SqlError::Characters`] for what makes no token, [`SqlError::Depth`] for what nests too deeply.
pub(crate) fn pieces(sql: &str) -> Result<Vec<Piece<'_>>, SqlError> {
    let mut tokens = vec![];
    let result = Tokenizer::new(&Lexis, sql).tokenize_with_location_into_buf(&mut tokens);
    if let Err(error) = result {
        // The error's own place is often the end of the input; what is wrong begins behind the last good token.
        let at = tokens.last().map_or(TextPosition { line: 1, column: 1 }, |t| position(t.span.end));
        return Err(SqlError::Characters { reason: characters(&error.message), at });
    }
    let mut walk = Walk::new(sql, TextPosition { line: 1, column: 1 });
    let mut pieces = vec![];
    let mut current: Vec<TokenWithSpan> = vec![];
    let mut start = 0;
    let mut end = 0;
    for token in tokens.into_iter().chain([TokenWithSpan::wrap(Token::SemiColon)]) {
        match token.token {
            Token::Whitespace(_) => {}
            Token::SemiColon => {
                if let Some(last) = current.last() {
                    check_depth(&current)?;
                    let end_position = position(last.span.end);
                    pieces.push(Piece {
                        text: &sql[start..end],
                        at: position(current[0].span.start),
                        tokens: std::mem::take(&mut current),
                        end: end_position,
                    });
                }
            }
            _ => {
                if current.is_empty() {
                    start = walk.offset(token.span.start);
                }
                end = walk.offset(token.span.end);
                current.push(token);
            }
        }
    }
    Ok(pieces)
}

/// Whether a text can be carried out as it stands: it ends in `;`, or holds nothing but white space and comments. An
/// interactive shell asks for another line while it is not. A text that no further line could complete (a broken
/// escape) counts as complete, so that its error is shown.
pub fn is_complete(input: &str) -> bool {
    let mut tokens = vec![];
    if let Err(error) = Tokenizer::new(&Lexis, input).tokenize_with_location_into_buf(&mut tokens) {
        return !is_unclosed(&error.message);
    }
    tokens
        .iter()
        .rev()
        .find(|t| !matches!(t.token, Token::Whitespace(_)))
        .is_none_or(|t| t.token == Token::SemiColon)
}

/// Whether the tokenizer's message says that the input ended inside something.
fn is_unclosed(message: &str) -> bool {
    ["nterminated", "before EOF", "Unexpected EOF"].iter().any(|part| message.contains(part))
}

/// The tokenizer's message in our words.
fn characters(message: &str) -> String {
    if message.contains("comment") {
        "a comment has no end; it begins".to_owned()
    } else if message.contains("close delimiter") {
        "a quoted name has no end; it begins".to_owned()
    } else if is_unclosed(message) {
        "a string has no end; it begins".to_owned()
    } else {
        format!("these characters make no word ({})", message.trim_end_matches('.'))
    }
}

/// A place in our form.
pub(crate) fn position(location: Location) -> TextPosition {
    TextPosition { line: location.line, column: location.column }
}

/// The part of a text that begins at `at` which stands from `start` to `end`.
pub(crate) fn slice(text: &str, at: TextPosition, start: Location, end: Location) -> &str {
    let mut walk = Walk::new(text, at);
    let start = walk.offset(start);
    let end = walk.offset(end);
    &text[start..end]
}

/// Turns places that grow into byte offsets, in one pass over the text.
struct Walk<'a> {
    text: &'a str,
    offset: usize,
    line: u64,
    column: u64,
}

impl<'a> Walk<'a> {
    fn new(text: &'a str, at: TextPosition) -> Self {
        Self { text, offset: 0, line: at.line, column: at.column }
    }

    /// The offset of a place that is not before the last one asked for.
    fn offset(&mut self, to: Location) -> usize {
        let mut chars = self.text[self.offset..].chars();
        while (self.line, self.column) < (to.line, to.column) {
            // The tokenizer's rule: only a line feed ends a line.
            match chars.next() {
                Some('\n') => (self.line, self.column) = (self.line + 1, 1),
                Some(_) => self.column += 1,
                None => break,
            }
        }
        self.offset = self.text.len() - chars.as_str().len();
        self.offset
    }
}

/// Refuses what would make a tree too deep: brackets inside each other, and long chains.
///
/// A comma ends every chain but that of set operations (`SELECT 1, 2 UNION SELECT 3, 4 UNION …`).
fn check_depth(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    #[derive(Default)]
    struct Level {
        /// Words and operators since the last comma, and set operations since the bracket. A bracket that was closed
        /// counts with what it held: what follows it stands above that in the tree.
        chain: usize,
        /// The longest chain that a comma ended.
        longest: usize,
        /// Set operations since the bracket.
        sets: usize,
        /// Whether the next bracket is that of a cast.
        cast: bool,
        /// Periods that join the names before this place.
        periods: usize,
        /// Periods behind which an expression began that is no name; a comma ends it.
        held: usize,
    }
    let mut open: Vec<Level> = vec![];
    let mut here = Level::default();
    let mut around = Level::default();
    let (mut angles, mut lists, mut casts, mut intervals) = (0_usize, 0_usize, 0_usize, 0_usize);
    for (i, token) in tokens.iter().enumerate() {
        let word = match &token.token {
            Token::Word(word) => word.keyword,
            _ => Keyword::NoKeyword,
        };
        if token.token != Token::LParen {
            here.cast =
                matches!(word, Keyword::CAST | Keyword::TRY_CAST | Keyword::SAFE_CAST | Keyword::CONVERT);
        }
        // Nothing but an interval of an interval, which nobody means, makes the parser call itself here.
        intervals = if word == Keyword::INTERVAL { intervals + 1 } else { 0 };
        let joined = i > 0 && tokens[i - 1].token == Token::Period;
        let named = matches!(&token.token, Token::Word(_)) && !PREFIXES.contains(&word);
        match (&token.token, joined) {
            (Token::Period, _) => here.periods += 1,
            (Token::LBracket | Token::LParen | Token::LBrace, false) => {}
            (_, true) if !named => here.held += std::mem::take(&mut here.periods),
            (_, true) => {}
            (_, false) => here.periods = 0,
        }
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                here.chain += 1;
                around.chain += here.chain;
                around.sets += here.sets;
                around.periods += here.periods + here.held;
                casts += usize::from(here.cast);
                open.push(std::mem::take(&mut here));
                let is_list = matches!(tokens.get(i + 1), Some(t) if t.token == Token::RBracket);
                lists = if is_list { lists + 1 } else { 0 };
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if let Some(outer) = open.pop() {
                    around.chain -= outer.chain;
                    around.sets -= outer.sets;
                    around.periods -= outer.periods + outer.held;
                    casts -= usize::from(outer.cast);
                    let inside = here.longest.max(here.chain);
                    let sets = outer.sets + here.sets;
                    here = Level { cast: false, chain: outer.chain + inside, sets, ..outer };
                }
            }
            Token::Comma => {
                here.longest = here.longest.max(here.chain);
                here.chain = here.sets;
                here.held = 0;
            }
            Token::Number(..) | Token::SingleQuotedString(_) => {}
            other => {
                here.chain += 1;
                lists = 0;
                match other {
                    Token::Lt => angles += 1,
                    Token::Gt | Token::ShiftRight => angles = 0,
                    Token::Word(Word {
                        keyword: Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS,
                        ..
                    }) => here.sets += 1,
                    _ => {}
                }
            }
        }
        // `ARRAY<ARRAY<…`: only `<` without any `>` between can nest.
        if open.len() > MAX_NESTING
            || angles > MAX_NESTING
            || lists > MAX_LISTS
            || casts > MAX_CASTS
            || intervals > 2
            || around.chain + here.chain > MAX_CHAIN
            || around.sets + here.sets > MAX_SETS
            || around.periods + here.periods + here.held > MAX_PERIODS
        {
            return Err(SqlError::Depth { at: position(token.span.start) });
        }
    }
    Ok(())
}
